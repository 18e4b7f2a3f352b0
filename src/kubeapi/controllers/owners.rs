//! Owners: the children of an object, their adoption, and references to owners.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Context;
use crate::kinds::Kind;
use crate::meta;
use crate::selectors::label_selector_matches;
use crate::verbs::Target;

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
    children_that(context, owned, kind, owner, |_| true)
}

/// The same, where only some objects may become its own.
pub fn children_that(
    context: &Context,
    owned: &'static Kind,
    kind: &Kind,
    owner: &Value,
    fits: impl Fn(&Value) -> bool,
) -> Vec<Arc<Value>> {
    let all = context.api.list(owned, meta::namespace(owner)).items;
    let all = all.into_iter().filter(|object| fits(object));
    all.filter_map(|object| claim(context, owned, kind, owner, object)).collect()
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

/// The keys of the objects of a kind that an object concerns: its controller, or, if nobody controls it, those
/// whose selectors take it.
pub fn keys_for(context: &Context, kind: &'static Kind, object: &Value) -> Vec<super::Key> {
    if let Some(key) = controller_key(object, kind.name) {
        return vec![key];
    }
    if meta::controller(object).is_some() {
        return Vec::new();
    }
    let labels = meta::at(object, &["metadata", "labels"]);
    let all = context.api.list(kind, meta::namespace(object)).items;
    all.iter()
        .filter(|owner| label_selector_matches(meta::at(owner, &["spec", "selector"]), labels))
        .map(|owner| super::key_of(owner))
        .collect()
}
