//! Defaults of what makes Pods.

use serde_json::{Map, Value};

use super::{pod, put};
use crate::meta;

/// A Deployment's.
pub fn deployment(object: &mut Value) {
    let spec = meta::child(object, "spec");
    pod::fill(meta::child(spec, "template"), "Always");
    let map = meta::map(spec);
    put(map, "replicas", || 1.into());
    put(map, "revisionHistoryLimit", || 10.into());
    put(map, "progressDeadlineSeconds", || 600.into());
    let strategy = meta::child(spec, "strategy");
    put(meta::map(strategy), "type", || "RollingUpdate".into());
    if meta::string(strategy, &["type"]) == "RollingUpdate" {
        let rolling = meta::map(meta::child(strategy, "rollingUpdate"));
        put(rolling, "maxSurge", || "25%".into());
        put(rolling, "maxUnavailable", || "25%".into());
    }
    meta::child(object, "status");
}

/// A ReplicaSet's.
pub fn replica_set(object: &mut Value) {
    let spec = meta::child(object, "spec");
    pod::fill(meta::child(spec, "template"), "Always");
    put(meta::map(spec), "replicas", || 1.into());
    put(meta::map(meta::child(object, "status")), "replicas", || 0.into());
}

/// A CronJob's. The fields of its Jobs are filled in when they are made.
pub fn cron_job(object: &mut Value) {
    let spec = meta::child(object, "spec");
    let job = meta::child(meta::child(spec, "jobTemplate"), "spec");
    pod::fill(meta::child(job, "template"), "Always");
    let map = meta::map(spec);
    put(map, "concurrencyPolicy", || "Allow".into());
    put(map, "suspend", || false.into());
    put(map, "successfulJobsHistoryLimit", || 3.into());
    put(map, "failedJobsHistoryLimit", || 1.into());
    meta::child(object, "status");
}

/// A Job's. The selector is made from its UID, which is known by then.
pub fn job(object: &mut Value) {
    let (uid, name) = (meta::uid(object).to_owned(), meta::name(object).to_owned());
    let spec = meta::child(object, "spec");
    pod::fill(meta::child(spec, "template"), "Always");
    let manual = meta::at(spec, &["manualSelector"]).as_bool() == Some(true);
    if !manual && !uid.is_empty() {
        let key = "batch.kubernetes.io/controller-uid";
        let wanted = meta::child(meta::child(spec, "selector"), "matchLabels");
        put(meta::map(wanted), key, || uid.as_str().into());
        let labels = meta::child(meta::child(meta::child(spec, "template"), "metadata"), "labels");
        for (label, value) in [
            (key, &uid),
            ("controller-uid", &uid),
            ("batch.kubernetes.io/job-name", &name),
            ("job-name", &name),
        ] {
            put(meta::map(labels), label, || value.as_str().into());
        }
    }
    let labels = meta::at(spec, &["template", "metadata", "labels"]).clone();
    let policy = meta::at(spec, &["podFailurePolicy"]).is_null();
    let map = meta::map(spec);
    if !map.contains_key("completions") && !map.contains_key("parallelism") {
        map.insert("completions".into(), 1.into());
    }
    put(map, "parallelism", || 1.into());
    put(map, "backoffLimit", || 6.into());
    put(map, "completionMode", || "NonIndexed".into());
    put(map, "suspend", || false.into());
    put(map, "manualSelector", || false.into());
    put(map, "podReplacementPolicy", || if policy { "TerminatingOrFailed" } else { "Failed" }.into());
    meta::child(object, "status");
    if !labels.is_null() && meta::at(object, &["metadata", "labels"]).as_object().is_none_or(Map::is_empty) {
        meta::set(object, "labels", labels);
    }
}
