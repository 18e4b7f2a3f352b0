//! Namespaces: what each has from the beginning, and its end with everything in it.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Context, Controller, Key, key_of, kind};
use crate::kubeapi::kinds::{KINDS, Kind};
use crate::kubeapi::meta;
use crate::kubeapi::store::Change;
use crate::kubeapi::verbs::{DeleteOptions, Target};

/// The controller.
pub struct Namespaces;

impl Controller for Namespaces {
    fn kinds(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("", "Namespace"),
            ("", "Pod"),
            ("", "PersistentVolumeClaim"),
            ("apps", "ReplicaSet"),
            ("batch", "Job"),
        ]
    }

    fn key(&self, context: &Context, kind: &Kind, change: &Change) -> Vec<Key> {
        if kind.name == "Namespace" {
            return vec![key_of(&change.object)];
        }
        let namespace = meta::namespace(&change.object).to_owned();
        let ends = change.action == crate::kubeapi::store::Action::Deleted
            && context
                .api
                .get(super::kind("", "Namespace"), "", &namespace)
                .is_ok_and(|n| meta::deleting(&n));
        if ends { vec![(String::new(), namespace)] } else { Vec::new() }
    }

    fn reconcile(&self, context: &Context, (_, name): &Key) -> Option<Duration> {
        let of = kind("", "Namespace");
        let namespace = context.api.get(of, "", name).ok()?;
        if !meta::deleting(&namespace) {
            let account = json!({"metadata": {"name": "default"}});
            ensure(context, name, kind("", "ServiceAccount"), account);
            return None;
        }
        let mut left = false;
        for kind in KINDS.iter().filter(|k| k.namespaced) {
            for object in context.api.list(kind, name).items {
                left = true;
                if !meta::deleting(&object) {
                    let target = Target::own(kind, name, meta::name(&object));
                    let _ = context.api.delete(&target, &DeleteOptions::default());
                }
            }
        }
        if left {
            return Some(Duration::from_millis(200));
        }
        let _ = context.api.modify(&Target::own(of, "", name), |namespace| {
            meta::map(meta::child(namespace, "spec")).insert("finalizers".into(), json!([]));
        });
        None
    }
}

fn ensure(context: &Context, namespace: &str, kind: &'static Kind, object: Value) {
    if context.api.get(kind, namespace, meta::name(&object)).is_err() {
        let _ = context.api.create(&Target::own(kind, namespace, ""), object);
    }
}
