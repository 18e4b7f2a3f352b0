//! Revisions of the Pod template of StatefulSets and DaemonSets (ControllerRevisions), by which `kubectl rollout`
//! shows and undoes changes.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Context, deployments, owners};
use crate::kinds::{self, Kind};
use crate::meta;
use crate::verbs::{DeleteOptions, Target};

/// The revisions of an object, the oldest first.
pub fn all(context: &Context, kind: &Kind, owner: &Value) -> Vec<Arc<Value>> {
    let mut all = owners::children(context, &kinds::CONTROLLER_REVISION, kind, owner);
    all.sort_by_key(|one| {
        (number(one), meta::text(one, "creationTimestamp").to_owned(), meta::name(one).to_owned())
    });
    all
}

/// The Pod template of a revision.
pub fn template(revision: &Value) -> Value {
    let mut template = meta::at(revision, &["data", "spec", "template"]).clone();
    if let Some(map) = template.as_object_mut() {
        map.remove("$patch");
    }
    template
}

/// The revision of an object's template, made if there is none; `label` is where its hash is. Nothing if it
/// could not be made.
pub fn newest(
    context: &Context,
    kind: &'static Kind,
    owner: &Value,
    label: &str,
    all: &[Arc<Value>],
) -> Option<Arc<Value>> {
    let wanted = meta::at(owner, &["spec", "template"]);
    let highest = all.last().map_or(0, |one| number(one));
    let Some(same) = all.iter().rev().find(|one| template(one) == *wanted) else {
        return make(context, kind, owner, label, highest.saturating_add(1));
    };
    if number(same) == highest {
        return Some(same.clone());
    }
    // One that has come back is the newest again.
    let target = Target::own(&kinds::CONTROLLER_REVISION, meta::namespace(same), meta::name(same));
    let moved = context.api.modify(&target, |revision| {
        meta::map(revision).insert("revision".into(), highest.saturating_add(1).into());
    });
    moved.ok().flatten()
}

fn number(revision: &Value) -> i64 {
    meta::number(revision, &["revision"]).unwrap_or(0)
}

fn made_of(kind: &Kind, owner: &Value, label: &str, number: i64) -> Value {
    let mut template = meta::at(owner, &["spec", "template"]).clone();
    let collisions = meta::number(owner, &["status", "collisionCount"]).unwrap_or(0);
    let hash = deployments::hash(&template, collisions);
    let mut labels = meta::at(&template, &["metadata", "labels"]).as_object().cloned().unwrap_or_default();
    labels.insert(label.to_owned(), hash.as_str().into());
    meta::map(&mut template).insert("$patch".into(), "replace".into());
    json!({
        "apiVersion": "apps/v1", "kind": "ControllerRevision",
        "metadata": {
            "name": format!("{}-{hash}", meta::name(owner)), "labels": labels,
            "annotations": meta::at(owner, &["metadata", "annotations"]),
            "ownerReferences": [owners::reference(kind, owner)],
        },
        "data": {"spec": {"template": template}}, "revision": number,
    })
}

fn make(
    context: &Context,
    kind: &'static Kind,
    owner: &Value,
    label: &str,
    number: i64,
) -> Option<Arc<Value>> {
    let revision = made_of(kind, owner, label, number);
    let namespace = meta::namespace(owner);
    match context.api.create(&Target::own(&kinds::CONTROLLER_REVISION, namespace, ""), revision) {
        Ok(made) => Some(made.object),
        Err(status) => {
            if status.code == 409 {
                // Another one has the name: the next hash differs, and the change brings the object back here.
                let target = Target::own(kind, namespace, meta::name(owner)).of("status");
                let _ = context.api.modify(&target, |owner| {
                    let collisions = meta::number(owner, &["status", "collisionCount"]).unwrap_or(0);
                    meta::map(meta::child(owner, "status"))
                        .insert("collisionCount".into(), collisions.saturating_add(1).into());
                });
            }
            tracing::debug!(
                owner = meta::name(owner),
                error = status.message,
                "a ControllerRevision was not made"
            );
            None
        }
    }
}

/// Old revisions beyond the limit of an object go, but for those that are in use.
pub fn forget(context: &Context, owner: &Value, all: &[Arc<Value>], in_use: impl Fn(&Value) -> bool) {
    let limit = meta::number(owner, &["spec", "revisionHistoryLimit"]).unwrap_or(10);
    let idle: Vec<&Arc<Value>> = all.iter().filter(|revision| !in_use(revision)).collect();
    let surplus = idle.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    for revision in idle.into_iter().take(surplus) {
        let name = meta::name(revision);
        let target = Target::own(&kinds::CONTROLLER_REVISION, meta::namespace(revision), name);
        let _ = context.api.delete(&target, &DeleteOptions::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_replaces_the_template_and_gives_it_back() {
        let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}});
        let owner = json!({
            "metadata": {"name": "web", "uid": "u", "annotations": {"kubernetes.io/change-cause": "why"}},
            "spec": {"template": template},
        });
        let revision = made_of(&kinds::STATEFUL_SET, &owner, "hash", 3);
        assert_eq!(revision["data"]["spec"]["template"]["$patch"], "replace");
        assert_eq!(self::template(&revision), template);
        let hash = revision["metadata"]["labels"]["hash"].as_str().unwrap();
        assert_eq!(revision["metadata"]["name"], format!("web-{hash}"));
        assert_eq!(revision["metadata"]["labels"]["a"], "b");
        assert_eq!(revision["metadata"]["annotations"]["kubernetes.io/change-cause"], "why");
        assert_eq!(revision["revision"], 3);
    }
}
