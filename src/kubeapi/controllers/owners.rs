//! Owners: the children of an object, their adoption, and references to owners.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Context;
use crate::kubeapi::kinds::Kind;
use crate::kubeapi::meta;
use crate::kubeapi::selectors::label_selector_matches;
use crate::kubeapi::verbs::Target;

/// A reference that makes an object the controller of another.
pub fn reference(kind: &Kind, owner: &Value) -> Value {
    json!({
        "apiVersion": kind.api_version(), "kind": kind.name, "name": meta::name(owner), "uid": meta::uid(owner),
        "controller": true, "blockOwnerDeletion": true,
    })
}

/// The objects of a kind that an object controls. Those that nobody controls and that its selector
/// takes become its own.
pub fn children(context: &Context, owned: &'static Kind, kind: &Kind, owner: &Value) -> Vec<Arc<Value>> {
    let all = context.api.list(owned, meta::namespace(owner)).items;
    all.into_iter().filter_map(|object| claim(context, owned, kind, owner, object)).collect()
}

fn claim(
    context: &Context,
    owned: &'static Kind,
    kind: &Kind,
    owner: &Value,
    object: Arc<Value>,
) -> Option<Arc<Value>> {
    if let Some(controller) = meta::controller(&object) {
        return (meta::string(controller, &["uid"]) == meta::uid(owner)).then_some(object);
    }
    let selector = meta::at(owner, &["spec", "selector"]);
    let wanted = selector.is_object()
        && label_selector_matches(selector, meta::at(&object, &["metadata", "labels"]))
        && !meta::deleting(&object)
        && !meta::deleting(owner);
    if !wanted {
        return None;
    }
    let target = Target::own(owned, meta::namespace(&object), meta::name(&object));
    let adopted = context.api.modify(&target, |object| {
        let mut owners = meta::items(object, &["metadata", "ownerReferences"]).to_vec();
        owners.push(reference(kind, owner));
        meta::set(object, "ownerReferences", owners);
    });
    adopted.ok().flatten()
}

/// The key of the controller of an object, if it is of a kind.
pub fn controller_key(object: &Value, kind: &str) -> Option<super::Key> {
    let controller = meta::controller(object)?;
    (meta::string(controller, &["kind"]) == kind)
        .then(|| (meta::namespace(object).to_owned(), meta::string(controller, &["name"]).to_owned()))
}

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
