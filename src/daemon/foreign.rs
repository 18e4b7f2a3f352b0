//! Workloads that d2k did not make. By default clients only look at them: `docker rm -f $(docker ps -aq)` is a line of
//! many cleanup scripts, and a namespace may be shared with a database. Where `D2K_FOREIGN` is `manage`, they are
//! started and stopped if their kind has a number of replicas, and refused with a reason if it has none.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::Daemon;
use d2k_common::fault::{Fault, Result};
use d2k_translate::container::{Container, Kind};

/// The access that clients have to workloads of the namespace that d2k did not make.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Foreign {
    /// They are not there.
    Hide,
    /// They are listed and inspected, with logs and statistics, and nothing else.
    #[default]
    Show,
    /// They are treated as containers, as far as their kind allows.
    Manage,
}

impl Daemon {
    /// The container that a client means, if it may do more than look at it.
    ///
    /// # Errors
    /// As [`Daemon::container`]; 403 for a workload that d2k did not make, unless clients manage those, too.
    pub fn managed(&self, key: &str) -> Result<Container> {
        let container = self.container(key)?;
        if container.own || self.options.foreign == Foreign::Manage {
            return Ok(container);
        }
        let (kind, name) = (container.kind.as_str(), &container.record.object);
        Err(Fault::forbidden(format!(
            "container {} is the {kind} {name}, which d2k did not make: clients may list and inspect it and read its \
             logs; use kubectl, or set D2K_FOREIGN=manage",
            container.record.name
        )))
    }

    pub(crate) async fn start_foreign(&self, container: &Container) -> Result<()> {
        self.scale_foreign(container, 1).await?;
        let id = container.record.id.clone();
        let runs = || self.container_by_id(&id).filter(|c| c.state().running()).map(|_| ());
        let limit = self.options.start_timeout;
        self.cluster.wait(limit, runs).await.ok_or_else(|| {
            let (kind, name) = (container.kind.as_str(), &container.record.object);
            Fault::internal(format!(
                "{kind} {name} does not run after {} s; see kubectl describe",
                limit.as_secs()
            ))
        })
    }

    /// Stops a foreign workload and waits until its Pods are gone.
    pub(crate) async fn stop_foreign(&self, container: &Container, grace: i64) -> Result<()> {
        if container.kind == Kind::Pod {
            let grace = u32::try_from(grace.max(1)).ok();
            return self.cluster.delete::<Pod>(&container.record.object, grace).await;
        }
        self.scale_foreign(container, 0).await?;
        let id = container.record.id.clone();
        let limit = Duration::from_secs(grace.unsigned_abs()) + Duration::from_secs(60);
        let gone = || self.container_by_id(&id).is_none_or(|c| c.pods.is_empty()).then_some(());
        self.cluster.wait(limit, gone).await;
        Ok(())
    }

    async fn scale_foreign(&self, container: &Container, replicas: i32) -> Result<()> {
        let object = &container.record.object;
        let patch = json!({"spec": {"replicas": replicas}});
        match container.kind {
            Kind::Deployment => self.cluster.patch::<Deployment>(object, &patch).await.map(|_| ()),
            Kind::StatefulSet => self.cluster.patch::<StatefulSet>(object, &patch).await.map(|_| ()),
            Kind::DaemonSet | Kind::Job | Kind::Pod => Err(Fault::conflict(format!(
                "container {} is the {} {object}, which d2k did not make and Kubernetes cannot stop and start; use \
                 kubectl",
                container.record.name,
                container.kind.as_str()
            ))),
        }
    }
}
