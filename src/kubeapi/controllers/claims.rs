//! Claims: each gets a volume of its own, which goes with the claim. A claim that a Pod uses stays until the Pod is gone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use serde_json::{Value, json};

use super::{Context, Controller, Key, key_of};
use crate::changes::{Action, Change};
use crate::conditions;
use crate::events::{self, About};
use crate::kinds::{self, Kind};
use crate::meta;
use crate::verbs::{Api, DeleteOptions, PROTECTION, Target};

/// When a volume that could not be removed is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// The controller.
#[derive(Default)]
pub struct Claims {
    /// Names of the PersistentVolumes that are being removed.
    removing: Arc<Mutex<BTreeSet<String>>>,
}

impl Controller for Claims {
    const KINDS: &'static [&'static Kind] =
        &[&kinds::PERSISTENT_VOLUME_CLAIM, &kinds::PERSISTENT_VOLUME, &kinds::POD];

    fn key(&self, _: &Context, kind: &Kind, change: &Change) -> Vec<Key> {
        if kind.name == "PersistentVolumeClaim" {
            return vec![key_of(&change.object)];
        }
        if kind.name == "PersistentVolume" {
            let claim = meta::at(&change.object, &["spec", "claimRef"]);
            return vec![(
                meta::string(claim, &["namespace"]).to_owned(),
                meta::string(claim, &["name"]).to_owned(),
            )];
        }
        if change.action != Action::Deleted && !conditions::is_over(&change.object) {
            return Vec::new();
        }
        let namespace = meta::namespace(&change.object).to_owned();
        claims_of(&change.object).into_iter().map(|name| (namespace.clone(), name.to_owned())).collect()
    }

    fn reconcile(&self, context: &Context, key: &Key) -> Option<Duration> {
        let of = &kinds::PERSISTENT_VOLUME_CLAIM;
        let claim = context.api.get(of, &key.0, &key.1).ok();
        let released = self.reclaim(context, key, claim.as_deref());
        let Some(claim) = claim else { return released };
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
        // The volume of the claim that had this name before may have the name of the new one.
        released.or_else(|| bind(context, &claim))
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

impl Claims {
    /// Removes the volumes of claims of a name that are gone, with what is in them. A PersistentVolume stays until that is done, so that
    /// another attempt is made, by the next process if need be.
    fn reclaim(&self, context: &Context, key: &Key, claim: Option<&Value>) -> Option<Duration> {
        let all = context.api.list(&kinds::PERSISTENT_VOLUME, "").items.into_iter();
        let released: Vec<_> = all.filter(|volume| is_released(context, volume, key, claim)).collect();
        for volume in &released {
            if self.removing.lock().insert(meta::name(volume).to_owned()) {
                let removal = context.storage.remove(volume);
                let (api, removing, volume) = (context.api.clone(), self.removing.clone(), volume.clone());
                tokio::spawn(async move {
                    match removal.await {
                        Ok(()) => forget(&api, &volume),
                        Err(error) => events::record(
                            &api,
                            &About::new(&volume, "persistentvolume-controller"),
                            "Warning",
                            "VolumeFailedDelete",
                            &error.to_string(),
                        ),
                    }
                    removing.lock().remove(meta::name(&volume));
                });
            }
        }
        (!released.is_empty()).then_some(AGAIN)
    }
}

/// Whether a volume is one of ours for a claim of this name other than the one that there is.
fn is_released(context: &Context, volume: &Value, key: &Key, claim: Option<&Value>) -> bool {
    let of = meta::at(volume, &["spec", "claimRef"]);
    let provisioner = meta::string(volume, &["metadata", "annotations", "pv.kubernetes.io/provisioned-by"]);
    meta::string(of, &["namespace"]) == key.0
        && meta::string(of, &["name"]) == key.1
        && claim.is_none_or(|claim| meta::uid(claim) != meta::string(of, &["uid"]))
        && provisioner == context.storage.provisioner()
        && meta::string(volume, &["spec", "persistentVolumeReclaimPolicy"]) == "Delete"
}

fn forget(api: &Api, volume: &Value) {
    let target = Target::own(&kinds::PERSISTENT_VOLUME, "", meta::name(volume));
    let _ = api.delete(&target, &DeleteOptions::default());
}
