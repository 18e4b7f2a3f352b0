//! Garbage collection by owner references (Kubernetes, "Garbage Collection"): what has lost all its
//! owners goes; an owner waits for those that block it, or lets them go free.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Context, Controller, Key};
use crate::changes::{Action, Change};
use crate::kinds::{self, Kind};
use crate::meta;
use crate::verbs::{DeleteOptions, Propagation, Target};

/// The controller. It looks at all objects whenever one of them goes.
pub struct Garbage;

impl Controller for Garbage {
    // Any object may own others, or be owned.
    const KINDS: &'static [&'static Kind] = kinds::KINDS;

    fn key(&self, _: &Context, kind: &Kind, change: &Change) -> Vec<Key> {
        // Events come and go all the time, and own nothing.
        if kind.name == "Event" {
            return Vec::new();
        }
        let owned = !meta::items(&change.object, &["metadata", "ownerReferences"]).is_empty();
        let matters = change.action == Action::Deleted
            || (meta::deleting(&change.object) && !meta::list(&change.object, "finalizers").is_empty())
            // Made after its owner had gone.
            || (change.action == Action::Added && owned);
        if matters { vec![(String::new(), String::new())] } else { Vec::new() }
    }

    fn reconcile(&self, context: &Context, _: &Key) -> Option<Duration> {
        let all: Vec<(&'static Kind, Arc<Value>)> = kinds::KINDS
            .iter()
            .copied()
            .flat_map(|kind| context.api.list(kind, "").items.into_iter().map(move |object| (kind, object)))
            .collect();
        let alive: HashSet<&str> = all.iter().map(|(_, object)| meta::uid(object)).collect();
        let mut going: HashSet<&str> = HashSet::new();
        for (kind, owner) in &all {
            let finalizers = meta::list(owner, "finalizers");
            if !meta::deleting(owner) {
                continue;
            }
            let owned = || all.iter().filter(|(_, object)| is_owned(object, meta::uid(owner)));
            if finalizers.contains(&"orphan") {
                owned().for_each(|(kind, object)| let_go(context, kind, object, meta::uid(owner)));
                finish(context, kind, owner, "orphan");
            } else if finalizers.contains(&"foregroundDeletion") {
                going.insert(meta::uid(owner));
                let mut left = false;
                for (kind, object) in owned() {
                    left |= blocks(object, meta::uid(owner));
                    delete(context, kind, object, Propagation::Foreground);
                }
                if !left {
                    finish(context, kind, owner, "foregroundDeletion");
                }
            }
        }
        for (kind, object) in &all {
            let owners = meta::items(object, &["metadata", "ownerReferences"]);
            if !owners.is_empty() && owners.iter().all(|o| !alive.contains(meta::string(o, &["uid"]))) {
                delete(context, kind, object, Propagation::Background);
            }
        }
        // Those that wait for others are looked at again, should an event have been missed.
        (!going.is_empty()).then_some(Duration::from_millis(500))
    }
}

fn is_owned(object: &Value, uid: &str) -> bool {
    meta::items(object, &["metadata", "ownerReferences"]).iter().any(|o| meta::string(o, &["uid"]) == uid)
}

fn blocks(object: &Value, uid: &str) -> bool {
    meta::items(object, &["metadata", "ownerReferences"]).iter().any(|o| {
        meta::string(o, &["uid"]) == uid && meta::at(o, &["blockOwnerDeletion"]).as_bool() == Some(true)
    })
}

fn let_go(context: &Context, kind: &'static Kind, object: &Value, uid: &str) {
    let target = Target::own(kind, meta::namespace(object), meta::name(object));
    let _ = context.api.modify(&target, |object| {
        let mut owners = meta::items(object, &["metadata", "ownerReferences"]).to_vec();
        owners.retain(|o| meta::string(o, &["uid"]) != uid);
        if owners.is_empty() {
            meta::unset(object, "ownerReferences");
        } else {
            meta::set(object, "ownerReferences", owners);
        }
    });
}

fn finish(context: &Context, kind: &'static Kind, object: &Value, finalizer: &str) {
    let target = Target::own(kind, meta::namespace(object), meta::name(object));
    let _ = context.api.modify(&target, |object| {
        let left: Vec<String> = meta::list(object, "finalizers")
            .into_iter()
            .filter(|f| *f != finalizer)
            .map(str::to_owned)
            .collect();
        meta::set(object, "finalizers", json!(left));
    });
}

fn delete(context: &Context, kind: &'static Kind, object: &Value, policy: Propagation) {
    if meta::deleting(object) {
        return;
    }
    let target = Target::own(kind, meta::namespace(object), meta::name(object));
    let options = DeleteOptions { propagation_policy: Some(policy), ..DeleteOptions::default() };
    let _ = context.api.delete(&target, &options);
}
