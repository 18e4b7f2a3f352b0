//! `d2k policy bench`: time, fuel and memory of decisions, side by side, on a realistic container.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Output;
use super::error::Error;
use super::example;
use super::subject::Subject;
use crate::ask::ask;
use crate::component::{Hook, Linked};
use crate::defaults;
use crate::failure::Failure;
use crate::limits::Limits;

struct Row {
    policy: String,
    hook: Hook,
    p50: Duration,
    p99: Duration,
    fuel: u64,
    memory: usize,
    size: usize,
}

pub fn bench(policies: &[PathBuf], calls: u32, output: Output) -> Result<bool, Error> {
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

fn measure(subject: &Subject, hook: Hook, calls: u32) -> Result<Row, Error> {
    let input = example::question(hook);
    let counted = ask(&subject.counted, hook, &input, &[], Limits::default())?;
    let asked = ask(&subject.linked, hook, &input, &[], Limits::default())?;
    let call = typed(&subject.linked, hook)?;
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

fn whole_create(subjects: &[Subject], calls: u32) -> Result<(Duration, Duration), Error> {
    let mut asks = Vec::new();
    for subject in subjects {
        // A create tells one event.
        for hook in subject.linked.hooks.list() {
            asks.push(typed(&subject.linked, hook)?);
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

type Call<'a> = Box<dyn Fn() -> Result<(), Failure> + 'a>;

/// A call as the daemon makes it: typed, in a store of its own.
fn typed(linked: &Linked, hook: Hook) -> Result<Call<'_>, Error> {
    let settings: Vec<(String, String)> = Vec::new();
    let limits = Limits::default();
    macro_rules! call {
        ($field:ident, $interface:ident, $input:expr) => {{
            let input = $input;
            let Some(pre) = linked.hooks.$field.as_ref() else { return Err(Error::NoHook) };
            Ok(Box::new(move || {
                linked
                    .call(limits, |store| {
                        let instance = pre.instantiate(&mut *store)?;
                        instance.$interface().call_decide(store, &input, &settings)
                    })
                    .map(|_| ())
                    .map_err(|(failure, _)| failure)
            }))
        }};
    }
    match hook {
        Hook::Naming => call!(naming, d2k_policy_naming, example::naming()),
        Hook::Ports => call!(ports, d2k_policy_ports, example::ports()),
        Hook::Workload => call!(workload, d2k_policy_workload, example::workload()),
        Hook::Volumes => call!(volumes, d2k_policy_volumes, example::volumes()),
        Hook::Images => call!(images, d2k_policy_images, example::images()),
        Hook::Events => call!(events, d2k_policy_events, example::events()),
        Hook::Manifest => call!(manifest, d2k_policy_manifest, example::manifest()),
    }
}
