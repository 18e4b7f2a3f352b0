//! Claims: each gets a volume of its own, a folder of this machine, which goes with the claim. A claim
//! that a Pod uses stays until the Pod is gone.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Context, Controller, Key, key_of};
use crate::changes::{Action, Change};
use crate::conditions;
use crate::events::{self, About};
use crate::kinds::{self, Kind};
use crate::meta;
use crate::verbs::{DeleteOptions, PROTECTION, Target};

/// The controller.
pub struct Claims;

impl Controller for Claims {
    const KINDS: &'static [&'static Kind] = &[&kinds::PERSISTENT_VOLUME_CLAIM, &kinds::POD];

    fn key(&self, _: &Context, kind: &Kind, change: &Change) -> Vec<Key> {
        if kind.name == "PersistentVolumeClaim" {
            return vec![key_of(&change.object)];
        }
        if change.action != Action::Deleted && !conditions::is_over(&change.object) {
            return Vec::new();
        }
        let namespace = meta::namespace(&change.object).to_owned();
        claims_of(&change.object).into_iter().map(|name| (namespace.clone(), name.to_owned())).collect()
    }

    fn reconcile(&self, context: &Context, key: &Key) -> Option<Duration> {
        let of = &kinds::PERSISTENT_VOLUME_CLAIM;
        let Ok(claim) = context.api.get(of, &key.0, &key.1) else {
            reclaim(context);
            return None;
        };
        let target = Target::own(of, &key.0, &key.1);
        let protected = meta::list(&claim, "finalizers").contains(&PROTECTION);
        if meta::deleting(&claim) {
            if protected && !is_used(context, key) {
                let _ = context.api.modify(&target, |claim| {
                    let left: Vec<String> = meta::list(claim, "finalizers")
                        .into_iter()
                        .filter(|f| *f != PROTECTION)
                        .map(str::to_owned)
                        .collect();
                    meta::set(claim, "finalizers", json!(left));
                });
            }
            return None;
        }
        if meta::string(&claim, &["status", "phase"]) == "Bound" {
            return None;
        }
        bind(context, &claim)
    }
}

/// The claims that a Pod mounts.
pub fn claims_of(pod: &Value) -> Vec<&str> {
    let volumes = meta::items(pod, &["spec", "volumes"]).iter();
    volumes
        .map(|v| meta::string(v, &["persistentVolumeClaim", "claimName"]))
        .filter(|name| !name.is_empty())
        .collect()
}

fn is_used(context: &Context, key: &Key) -> bool {
    let pods = context.api.list(&kinds::POD, &key.0).items;
    pods.iter().any(|pod| !conditions::is_over(pod) && claims_of(pod).contains(&key.1.as_str()))
}

fn bind(context: &Context, claim: &Value) -> Option<Duration> {
    let class = meta::string(claim, &["spec", "storageClassName"]);
    let known = context.api.get(&kinds::STORAGE_CLASS, "", class);
    let about = About::new(claim, "persistentvolume-controller");
    let provisioner = context.storage.provisioner();
    let ours = known.as_ref().is_ok_and(|c| meta::string(c, &["provisioner"]) == provisioner);
    if !ours {
        let words = match known {
            Err(_) => format!("storageclass.storage.k8s.io {class:?} not found"),
            Ok(_) => "no persistent volumes available for this claim and no storage class is set".to_owned(),
        };
        events::record(&context.api, &about, "Warning", "ProvisioningFailed", &words);
        return None;
    }
    let name = format!("pvc-{}", meta::uid(claim));
    let source = match context.storage.provision(&name, claim) {
        Ok(source) => source,
        Err(error) => {
            let words = format!("failed to provision volume with StorageClass {class:?}: {error}");
            events::record(&context.api, &about, "Warning", "ProvisioningFailed", &words);
            return Some(Duration::from_secs(15));
        }
    };
    let size = meta::at(claim, &["spec", "resources", "requests", "storage"]).clone();
    let modes = meta::at(claim, &["spec", "accessModes"]).clone();
    let mut volume = json!({
        "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": provisioner}},
        "spec": {
            "capacity": {"storage": size}, "accessModes": modes, "storageClassName": class,
            "persistentVolumeReclaimPolicy": "Delete",
            "claimRef": {
                "kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": meta::namespace(claim),
                "name": meta::name(claim), "uid": meta::uid(claim),
                "resourceVersion": meta::text(claim, "resourceVersion"),
            },
        },
        "status": {"phase": "Bound", "lastPhaseTransitionTime": meta::now()},
    });
    if let Value::Object(source) = source {
        meta::map(meta::child(&mut volume, "spec")).extend(source);
    }
    let _ = context.api.create(&Target::own(&kinds::PERSISTENT_VOLUME, "", ""), volume);
    let target = Target::own(&kinds::PERSISTENT_VOLUME_CLAIM, meta::namespace(claim), meta::name(claim));
    let _ = context.api.modify(&target, |claim| {
        meta::map(meta::child(claim, "spec")).insert("volumeName".into(), name.as_str().into());
        let annotations = meta::child(meta::child(claim, "metadata"), "annotations");
        meta::map(annotations).insert("pv.kubernetes.io/bind-completed".into(), "yes".into());
        meta::map(annotations).insert("pv.kubernetes.io/bound-by-controller".into(), "yes".into());
        meta::map(annotations).insert("volume.kubernetes.io/storage-provisioner".into(), provisioner.into());
    });
    let _ = context.api.modify(&target.of("status"), |claim| {
        let status = meta::map(meta::child(claim, "status"));
        status.insert("phase".into(), "Bound".into());
        status.insert("accessModes".into(), modes);
        status.insert("capacity".into(), json!({"storage": size}));
    });
    let words = format!("Successfully provisioned volume {name}");
    events::record(&context.api, &about, "Normal", "ProvisioningSucceeded", &words);
    None
}

/// Removes volumes whose claim is gone, with what is in them.
fn reclaim(context: &Context) {
    let of = &kinds::PERSISTENT_VOLUME;
    for volume in context.api.list(of, "").items {
        let claim = meta::at(&volume, &["spec", "claimRef"]);
        let now = context.api.get(
            &kinds::PERSISTENT_VOLUME_CLAIM,
            meta::string(claim, &["namespace"]),
            meta::string(claim, &["name"]),
        );
        let gone = now.map_or(true, |now| meta::uid(&now) != meta::string(claim, &["uid"]));
        let ours = meta::string(&volume, &["metadata", "annotations", "pv.kubernetes.io/provisioned-by"])
            == context.storage.provisioner();
        if gone && ours && meta::string(&volume, &["spec", "persistentVolumeReclaimPolicy"]) == "Delete" {
            context.storage.remove(&volume);
            let _ = context.api.delete(&Target::own(of, "", meta::name(&volume)), &DeleteOptions::default());
        }
    }
}
