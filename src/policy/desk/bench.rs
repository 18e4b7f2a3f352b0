//! `d2k policy bench`: time, fuel and memory of decisions, side by side, on a realistic container.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Output;
use super::subject::Subject;
use crate::policy::ask::ask;
use crate::policy::bindings;
use crate::policy::component::{Hook, Linked};
use crate::policy::defaults;
use crate::policy::limits::Limits;

struct Row {
    policy: String,
    hook: Hook,
    p50: Duration,
    p99: Duration,
    fuel: u64,
    memory: usize,
    size: usize,
}

pub fn bench(policies: &[PathBuf], calls: u32, output: Output) -> Result<bool, String> {
    let all: Vec<PathBuf> = match policies {
        [] => defaults::ALL.iter().map(|(name, _)| PathBuf::from(name)).collect(),
        some => some.to_vec(),
    };
    let subjects = all.iter().map(|path| Subject::open(path)).collect::<Result<Vec<_>, _>>()?;
    let mut rows = Vec::new();
    for subject in &subjects {
        for hook in subject.linked.hooks.list() {
            rows.push(measure(subject, hook, calls)?);
        }
    }
    // All hooks that one create asks, one after the other.
    let create = policies.is_empty().then(|| whole_create(&subjects, calls)).transpose()?;
    if output == Output::Json {
        let row = |row: &Row| {
            json!({
                "policy": row.policy, "hook": row.hook, "p50-microseconds": micros(row.p50),
                "p99-microseconds": micros(row.p99), "fuel": row.fuel, "memory": row.memory, "size": row.size,
            })
        };
        let create = create
            .map(|(p50, p99)| json!({"p50-microseconds": micros(p50), "p99-microseconds": micros(p99)}));
        println!(
            "{:#}",
            json!({"calls": calls, "rows": rows.iter().map(row).collect::<Vec<_>>(), "create": create})
        );
        return Ok(true);
    }
    println!("{calls} calls each: 20 env, 10 labels, 5 ports, a fresh store a call");
    println!(
        "{:28} {:10} {:>9} {:>9} {:>10} {:>10} {:>10}",
        "policy", "hook", "p50 µs", "p99 µs", "fuel", "memory", "size"
    );
    for row in &rows {
        println!(
            "{:28} {:10} {:>9.1} {:>9.1} {:>10} {:>7} KiB {:>7} KiB",
            row.policy,
            row.hook.name(),
            micros(row.p50),
            micros(row.p99),
            row.fuel,
            row.memory / 1024,
            row.size / 1024
        );
    }
    if let Some((p50, p99)) = create {
        println!("all hooks of one create: p50 {:.1} µs, p99 {:.1} µs", micros(p50), micros(p99));
    }
    Ok(true)
}

fn micros(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e7).round() / 10.0
}

fn measure(subject: &Subject, hook: Hook, calls: u32) -> Result<Row, String> {
    let input = question(hook);
    let counted = ask(&subject.counted, hook, &input, &[], Limits::default())?;
    let asked = ask(&subject.linked, hook, &input, &[], Limits::default())?;
    let call = typed(&subject.linked, hook, &input)?;
    let mut times = Vec::new();
    for _ in 0..calls {
        let begin = Instant::now();
        call()?;
        times.push(begin.elapsed());
    }
    let (p50, p99) = quantiles(times);
    Ok(Row {
        policy: subject.shown.clone(),
        hook,
        p50,
        p99,
        fuel: counted.fuel,
        memory: asked.memory,
        size: subject.bytes.len(),
    })
}

fn quantiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    let at = |part: usize| times.get(times.len() * part / 100).or(times.last()).copied().unwrap_or_default();
    (at(50), at(99))
}

fn whole_create(subjects: &[Subject], calls: u32) -> Result<(Duration, Duration), String> {
    let mut asks = Vec::new();
    for subject in subjects {
        // A create tells one event.
        for hook in subject.linked.hooks.list() {
            asks.push(typed(&subject.linked, hook, &question(hook))?);
        }
    }
    let mut times = Vec::new();
    for _ in 0..calls {
        let begin = Instant::now();
        for ask in &asks {
            ask()?;
        }
        times.push(begin.elapsed());
    }
    Ok(quantiles(times))
}

type Call<'a> = Box<dyn Fn() -> Result<(), String> + 'a>;

/// A call as the daemon makes it: typed, in a store of its own.
fn typed<'a>(linked: &'a Linked, hook: Hook, input: &Value) -> Result<Call<'a>, String> {
    let settings: Vec<(String, String)> = Vec::new();
    let limits = Limits::default();
    let fail = |(failure, _): (crate::policy::failure::Failure, _)| failure.to_string();
    macro_rules! call {
        ($field:ident, $interface:ident, $input:expr) => {{
            let input = $input;
            let Some(pre) = linked.hooks.$field.as_ref() else { return Err("no such hook".into()) };
            Ok(Box::new(move || {
                linked
                    .call(limits, |store| {
                        let instance = pre.instantiate(&mut *store)?;
                        instance.$interface().call_decide(store, &input, &settings)
                    })
                    .map(|_| ())
                    .map_err(fail)
            }))
        }};
    }
    let container = || container(input);
    match hook {
        Hook::Naming => call!(
            naming,
            d2k_policy_naming,
            bindings::naming::exports::d2k::policy::naming::Input {
                what: bindings::naming::exports::d2k::policy::naming::What::Container,
                docker_name: "shop_frontend-1".into(),
                labels: labels(),
                taken_by_other: None,
                extra: Vec::new(),
            }
        ),
        Hook::Ports => call!(
            ports,
            d2k_policy_ports,
            bindings::ports::exports::d2k::policy::ports::Input { container: container(), extra: Vec::new() }
        ),
        Hook::Workload => call!(
            workload,
            d2k_policy_workload,
            bindings::workload::exports::d2k::policy::workload::Input {
                container: container(),
                extra: Vec::new(),
            }
        ),
        Hook::Volumes => call!(
            volumes,
            d2k_policy_volumes,
            bindings::volumes::exports::d2k::policy::volumes::Input {
                name: "shop_data".into(),
                labels: labels(),
                anonymous: false,
                size: Some("5Gi".into()),
                storage_class: None,
                access_mode: None,
                extra: Vec::new(),
            }
        ),
        Hook::Images => call!(
            images,
            d2k_policy_images,
            bindings::images::exports::d2k::policy::images::Input {
                reference: "ghcr.io/acme/shop/frontend:2.31.4".into(),
                purpose: bindings::images::exports::d2k::policy::images::Purpose::Create,
                extra: Vec::new(),
            }
        ),
        Hook::Events => call!(
            events,
            d2k_policy_events,
            bindings::events::exports::d2k::policy::events::Input {
                subject: "container".into(),
                change: "created".into(),
                object_kind: "Deployment".into(),
                id: "0123456789abcdef".repeat(4),
                attributes: labels(),
                extra: Vec::new(),
            }
        ),
        Hook::Manifest => call!(
            manifest,
            d2k_policy_manifest,
            bindings::manifest::exports::d2k::policy::manifest::Input {
                object: object(),
                api_version: "v1".into(),
                kind: "Service".into(),
                container: Some(container()),
                extra: Vec::new(),
            }
        ),
    }
}

fn labels() -> Vec<(String, String)> {
    (0..10)
        .map(|n| (format!("com.docker.compose.label-{n}"), format!("a value of some length {n}")))
        .collect()
}

fn env() -> Vec<String> {
    (0..20).map(|n| format!("SHOP_SETTING_{n}=a value such as an address or a password, {n}")).collect()
}

fn object() -> String {
    r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},"spec":{"type":"LoadBalancer","ports":[{"port":8080}]}}"#
        .to_owned()
}

fn container(_question: &Value) -> bindings::types::Container {
    use bindings::types::{Container, Port, Protocol, PublishedPort, RestartPolicy};
    let port = |number| Port { number, protocol: Protocol::Tcp };
    Container {
        name: "shop_frontend-1".into(),
        image: "ghcr.io/acme/shop/frontend:2.31.4".into(),
        labels: labels(),
        env: env(),
        entrypoint: Vec::new(),
        command: vec!["serve".into(), "--port=8080".into()],
        user: "1000".into(),
        published: (0..5).map(|n| PublishedPort { container: port(8080 + n), host: 18080 + n }).collect(),
        publish_all: false,
        exposed: (0..5).map(|n| port(8080 + n)).collect(),
        mounts: Vec::new(),
        networks: vec!["shop_default".into()],
        restart: RestartPolicy::UnlessStopped,
        auto_remove: false,
        foreground: false,
        interactive: false,
        tty: false,
        privileged: false,
        memory: 256 << 20,
        nano_cpus: 500_000_000,
        extra: Vec::new(),
    }
}

/// The same question as fixtures write it.
fn question(hook: Hook) -> Value {
    let pairs: Value =
        labels().into_iter().map(|(k, v)| (k, json!(v))).collect::<serde_json::Map<_, _>>().into();
    let ports: Vec<Value> = (0..5).map(|n| json!({"number": 8080 + n, "protocol": "tcp"})).collect();
    let published: Vec<Value> =
        ports.iter().enumerate().map(|(n, port)| json!({"container": port, "host": 18080 + n})).collect();
    let container = json!({
        "name": "shop_frontend-1", "image": "ghcr.io/acme/shop/frontend:2.31.4", "labels": pairs, "env": env(),
        "command": ["serve", "--port=8080"], "user": "1000", "published": published, "exposed": ports,
        "networks": ["shop_default"], "restart": "unless-stopped", "memory": 268_435_456, "nano-cpus": 500_000_000,
    });
    match hook {
        Hook::Naming => json!({"what": "container", "docker-name": "shop_frontend-1", "labels": pairs}),
        Hook::Ports | Hook::Workload => json!({"container": container}),
        Hook::Volumes => json!({"name": "shop_data", "labels": pairs, "size": "5Gi"}),
        Hook::Images => json!({"reference": "ghcr.io/acme/shop/frontend:2.31.4", "purpose": "create"}),
        Hook::Events => json!({
            "subject": "container", "change": "created", "object-kind": "Deployment",
            "id": "0123456789abcdef".repeat(4), "attributes": pairs,
        }),
        Hook::Manifest => {
            json!({"object": object(), "api-version": "v1", "kind": "Service", "container": container})
        }
    }
}
