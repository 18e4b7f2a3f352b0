//! Namespaces: what each has from the beginning, and its end with everything in it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::{Context, Controller, Key, key_of};
use crate::changes::Change;
use crate::conditions::set_condition;
use crate::kinds::{self, Kind};
use crate::meta;
use crate::verbs::{Api, DeleteOptions, Target};

/// The ConfigMap by which Pods know the API server.
const ROOT: &str = "kube-root-ca.crt";
/// Where it has the certificate.
const KEY: &str = "ca.crt";
/// What Kubernetes writes at it.
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

/// The controller.
pub struct Namespaces;

impl Controller for Namespaces {
    const KINDS: &'static [&'static Kind] = &[
        &kinds::NAMESPACE,
        &kinds::POD,
        &kinds::PERSISTENT_VOLUME_CLAIM,
        &kinds::CONFIG_MAP,
        &kinds::SERVICE_ACCOUNT,
        &kinds::REPLICA_SET,
        &kinds::STATEFUL_SET,
        &kinds::DAEMON_SET,
        &kinds::CRON_JOB,
        &kinds::JOB,
    ];

    fn key(&self, context: &Context, kind: &Kind, change: &Change) -> Vec<Key> {
        if kind.name == "Namespace" {
            return vec![key_of(&change.object)];
        }
        let namespace = meta::namespace(&change.object).to_owned();
        let own = matches!(meta::name(&change.object), "default" | ROOT);
        let is_root = kind.name == "ConfigMap" && meta::name(&change.object) == ROOT;
        if is_root && meta::string(&change.object, &["data", KEY]) != context.authority {
            return vec![(String::new(), namespace)];
        }
        let matters = change.action == crate::changes::Action::Deleted
            && context.api.get(&kinds::NAMESPACE, "", &namespace).is_ok_and(|n| own || meta::deleting(&n));
        if matters { vec![(String::new(), namespace)] } else { Vec::new() }
    }

    fn reconcile(&self, context: &Context, (_, name): &Key) -> Option<Duration> {
        let of = &kinds::NAMESPACE;
        let namespace = context.api.get(of, "", name).ok()?;
        if !meta::deleting(&namespace) {
            furnish(&context.api, name, &context.authority);
            return None;
        }
        let mut left = false;
        for kind in kinds::KINDS.iter().filter(|k| k.namespaced) {
            for object in context.api.list(kind, name).items {
                left = true;
                if !meta::deleting(&object) {
                    let target = Target::own(kind, name, meta::name(&object));
                    let _ = context.api.delete(&target, &DeleteOptions::default());
                }
            }
        }
        if left {
            tell(context, name);
            return Some(Duration::from_millis(200));
        }
        let _ = context.api.modify(&Target::own(of, "", name), |namespace| {
            meta::map(meta::child(namespace, "spec")).insert("finalizers".into(), json!([]));
        });
        None
    }
}

/// Says in a namespace's status why it stays.
fn tell(context: &Context, name: &str) {
    let (mut kinds, mut finalizers) = (Vec::new(), BTreeMap::new());
    for kind in kinds::KINDS.iter().filter(|k| k.namespaced) {
        let items = context.api.list(kind, name).items;
        if !items.is_empty() {
            kinds.push(format!("{}. has {} resource instances", kind.resource(), items.len()));
        }
        for finalizer in items.iter().flat_map(|object| meta::list(object, "finalizers")) {
            *finalizers.entry(finalizer.to_owned()).or_insert(0) += 1;
        }
    }
    let waits: Vec<String> =
        finalizers.iter().map(|(name, count)| format!("{name} in {count} resource instances")).collect();
    let remaining = format!("Some resources are remaining: {}", kinds.join(", "));
    let waiting = format!("Some content in the namespace has finalizers remaining: {}", waits.join(", "));
    let target = Target::own(&kinds::NAMESPACE, "", name).of("status");
    let _ = context.api.modify(&target, |namespace| {
        let mut set = |name, holds, reason, words: &str| set_condition(namespace, name, holds, reason, words);
        let discovered = "All resources successfully discovered";
        set("NamespaceDeletionDiscoveryFailure", false, "ResourcesDiscovered", discovered);
        let parsed = "All legacy kube types successfully parsed";
        set("NamespaceDeletionGroupVersionParsingFailure", false, "ParsedGroupVersions", parsed);
        let deleted = "All content successfully deleted, may be waiting on finalization";
        set("NamespaceDeletionContentFailure", false, "ContentDeleted", deleted);
        if kinds.is_empty() {
            set("NamespaceContentRemaining", false, "ContentRemoved", "All content successfully removed");
        } else {
            set("NamespaceContentRemaining", true, "SomeResourcesRemain", &remaining);
        }
        if waits.is_empty() {
            let words = "All content-preserving finalizers finished";
            set("NamespaceFinalizersRemaining", false, "ContentHasNoFinalizers", words);
        } else {
            set("NamespaceFinalizersRemaining", true, "SomeFinalizersRemain", &waiting);
        }
    });
}

/// Gives a namespace what each has: an account, and the certificate by which Pods know the API server.
pub fn furnish(api: &Api, namespace: &str, authority: &str) {
    let account = json!({"metadata": {"name": "default"}});
    let root = json!({
        "metadata": {"name": ROOT, "annotations": {"kubernetes.io/description": DESCRIPTION}},
        "data": {KEY: authority},
    });
    let target = Target::own(&kinds::CONFIG_MAP, namespace, ROOT);
    let there = api.get(&kinds::CONFIG_MAP, namespace, ROOT);
    if there.is_ok_and(|there| there.get("data") != root.get("data")) {
        // One that is immutable stays as somebody has made it.
        let _ = api.modify(&target, |there| {
            drop(meta::map(there).insert("data".into(), meta::at(&root, &["data"]).clone()))
        });
    }
    for (kind, object) in [(&kinds::SERVICE_ACCOUNT, account), (&kinds::CONFIG_MAP, root)] {
        if api.get(kind, namespace, meta::name(&object)).is_err() {
            // Another one may have made it meanwhile.
            let _ = api.create(&Target::own(kind, namespace, ""), object);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::Action;
    use crate::controllers::testing;

    #[test]
    fn the_certificate_of_the_cluster_is_put_back() {
        let mut context = testing::context();
        context.authority = "certificate".to_owned();
        furnish(&context.api, "default", &context.authority);
        let read = || context.api.get(&kinds::CONFIG_MAP, "default", ROOT).unwrap();
        let keys = |object| {
            let change = Change { version: 1, action: Action::Modified, object, previous: None };
            Namespaces.key(&context, &kinds::CONFIG_MAP, &change)
        };
        assert!(keys(read()).is_empty());
        let target = Target::own(&kinds::CONFIG_MAP, "default", ROOT);
        context.api.modify(&target, |root| root["data"] = json!({"other": "x"})).unwrap();
        let due = keys(read());
        assert_eq!(due, [(String::new(), "default".to_owned())]);
        Namespaces.reconcile(&context, &due[0]);
        assert_eq!(read()["data"], json!({KEY: "certificate"}));
    }
}
