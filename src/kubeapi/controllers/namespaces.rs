//! Namespaces: what each has from the beginning, and its end with everything in it.

use std::time::Duration;

use serde_json::json;

use super::{Context, Controller, Key, key_of, kind};
use crate::kubeapi::kinds::{KINDS, Kind};
use crate::kubeapi::meta;
use crate::kubeapi::store::Change;
use crate::kubeapi::verbs::{Api, DeleteOptions, Target};

/// The ConfigMap by which Pods know the API server.
const ROOT: &str = "kube-root-ca.crt";
/// What Kubernetes writes at it.
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

/// The controller.
pub struct Namespaces;

impl Controller for Namespaces {
    fn kinds(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("", "Namespace"),
            ("", "Pod"),
            ("", "PersistentVolumeClaim"),
            ("", "ConfigMap"),
            ("", "ServiceAccount"),
            ("apps", "ReplicaSet"),
            ("batch", "Job"),
        ]
    }

    fn key(&self, context: &Context, kind: &Kind, change: &Change) -> Vec<Key> {
        if kind.name == "Namespace" {
            return vec![key_of(&change.object)];
        }
        let namespace = meta::namespace(&change.object).to_owned();
        let own = matches!(meta::name(&change.object), "default" | ROOT);
        let matters = change.action == crate::kubeapi::store::Action::Deleted
            && context
                .api
                .get(super::kind("", "Namespace"), "", &namespace)
                .is_ok_and(|n| own || meta::deleting(&n));
        if matters { vec![(String::new(), namespace)] } else { Vec::new() }
    }

    fn reconcile(&self, context: &Context, (_, name): &Key) -> Option<Duration> {
        let of = kind("", "Namespace");
        let namespace = context.api.get(of, "", name).ok()?;
        if !meta::deleting(&namespace) {
            furnish(&context.api, name, &context.authority);
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

/// Gives a namespace what each has: an account, and the certificate by which Pods know the API server.
pub fn furnish(api: &Api, namespace: &str, authority: &str) {
    let account = json!({"metadata": {"name": "default"}});
    let root = json!({
        "metadata": {"name": ROOT, "annotations": {"kubernetes.io/description": DESCRIPTION}},
        "data": {"ca.crt": authority},
    });
    for (kind, object) in [(kind("", "ServiceAccount"), account), (kind("", "ConfigMap"), root)] {
        if api.get(kind, namespace, meta::name(&object)).is_err() {
            // Another one may have made it meanwhile.
            let _ = api.create(&Target::own(kind, namespace, ""), object);
        }
    }
}
