//! The scheduler: there is one Node, and a Pod goes there if it may.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Context, Controller, Key, key_of};
use crate::changes::Change;
use crate::conditions::{is_over, set_condition};
use crate::events::{self, About};
use crate::kinds::{self, Kind};
use crate::meta;
use crate::selectors::label_selector_matches;
use crate::verbs::Target;
use d2k_quantity::thousandths;

/// The controller.
pub struct Scheduler;

impl Controller for Scheduler {
    const KINDS: &'static [&'static Kind] = &[&kinds::POD, &kinds::NODE];

    fn key(&self, context: &Context, kind: &Kind, change: &Change) -> Vec<Key> {
        let waits = |pod: &Value| meta::string(pod, &["spec", "nodeName"]).is_empty();
        let frees = meta::deleting(&change.object)
            || matches!(meta::string(&change.object, &["status", "phase"]), "Succeeded" | "Failed");
        if kind.name == "Pod" && !frees {
            return if waits(&change.object) { vec![key_of(&change.object)] } else { Vec::new() };
        }
        // Somebody else may fit now.
        let pods = context.api.list(&kinds::POD, "").items;
        pods.iter().filter(|pod| waits(pod)).map(|pod| key_of(pod)).collect()
    }

    fn reconcile(&self, context: &Context, key: &Key) -> Option<Duration> {
        let of = &kinds::POD;
        let pod = context.api.get(of, &key.0, &key.1).ok()?;
        let mine = meta::string(&pod, &["spec", "schedulerName"]) == "default-scheduler";
        let gated = !meta::items(&pod, &["spec", "schedulingGates"]).is_empty();
        if !meta::string(&pod, &["spec", "nodeName"]).is_empty() || meta::deleting(&pod) || !mine || gated {
            return None;
        }
        let node = context.api.get(&kinds::NODE, "", &context.node).ok()?;
        let about = About::new(&pod, "default-scheduler");
        if let Some(words) = unfit(context, &pod, &node) {
            let words = format!(
                "0/1 nodes are available: {words}. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
            );
            if is_told(&pod, &words) {
                return None;
            }
            let target = Target::own(of, &key.0, &key.1).of("status");
            let _ = context
                .api
                .modify(&target, |pod| set_condition(pod, "PodScheduled", false, "Unschedulable", &words));
            events::record(&context.api, &about, "Warning", "FailedScheduling", &words);
            return None;
        }
        if context.api.change_node(&Target::own(of, &key.0, &key.1), &context.node).is_ok() {
            let words = format!("Successfully assigned {}/{} to {}", key.0, key.1, context.node);
            events::record(&context.api, &about, "Normal", "Scheduled", &words);
        }
        None
    }
}

/// Whether a Pod says already why it waits: many may wait, and are looked at whenever one ends.
fn is_told(pod: &Value, words: &str) -> bool {
    let conditions = meta::items(pod, &["status", "conditions"]);
    conditions
        .iter()
        .any(|c| meta::string(c, &["type"]) == "PodScheduled" && meta::string(c, &["message"]) == words)
}

/// Why a Pod cannot go to the Node.
fn unfit(context: &Context, pod: &Value, node: &Value) -> Option<String> {
    if !is_selected(pod, node) {
        return Some("1 node(s) didn't match Pod's node affinity/selector".into());
    }
    let cordon = json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"});
    if meta::at(node, &["spec", "unschedulable"]).as_bool() == Some(true) && !tolerates(pod, &cordon) {
        return Some("1 node(s) were unschedulable".into());
    }
    if let Some(taint) = untolerated(pod, node, &["NoSchedule", "NoExecute"]) {
        let (key, value) = (meta::string(taint, &["key"]), meta::string(taint, &["value"]));
        return Some(format!("1 node(s) had untolerated taint {{{key}: {value}}}"));
    }
    let others = context.api.list(&kinds::POD, "").items;
    let running =
        others.iter().filter(|o| meta::string(o, &["spec", "nodeName"]) == context.node && !is_over(o));
    let running: Vec<_> = running.collect();
    let has = |resource: &str| thousandths(meta::string(node, &["status", "allocatable", resource]));
    let count = i128::try_from(running.len()).unwrap_or(i128::MAX);
    if has("pods").is_some_and(|pods| pods <= count.saturating_mul(1000)) {
        return Some("1 Too many pods".into());
    }
    resources(pod).into_iter().find_map(|resource| {
        let own = matches!(resource, "cpu" | "memory" | "ephemeral-storage");
        // A Node that does not say how much it has of them has enough; of others, such as devices, it has none.
        let all = has(resource).or_else(|| (!own).then_some(0))?;
        let used = running.iter().map(|other| requested(other, resource)).fold(0, i128::saturating_add);
        let asked = requested(pod, resource);
        (asked > 0 && asked > all.saturating_sub(used)).then(|| format!("1 Insufficient {resource}"))
    })
}

/// The names of the resources that a Pod requests.
fn resources(pod: &Value) -> BTreeSet<&str> {
    let containers = meta::items(pod, &["spec", "containers"]).iter();
    let lists = containers.filter_map(|c| meta::at(c, &["resources", "requests"]).as_object());
    lists.flat_map(|requests| requests.keys().map(String::as_str)).collect()
}

/// Whether a Pod's selector and affinity take the Node.
pub fn is_selected(pod: &Value, node: &Value) -> bool {
    let labels = meta::at(node, &["metadata", "labels"]);
    let selector = meta::at(pod, &["spec", "nodeSelector"]).as_object();
    let terms = meta::items(
        pod,
        &[
            "spec",
            "affinity",
            "nodeAffinity",
            "requiredDuringSchedulingIgnoredDuringExecution",
            "nodeSelectorTerms",
        ],
    );
    let name = json!({"metadata.name": meta::name(node)});
    let term = |term: &Value| {
        [("matchExpressions", labels), ("matchFields", &name)].into_iter().all(|(field, values)| {
            let selector = json!({"matchExpressions": term.get(field)});
            label_selector_matches(&selector, values)
        })
    };
    let selected = selector.into_iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    selected && (terms.is_empty() || terms.iter().any(term))
}

/// Whether a Pod tolerates a taint.
fn tolerates(pod: &Value, taint: &Value) -> bool {
    meta::items(pod, &["spec", "tolerations"]).iter().any(|toleration| {
        let same = |field: &str| meta::string(toleration, &[field]) == meta::string(taint, &[field]);
        let any = |field: &str| meta::string(toleration, &[field]).is_empty();
        let exists = meta::string(toleration, &["operator"]) == "Exists";
        (any("effect") || same("effect"))
            && (any("key") && exists || same("key"))
            && (exists || same("value"))
    })
}

/// The first taint of the Node with one of these effects that the Pod does not tolerate.
pub fn untolerated<'a>(pod: &Value, node: &'a Value, effects: &[&str]) -> Option<&'a Value> {
    meta::items(node, &["spec", "taints"])
        .iter()
        .find(|taint| effects.contains(&meta::string(taint, &["effect"])) && !tolerates(pod, taint))
}

fn requested(pod: &Value, resource: &str) -> i128 {
    let containers = meta::items(pod, &["spec", "containers"]).iter();
    let asked = containers.filter_map(|c| thousandths(meta::string(c, &["resources", "requests", resource])));
    asked.fold(0, i128::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_chosen_by_its_labels_and_its_name() {
        let node = json!({"metadata": {"name": "n", "labels": {"disk": "fast"}}});
        let pod = |field: &str, value: &str| {
            let key = if field == "matchFields" { "metadata.name" } else { "disk" };
            let one = json!([{"key": key, "operator": "In", "values": [value]}]);
            let terms = json!({"nodeSelectorTerms": [{field: one}]});
            json!({"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}})
        };
        assert!(is_selected(&json!({}), &node));
        assert!(is_selected(&json!({"spec": {"nodeSelector": {"disk": "fast"}}}), &node));
        assert!(!is_selected(&json!({"spec": {"nodeSelector": {"disk": "slow"}}}), &node));
        assert!(is_selected(&pod("matchExpressions", "fast"), &node));
        assert!(!is_selected(&pod("matchExpressions", "slow"), &node));
        assert!(is_selected(&pod("matchFields", "n"), &node));
        assert!(!is_selected(&pod("matchFields", "m"), &node));
    }

    #[test]
    fn a_pod_waits_for_what_the_node_does_not_have() {
        let context = crate::controllers::testing::context();
        let node = json!({"status": {"allocatable": {"cpu": "2", "ephemeral-storage": "1Gi", "pods": "1"}}});
        let lacks = |requests: Value| {
            let pod = json!({"spec": {"containers": [{"resources": {"requests": requests}}]}});
            unfit(&context, &pod, &node)
        };
        for (requests, words) in [
            (json!({"cpu": "2", "memory": "1Gi", "ephemeral-storage": "1Gi"}), None),
            (json!({"cpu": "2001m"}), Some("1 Insufficient cpu")),
            (json!({"ephemeral-storage": "2Gi"}), Some("1 Insufficient ephemeral-storage")),
            (json!({"nvidia.com/gpu": "1"}), Some("1 Insufficient nvidia.com/gpu")),
            (json!({"nvidia.com/gpu": "0"}), None),
            (json!({"cpu": "100000000000000000000000000000000000"}), Some("1 Insufficient cpu")),
        ] {
            assert_eq!(lacks(requests.clone()).as_deref(), words, "{requests}");
        }
    }

    #[test]
    fn a_taint_keeps_away_who_does_not_tolerate_it() {
        let node = json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoExecute"}]}});
        let pod = json!({"spec": {"tolerations": [{"key": "k", "operator": "Exists"}]}});
        assert!(untolerated(&pod, &node, &["NoExecute"]).is_none());
        assert!(untolerated(&json!({}), &node, &["NoExecute"]).is_some());
        assert!(untolerated(&json!({}), &node, &["NoSchedule"]).is_none());
    }
}
