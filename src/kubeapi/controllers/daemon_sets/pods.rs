//! The Pods of a DaemonSet: bound to the Node by its name, and tolerant of what befalls a Node.

use serde_json::{Value, json};

use crate::controllers::replica_sets;
use crate::defaults::daemon_set::GENERATION;
use crate::kinds;
use crate::meta;

/// The label with the number of the template.
const TEMPLATE: &str = "pod-template-generation";
/// Taints that the Pods of each DaemonSet tolerate: name and effect.
const TOLERATED: [(&str, &str); 6] = [
    ("not-ready", "NoExecute"),
    ("unreachable", "NoExecute"),
    ("disk-pressure", "NoSchedule"),
    ("memory-pressure", "NoSchedule"),
    ("pid-pressure", "NoSchedule"),
    ("unschedulable", "NoSchedule"),
];

/// A Pod of the template, which is asked whether it may run on the Node.
pub fn simulated(set: &Value) -> Value {
    let template = meta::at(set, &["spec", "template"]);
    let prefix = format!("{}-", meta::name(set));
    let mut pod = replica_sets::pod_of(&kinds::DAEMON_SET, set, template, &prefix);
    tolerate(&mut pod);
    pod
}

/// The Pod for the Node.
pub fn make(set: &Value, hash: &str, node: &str) -> Value {
    let mut pod = simulated(set);
    let labels = meta::map(meta::child(meta::child(&mut pod, "metadata"), "labels"));
    labels.insert(super::HASH.into(), hash.into());
    let generation = meta::string(set, &["metadata", "annotations", GENERATION]);
    labels.insert(TEMPLATE.into(), generation.into());
    let spec = meta::child(&mut pod, "spec");
    let affinity = meta::child(meta::child(spec, "affinity"), "nodeAffinity");
    let here = json!({"key": "metadata.name", "operator": "In", "values": [node]});
    let required = json!({"nodeSelectorTerms": [{"matchFields": [here]}]});
    meta::map(affinity).insert("requiredDuringSchedulingIgnoredDuringExecution".into(), required);
    pod
}

fn tolerate(pod: &mut Value) {
    let host = meta::at(pod, &["spec", "hostNetwork"]).as_bool() == Some(true);
    let network = host.then_some(("network-unavailable", "NoSchedule"));
    let mut all = meta::items(pod, &["spec", "tolerations"]).to_vec();
    for (name, effect) in TOLERATED.into_iter().chain(network) {
        let key = format!("node.kubernetes.io/{name}");
        let toleration = json!({"key": key, "operator": "Exists", "effect": effect});
        if !all.contains(&toleration) {
            all.push(toleration);
        }
    }
    meta::map(meta::child(pod, "spec")).insert("tolerations".into(), all.into());
}

#[cfg(test)]
mod tests {
    use super::super::HASH;
    use super::*;

    #[test]
    fn a_pod_is_for_the_node_and_keeps_its_other_affinities() {
        let set = json!({
            "metadata": {"name": "agent", "uid": "u", "annotations": {GENERATION: "3"}},
            "spec": {"template": {"metadata": {"labels": {"a": "b"}}, "spec": {
                "affinity": {"podAffinity": {}},
                "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}],
            }}},
        });
        let pod = make(&set, "hash", "n");
        assert_eq!(pod["metadata"]["labels"], json!({"a": "b", HASH: "hash", TEMPLATE: "3"}));
        assert_eq!(pod["metadata"]["generateName"], "agent-");
        assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len(), TOLERATED.len());
        assert!(pod["spec"]["affinity"]["podAffinity"].is_object());
        let terms =
            &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        assert_eq!(terms["nodeSelectorTerms"][0]["matchFields"][0]["values"], json!(["n"]));
    }
}
