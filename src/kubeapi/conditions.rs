//! Conditions of objects, and what the phase and the conditions of a Pod say of it: for the controllers, the
//! kubelet and the verbs, which all write or read them.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::meta;

/// Whether a Pod may still run.
pub fn is_active(pod: &Value) -> bool {
    !meta::deleting(pod) && !is_over(pod)
}

/// Whether a Pod has ended.
pub fn is_over(pod: &Value) -> bool {
    matches!(meta::string(pod, &["status", "phase"]), "Succeeded" | "Failed")
}

/// Whether a Pod is ready.
pub fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready")
}

/// How long until a Pod that is ready has been so for some seconds, and so counts as available; nothing for one
/// that is not ready.
pub fn available_in(pod: &Value, seconds: i64) -> Option<Duration> {
    let ready = |c: &&Value| meta::string(c, &["type"]) == "Ready" && meta::string(c, &["status"]) == "True";
    let ready = meta::items(pod, &["status", "conditions"]).iter().find(ready)?;
    if seconds <= 0 {
        return Some(Duration::ZERO);
    }
    let since: Timestamp = meta::string(ready, &["lastTransitionTime"]).parse().ok()?;
    let left = since.as_second().saturating_add(seconds) - Timestamp::now().as_second();
    Some(Duration::from_secs(u64::try_from(left).unwrap_or(0)))
}

/// Whether a Pod has been ready for some seconds.
pub fn is_available(pod: &Value, seconds: i64) -> bool {
    available_in(pod, seconds) == Some(Duration::ZERO)
}

/// Whether a condition of an object is true.
pub fn condition(object: &Value, name: &str) -> bool {
    meta::items(object, &["status", "conditions"])
        .iter()
        .any(|c| meta::string(c, &["type"]) == name && meta::string(c, &["status"]) == "True")
}

/// Sets a condition; its time of transition changes only with its status.
pub fn set_condition(object: &mut Value, name: &str, holds: bool, reason: &str, message: &str) {
    set_status(object, name, if holds { "True" } else { "False" }, reason, message);
}

/// The same for one that may be `Unknown`.
pub fn set_status(object: &mut Value, name: &str, status: &str, reason: &str, message: &str) {
    let of = meta::string(object, &["kind"]).to_owned();
    let generation = meta::number(object, &["metadata", "generation"]).filter(|_| of == "Pod");
    let conditions = meta::child(meta::child(object, "status"), "conditions");
    if !conditions.is_array() {
        *conditions = Value::Array(Vec::new());
    }
    let Some(all) = conditions.as_array_mut() else { return };
    if let (Some(seen), Some(there)) =
        (generation, all.iter_mut().find(|c| meta::string(c, &["type"]) == name))
    {
        meta::map(there).insert("observedGeneration".into(), seen.into());
    }
    let old = all.iter().find(|c| meta::string(c, &["type"]) == name).cloned();
    let same = |field: &str, value: &str| old.as_ref().is_some_and(|c| meta::string(c, &[field]) == value);
    if same("status", status) && same("reason", reason) && same("message", message) {
        return;
    }
    let since = old.as_ref().map(|c| meta::string(c, &["lastTransitionTime"]).to_owned());
    let since = since.filter(|_| same("status", status)).unwrap_or_else(meta::now);
    all.retain(|c| meta::string(c, &["type"]) != name);
    let mut made = json!({"type": name, "status": status, "lastTransitionTime": since});
    // Each kind has its own word for when it was looked at.
    match of.as_str() {
        "Deployment" => meta::map(&mut made).insert("lastUpdateTime".into(), meta::now().into()),
        "Job" => meta::map(&mut made).insert("lastProbeTime".into(), meta::now().into()),
        _ => None,
    };
    if let Some(seen) = generation {
        meta::map(&mut made).insert("observedGeneration".into(), seen.into());
    }
    if !reason.is_empty() {
        meta::map(&mut made).insert("reason".into(), reason.into());
    }
    if !message.is_empty() {
        meta::map(&mut made).insert("message".into(), message.into());
    }
    all.push(made);
}

/// Notes that a Pod has a Node.
pub fn scheduled(pod: &mut Value) {
    set_condition(pod, "PodScheduled", true, "", "");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_available_when_it_has_been_ready_long_enough() {
        let of = |status: &str, since: Timestamp| {
            let ready =
                json!({"type": "Ready", "status": status, "lastTransitionTime": meta::seconds(since)});
            json!({"status": {"conditions": [ready]}})
        };
        let now = Timestamp::now();
        let before = now - jiff::SignedDuration::from_secs(60);
        assert!(is_available(&of("True", now), 0));
        assert!(is_available(&of("True", before), 30));
        assert!(available_in(&of("True", now), 30).is_some_and(|left| left > Duration::from_secs(25)));
        assert_eq!(available_in(&of("False", before), 0), None);
        assert_eq!(available_in(&json!({}), 0), None);
    }
}
