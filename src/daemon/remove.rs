//! `docker rm` and `container prune`: a container goes with everything that was made for it.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret, Service};

use super::Daemon;
use d2k_common::fault::{Fault, Result};
use d2k_translate::container::{Container, Kind};
use d2k_translate::keys;
use d2k_translate::record::Record;

/// How long Pods may take to be gone.
const PODS_GONE: Duration = Duration::from_secs(30);
/// How long a volume that no Pod uses any more may take: a controller lets it go.
const CLAIMS_GONE: Duration = Duration::from_secs(10);
/// How long those who follow the log of a container may take to read the rest of it.
const FOLLOWERS: Duration = Duration::from_secs(5);

impl Daemon {
    /// Removes a container, with its anonymous volumes if `volumes`.
    ///
    /// # Errors
    /// 409 if it runs and `force` is not given.
    pub async fn remove(&self, key: &str, force: bool, volumes: bool) -> Result<()> {
        let container = self.managed(key)?;
        let id = container.record.id.clone();
        if force && container.own && container.state().running() {
            self.strike(&container).await;
        }
        let _lock = self.locks.container(&id).await;
        let container = self.container(&id)?;
        if container.state().running() {
            if !force {
                return Err(Fault::conflict(format!(
                    "cannot remove container \"{key}\": container is running: stop the container before removing \
                     or force remove"
                )));
            }
            if container.own {
                self.take_down(&container, 1).await?;
            }
        }
        // Read again: what its end has left behind, such as its log, goes with it.
        let Some(container) = self.container_by_id(&id) else { return Ok(()) };
        // The log goes with the container, and clients remove one as soon as they know its end.
        let _ = tokio::time::timeout(FOLLOWERS, self.attached.none(&followers(&id))).await;
        self.remove_locked(&container, volumes).await
    }

    pub(crate) async fn remove_locked(&self, container: &Container, volumes: bool) -> Result<()> {
        let record = &container.record;
        let object = record.object.as_str();
        self.publisher.close(&record.id);
        match container.kind {
            Kind::Deployment => self.cluster.delete::<Deployment>(object, None).await?,
            Kind::Job => self.cluster.delete::<Job>(object, None).await?,
            Kind::StatefulSet => self.cluster.delete::<StatefulSet>(object, None).await?,
            Kind::DaemonSet => self.cluster.delete::<DaemonSet>(object, None).await?,
            Kind::Pod => self.cluster.delete::<Pod>(object, Some(10)).await?,
        }
        if !container.own {
            return Ok(());
        }
        self.remove_belongings(container, volumes).await?;
        self.remove_links(record).await?;
        self.sync_networks().await;
        Ok(())
    }

    async fn remove_belongings(&self, container: &Container, volumes: bool) -> Result<()> {
        let record = &container.record;
        // The garbage collector would get to them too, some seconds later.
        for pod in self.cluster.cache::<Pod>().group(record.short()) {
            let name = pod.object.metadata.name.clone().unwrap_or_default();
            self.cluster.begin_delete::<Pod>(&name, Some(1)).await?;
        }
        for service in self.cluster.cache::<Service>().group(record.short()) {
            let name = service.object.metadata.name.clone().unwrap_or_default();
            self.cluster.delete::<Service>(&name, None).await?;
        }
        if record.state.finished.is_some() || record.state.started.is_some() {
            self.drop_log(record).await;
        }
        if self.has_staged_files(record) {
            self.cluster.delete_uncached::<Secret>(&super::staging::secret_name(record)).await?;
        }
        let claims = if volumes { self.anonymous_claims(record) } else { Vec::new() };
        for claim in &claims {
            self.cluster.begin_delete::<PersistentVolumeClaim>(claim, None).await?;
        }
        // A Pod that still ends holds its volumes and its address.
        let pods = || self.cluster.cache::<Pod>().group(record.short()).is_empty().then_some(());
        self.cluster.wait(PODS_GONE, pods).await;
        self.claims_gone(&claims).await;
        Ok(())
    }

    /// Waits until claims whose deletion has begun are gone: a controller of the cluster lets them go.
    pub(crate) async fn claims_gone(&self, claims: &[String]) {
        let cache = self.cluster.cache::<PersistentVolumeClaim>();
        let gone = || claims.iter().all(|claim| cache.get(claim).is_none()).then_some(());
        self.cluster.wait(CLAIMS_GONE, gone).await;
    }

    /// The claims of a container's anonymous volumes that no other container uses.
    fn anonymous_claims(&self, record: &Record) -> Vec<String> {
        let all = self.cluster.cache::<PersistentVolumeClaim>().group(record.short());
        let claims = all.iter().map(|claim| &claim.object).filter(|claim| {
            let annotations = claim.metadata.annotations.as_ref();
            annotations.is_some_and(|annotations| annotations.contains_key(keys::ANONYMOUS))
                && self.volume_users(claim).iter().all(|user| user.record.id == record.id)
        });
        claims.filter_map(|claim| claim.metadata.name.clone()).collect()
    }

    /// Removes all containers that do not run and fit; returns their IDs.
    ///
    /// # Errors
    /// The first removal's that fails.
    pub async fn prune(&self, fits: impl Fn(&Container) -> bool) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        for container in self.containers() {
            if !container.own || container.state().running() || container.wanted > 0 || !fits(&container) {
                continue;
            }
            let id = container.record.id.clone();
            let _lock = self.locks.container(&id).await;
            if let Some(container) = self.container_by_id(&id).filter(|c| !c.state().running()) {
                self.remove_locked(&container, false).await?;
                removed.push(id);
            }
        }
        Ok(removed)
    }
}

/// The key under which those who follow the log of a container are counted.
pub(super) fn followers(id: &str) -> String {
    format!("followers of {id}")
}
