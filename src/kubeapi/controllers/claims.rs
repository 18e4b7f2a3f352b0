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
            grow(context, &claim);
            return None;
        }
        // The volume of the claim that had this name before may have the name of the new one.
        released.or_else(|| bind(context, &claim))
    }
}

/// Lets a volume have the size that its claim asks for now: none of them has a limit.
fn grow(context: &Context, claim: &Value) {
    let size = meta::at(claim, &["spec", "resources", "requests", "storage"]);
    let bytes = |size: &Value| size.as_str().and_then(d2k_quantity::thousandths).unwrap_or(0);
    if bytes(size) <= bytes(meta::at(claim, &["status", "capacity", "storage"])) {
        return;
    }
    let put = |part: &mut Value| {
        drop(meta::map(meta::child(part, "capacity")).insert("storage".into(), size.clone()))
    };
    let volume = Target::own(&kinds::PERSISTENT_VOLUME, "", meta::string(claim, &["spec", "volumeName"]));
    let _ = context.api.modify(&volume, |volume| put(meta::child(volume, "spec")));
    let target = Target::own(&kinds::PERSISTENT_VOLUME_CLAIM, meta::namespace(claim), meta::name(claim));
    let _ = context.api.modify(&target.of("status"), |claim| put(meta::child(claim, "status")));
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
    let policy = known.as_ref().map_or("", |class| meta::string(class, &["reclaimPolicy"])).to_owned();
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
            "persistentVolumeReclaimPolicy": policy,
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
    /// Removes the volumes of claims of a name that are gone, with what is in them, but for those that are to be kept. A
    /// PersistentVolume stays until that is done, so that another attempt is made, by the next process if need be.
    fn reclaim(&self, context: &Context, key: &Key, claim: Option<&Value>) -> Option<Duration> {
        let all = context.api.list(&kinds::PERSISTENT_VOLUME, "").items.into_iter();
        let (released, kept): (Vec<_>, Vec<_>) = all
            .filter(|volume| is_released(context, volume, key, claim))
            .partition(|volume| meta::string(volume, &["spec", "persistentVolumeReclaimPolicy"]) == "Delete");
        kept.iter().for_each(|volume| release(&context.api, volume));
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
}

/// Says of a volume that is kept that its claim has gone.
fn release(api: &Api, volume: &Value) {
    if meta::string(volume, &["status", "phase"]) != "Bound" {
        return;
    }
    let target = Target::own(&kinds::PERSISTENT_VOLUME, "", meta::name(volume)).of("status");
    let _ = api.modify(&target, |volume| {
        let status = meta::map(meta::child(volume, "status"));
        status.insert("phase".into(), "Released".into());
        status.insert("lastPhaseTransitionTime".into(), meta::now().into());
    });
}

fn forget(api: &Api, volume: &Value) {
    let target = Target::own(&kinds::PERSISTENT_VOLUME, "", meta::name(volume));
    let _ = api.delete(&target, &DeleteOptions::default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::storage::Folders;
    use crate::controllers::testing::{context, make};

    /// Makes a claim of a class with a policy, and deletes it; what is left of its volume.
    async fn left(policy: &str) -> Option<String> {
        let folder = std::env::temp_dir().join(format!("d2k-claims-{policy}-{}", std::process::id()));
        let mut context = context();
        context.storage = Arc::new(Folders(folder.clone()));
        let class = json!({
            "metadata": {"name": "c"}, "provisioner": context.storage.provisioner(), "reclaimPolicy": policy,
        });
        context.api.create(&Target::own(&kinds::STORAGE_CLASS, "", ""), class).unwrap();
        let claim = json!({"metadata": {"name": "v"}, "spec": {
            "storageClassName": "c", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}},
        }});
        make(&context, &kinds::PERSISTENT_VOLUME_CLAIM, claim);
        let (claims, key) = (Claims::default(), ("default".to_owned(), "v".to_owned()));
        claims.reconcile(&context, &key);
        let target = Target::own(&kinds::PERSISTENT_VOLUME_CLAIM, "default", "v");
        context.api.delete(&target, &DeleteOptions::default()).unwrap();
        let left = || context.api.list(&kinds::PERSISTENT_VOLUME, "").items.first().cloned();
        for _ in 0..100 {
            claims.reconcile(&context, &key);
            tokio::time::sleep(Duration::from_millis(10)).await;
            if left().is_none_or(|volume| meta::string(&volume, &["status", "phase"]) == "Released") {
                break;
            }
        }
        let kept = std::fs::read_dir(&folder).is_ok_and(|mut volumes| volumes.next().is_some());
        let _ = std::fs::remove_dir_all(&folder);
        let volume = left();
        assert_eq!(kept, volume.is_some(), "the folder is there with its object");
        volume.map(|volume| meta::string(&volume, &["status", "phase"]).to_owned())
    }

    #[test]
    fn a_volume_grows_with_its_claim() {
        let folder = std::env::temp_dir().join(format!("d2k-claims-grow-{}", std::process::id()));
        let mut context = context();
        context.storage = Arc::new(Folders(folder.clone()));
        let provisioner = context.storage.provisioner();
        let class = json!({"metadata": {"name": "c"}, "provisioner": provisioner});
        context.api.create(&Target::own(&kinds::STORAGE_CLASS, "", ""), class).unwrap();
        let claim = json!({"metadata": {"name": "v"}, "spec": {
            "storageClassName": "c", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}},
        }});
        make(&context, &kinds::PERSISTENT_VOLUME_CLAIM, claim);
        let (claims, key) = (Claims::default(), ("default".to_owned(), "v".to_owned()));
        claims.reconcile(&context, &key);
        let target = Target::own(&kinds::PERSISTENT_VOLUME_CLAIM, "default", "v");
        let resize = |size: &str| {
            context
                .api
                .modify(&target, |claim| claim["spec"]["resources"]["requests"]["storage"] = size.into())
        };
        resize("3Mi").unwrap();
        claims.reconcile(&context, &key);
        let claim = context.api.get(&kinds::PERSISTENT_VOLUME_CLAIM, "default", "v").unwrap();
        let volume = context.api.list(&kinds::PERSISTENT_VOLUME, "").items[0].clone();
        let sizes = [&claim["status"], &volume["spec"]].map(|part| part["capacity"]["storage"].clone());
        assert_eq!(sizes, [json!("3Mi"), json!("3Mi")]);
        assert!(resize("2Mi").unwrap_err().message.contains("field can not be less than status.capacity"));
        let _ = std::fs::remove_dir_all(&folder);
    }

    #[tokio::test]
    async fn a_volume_goes_with_its_claim_or_stays_as_its_class_says() {
        assert_eq!(left("Delete").await, None);
        assert_eq!(left("Retain").await.as_deref(), Some("Released"));
    }
}
