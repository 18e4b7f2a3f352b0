//! A run that must happen once is bound to one Pod before its process runs. The binding is an annotation
//! of the workload ([`Leave`]), written only if the workload is still as it was read: of two d2k that
//! bind one run to two Pods, one succeeds and the other sees its Pod refused.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::Daemon;
use super::release::Attempt;
use d2k_common::fault::{Fault, Kind as FaultKind, Result};
use d2k_translate::container::{Container, Kind};
use d2k_translate::keys;
use d2k_translate::record::{self, Leave, Record};

/// How often a binding is tried again when somebody else wrote the workload meanwhile: its controllers
/// write its status in the moment in which its Pod gets a node.
const TRIES: usize = 8;
/// Before the next try where the API server did not answer or refused.
const PAUSE: Duration = Duration::from_secs(2);

/// A workload as it was read.
struct OnRecord {
    record: Arc<Record>,
    /// It is to run: not suspended, or not scaled to 0.
    wanted: bool,
    /// Its `resourceVersion`.
    version: Option<String>,
}

impl OnRecord {
    /// Whether the run is bound to another Pod than this one.
    fn refuses(&self, pod: &str) -> bool {
        self.record.is_bound_elsewhere(pod, self.wanted)
    }

    /// Whether the run of a Pod was over when another Pod was asked for: somebody has scaled the
    /// workload up.
    fn is_another_run_than(&self, earlier: &str) -> bool {
        let state = &self.record.state;
        self.wanted && state.finished.is_some() && state.pod == earlier
    }
}

impl Daemon {
    /// Whether Docker would run the process in this Pod. What is to run once is bound to its Pod first.
    pub(super) async fn may_run(
        &self,
        container: &Container,
        attempt: &Attempt,
        serves: bool,
    ) -> Result<bool> {
        if !container.record.runs_once() {
            return Ok(true);
        }
        if attempt.restarts > 0 {
            return Ok(false);
        }
        let known = match self.runs.pod_of_run(&container.record.id) {
            Some(pod) => pod,
            // This process does not know the run from its beginning.
            None if !serves => self.on_record(container).await?.record.leave.clone().map(|leave| leave.pod),
            None => None,
        };
        if let Some(uid) = &known {
            if *uid == attempt.uid {
                return Ok(true);
            }
            if !self.on_record(container).await?.is_another_run_than(uid) {
                return Ok(false);
            }
        }
        self.bind_run(container, &attempt.uid).await
    }

    /// Binds the run to a Pod; false if it is bound to another one.
    async fn bind_run(&self, container: &Container, pod: &str) -> Result<bool> {
        let leave = Leave { pod: pod.to_owned(), given: false };
        let mut last = None;
        // The watch decides where it allows the run; the write fails if it is behind. A refusal is
        // decided by the record: the news of a Pod may come before those of its workload.
        let mut cached = self.in_cache(container).filter(|now| !now.refuses(pod));
        for _ in 0..TRIES {
            let now = match cached.take() {
                Some(now) => now,
                None => self.on_record(container).await?,
            };
            if now.refuses(pod) {
                return Ok(false);
            }
            if now.record.leave.as_ref().is_some_and(|bound| bound.pod == pod) {
                return Ok(self.is_bound(container, pod));
            }
            match self.write_leave_note(container, &leave, &now).await {
                Ok(()) => return Ok(self.is_bound(container, pod)),
                Err(fault) if fault.kind == FaultKind::NotFound => return Err(fault),
                Err(fault) if fault.kind == FaultKind::Conflict => last = Some(fault),
                // Nothing runs that is not on record; the API server may answer again soon.
                Err(fault) => {
                    last = Some(fault);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        Err(last.unwrap_or_else(|| Fault::internal("the run could not be bound to a Pod")))
    }

    fn is_bound(&self, container: &Container, pod: &str) -> bool {
        self.runs.bind(&container.record.id, pod);
        true
    }

    /// Writes down that the process of a Pod has run, unless another run has begun by now.
    pub(super) async fn note_leave_given(&self, container: &Container, pod: &str) {
        let leave = Leave { pod: pod.to_owned(), given: true };
        let noted = async {
            let is_bound = |now: &OnRecord| now.record.leave.as_ref().is_some_and(|bound| bound.pod == pod);
            let mut now = self.in_cache(container).filter(is_bound);
            for _ in 0..TRIES {
                let read = match now.take() {
                    Some(now) => now,
                    None => self.on_record(container).await?,
                };
                if !is_bound(&read) {
                    return Ok(());
                }
                match self.write_leave_note(container, &leave, &read).await {
                    Err(fault) if fault.kind == FaultKind::Conflict => {}
                    written => return written,
                }
            }
            Err(Fault::internal("somebody else writes its workload all the time"))
        };
        // A run of --rm that ends at once takes its workload, and the need for the note, with it.
        if let Err(fault) = noted.await
            && fault.kind != FaultKind::NotFound
        {
            let name = &container.record.name;
            tracing::warn!(container = %name, error = fault.message, "which Pod has run is not on record");
        }
    }

    async fn write_leave_note(&self, container: &Container, leave: &Leave, read: &OnRecord) -> Result<()> {
        let note = json!({"metadata": {
            "resourceVersion": read.version,
            "annotations": {keys::LEAVE: record::json(leave)},
        }});
        self.change_workload(container, &note).await.map(|_| ())
    }

    /// The workload as the caches have it.
    fn in_cache(&self, container: &Container) -> Option<OnRecord> {
        let object = &container.record.object;
        let now = self.own_container(object, &container.record.id)?;
        let version = match container.kind {
            Kind::Job => self.cluster.cache::<Job>().get(object)?.object.metadata.resource_version.clone(),
            _ => self.cluster.cache::<Deployment>().get(object)?.object.metadata.resource_version.clone(),
        };
        Some(OnRecord { wanted: now.wanted > 0, record: now.record, version })
    }

    /// The record, and whether the workload is to run, as the cluster has it now: the watch may be
    /// behind.
    pub(super) async fn record_now(&self, container: &Container) -> Result<Arc<Record>> {
        Ok(self.on_record(container).await?.record)
    }

    async fn on_record(&self, container: &Container) -> Result<OnRecord> {
        let nothing = json!({"metadata": {"annotations": {}}});
        let (meta, wanted) = self.change_workload(container, &nothing).await?;
        let record = Record::read(&meta).ok_or_else(|| Fault::internal("its annotations cannot be read"))?;
        Ok(OnRecord { record: Arc::new(record), wanted, version: meta.resource_version })
    }

    async fn change_workload(&self, container: &Container, change: &Value) -> Result<(ObjectMeta, bool)> {
        let object = &container.record.object;
        Ok(if container.kind == Kind::Job {
            let job = self.cluster.patch::<Job>(object, change).await?;
            let wanted = job.object.spec.as_ref().is_some_and(|spec| spec.suspend != Some(true));
            (job.object.metadata.clone(), wanted)
        } else {
            let deployment = self.cluster.patch::<Deployment>(object, change).await?;
            let wanted = deployment.object.spec.as_ref().is_some_and(|spec| spec.replicas != Some(0));
            (deployment.object.metadata.clone(), wanted)
        })
    }
}
