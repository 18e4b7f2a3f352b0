//! Checks of DaemonSets, in the order in which Kubernetes makes them.

use serde_json::{Map, Value};

use super::values::{natural, showing};
use super::workload::{amount, legible, selector, share};
use super::{immutable, pod};
use crate::meta;
use crate::selectors::label_selector_matches;
use crate::status::Cause;

/// What is wrong with a DaemonSet.
pub fn check(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    immutable(object, old, &["spec", "selector"], causes);
    let spec = meta::at(object, &["spec"]);
    let (given, template) = (meta::at(spec, &["selector"]), meta::at(spec, &["template"]));
    if !given.is_null() {
        selector(given, causes);
    }
    let own = meta::at(template, &["metadata", "labels"]);
    let empty = given.as_object().is_some_and(Map::is_empty);
    // No selector at all takes nothing.
    if legible(given) && (given.is_null() || (!empty && !label_selector_matches(given, own))) {
        let words = "`selector` does not match template `labels`";
        causes.push(Cause::invalid("spec.template.metadata.labels", own, words));
    }
    if empty {
        causes.push(Cause::invalid("spec.selector", given, "empty selector is invalid for daemonset"));
    }
    pod::template(template, "spec.template", causes);
    let policy = meta::at(template, &["spec", "restartPolicy"]);
    if policy.as_str() != Some("Always") {
        causes.push(Cause::unsupported("spec.template.spec.restartPolicy", policy, &["Always"]));
    }
    if !meta::at(template, &["spec", "activeDeadlineSeconds"]).is_null() {
        let words = "activeDeadlineSeconds in DaemonSet is not Supported";
        causes.push(Cause::forbidden("spec.template.spec.activeDeadlineSeconds", words));
    }
    natural(spec, "minReadySeconds", "spec", causes);
    strategy(meta::at(spec, &["updateStrategy"]), causes);
    natural(spec, "revisionHistoryLimit", "spec", causes);
}

fn strategy(strategy: &Value, causes: &mut Vec<Cause>) {
    let rolling = meta::at(strategy, &["rollingUpdate"]);
    match meta::string(strategy, &["type"]) {
        "OnDelete" => {}
        "RollingUpdate" if rolling.is_null() => {
            causes.push(Cause::required("spec.updateStrategy.rollingUpdate", ""));
        }
        "RollingUpdate" => self::rolling(rolling, causes),
        other => {
            let known = ["RollingUpdate", "OnDelete"];
            let cause = Cause::unsupported("spec.updateStrategy", &Value::Null, &known);
            causes.push(showing(
                cause,
                &format!("{{\"Type\":{other:?},\"RollingUpdate\":{}}}", shown(rolling)),
            ));
        }
    }
}

fn shown(rolling: &Value) -> String {
    if rolling.is_null() {
        return "null".to_owned();
    }
    let (unavailable, surge) = (meta::at(rolling, &["maxUnavailable"]), meta::at(rolling, &["maxSurge"]));
    format!("{{\"MaxUnavailable\":{unavailable},\"MaxSurge\":{surge}}}")
}

fn rolling(rolling: &Value, causes: &mut Vec<Cause>) {
    let path = |field: &str| format!("spec.updateStrategy.rollingUpdate.{field}");
    let fields = ["maxUnavailable", "maxSurge"];
    for field in fields {
        share(meta::at(rolling, &[field]), &path(field), causes);
    }
    for field in fields {
        let value = meta::at(rolling, &[field]);
        if value.is_string() && amount(value).is_some_and(|percent| percent > 100) {
            causes.push(Cause::invalid(path(field), value, "must not be greater than 100%"));
        }
    }
    let some = |field: &str| amount(meta::at(rolling, &[field])).unwrap_or(0) != 0;
    match (some("maxUnavailable"), some("maxSurge")) {
        (true, true) => {
            let words = "may not be set when maxUnavailable is non-zero";
            causes.push(Cause::invalid(path("maxSurge"), meta::at(rolling, &["maxSurge"]), words));
        }
        (false, false) => {
            causes.push(Cause::required(path("maxUnavailable"), "cannot be 0 when maxSurge is 0"));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wrong(rolling: Value) -> Vec<String> {
        let mut causes = Vec::new();
        strategy(&json!({"type": "RollingUpdate", "rollingUpdate": rolling}), &mut causes);
        causes.into_iter().map(|cause| cause.message).collect()
    }

    #[test]
    fn either_some_pods_may_be_missing_or_some_too_many() {
        for (unavailable, surge) in
            [(json!(1), json!(0)), (json!(0), json!("10%")), (json!("100%"), json!(0))]
        {
            assert!(wrong(json!({"maxUnavailable": unavailable, "maxSurge": surge})).is_empty());
        }
        let none = wrong(json!({"maxUnavailable": 0, "maxSurge": 0}));
        assert_eq!(none, ["Required value: cannot be 0 when maxSurge is 0"]);
        let both = wrong(json!({"maxUnavailable": 1, "maxSurge": 1}));
        assert_eq!(both, ["Invalid value: 1: may not be set when maxUnavailable is non-zero"]);
        let many = wrong(json!({"maxUnavailable": "101%", "maxSurge": 0}));
        assert_eq!(many, ["Invalid value: \"101%\": must not be greater than 100%"]);
    }

    #[test]
    fn an_unknown_strategy_is_shown_as_kubernetes_shows_it() {
        let mut causes = Vec::new();
        strategy(&json!({"type": "X"}), &mut causes);
        let words = "Unsupported value: {\"Type\":\"X\",\"RollingUpdate\":null}: supported values: \"RollingUpdate\", \"OnDelete\"";
        assert_eq!(causes[0].message, words);
    }
}
