//! Registry credentials for the kubelet: what a client sent with a pull or a login becomes a
//! Secret of the namespace, and the Pods of that registry's images name it.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sha2::{Digest, Sha256};

use super::Daemon;
use crate::registry::{Credentials, Reference};
use crate::translate::keys::{self, role};
use crate::translate::record::Record;

/// Names of the Secrets that are known to exist.
#[derive(Default)]
pub struct Known(Mutex<HashSet<String>>);

fn name(registry: &str) -> String {
    let hash = hex::encode(Sha256::digest(registry));
    format!("d2k-registry-{}", hash.get(..16).unwrap_or(&hash))
}

impl Daemon {
    /// Keeps credentials for the registry of an image. A Role without rights on Secrets is no
    /// failure of the pull: the nodes may have credentials of their own.
    pub(crate) async fn keep_credentials(&self, reference: &Reference, credentials: &Credentials) {
        let Some(config) = credentials.docker_config_json(reference) else {
            return;
        };
        let name = name(reference.registry());
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(BTreeMap::from([(keys::ROLE.to_owned(), role::REGISTRY.to_owned())])),
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/dockerconfigjson".into()),
            data: Some(BTreeMap::from([(".dockerconfigjson".to_owned(), ByteString(config.into_bytes()))])),
            ..Secret::default()
        };
        match self.cluster.apply(&secret).await {
            Ok(_) => {
                self.pull_secrets.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
            }
            Err(error) => {
                tracing::warn!(registry = reference.registry(), %error, "the pull secret was not kept")
            }
        }
    }

    /// The Secrets that a container's Pod needs to pull its image.
    pub(crate) async fn pull_secrets(&self, record: &Record) -> Vec<String> {
        let Ok(reference) = Reference::parse(&record.image.reference) else {
            return Vec::new();
        };
        let name = name(reference.registry());
        let known = || self.pull_secrets.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&name);
        if known() {
            return vec![name];
        }
        // It may be of an earlier d2k.
        match self.cluster.read::<Secret>(&name).await {
            Ok(Some(_)) => {
                self.pull_secrets.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
                vec![name]
            }
            Ok(None) | Err(_) => Vec::new(),
        }
    }
}
