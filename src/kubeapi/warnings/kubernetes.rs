//! The warnings that every API server sends, in its own words, but for those about Pods.

use serde_json::Value;

use super::pod::{self, fractions};
use crate::kinds::Kind;
use crate::meta::{self, at, items, number, string};

/// Longest label of a name.
const LABEL: usize = 63;
/// Numbers of an indexed Job, and of its Pods at a time, with which Kubernetes may lose count.
const MANY_COMPLETIONS: i64 = 100_000;
const MANY_PODS: i64 = 10_000;

/// The warnings about an object; `old` is what it replaces.
pub fn of(kind: &Kind, object: &Value, old: Option<&Value>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    if old.is_none() {
        all.extend(name(kind, meta::name(object)));
    }
    match kind.name {
        "Pod" => all.extend(pod::of(object, "")),
        "Deployment" | "ReplicaSet" | "DaemonSet" => {
            all.extend(pod::of(at(object, &["spec", "template"]), "spec.template"));
        }
        "StatefulSet" => {
            all.extend(pod::of(at(object, &["spec", "template"]), "spec.template"));
            for (number, claim) in items(object, &["spec", "volumeClaimTemplates"]).iter().enumerate() {
                let path = format!("spec.volumeClaimTemplates[{number}]");
                all.extend(fractions(at(claim, &["spec"]), &path, &["storage"]));
            }
            if number(object, &["spec", "revisionHistoryLimit"]).is_some_and(|limit| limit < 0) {
                all.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".to_owned());
            }
        }
        "Job" => all.extend(job(at(object, &["spec"]), "spec")),
        "CronJob" => all.extend(job(at(object, &["spec", "jobTemplate", "spec"]), "spec.jobTemplate.spec")),
        "Service" => all.extend(service(object)),
        "PersistentVolumeClaim" => all.extend(claim(object)),
        _ => {}
    }
    all
}

/// About a name that Pods or their host names have.
fn name(kind: &Kind, name: &str) -> Option<String> {
    let used = match kind.name {
        "Pod" => "the Pod's hostname",
        "Deployment" | "ReplicaSet" | "Job" | "CronJob" => "Pod names and hostnames",
        _ => return None,
    };
    let long = format!("must be no more than {LABEL} characters");
    let wrong = [(name.len() > LABEL, long.as_str()), (name.contains('.'), "must not contain dots")];
    let wrong: Vec<&str> = wrong.into_iter().filter(|(holds, _)| *holds).map(|(_, words)| words).collect();
    (!wrong.is_empty()).then(|| {
        format!(
            "metadata.name: this is used in {used}, which can result in surprising behavior; a DNS label is recommended: [{}]",
            wrong.join(" ")
        )
    })
}

fn job(spec: &Value, path: &str) -> Vec<String> {
    let more = |field: &str, than: i64| number(spec, &[field]).is_some_and(|number| number > than);
    let indexed = string(spec, &["completionMode"]) == "Indexed";
    let mut all = Vec::new();
    if indexed && more("completions", MANY_COMPLETIONS) && more("parallelism", MANY_PODS) {
        all.push(format!(
            "{path}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
        ));
    }
    all.extend(pod::of(at(spec, &["template"]), &format!("{path}.template")));
    all
}

fn service(object: &Value) -> Vec<String> {
    let spec = at(object, &["spec"]);
    let (typed, given) = (string(spec, &["type"]), |field: &str| !string(spec, &[field]).is_empty());
    let addresses = !items(spec, &["externalIPs"]).is_empty();
    let headless = typed == "ClusterIP" && string(spec, &["clusterIP"]) == "None";
    let topology = "service.kubernetes.io/topology-aware-hints";
    let annotated = !at(object, &["metadata", "annotations", topology]).is_null();
    let outside = typed == "ExternalName";
    [
        (
            annotated,
            format!(
                "annotation {topology} is deprecated, please use service.kubernetes.io/topology-mode instead"
            ),
        ),
        (
            headless && given("loadBalancerIP"),
            "spec.loadBalancerIP is ignored for headless services".to_owned(),
        ),
        (headless && addresses, "spec.externalIPs is ignored for headless services".to_owned()),
        (
            headless && string(spec, &["sessionAffinity"]) != "None",
            "spec.SessionAffinity is ignored for headless services".to_owned(),
        ),
        (outside && addresses, "spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned()),
        (
            !outside && given("externalName"),
            "spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned(),
        ),
    ]
    .into_iter()
    .filter(|(holds, _)| *holds)
    .map(|(_, words)| words)
    .collect()
}

fn claim(object: &Value) -> Vec<String> {
    let annotation = "volume.beta.kubernetes.io/storage-class";
    let mut all = Vec::new();
    if !at(object, &["metadata", "annotations", annotation]).is_null() {
        all.push(format!(
            "metadata.annotations[{annotation}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
        ));
    }
    all.extend(fractions(at(object, &["spec"]), "spec", &["storage"]));
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds;

    #[test]
    fn a_name_that_is_no_label_is_told_when_it_is_given() {
        let object = json!({"metadata": {"name": format!("{}.b", "a".repeat(62))}});
        let words = of(&kinds::JOB, &object, None);
        assert_eq!(
            words,
            [
                "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [must be no more than 63 characters must not contain dots]"
            ]
        );
        assert!(of(&kinds::JOB, &object, Some(&object)).is_empty());
        let words = of(&kinds::POD, &json!({"metadata": {"name": "a.b"}}), None);
        assert!(words[0].contains("the Pod's hostname") && words[0].ends_with(": [must not contain dots]"));
        assert!(
            of(&kinds::SERVICE, &json!({"metadata": {"name": "a.b"}, "spec": {"type": "X"}}), None)
                .is_empty()
        );
    }

    #[test]
    fn fields_that_a_service_of_this_type_does_not_have_are_told() {
        let service = |spec: Value| of(&kinds::SERVICE, &json!({"spec": spec}), None);
        let headless = json!({
            "type": "ClusterIP", "clusterIP": "None", "sessionAffinity": "ClientIP", "externalIPs": ["1.2.3.4"],
            "loadBalancerIP": "1.2.3.4", "externalName": "a.b",
        });
        assert_eq!(
            service(headless),
            [
                "spec.loadBalancerIP is ignored for headless services",
                "spec.externalIPs is ignored for headless services",
                "spec.SessionAffinity is ignored for headless services",
                "spec.externalName is ignored when spec.type is not \"ExternalName\"",
            ]
        );
        let usual = json!({"type": "ClusterIP", "clusterIP": "10.96.0.9", "sessionAffinity": "None"});
        assert!(service(usual).is_empty());
    }

    #[test]
    fn a_fraction_of_a_byte_is_told() {
        let claim = json!({"spec": {"resources": {"requests": {"storage": "1500m"}}}});
        assert_eq!(
            of(&kinds::PERSISTENT_VOLUME_CLAIM, &claim, None),
            [
                "spec.resources.requests[storage]: fractional byte value \"1500m\" is invalid, must be an integer"
            ]
        );
    }

    #[test]
    fn a_large_indexed_job_is_told() {
        let job = |mode: &str| json!({"spec": {"completionMode": mode, "completions": 100_001, "parallelism": 10_001}});
        assert!(of(&kinds::JOB, &job("Indexed"), None)[0].starts_with("spec: In Indexed Jobs"));
        assert!(of(&kinds::JOB, &job("NonIndexed"), None).is_empty());
    }
}
