//! The scheduler: there is one Node, and a Pod goes there if it may.

use std::time::Duration;

use serde_json::Value;

use super::{Context, Controller, Key, key_of};
use crate::changes::Change;
use crate::conditions::{is_over, set_condition};
use crate::events::{self, About};
use crate::kinds::{self, Kind};
use crate::meta;
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

/// Why a Pod cannot go to the Node.
fn unfit(context: &Context, pod: &Value, node: &Value) -> Option<String> {
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
    let term = |term: &Value| {
        let selector = serde_json::json!({"matchExpressions": term.get("matchExpressions")});
        crate::selectors::label_selector_matches(&selector, labels)
    };
    let selected = selector.into_iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    if !selected || !(terms.is_empty() || terms.iter().any(term)) {
        return Some("1 node(s) didn't match Pod's node affinity/selector".into());
    }
    if meta::at(node, &["spec", "unschedulable"]).as_bool() == Some(true) {
        return Some("1 node(s) were unschedulable".into());
    }
    if let Some(taint) = untolerated(pod, node) {
        let (key, value) = (meta::string(taint, &["key"]), meta::string(taint, &["value"]));
        return Some(format!("1 node(s) had untolerated taint {{{key}: {value}}}"));
    }
    let others = context.api.list(&kinds::POD, "").items;
    let running =
        others.iter().filter(|o| meta::string(o, &["spec", "nodeName"]) == context.node && !is_over(o));
    let running: Vec<_> = running.collect();
    ["cpu", "memory"].into_iter().find_map(|resource| {
        let free = thousandths(meta::string(node, &["status", "allocatable", resource]))?
            - running.iter().map(|other| requested(other, resource)).sum::<i128>();
        let asked = requested(pod, resource);
        (asked > 0 && asked > free).then(|| format!("1 Insufficient {resource}"))
    })
}

/// The first taint of the Node that keeps the Pod away.
fn untolerated<'a>(pod: &Value, node: &'a Value) -> Option<&'a Value> {
    let tolerations = meta::items(pod, &["spec", "tolerations"]);
    let tolerates = |toleration: &Value, taint: &Value| {
        let same = |field: &str| meta::string(toleration, &[field]) == meta::string(taint, &[field]);
        let any = |field: &str| meta::string(toleration, &[field]).is_empty();
        let exists = meta::string(toleration, &["operator"]) == "Exists";
        (any("effect") || same("effect"))
            && (any("key") && exists || same("key"))
            && (exists || same("value"))
    };
    meta::items(node, &["spec", "taints"]).iter().find(|taint| {
        matches!(meta::string(taint, &["effect"]), "NoSchedule" | "NoExecute")
            && !tolerations.iter().any(|toleration| tolerates(toleration, taint))
    })
}

fn requested(pod: &Value, resource: &str) -> i128 {
    let containers = meta::items(pod, &["spec", "containers"]).iter();
    containers.filter_map(|c| thousandths(meta::string(c, &["resources", "requests", resource]))).sum()
}
