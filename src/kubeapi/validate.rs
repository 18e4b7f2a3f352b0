//! What the API server refuses: names, fields that must be there, values that cannot be, and changes
//! of what is immutable. Words and reasons are those of Kubernetes (422 `Invalid`).

mod container;
mod cron_job;
mod daemon_set;
pub mod names;
pub mod pod;
mod service;
mod stateful_set;
mod values;
mod volume;
mod workload;

use serde_json::Value;

use super::kinds::Kind;
use super::label_syntax::{VALUE, bad_key, is_value};
use super::meta;
use super::status::Cause;

/// Length of all annotations of an object, in bytes.
const ANNOTATIONS: usize = 256 << 10;

/// Everything that is wrong with an object; `old` is what it replaces.
pub fn check(kind: &Kind, object: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = metadata(kind, object);
    match kind.name {
        "Pod" => match old {
            Some(old) => pod::update(object, old, &mut causes),
            None => pod::create(object, &mut causes),
        },
        "Deployment" | "ReplicaSet" => workload::set(kind, object, old, &mut causes),
        "DaemonSet" => daemon_set::check(object, old, &mut causes),
        "StatefulSet" => stateful_set::check(object, old, &mut causes),
        "ControllerRevision" => revision(object, old, &mut causes),
        "CronJob" => cron_job::check(object, old, &mut causes),
        "Job" => workload::job(object, old, &mut causes),
        "Service" => service::check(object, old, &mut causes),
        "PersistentVolumeClaim" => claim(object, old, &mut causes),
        "Lease" => lease(object, &mut causes),
        "ConfigMap" | "Secret" => data(kind, object, old, &mut causes),
        _ => {}
    }
    causes
}

/// Changes of an object's identity, and finalizers that come when it goes already. Each is there twice, as
/// Kubernetes checks it twice.
pub fn metadata_changes(object: &Value, old: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    if meta::deleting(old) {
        let before = meta::list(old, "finalizers");
        let mut fresh: Vec<&str> = meta::list(object, "finalizers");
        fresh.retain(|finalizer| !before.contains(finalizer));
        fresh.sort_unstable();
        if !fresh.is_empty() {
            let shown: Vec<String> = fresh.iter().map(|finalizer| format!("{finalizer:?}")).collect();
            let words = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                shown.join(", ")
            );
            causes.push(Cause::forbidden("metadata.finalizers", &words));
        }
    }
    let uid = meta::uid(object);
    if !uid.is_empty() && uid != meta::uid(old) {
        causes.push(Cause::invalid("metadata.uid", &uid.into(), "field is immutable"));
    }
    let again = causes.clone();
    causes.extend(again);
    causes
}

fn metadata(kind: &Kind, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let name = meta::name(object);
    let prefix = meta::text(object, "generateName");
    // A name is still to be made of it.
    let masked =
        prefix.strip_suffix('-').filter(|p| !p.is_empty()).map_or(prefix.to_owned(), |p| format!("{p}a"));
    if let Some(words) = names::bad(kind, &masked).filter(|_| !prefix.is_empty()) {
        causes.push(Cause::invalid("metadata.generateName", &prefix.into(), &words));
    }
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else if let Some(words) = names::bad(kind, name) {
        causes.push(Cause::invalid("metadata.name", &name.into(), &words));
    }
    labels(meta::at(object, &["metadata", "labels"]), "metadata.labels", &mut causes);
    for key in meta::at(object, &["metadata", "annotations"]).as_object().into_iter().flatten() {
        if let Some(words) = bad_key(&key.0.to_lowercase()) {
            causes.push(Cause::invalid("metadata.annotations", &key.0.as_str().into(), &words));
        }
    }
    let annotations = meta::at(object, &["metadata", "annotations"]).as_object();
    let lengths =
        annotations.into_iter().flatten().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len));
    if lengths.sum::<usize>() > ANNOTATIONS {
        let message = format!("Too long: may not be more than {ANNOTATIONS} bytes");
        causes.push(Cause { field: "metadata.annotations".into(), reason: "FieldValueTooLong", message });
    }
    owners(object, &mut causes);
    for (at, finalizer) in meta::items(object, &["metadata", "finalizers"]).iter().enumerate() {
        let name = finalizer.as_str().unwrap_or_default();
        if !name.contains('/') && !matches!(name, "orphan" | "foregroundDeletion" | "kubernetes") {
            let words = "name is neither a standard finalizer name nor is it fully qualified";
            causes.push(Cause::invalid(format!("metadata.finalizers[{at}]"), finalizer, words));
        }
    }
    causes
}

fn owners(object: &Value, causes: &mut Vec<Cause>) {
    for owner in meta::items(object, &["metadata", "ownerReferences"]) {
        for (field, words) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "must not be empty"),
            ("name", "must not be empty"),
            ("uid", "must not be empty"),
        ] {
            if meta::string(owner, &[field]).is_empty() {
                causes.push(Cause::invalid(format!("metadata.ownerReferences.{field}"), &"".into(), words));
            }
        }
    }
}

fn labels(labels: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        if let Some(words) = bad_key(key) {
            causes.push(Cause::invalid(path, &key.as_str().into(), &words));
        }
        if !is_value(value.as_str().unwrap_or_default()) {
            causes.push(Cause::invalid(path, value, VALUE));
        }
    }
}

fn immutable(object: &Value, old: Option<&Value>, path: &[&str], causes: &mut Vec<Cause>) {
    let (new, before) = (meta::at(object, path), old.map(|old| meta::at(old, path)));
    if before.is_some_and(|before| before != new) {
        causes.push(Cause::invalid(path.join("."), new, "field is immutable"));
    }
}

pub(super) fn port_number(port: &Value, field: &str, path: &str, causes: &mut Vec<Cause>) {
    match meta::number(port, &[field]) {
        None | Some(0) => causes.push(Cause::required(format!("{path}.{field}"), "")),
        Some(1..=65535) => {}
        Some(number) => {
            let words = "must be between 1 and 65535, inclusive";
            causes.push(Cause::invalid(format!("{path}.{field}"), &number.into(), words));
        }
    }
}

pub(super) fn protocol(port: &Value, path: &str, causes: &mut Vec<Cause>) {
    if !matches!(meta::string(port, &["protocol"]), "TCP" | "UDP" | "SCTP") {
        let value = meta::at(port, &["protocol"]);
        causes.push(Cause::unsupported(format!("{path}.protocol"), value, &["SCTP", "TCP", "UDP"]));
    }
}

fn claim(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let modes = meta::items(object, &["spec", "accessModes"]);
    if modes.is_empty() {
        causes.push(Cause::required("spec.accessModes", "at least 1 access mode is required"));
    }
    let known = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
    for mode in modes.iter().filter(|mode| !known.iter().any(|k| mode.as_str() == Some(k))) {
        causes.push(Cause::unsupported("spec.accessModes", mode, &known));
    }
    let size = meta::at(object, &["spec", "resources", "requests", "storage"]);
    match size.as_str().and_then(d2k_quantity::thousandths) {
        None => causes.push(Cause::required("spec.resources[storage]", "")),
        Some(..=0) => {
            causes.push(Cause::invalid("spec.resources[storage]", size, "must be greater than zero"))
        }
        Some(_) => {}
    }
    let bound = old.is_some_and(|old| meta::string(old, &["status", "phase"]) == "Bound");
    let bytes = |size: &Value| size.as_str().and_then(d2k_quantity::thousandths).unwrap_or(0);
    let before = old.map_or(&Value::Null, |old| meta::at(old, &["status", "capacity", "storage"]));
    if bound && bytes(size) < bytes(before) {
        let words = "field can not be less than status.capacity";
        causes.push(Cause::forbidden("spec.resources.requests.storage", words));
    }
    let size: &[&str] = if bound { &[] } else { &["resources"] };
    for field in ["accessModes", "storageClassName", "selector", "volumeMode"].iter().chain(size) {
        let before = old.map(|old| meta::at(old, &["spec", field]));
        if before.is_some_and(|before| !before.is_null() && before != meta::at(object, &["spec", field])) {
            causes.push(Cause {
                field: "spec".into(),
                reason: "FieldValueForbidden",
                message: "Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims".into(),
            });
            break;
        }
    }
}

fn lease(object: &Value, causes: &mut Vec<Cause>) {
    let spec = meta::at(object, &["spec"]);
    if let Some(seconds) = meta::number(spec, &["leaseDurationSeconds"]).filter(|seconds| *seconds <= 0) {
        causes.push(Cause::invalid("spec.leaseDurationSeconds", &seconds.into(), "must be greater than 0"));
    }
    values::natural(spec, "leaseTransitions", "spec", causes);
}

fn revision(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    if let Some(number) = meta::number(object, &["revision"]).filter(|number| *number < 0) {
        causes.push(Cause::invalid("revision", &number.into(), "must be greater than or equal to 0"));
    }
    if meta::at(object, &["data"]).is_null() {
        causes.push(Cause::required("data", "data is mandatory"));
    }
    immutable(object, old, &["data"], causes);
}

fn data(kind: &Kind, object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let mut size = 0;
    for field in ["data", "binaryData"] {
        for (key, value) in meta::at(object, &[field]).as_object().into_iter().flatten() {
            let text = value.as_str().unwrap_or_default();
            size +=
                if field == "binaryData" || kind.name == "Secret" { text.len() / 4 * 3 } else { text.len() };
            let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if key.is_empty()
                || key.len() > 253
                || !key.chars().all(legal)
                || key == "."
                || key.starts_with("..")
            {
                let words = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
                causes.push(Cause::invalid(format!("{field}[{key}]"), &key.as_str().into(), words));
            }
        }
    }
    if size > 1024 * 1024 {
        let words = "must have at most 1048576 bytes";
        causes.push(Cause {
            field: String::new(),
            reason: "FieldValueTooLong",
            message: format!("Too long: {words}"),
        });
    }
    if old.is_some_and(|old| meta::at(old, &["immutable"]).as_bool() == Some(true)) {
        for field in ["data", "binaryData", "immutable"] {
            if old.is_some_and(|old| meta::at(old, &[field]) != meta::at(object, &[field])) {
                causes.push(Cause {
                    field: field.into(),
                    reason: "FieldValueForbidden",
                    message: "Forbidden: field is immutable when `immutable` is set".into(),
                });
            }
        }
    }
    if kind.name == "Secret" {
        let needed: &[&str] = match meta::string(object, &["type"]) {
            "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
            "kubernetes.io/dockercfg" => &[".dockercfg"],
            "kubernetes.io/tls" => &["tls.crt", "tls.key"],
            _ => &[],
        };
        for key in needed.iter().filter(|key| meta::at(object, &["data", key]).is_null()) {
            causes.push(Cause::required(format!("data[{key}]"), ""));
        }
        immutable(object, old, &["type"], causes);
    }
}
