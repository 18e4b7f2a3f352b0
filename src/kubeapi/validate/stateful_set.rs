//! Checks of StatefulSets, in the order in which Kubernetes makes them.

use serde_json::{Map, Value, json};

use super::values::{natural, showing};
use super::workload::{legible, selector};
use super::{labels, names, pod};
use crate::meta;
use crate::selectors::label_selector_matches;
use crate::status::Cause;

/// What may be changed later.
const MUTABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

/// What is wrong with a StatefulSet.
pub fn check(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = meta::at(object, &["spec"]);
    let management = meta::at(spec, &["podManagementPolicy"]);
    match management.as_str() {
        None | Some("") => causes.push(Cause::required("spec.podManagementPolicy", "")),
        Some("OrderedReady" | "Parallel") => {}
        Some(_) => {
            let words = "must be 'OrderedReady' or 'Parallel'";
            causes.push(Cause::invalid("spec.podManagementPolicy", management, words));
        }
    }
    strategy(meta::at(spec, &["updateStrategy"]), causes);
    for field in ["whenDeleted", "whenScaled"] {
        let policy = meta::at(spec, &["persistentVolumeClaimRetentionPolicy", field]);
        if !matches!(policy.as_str(), Some("Retain" | "Delete")) {
            let path = format!("spec.persistentVolumeClaimRetentionPolicy.{field}");
            causes.push(Cause::unsupported(path, policy, &["Retain", "Delete"]));
        }
    }
    natural(spec, "replicas", "spec", causes);
    natural(spec, "minReadySeconds", "spec", causes);
    natural(meta::at(spec, &["ordinals"]), "start", "spec.ordinals", causes);
    let service = meta::string(spec, &["serviceName"]);
    if let Some(words) = names::bad_label(service).filter(|_| !service.is_empty()) {
        causes.push(Cause::invalid("spec.serviceName", &service.into(), &words));
    }
    let given = meta::at(spec, &["selector"]);
    selector(given, causes);
    if given.as_object().is_some_and(Map::is_empty) {
        causes.push(Cause::invalid("spec.selector", given, "empty selector is invalid for statefulset"));
    }
    if legible(given) {
        template(spec, causes);
    } else {
        causes.push(Cause::invalid("spec.selector", given, ""));
    }
    let policy = meta::at(spec, &["template", "spec", "restartPolicy"]);
    if policy.as_str() != Some("Always") {
        causes.push(Cause::unsupported("spec.template.spec.restartPolicy", policy, &["Always"]));
    }
    if !meta::at(spec, &["template", "spec", "activeDeadlineSeconds"]).is_null() {
        let words = "activeDeadlineSeconds in StatefulSet is not Supported";
        causes.push(Cause::forbidden("spec.template.spec.activeDeadlineSeconds", words));
    }
    if old.is_some_and(|old| fixed(old) != fixed(object)) {
        let words = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        causes.push(Cause::forbidden("spec", words));
    }
}

/// The fields that stay as they are.
fn fixed(object: &Value) -> Map<String, Value> {
    let mut spec = meta::at(object, &["spec"]).as_object().cloned().unwrap_or_default();
    spec.retain(|field, _| !MUTABLE.contains(&field.as_str()));
    spec
}

fn template(spec: &Value, causes: &mut Vec<Cause>) {
    let (selector, template) = (meta::at(spec, &["selector"]), meta::at(spec, &["template"]));
    let own = meta::at(template, &["metadata", "labels"]);
    let empty = selector.as_object().is_some_and(Map::is_empty);
    if selector.is_null() || (!empty && !label_selector_matches(selector, own)) {
        let words = "`selector` does not match template `labels`";
        causes.push(Cause::invalid("spec.template.metadata.labels", own, words));
    }
    // Kubernetes checks the labels twice, too, and shows both.
    labels(own, "spec.template.labels", causes);
    pod::template(&with_claims(spec), "spec.template", causes);
}

/// The template as the controller fills it in for a Pod: with volumes of the claims before its own ones of other names, and
/// a host name and a subdomain that replace the given ones.
fn with_claims(spec: &Value) -> Value {
    let mut template = meta::at(spec, &["template"]).clone();
    let names: Vec<&str> = meta::items(spec, &["volumeClaimTemplates"]).iter().map(meta::name).collect();
    let of_claim = |name: &&str| json!({"name": name, "persistentVolumeClaim": {"claimName": name}});
    let mut volumes: Vec<Value> = names.iter().map(of_claim).collect();
    let own = meta::items(&template, &["spec", "volumes"]).iter();
    volumes.extend(own.filter(|volume| !names.contains(&meta::name_of(volume))).cloned());
    if let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert("volumes".to_owned(), volumes.into());
        spec.retain(|field, _| !matches!(field.as_str(), "hostname" | "subdomain"));
    }
    template
}

fn strategy(strategy: &Value, causes: &mut Vec<Cause>) {
    let rolling = meta::at(strategy, &["rollingUpdate"]);
    match meta::string(strategy, &["type"]) {
        "OnDelete" if !rolling.is_null() => {
            let words = "only allowed for updateStrategy 'RollingUpdate'";
            let cause = Cause::invalid("spec.updateStrategy.rollingUpdate", &Value::Null, words);
            causes.push(showing(cause, &shown(rolling)));
        }
        "OnDelete" => {}
        "RollingUpdate" => natural(rolling, "partition", "spec.updateStrategy.rollingUpdate", causes),
        other => {
            let words = "must be 'RollingUpdate' or 'OnDelete'";
            let cause = Cause::invalid("spec.updateStrategy", &Value::Null, words);
            let rolling = shown(rolling);
            causes.push(showing(cause, &format!("{{\"Type\":{other:?},\"RollingUpdate\":{rolling}}}")));
        }
    }
}

fn shown(rolling: &Value) -> String {
    if rolling.is_null() {
        return "null".to_owned();
    }
    let partition = meta::number(rolling, &["partition"]).unwrap_or(0);
    format!("{{\"Partition\":{partition},\"MaxUnavailable\":null}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> Value {
        json!({"metadata": {"name": "s"}, "spec": {
            "replicas": 1, "serviceName": "s", "podManagementPolicy": "OrderedReady",
            "selector": {"matchLabels": {"a": "b"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "containers": [{
                    "name": "c", "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File",
                }]},
            },
        }})
    }

    fn wrong(object: &Value, old: Option<&Value>) -> Vec<(String, String)> {
        let mut causes = Vec::new();
        check(object, old, &mut causes);
        causes.into_iter().map(|cause| (cause.field, cause.message)).collect()
    }

    #[test]
    fn a_set_as_it_is_filled_in_is_good() {
        assert!(wrong(&set(), Some(&set())).is_empty());
    }

    #[test]
    fn only_some_fields_may_be_changed() {
        let (old, mut new) = (set(), set());
        new["spec"]["replicas"] = 3.into();
        new["spec"]["ordinals"] = json!({"start": 2});
        assert!(wrong(&new, Some(&old)).is_empty());
        for (field, value) in [("serviceName", json!("t")), ("podManagementPolicy", json!("Parallel"))] {
            let mut new = set();
            new["spec"][field] = value;
            let causes = wrong(&new, Some(&old));
            assert_eq!(causes.len(), 1, "{field}");
            assert!(causes[0].1.contains("updates to statefulset spec"), "{field}");
        }
    }

    #[test]
    fn wrong_values_are_refused() {
        let cases = [
            ("/spec/podManagementPolicy", json!("X"), "must be 'OrderedReady' or 'Parallel'"),
            ("/spec/updateStrategy/type", json!("X"), "must be 'RollingUpdate' or 'OnDelete'"),
            ("/spec/updateStrategy/type", json!("OnDelete"), "only allowed for updateStrategy"),
            ("/spec/replicas", json!(-1), "must be greater than or equal to 0"),
            ("/spec/template/spec/restartPolicy", json!("Never"), "supported values: \"Always\""),
            ("/spec/template/metadata/labels", json!({"c": "d"}), "`selector` does not match"),
            ("/spec/selector", json!({}), "empty selector is invalid for statefulset"),
            (
                "/spec/persistentVolumeClaimRetentionPolicy/whenScaled",
                json!("Keep"),
                "supported values: \"Retain\", \"Delete\"",
            ),
        ];
        for (path, value, words) in cases {
            let mut object = set();
            *object.pointer_mut(path).unwrap() = value;
            let causes = wrong(&object, None);
            assert!(causes.iter().any(|(_, message)| message.contains(words)), "{path}: {causes:?}");
        }
    }
}
