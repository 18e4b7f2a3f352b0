//! Checks of what makes Pods: Deployments, ReplicaSets and Jobs.

use serde_json::{Map, Value};

use super::pod;
use super::values::{natural, showing};
use super::{immutable, labels};
use crate::kinds::Kind;
use crate::label_syntax;
use crate::meta;
use crate::selectors::label_selector_matches;
use crate::status::Cause;

/// A Deployment or a ReplicaSet.
pub fn set(kind: &Kind, object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let (spec, deployment) = (meta::at(object, &["spec"]), kind.name == "Deployment");
    natural(spec, "replicas", "spec", causes);
    if !deployment {
        natural(spec, "minReadySeconds", "spec", causes);
    }
    let given = meta::at(spec, &["selector"]);
    selector(given, causes);
    if given.as_object().is_some_and(Map::is_empty) {
        causes.push(Cause::invalid("spec.selector", given, "empty selector is invalid for deployment"));
    }
    if legible(given) {
        replica(given, meta::at(spec, &["template"]), causes);
    } else {
        causes.push(Cause::invalid("spec.selector", given, "invalid label selector"));
    }
    if deployment {
        strategy(meta::at(spec, &["strategy"]), causes);
        for field in ["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
            natural(spec, field, "spec", causes);
        }
        let ready = meta::number(spec, &["minReadySeconds"]).unwrap_or(0);
        if let Some(deadline) = meta::number(spec, &["progressDeadlineSeconds"]).filter(|d| *d <= ready) {
            let words = "must be greater than minReadySeconds";
            causes.push(Cause::invalid("spec.progressDeadlineSeconds", &deadline.into(), words));
        }
    }
    immutable(object, old, &["spec", "selector"], causes);
}

pub(super) fn selector(selector: &Value, causes: &mut Vec<Cause>) {
    if selector.is_null() {
        return causes.push(Cause::required("spec.selector", ""));
    }
    labels(meta::at(selector, &["matchLabels"]), "spec.selector.matchLabels", causes);
    for (at, one) in meta::items(selector, &["matchExpressions"]).iter().enumerate() {
        let here = |field: &str| format!("spec.selector.matchExpressions[{at}].{field}");
        let none = meta::items(one, &["values"]).is_empty();
        match meta::string(one, &["operator"]) {
            "In" | "NotIn" if none => {
                let words = "must be specified when `operator` is 'In' or 'NotIn'";
                causes.push(Cause::required(here("values"), words));
            }
            "Exists" | "DoesNotExist" if !none => {
                let words = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                causes.push(Cause::forbidden(here("values"), words));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                let words = "not a valid selector operator";
                causes.push(Cause::invalid(here("operator"), &other.into(), words));
            }
        }
        let key = meta::string(one, &["key"]);
        if let Some(words) = label_syntax::bad_key(key) {
            causes.push(Cause::invalid(here("key"), &key.into(), &words));
        }
    }
}

/// Whether a selector can be asked at all.
pub(super) fn legible(selector: &Value) -> bool {
    meta::items(selector, &["matchExpressions"]).iter().all(|one| {
        let none = meta::items(one, &["values"]).is_empty();
        match meta::string(one, &["operator"]) {
            "In" | "NotIn" => !none,
            "Exists" | "DoesNotExist" => none,
            _ => false,
        }
    })
}

fn replica(selector: &Value, template: &Value, causes: &mut Vec<Cause>) {
    let own = meta::at(template, &["metadata", "labels"]);
    let empty = selector.as_object().is_some_and(Map::is_empty);
    // No selector at all takes nothing.
    if selector.is_null() || (!empty && !label_selector_matches(selector, own)) {
        let words = "`selector` does not match template `labels`";
        causes.push(Cause::invalid("spec.template.metadata.labels", own, words));
    }
    pod::template(template, "spec.template", causes);
    let policy = meta::at(template, &["spec", "restartPolicy"]);
    if policy.as_str() != Some("Always") {
        causes.push(Cause::unsupported("spec.template.spec.restartPolicy", policy, &["Always"]));
    }
    if !meta::at(template, &["spec", "activeDeadlineSeconds"]).is_null() {
        let words = "activeDeadlineSeconds in ReplicaSet is not Supported";
        causes.push(Cause::forbidden("spec.template.spec.activeDeadlineSeconds", words));
    }
}

fn strategy(strategy: &Value, causes: &mut Vec<Cause>) {
    let rolling = meta::at(strategy, &["rollingUpdate"]);
    match meta::string(strategy, &["type"]) {
        "Recreate" if !rolling.is_null() => {
            let words = "may not be specified when strategy `type` is 'Recreate'";
            causes.push(Cause::forbidden("spec.strategy.rollingUpdate", words));
        }
        "Recreate" => {}
        "RollingUpdate" => {
            let (unavailable, surge) =
                (meta::at(rolling, &["maxUnavailable"]), meta::at(rolling, &["maxSurge"]));
            share(unavailable, "spec.strategy.rollingUpdate.maxUnavailable", causes);
            share(surge, "spec.strategy.rollingUpdate.maxSurge", causes);
            if amount(unavailable) == Some(0) && amount(surge) == Some(0) {
                let words = "may not be 0 when `maxSurge` is 0";
                causes.push(Cause::invalid("spec.strategy.rollingUpdate.maxUnavailable", unavailable, words));
            }
            if unavailable.is_string() && amount(unavailable).is_some_and(|percent| percent > 100) {
                let words = "must not be greater than 100%";
                causes.push(Cause::invalid("spec.strategy.rollingUpdate.maxUnavailable", unavailable, words));
            }
        }
        other => {
            let shown = format!("{{\"Type\":{other:?},\"RollingUpdate\":{rolling}}}");
            let cause = Cause::unsupported("spec.strategy", &Value::Null, &["Recreate", "RollingUpdate"]);
            causes.push(showing(cause, &shown));
        }
    }
}

/// A number, or the number of a percentage.
pub(super) fn amount(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.strip_suffix('%')?.parse().ok())
}

pub(super) fn share(value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let percent = |text: &str| {
        text.strip_suffix('%')
            .is_some_and(|digits| !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit()))
    };
    match value {
        Value::String(text) if !percent(text) => {
            let words = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
            causes.push(Cause::invalid(path, value, words));
        }
        Value::Number(number) if number.as_i64().is_some_and(|number| number < 0) => {
            causes.push(Cause::invalid(path, value, "must be greater than or equal to 0"));
        }
        _ => {}
    }
}

/// A Job.
pub fn job(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = meta::at(object, &["spec"]);
    if old.is_none() {
        generated(object, causes);
    }
    job_spec(spec, "spec", causes);
    let template = meta::at(spec, &["template"]);
    let given = meta::at(spec, &["selector"]);
    selector(given, causes);
    let own = meta::at(template, &["metadata", "labels"]);
    if legible(given) && !label_selector_matches(given, own) {
        let words = "`selector` does not match template `labels`";
        causes.push(Cause::invalid("spec.template.metadata.labels", own, words));
    }
    if let Some(old) = old {
        job_changes(object, old, causes);
    }
}

/// The `spec` of a Job, but for its selector.
pub(super) fn job_spec(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        natural(spec, field, path, causes);
    }
    completion(spec, path, causes);
    let template = meta::at(spec, &["template"]);
    pod::template(template, &format!("{path}.template"), causes);
    let policy = meta::at(template, &["spec", "restartPolicy"]);
    let path = format!("{path}.template.spec.restartPolicy");
    match policy.as_str() {
        Some("OnFailure" | "Never") => {}
        None | Some("" | "Always") => {
            causes.push(Cause::required(path, "valid values: \"OnFailure\", \"Never\""));
        }
        Some(_) => causes.push(Cause::unsupported(path, policy, &["OnFailure", "Never"])),
    }
}

/// The selector and the labels are those that were made for the Job.
fn generated(object: &Value, causes: &mut Vec<Cause>) {
    if meta::at(object, &["spec", "manualSelector"]).as_bool() == Some(true) {
        return;
    }
    let given = meta::at(object, &["spec", "selector"]);
    let expected = serde_json::json!({
        "controller-uid": meta::uid(object), "batch.kubernetes.io/controller-uid": meta::uid(object),
        "job-name": meta::name(object), "batch.kubernetes.io/job-name": meta::name(object),
    });
    if legible(given) && !label_selector_matches(given, &expected) {
        causes.push(Cause::invalid("spec.selector", given, "`selector` not auto-generated"));
    }
}

fn completion(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    let mode = meta::at(spec, &["completionMode"]);
    match mode.as_str() {
        Some("Indexed") => {
            if meta::at(spec, &["completions"]).is_null() {
                causes
                    .push(Cause::required(format!("{path}.completions"), "when completion mode is Indexed"));
            }
            for field in ["backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"] {
                if !meta::at(spec, &[field]).is_null() {
                    causes.push(Cause::forbidden(
                        format!("{path}.{field}"),
                        "is not supported by this cluster",
                    ));
                }
            }
            if let Some(number) = meta::number(spec, &["parallelism"]).filter(|number| *number > 100_000) {
                let words = "must be less than or equal to 100000 when completion mode is Indexed";
                causes.push(Cause::invalid(format!("{path}.parallelism"), &number.into(), words));
            }
        }
        other => {
            if other.is_some_and(|mode| mode != "NonIndexed") {
                causes.push(Cause::unsupported(
                    format!("{path}.completionMode"),
                    mode,
                    &["NonIndexed", "Indexed"],
                ));
            }
            for field in ["backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"] {
                let value = meta::at(spec, &[field]);
                if !value.is_null() {
                    causes.push(Cause::invalid(
                        format!("{path}.{field}"),
                        value,
                        "requires indexed completion mode",
                    ));
                }
            }
        }
    }
}

fn job_changes(object: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let (new, before) = (meta::at(object, &["spec", "completions"]), meta::at(old, &["spec", "completions"]));
    if meta::string(object, &["spec", "completionMode"]) != "Indexed" {
        immutable(object, Some(old), &["spec", "completions"], causes);
    } else if new != before && !new.is_null() && new != meta::at(object, &["spec", "parallelism"]) {
        let words = "can only be modified in tandem with spec.parallelism";
        causes.push(Cause::invalid("spec.completions", new, words));
    }
    immutable(object, Some(old), &["spec", "selector"], causes);
    let suspended = meta::at(old, &["spec", "suspend"]).as_bool() == Some(true);
    let never_ran = meta::at(old, &["status", "startTime"]).is_null();
    let strip = |job: &Value| {
        let mut template = meta::at(job, &["spec", "template"]).clone();
        if suspended && never_ran {
            // Where it may run can still be chosen.
            for field in ["labels", "annotations"] {
                meta::unset(&mut template, field);
            }
            let spec = meta::map(meta::child(&mut template, "spec"));
            for field in ["nodeSelector", "tolerations", "affinity", "schedulingGates"] {
                spec.remove(field);
            }
        }
        template
    };
    if strip(object) != strip(old) {
        let template = meta::at(object, &["spec", "template"]);
        causes.push(Cause::invalid("spec.template", template, "field is immutable"));
    }
    for field in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    {
        immutable(object, Some(old), &["spec", field], causes);
    }
}
