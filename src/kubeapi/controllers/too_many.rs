//! Workloads that want more Pods than there can be: as many are made as the Node takes, and as many again wait for it. The
//! workload says so, and goes on when there is room.

use serde_json::{Value, json};

use super::scheduler::Scheduler;
use super::testing::{context, make, names};
use super::{Context, Controller, jobs, replica_sets, stateful_sets};
use crate::conditions::condition;
use crate::kinds::{self, Kind};
use crate::meta;
use crate::verbs::{DeleteOptions, Target};

/// More than the memory of a machine holds.
const REPLICAS: i64 = 2_000_000_000;
/// Pods that the Node takes.
const PLACES: usize = 3;

/// A cluster whose Node takes a few Pods.
fn small() -> Context {
    let context = context();
    let target = Target::own(&kinds::NODE, "", "node").of("status");
    let few = |node: &mut Value| node["status"]["allocatable"] = json!({"pods": PLACES.to_string()});
    context.api.modify(&target, few).unwrap();
    context
}

fn template(policy: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "a"}},
        "spec": {"restartPolicy": policy, "containers": [{"name": "c", "image": "i"}]},
    })
}

/// Looks at the object `a`, and schedules its Pods, until nothing happens any more.
fn settle(context: &Context, controller: &impl Controller) {
    let key = |name: &str| ("default".to_owned(), name.to_owned());
    for _ in 0..5 {
        controller.reconcile(context, &key("a"));
        for pod in names(context, &kinds::POD) {
            Scheduler.reconcile(context, &key(&pod));
        }
    }
}

/// The Pods that have the Node, and those that wait.
fn pods(context: &Context) -> (usize, usize) {
    let pods = context.api.list(&kinds::POD, "default").items;
    let placed = pods.iter().filter(|pod| !meta::string(pod, &["spec", "nodeName"]).is_empty()).count();
    (placed, pods.len() - placed)
}

fn refusals(context: &Context) -> Vec<String> {
    let events = context.api.list(&kinds::EVENT, "default").items;
    let refused = events.iter().filter(|event| event["reason"] == "FailedCreate");
    refused.map(|event| meta::string(event, &["message"]).to_owned()).collect()
}

fn object(context: &Context, kind: &Kind) -> Value {
    Value::clone(&context.api.get(kind, "default", "a").unwrap())
}

#[test]
fn a_replica_set_makes_as_many_pods_as_can_wait_and_says_why_there_are_no_more() {
    let context = small();
    let spec = json!({
        "replicas": REPLICAS, "selector": {"matchLabels": {"app": "a"}}, "template": template("Always"),
    });
    make(&context, &kinds::REPLICA_SET, json!({"metadata": {"name": "a"}, "spec": spec}));
    settle(&context, &replica_sets::ReplicaSets);
    assert_eq!(pods(&context), (PLACES, PLACES));
    let words = "pods \"a-\" is forbidden: 3 Pods wait for a Node already, as many as it takes";
    assert_eq!(refusals(&context), [format!("Error creating: {words}")]);
    let set = object(&context, &kinds::REPLICA_SET);
    assert!(condition(&set, "ReplicaFailure"), "{set}");
    assert_eq!(set["status"]["conditions"][0]["message"], words);
    // One that waits knows why.
    let events = context.api.list(&kinds::EVENT, "default").items;
    assert!(events.iter().any(|event| meta::string(event, &["message"]).contains("1 Too many pods")));
}

#[test]
fn another_pod_comes_when_one_goes_and_none_is_left_when_fewer_are_wanted() {
    let context = small();
    let spec = json!({
        "replicas": REPLICAS, "selector": {"matchLabels": {"app": "a"}}, "template": template("Always"),
    });
    make(&context, &kinds::REPLICA_SET, json!({"metadata": {"name": "a"}, "spec": spec}));
    settle(&context, &replica_sets::ReplicaSets);
    let all = context.api.list(&kinds::POD, "default").items;
    let placed = all.iter().find(|pod| !meta::string(pod, &["spec", "nodeName"]).is_empty()).unwrap();
    let target = Target::own(&kinds::POD, "default", meta::name(placed));
    let now = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
    context.api.delete(&target, &now).unwrap();
    settle(&context, &replica_sets::ReplicaSets);
    assert_eq!(pods(&context), (PLACES, PLACES));
    let target = Target::own(&kinds::REPLICA_SET, "default", "a");
    context.api.modify(&target, |set| set["spec"]["replicas"] = 1.into()).unwrap();
    settle(&context, &replica_sets::ReplicaSets);
    let active = context.api.list(&kinds::POD, "default").items;
    assert_eq!(active.iter().filter(|pod| !meta::deleting(pod)).count(), 1);
    assert!(!condition(&object(&context, &kinds::REPLICA_SET), "ReplicaFailure"));
}

#[test]
fn a_job_makes_as_many_pods_as_can_wait() {
    for mode in ["NonIndexed", "Indexed"] {
        let context = small();
        let parallelism = if mode == "Indexed" { 100_000 } else { REPLICAS };
        let spec = json!({
            "parallelism": parallelism, "completions": REPLICAS, "completionMode": mode, "template": template("Never"),
        });
        make(&context, &kinds::JOB, json!({"metadata": {"name": "a"}, "spec": spec}));
        settle(&context, &jobs::Jobs);
        assert_eq!(pods(&context), (PLACES, PLACES), "{mode}");
        assert!(!refusals(&context).is_empty(), "{mode}");
        assert_eq!(object(&context, &kinds::JOB)["status"]["active"], 2 * PLACES, "{mode}");
    }
}

#[test]
fn a_stateful_set_makes_as_many_pods_as_can_wait() {
    for (policy, wanted) in [("Parallel", (PLACES, PLACES)), ("OrderedReady", (1, 0))] {
        let context = small();
        let spec = json!({
            "replicas": REPLICAS, "serviceName": "s", "podManagementPolicy": policy,
            "selector": {"matchLabels": {"app": "a"}}, "template": template("Always"),
        });
        make(&context, &kinds::STATEFUL_SET, json!({"metadata": {"name": "a"}, "spec": spec}));
        settle(&context, &stateful_sets::StatefulSets);
        assert_eq!(pods(&context), wanted, "{policy}");
        assert_eq!(refusals(&context).is_empty(), policy != "Parallel", "{policy}");
    }
}

#[test]
fn one_look_makes_no_more_than_a_burst() {
    let context = context();
    let spec = json!({
        "replicas": REPLICAS, "selector": {"matchLabels": {"app": "a"}}, "template": template("Always"),
    });
    make(&context, &kinds::REPLICA_SET, json!({"metadata": {"name": "a"}, "spec": spec}));
    replica_sets::ReplicaSets.reconcile(&context, &("default".to_owned(), "a".to_owned()));
    assert_eq!(pods(&context), (0, replica_sets::BURST));
    assert!(refusals(&context).is_empty());
}
