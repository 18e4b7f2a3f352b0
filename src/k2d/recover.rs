//! What the engine has of Pods, compared with the objects that there are at a start. After the loss of the data folder, containers that
//! k2d has made carry the objects that they were made for, so these are there again, with their identities, before the kubelet takes the
//! containers over. Of a Pod that was deleted, containers may be left if k2d was killed before it could remove them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use d2k_engine::Engine;
use d2k_kubeapi::kinds::{self, Kind};
use d2k_kubeapi::verbs::{Api, Target};
use serde_json::{Value, json};

use crate::engine::{Docker, KnownPod, at};

/// Pause before an engine that could not remove a Pod is asked again.
const AGAIN: Duration = Duration::from_secs(2);

/// Makes the objects of containers that have none, unless they are of Pods that were removed; says in the log what cannot be had again.
/// The UIDs of the Pods that were removed.
pub fn recover(api: &Api, engine: &Docker, removed: &BTreeSet<(String, String)>) -> Vec<String> {
    let (mut count, mut gone) = (0, Vec::new());
    for pod in engine.pods() {
        let KnownPod { uid, namespace, name, manifests } = pod;
        match api.get(&kinds::POD, &namespace, &name) {
            Ok(known) if string(&known, &["metadata", "uid"]) == uid => {}
            // There cannot be another one of this name before it was removed.
            Ok(_) => gone.push(uid),
            Err(_) if removed.contains(&(namespace.clone(), name.clone())) => gone.push(uid),
            Err(_) if manifests.is_empty() => {}
            Err(_) => {
                make_namespace(api, &namespace);
                // Owners first.
                count += manifests.iter().rev().filter(|object| make(api, object)).count();
            }
        }
    }
    if count > 0 {
        tracing::warn!(
            objects = count,
            "the data folder was empty, and workloads were made again from the labels of their containers: apply Services, \
             ConfigMaps, Secrets and claims again, and give people the new kubeconfig"
        );
    }
    gone
}

/// Removes the containers of Pods that are gone, and their files below a folder.
pub async fn remove(engine: Docker, gone: Vec<String>, folder: PathBuf) {
    for uid in gone {
        tracing::info!(uid, "containers of a Pod that was deleted are removed");
        while let Err(trouble) = engine.remove_sandbox(&uid).await {
            tracing::warn!(uid, error = trouble.message, "they cannot be removed yet");
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                () = engine.is_back() => {}
            }
        }
        // There may be none.
        let _ = tokio::fs::remove_dir_all(folder.join(uid)).await;
    }
}

fn exists(api: &Api, kind: &Kind, object: &Value) -> bool {
    let (namespace, name) =
        (string(object, &["metadata", "namespace"]), string(object, &["metadata", "name"]));
    api.get(kind, namespace, name).is_ok()
}

fn make(api: &Api, object: &Value) -> bool {
    let named = kinds::of(string(object, &["apiVersion"]), string(object, &["kind"]));
    let Some(kind) = named.filter(|kind| !exists(api, kind, object)) else { return false };
    let namespace = string(object, &["metadata", "namespace"]);
    match api.create(&Target::own(kind, namespace, ""), object.clone()) {
        Ok(_) => true,
        Err(status) => {
            let name = string(object, &["metadata", "name"]);
            tracing::warn!(
                kind = kind.name,
                namespace,
                name,
                error = status.message,
                "an object cannot be made again"
            );
            false
        }
    }
}

/// A namespace with what a Pod needs to be admitted there; its controller adds the rest.
fn make_namespace(api: &Api, name: &str) {
    if api.get(&kinds::NAMESPACE, "", name).is_ok() {
        return;
    }
    let namespace = json!({"metadata": {"name": name}});
    let account = json!({"metadata": {"name": "default"}});
    let made = api.create(&Target::own(&kinds::NAMESPACE, "", ""), namespace);
    let made = made.and_then(|_| api.create(&Target::own(&kinds::SERVICE_ACCOUNT, name, ""), account));
    if let Err(status) = made {
        tracing::warn!(name, error = status.message, "a namespace cannot be made again");
    }
}

fn string<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    at(value, path).as_str().unwrap_or_default()
}
