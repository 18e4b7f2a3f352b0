//! After the loss of the data folder: containers that k2d has made carry the objects that they were made for, so these are
//! there again, with their identities, before the kubelet takes the containers over.

use d2k_kubeapi::kinds::{self, Kind};
use d2k_kubeapi::verbs::{Api, Target};
use serde_json::{Value, json};

use crate::engine::{Docker, at};

/// Makes the objects of containers that have none; says in the log what cannot be had again.
pub fn recover(api: &Api, engine: &Docker) {
    let mut count = 0;
    for manifests in engine.manifests() {
        let Some(pod) = manifests.first() else { continue };
        if exists(api, &kinds::POD, pod) {
            continue;
        }
        make_namespace(api, string(pod, &["metadata", "namespace"]));
        // Owners first.
        for object in manifests.iter().rev() {
            count += usize::from(make(api, object));
        }
    }
    if count > 0 {
        tracing::warn!(
            objects = count,
            "the data folder was empty, and workloads were made again from the labels of their containers: apply Services, \
             ConfigMaps, Secrets and claims again, and give people the new kubeconfig"
        );
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
