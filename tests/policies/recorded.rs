//! Decisions of a running d2k as fixtures: nothing that may be a secret is in them, and they hold for
//! the policy that took the decision.

use serde_json::Value;

use d2k_policy::bindings::events::exports::d2k::policy::events;
use d2k_policy::bindings::types::{Container, RestartPolicy};
use d2k_policy::bindings::workload::exports::d2k::policy::workload;
use d2k_policy::compile::Cache;
use d2k_policy::component::Linked;
use d2k_policy::limits::Limits;
use d2k_policy::{fixtures, record};

use super::support::{Folder, cache, component};

const SETTINGS: &str = "workload: {settings: {rules: [{label: tier=batch, kind: job}]}}\n";

fn container(env: usize) -> Container {
    let pairs = |all: &[(&str, &str)]| all.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Container {
        name: format!("recorded-{env}"),
        image: "busybox".into(),
        labels: pairs(&[("db.password", "hunter2"), ("dsn", "postgres://u:hunter2@db/x"), ("tier", "batch")]),
        env: vec!["PASSWORD=hunter2".into(); env],
        entrypoint: vec!["/bin/hunter2".into()],
        command: vec!["--token".into(), "hunter2".into()],
        user: String::new(),
        published: Vec::new(),
        publish_all: false,
        exposed: Vec::new(),
        mounts: Vec::new(),
        networks: Vec::new(),
        restart: RestartPolicy::Never,
        auto_remove: false,
        foreground: false,
        interactive: false,
        tty: false,
        privileged: false,
        memory: 0,
        nano_cpus: 0,
        extra: Vec::new(),
    }
}

/// The recorded decision that has these words; other tests record theirs at the same time.
fn recorded(words: &str, decide: impl Fn()) -> Value {
    for _ in 0..1000 {
        decide();
        let all = record::last(256);
        if let Some(found) = all.into_iter().rev().find(|decision| decision.to_string().contains(words)) {
            return found;
        }
    }
    panic!("no decision with {words} is on record")
}

/// Runs a recorded decision as a fixture of its policy.
fn holds(member: &str, fixture: &Value) {
    let component = Cache::new(&cache(), None).load(&component(member)).unwrap();
    let linked = Linked::new(&component).unwrap();
    for fixture in fixtures::parse("recorded", &fixture.to_string()).unwrap() {
        fixtures::run(&linked, Limits::default(), &fixture).unwrap();
    }
}

#[test]
fn a_recorded_decision_about_a_container_holds_and_tells_no_secret() {
    let folder = Folder::new();
    folder.write("settings.yaml", SETTINGS);
    let set = folder.policies().current();
    let fixture = recorded("recorded-3", || {
        let input = workload::Input { container: container(3), extra: Vec::new() };
        assert!(matches!(set.workload(&input).unwrap().plan.kind, workload::WorkloadKind::Job));
    });
    assert!(!fixture.to_string().contains("hunter2"), "{fixture}");
    assert_eq!(fixture["input"]["container"]["command"], serde_json::json!(["***", "***"]));
    holds("workload", &fixture);
}

#[test]
fn a_recorded_exec_holds_and_does_not_tell_its_command() {
    let set = Folder::new().policies().current();
    let fixture = recorded("recorded-exec", || {
        let attributes = [("command", "sh -c hunter2"), ("name", "recorded-exec")];
        let input = events::Input {
            subject: "container".into(),
            change: "exec-created".into(),
            object_kind: "Job".into(),
            id: "abc".into(),
            attributes: attributes.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            extra: Vec::new(),
        };
        assert_eq!(set.event(&input).unwrap().plan.events[0].action, "exec_create: sh -c hunter2");
    });
    assert!(!fixture.to_string().contains("hunter2"), "{fixture}");
    assert_eq!(fixture["expect"]["events"][0]["action"], "exec_create: ***");
    holds("events", &fixture);
}

#[test]
fn a_decision_about_a_large_request_is_cut_and_says_so() {
    let set = Folder::new().policies().current();
    let fixture = recorded("recorded-4000", || {
        let input = workload::Input { container: container(4000), extra: Vec::new() };
        set.workload(&input).unwrap();
    });
    assert!(fixture["about"].as_str().unwrap().ends_with("cut: it has more than 64 KiB"), "{fixture}");
    assert!(fixture.to_string().len() < 64 << 10);
}
