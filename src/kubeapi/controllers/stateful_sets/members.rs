//! The Pods of a StatefulSet: their numbers, their names, and what each gets by its number.

use std::ops::Range;

use serde_json::Value;

use super::{claims, pod_name};
use crate::conditions;
use crate::controllers::replica_sets;
use crate::kinds;
use crate::meta;

/// The label with the name of a Pod.
const NAME: &str = "statefulset.kubernetes.io/pod-name";
/// The label with its number.
const INDEX: &str = "apps.kubernetes.io/pod-index";
/// The label with the name of its revision.
const REVISION: &str = "controller-revision-hash";

/// The numbers of the Pods that a set wants.
pub fn range(set: &Value) -> Range<i64> {
    let start = meta::number(set, &["spec", "ordinals", "start"]).unwrap_or(0);
    start..start.saturating_add(meta::number(set, &["spec", "replicas"]).unwrap_or(1))
}

/// The number of a Pod of a set, by its name; nothing for another Pod.
pub fn ordinal(set: &Value, pod: &Value) -> Option<i64> {
    let number = meta::name(pod).strip_prefix(meta::name(set))?.strip_prefix('-')?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok()).flatten()
}

/// The name of the revision that a Pod was made of.
pub fn revision(pod: &Value) -> &str {
    meta::string(pod, &["metadata", "labels", REVISION])
}

/// Whether a Pod runs and is ready.
pub fn is_ready(pod: &Value) -> bool {
    meta::string(pod, &["status", "phase"]) == "Running" && conditions::is_ready(pod)
}

/// Whether a Pod says who it is; one that was adopted may not.
pub fn is_labelled(pod: &Value) -> bool {
    meta::string(pod, &["metadata", "labels", NAME]) == meta::name(pod)
}

/// Labels a Pod with its name and its number.
pub fn label(pod: &mut Value, ordinal: i64) {
    let name = meta::name(pod).to_owned();
    let labels = meta::map(meta::child(meta::child(pod, "metadata"), "labels"));
    labels.insert(NAME.into(), name.into());
    labels.insert(INDEX.into(), ordinal.to_string().into());
}

/// The Pod of a number, from a template of a revision.
pub fn make(set: &Value, template: &Value, revision: &str, ordinal: i64) -> Value {
    let prefix = format!("{}-", meta::name(set));
    let mut pod = replica_sets::pod_of(&kinds::STATEFUL_SET, set, template, &prefix);
    let name = pod_name(set, ordinal);
    meta::set(&mut pod, "name", name.as_str());
    label(&mut pod, ordinal);
    let labels = meta::child(meta::child(&mut pod, "metadata"), "labels");
    meta::map(labels).insert(REVISION.into(), revision.into());
    let spec = meta::child(&mut pod, "spec");
    meta::map(spec).insert("hostname".into(), name.into());
    let service = meta::string(set, &["spec", "serviceName"]);
    meta::map(spec).insert("subdomain".into(), service.into());
    claims::mount(set, ordinal, spec);
    pod
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_number_of_a_pod_is_in_its_name() {
        let set = json!({"metadata": {"name": "web-a"}});
        let of = |name: &str| ordinal(&set, &json!({"metadata": {"name": name}}));
        assert_eq!(of("web-a-0"), Some(0));
        assert_eq!(of("web-a-12"), Some(12));
        for other in ["web-0", "web-a", "web-a-", "web-a-x", "web-a-b-1", "web-a--1", "web-a-+1"] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn a_set_wants_so_many_numbers_from_its_first() {
        assert_eq!(range(&json!({"spec": {"replicas": 3}})), 0..3);
        assert_eq!(range(&json!({"spec": {"replicas": 2, "ordinals": {"start": 5}}})), 5..7);
    }

    #[test]
    fn a_pod_has_its_name_its_host_and_its_claims() {
        let set = json!({
            "metadata": {"name": "web", "uid": "u"},
            "spec": {"serviceName": "svc", "volumeClaimTemplates": [{"metadata": {"name": "data"}}]},
        });
        let template = json!({
            "metadata": {"labels": {"a": "b"}},
            "spec": {"volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]},
        });
        let pod = make(&set, &template, "web-rev", 4);
        assert_eq!((pod["metadata"]["name"].as_str(), ordinal(&set, &pod)), (Some("web-4"), Some(4)));
        let labels = json!({
            "a": "b", NAME: "web-4", INDEX: "4", REVISION: "web-rev",
        });
        assert_eq!(pod["metadata"]["labels"], labels);
        assert_eq!((&pod["spec"]["hostname"], &pod["spec"]["subdomain"]), (&json!("web-4"), &json!("svc")));
        let claim = json!({"name": "data", "persistentVolumeClaim": {"claimName": "data-web-4"}});
        assert_eq!(pod["spec"]["volumes"], json!([claim, {"name": "tmp", "emptyDir": {}}]));
        assert!(is_labelled(&pod));
    }
}
