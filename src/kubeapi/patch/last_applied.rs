//! From client-side to server-side apply: `kubectl apply` has kept what it applied in an annotation.
//! What still is as it was applied there belongs to kubectl, so it is no conflict when kubectl applies it by
//! the server, and the annotation follows (KEP-555, "Upgrading from client-side apply").

use serde_json::Value;

use super::fields::{self, Fields};
use super::manager::Manager;
use crate::kinds::Kind;
use crate::meta;

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The manager that does so: whoever takes another name wants none of it.
const KUBECTL: &str = "kubectl";
/// Bytes that all annotations of an object may have.
const LARGEST: usize = 256 * 1024;

fn last<'a>(live: &'a Value, manager: &Manager) -> Option<&'a str> {
    let text = meta::string(live, &["metadata", "annotations", ANNOTATION]);
    (manager.name == KUBECTL && !text.is_empty()).then_some(text)
}

/// The fields that kubectl may take from others.
pub(super) fn allowed(kind: &Kind, live: &Value, manager: &Manager) -> Fields {
    let applied: Option<Value> = last(live, manager).and_then(|text| serde_json::from_str(text).ok());
    match applied {
        Some(applied) if applied.get("apiVersion") == live.get("apiVersion") => {
            let since = fields::changed(kind.name, live, &applied);
            fields::difference(&fields::of(kind.name, &applied), &since)
        }
        _ => Fields::new(),
    }
}

/// Notes what was applied where something was noted before.
pub(super) fn follow(object: &mut Value, live: &Value, applied: &Value, manager: &Manager) {
    if last(live, manager).is_none() {
        return;
    }
    let mut applied = applied.clone();
    let metadata = applied.get_mut("metadata").and_then(Value::as_object_mut);
    if let Some(annotations) = metadata.and_then(|all| all.get_mut("annotations")?.as_object_mut()) {
        annotations.remove(ANNOTATION);
    }
    let text = format!("{applied}\n");
    let text = if text.len() > LARGEST { String::new() } else { text };
    if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.insert(ANNOTATION.to_owned(), text.into());
    }
}
