//! A realistic container (20 env, 10 labels, 5 ports) as a question to each hook: typed, as the
//! daemon asks, and as fixtures write it.

use serde_json::{Value, json};

use crate::bindings;
use crate::component::Hook;

pub fn naming() -> bindings::naming::exports::d2k::policy::naming::Input {
    bindings::naming::exports::d2k::policy::naming::Input {
        what: bindings::naming::exports::d2k::policy::naming::What::Container,
        docker_name: "shop_frontend-1".into(),
        labels: labels(),
        taken_by_other: None,
        extra: Vec::new(),
    }
}

pub fn ports() -> bindings::ports::exports::d2k::policy::ports::Input {
    bindings::ports::exports::d2k::policy::ports::Input { container: container(), extra: Vec::new() }
}

pub fn workload() -> bindings::workload::exports::d2k::policy::workload::Input {
    bindings::workload::exports::d2k::policy::workload::Input { container: container(), extra: Vec::new() }
}

pub fn volumes() -> bindings::volumes::exports::d2k::policy::volumes::Input {
    bindings::volumes::exports::d2k::policy::volumes::Input {
        name: "shop_data".into(),
        labels: labels(),
        anonymous: false,
        size: Some("5Gi".into()),
        storage_class: None,
        access_mode: None,
        extra: Vec::new(),
    }
}

pub fn images() -> bindings::images::exports::d2k::policy::images::Input {
    bindings::images::exports::d2k::policy::images::Input {
        reference: "ghcr.io/acme/shop/frontend:2.31.4".into(),
        purpose: bindings::images::exports::d2k::policy::images::Purpose::Create,
        extra: Vec::new(),
    }
}

pub fn events() -> bindings::events::exports::d2k::policy::events::Input {
    bindings::events::exports::d2k::policy::events::Input {
        subject: "container".into(),
        change: "created".into(),
        object_kind: "Deployment".into(),
        id: "0123456789abcdef".repeat(4),
        attributes: labels(),
        extra: Vec::new(),
    }
}

pub fn manifest() -> bindings::manifest::exports::d2k::policy::manifest::Input {
    bindings::manifest::exports::d2k::policy::manifest::Input {
        object: object(),
        api_version: "v1".into(),
        kind: "Service".into(),
        container: Some(container()),
        extra: Vec::new(),
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

fn container() -> bindings::types::Container {
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
pub fn question(hook: Hook) -> Value {
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
