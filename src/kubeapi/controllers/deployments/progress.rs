//! Whether a Deployment gets on: its condition `Progressing`, and the deadline after which it is stuck.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::conditions::{set_condition, set_status};
use crate::meta;

const NAME: &str = "Progressing";

/// Writes the condition; when to look again, if time alone changes it. `before` is the status until now.
pub fn note(deployment: &mut Value, before: &Value, newest: &str, complete: bool) -> Option<Duration> {
    let old =
        meta::items(before, &["conditions"]).iter().find(|c| meta::string(c, &["type"]) == NAME).cloned();
    let old = old.unwrap_or(Value::Null);
    let reason = meta::string(&old, &["reason"]);
    let late = reason == "ProgressDeadlineExceeded" && meta::string(&old, &["message"]).contains(newest);
    if meta::at(deployment, &["spec", "paused"]).as_bool() == Some(true) {
        if !late {
            set_status(deployment, NAME, "Unknown", "DeploymentPaused", "Deployment is paused");
        }
        return None;
    }
    if complete {
        let words = format!("ReplicaSet {newest:?} has successfully progressed.");
        set_condition(deployment, NAME, true, "NewReplicaSetAvailable", &words);
        return None;
    }
    if newest.is_empty() {
        return None;
    }
    let count = |status: &Value, field: &str| meta::number(status, &[field]).unwrap_or(0);
    let now = meta::at(deployment, &["status"]).clone();
    let more = ["updatedReplicas", "readyReplicas", "availableReplicas"];
    let gone = |status: &Value| count(status, "replicas") - count(status, "updatedReplicas");
    let moves =
        more.iter().any(|field| count(&now, field) > count(before, field)) || gone(&now) < gone(before);
    if late && !moves {
        return None;
    }
    let words = format!("ReplicaSet {newest:?} is progressing.");
    let limit = meta::number(deployment, &["spec", "progressDeadlineSeconds"]).unwrap_or(600);
    if !moves && reason == "ReplicaSetUpdated" && meta::string(&old, &["message"]) == words {
        let since: Option<Timestamp> = meta::string(&old, &["lastUpdateTime"]).parse().ok();
        let left = since.map_or(limit, |since| since.as_second() + limit - Timestamp::now().as_second());
        if left < 0 {
            let words = format!("ReplicaSet {newest:?} has timed out progressing.");
            set_condition(deployment, NAME, false, "ProgressDeadlineExceeded", &words);
            return None;
        }
        return u64::try_from(left + 1).ok().map(Duration::from_secs);
    }
    if moves {
        // Its time is that of the last step.
        touch(deployment);
    }
    set_condition(deployment, NAME, true, "ReplicaSetUpdated", &words);
    u64::try_from(limit + 1).ok().map(Duration::from_secs)
}

fn touch(deployment: &mut Value) {
    let all = deployment.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    for condition in all.into_iter().flatten().filter(|c| meta::string(c, &["type"]) == NAME) {
        meta::map(condition).insert("lastUpdateTime".into(), meta::now().into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reason(deployment: &Value) -> &str {
        meta::items(deployment, &["status", "conditions"])
            .first()
            .map_or("", |c| meta::string(c, &["reason"]))
    }

    #[test]
    fn a_deployment_that_does_not_get_on_is_late_after_its_deadline() {
        let mut deployment =
            json!({"kind": "Deployment", "spec": {"progressDeadlineSeconds": 5}, "status": {}});
        assert_eq!(note(&mut deployment, &json!({}), "d-1", false), Some(Duration::from_secs(6)));
        assert_eq!(reason(&deployment), "ReplicaSetUpdated");
        deployment["status"]["conditions"][0]["lastUpdateTime"] = "2000-01-01T00:00:00Z".into();
        let before = deployment["status"].clone();
        assert_eq!(note(&mut deployment, &before, "d-1", false), None);
        assert_eq!(reason(&deployment), "ProgressDeadlineExceeded");
        let before = deployment["status"].clone();
        note(&mut deployment, &before, "d-2", false);
        assert_eq!(reason(&deployment), "ReplicaSetUpdated");
    }
}
