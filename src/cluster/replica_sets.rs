//! Takes a ReplicaSet out of work while d2k ends its Pod: one that is being deleted neither makes
//! Pods nor deletes them, and d2k's finalizer keeps it in that state until d2k is done.

use std::time::Duration;

use either::Either;
use futures::TryStreamExt;
use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PropagationPolicy, WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::{Cluster, fault};
use d2k_common::fault::{Kind, Result};

/// The finalizer of a ReplicaSet that d2k has taken out of work.
const FINALIZER: &str = "d2k.io/ending";
/// How long the controller of ReplicaSets may take to see that one is being deleted.
const CONTROLLER: Duration = Duration::from_secs(3);

impl Cluster {
    /// Takes a ReplicaSet out of work; its Pods stay, without an owner. Its Deployment makes another
    /// one after `release_replica_set`. One that is not there is no error.
    ///
    /// # Errors
    /// The cluster's words.
    pub async fn suspend_replica_set(&self, name: &str) -> Result<()> {
        if !self.patch_finalizers(name, &json!({"metadata": {"finalizers": [FINALIZER]}})).await? {
            return Ok(());
        }
        let orphan =
            DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
        match self.api::<ReplicaSet>().delete(name, &orphan).await {
            Ok(Either::Left(deleting)) => self.controller_has_seen(&deleting).await,
            Ok(Either::Right(_)) => {}
            Err(error) => {
                found(Err(error), &format!("delete ReplicaSet {name}"))?;
            }
        }
        Ok(())
    }

    /// Waits until the controller works on what the ReplicaSet is now: a moment longer, it goes by
    /// what it was.
    async fn controller_has_seen(&self, set: &ReplicaSet) {
        let wanted = set.metadata.generation;
        let observed = |set: &ReplicaSet| set.status.as_ref().and_then(|s| s.observed_generation) >= wanted;
        let version = set.resource_version().unwrap_or_default();
        let only = WatchParams::default().fields(&format!("metadata.name={}", set.name_any()));
        let waiting = async {
            let mut changes = Box::pin(self.api::<ReplicaSet>().watch(&only, &version).await?);
            while let Some(change) = changes.try_next().await? {
                match change {
                    WatchEvent::Added(now) | WatchEvent::Modified(now) if !observed(&now) => {}
                    _ => break,
                }
            }
            Ok::<(), kube::Error>(())
        };
        match tokio::time::timeout(CONTROLLER, waiting).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "cannot watch ReplicaSet {}", set.name_any()),
            Err(_) => tracing::debug!("the controller of ReplicaSet {} is slow", set.name_any()),
        }
    }

    /// Lets a ReplicaSet that was taken out of work go. One that is not there is no error.
    ///
    /// # Errors
    /// The cluster's words.
    pub async fn release_replica_set(&self, name: &str) -> Result<()> {
        let less = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}});
        self.patch_finalizers(name, &less).await.map(|_| ())
    }

    /// Lets those go that a d2k which was killed has left; `labels` selects the ReplicaSets.
    ///
    /// # Errors
    /// The cluster's words.
    pub async fn release_replica_sets(&self, labels: &str) -> Result<()> {
        let api: Api<ReplicaSet> = self.api();
        let all = api.list(&ListParams::default().labels(labels)).await;
        for set in all.map_err(|e| fault("list ReplicaSets", &e))? {
            if set.finalizers().iter().any(|f| f == FINALIZER) {
                self.release_replica_set(&set.name_any()).await?;
            }
        }
        Ok(())
    }

    async fn patch_finalizers(&self, name: &str, patch: &Value) -> Result<bool> {
        let api: Api<ReplicaSet> = self.api();
        let patched = api.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await.map(|_| ());
        found(patched, &format!("change ReplicaSet {name}"))
    }
}

/// Whether the object of a call was there.
fn found(result: kube::Result<()>, what: &str) -> Result<bool> {
    match result.map_err(|e| fault(what, &e)) {
        Ok(()) => Ok(true),
        Err(fault) if fault.kind == Kind::NotFound => Ok(false),
        Err(fault) => Err(fault),
    }
}
