//! Ends the Pod of a container with the grace period that was asked for, and waits for its end.
//!
//! A kubelet keeps to the first grace period that it hears of (kubernetes/kubernetes#113606), and
//! a controller that scales down deletes its Pod with the Pod's own. So where another one is asked
//! for, d2k deletes the Pod itself, with its ReplicaSet out of work: that one would make another
//! Pod, or delete this one first.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::Daemon;
use d2k_common::fault::{Fault, Result};
use d2k_translate::container::{Container, Kind};
use d2k_translate::keys;

/// What the kubelet takes on top of the grace period.
const KUBELET: Duration = Duration::from_secs(60);

impl Daemon {
    /// Ends the container's Pod with a grace period in seconds, and waits until its end is on record.
    pub(crate) async fn take_down(&self, container: &Container, grace: i64) -> Result<()> {
        if !container.own {
            return self.stop_foreign(container, grace).await;
        }
        // Kubernetes takes a grace period of 0 as leave not to wait for the end.
        let grace = u32::try_from(grace.max(1)).unwrap_or(u32::MAX);
        let Some(pod) = container.pod() else { return self.scale_down(container).await };
        let (name, uid) = (pod.metadata.name.clone().unwrap_or_default(), pod.metadata.uid.clone());
        let uid = uid.unwrap_or_default();
        self.runs.take_down(&uid);
        self.begin_capture(&uid, &name, &container.container_name()).await;
        if i64::from(grace) == container.record.stop_timeout().max(1) {
            self.scale_down(container).await?;
        } else if container.kind == Kind::Job {
            // A Job makes another Pod only once this one is over (`podReplacementPolicy: Failed`).
            self.cluster.begin_delete::<Pod>(&name, Some(grace)).await?;
            self.scale_down(container).await?;
        } else {
            self.end_without_replica_set(container, pod, grace).await?;
        }
        let limit = Duration::from_secs(u64::from(grace)) + KUBELET;
        let id = &container.record.id;
        let down = || self.container_by_id(id).is_none_or(|c| is_down(&c, &uid)).then_some(());
        match self.cluster.wait(limit, down).await {
            Some(()) => Ok(()),
            None => Err(Fault::internal(format!(
                "the Pod of container {} did not end within {} s; Kubernetes goes on trying",
                container.record.name,
                limit.as_secs()
            ))),
        }
    }

    /// Frees what a d2k that was killed in the middle of `take_down` has left.
    pub(crate) async fn free_what_was_left(&self) {
        self.finish_replacing().await;
        if let Err(fault) = self.cluster.release_replica_sets(keys::CONTAINER).await {
            tracing::warn!(error = fault.message, "cannot look for ReplicaSets that an earlier d2k has left");
        }
    }

    async fn scale_down(&self, container: &Container) -> Result<()> {
        let object = &container.record.object;
        match container.kind {
            Kind::Job => {
                self.cluster.patch::<Job>(object, &json!({"spec": {"suspend": true}})).await.map(|_| ())
            }
            _ => {
                self.cluster.patch::<Deployment>(object, &json!({"spec": {"replicas": 0}})).await.map(|_| ())
            }
        }
    }

    async fn end_without_replica_set(&self, container: &Container, pod: &Pod, grace: u32) -> Result<()> {
        let owner = pod.metadata.owner_references.iter().flatten().find(|o| o.kind == "ReplicaSet");
        if let Some(set) = owner {
            self.cluster.suspend_replica_set(&set.name).await?;
        }
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let (scaled, deleted) =
            tokio::join!(self.scale_down(container), self.cluster.begin_delete::<Pod>(name, Some(grace)));
        if let Some(set) = owner {
            self.cluster.release_replica_set(&set.name).await?;
        }
        scaled.and(deleted)
    }
}

/// The Pod is gone or over, and what Docker remembers of it is written down.
fn is_down(container: &Container, uid: &str) -> bool {
    container.record.state.pod == uid
        && container
            .pods
            .iter()
            .all(|p| p.metadata.uid.as_deref() != Some(uid) || container.kind == Kind::Job)
}
