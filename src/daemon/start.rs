//! `docker start`: makes the workload run and waits for the truth. 204 means that the container
//! runs or has already ended; whatever keeps it from running is told in the cluster's words.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, PodTemplateSpec};
use serde_json::json;

use super::Daemon;
use super::decisions;
use super::release::Attempt;
use d2k_common::fault::{Fault, Kind as FaultKind, Result};
use d2k_translate::container::{Container, Kind};
use d2k_translate::record::{self, RunState};
use d2k_translate::state::{self, Phase, Trouble, is_failed_start};
use d2k_translate::{keys, workload};

/// How often a write is tried again when somebody else wrote the object meanwhile.
const TRIES: usize = 5;
/// Between two looks at why a Job has no Pod.
const REFUSAL: std::time::Duration = std::time::Duration::from_secs(2);

impl Daemon {
    /// Starts a container and waits until it runs.
    ///
    /// # Errors
    /// 304 if it runs, 400/404/500 with the reason if it cannot run.
    pub async fn start(self: &Arc<Self>, key: &str) -> Result<()> {
        let id = self.managed(key)?.record.id.clone();
        let _lock = self.locks.container(&id).await;
        let container = self.container(&id)?;
        if container.removing {
            return Err(Fault::conflict(format!(
                "container {id} is marked for removal and cannot be started"
            )));
        }
        if container.state().running() {
            return Err(Fault::not_modified());
        }
        self.start_locked(&container).await
    }

    pub(crate) async fn start_locked(self: &Arc<Self>, container: &Container) -> Result<()> {
        if !container.own {
            return self.start_foreign(container).await;
        }
        self.open_ports(&container.record).await?;
        self.ensure_helper(&container.record).await?;
        self.ensure_links(&container.record).await?;
        self.runs.begin_run(&container.record.id);
        let _starting = self.runs.starting(&container.record.id);
        let before = pods(container);
        let begun = self.run_workload(container).await;
        // Without a run there is no output that a reader of the stream could miss.
        let readers = begun.is_ok();
        let started = match begun {
            Ok(()) => self.await_start(container, &before).await,
            Err(fault) => Err(fault),
        };
        if started.is_ok() && container.record.helper.is_some() {
            let (daemon, record) = (self.clone(), container.record.clone());
            tokio::spawn(async move { daemon.note_used(&record).await });
        }
        if let Err(fault) = &started {
            self.undo_start(container, &fault.message).await;
            if container.record.auto_remove() {
                let (daemon, id) = (self.clone(), container.record.id.clone());
                tokio::spawn(async move {
                    match readers {
                        true => daemon.auto_remove(&id).await,
                        false => daemon.auto_remove_now(&id).await,
                    }
                });
            }
        }
        started
    }

    async fn run_workload(&self, container: &Container) -> Result<()> {
        // The request or the policies may have changed since the create.
        for warning in self.judge(&self.policies.current(), &container.record).await? {
            tracing::debug!(container = %container.record.name, "{warning}");
        }
        self.require_networks(container)?;
        self.require_sources(&container.record, true).await?;
        match container.kind {
            Kind::Job => self.run_job(container).await,
            _ => self.run_deployment(container).await,
        }
    }

    /// The Pod template is made anew for each start: what changed since the last one (networks,
    /// limits, files) takes effect now.
    async fn run_deployment(&self, container: &Container) -> Result<()> {
        let object = &container.record.object;
        let template = self.template(&container.record).await?;
        let (set, asked) = (self.policies.current(), decisions::container(&container.record));
        for attempt in 0.. {
            let cached = self.cluster.cache::<Deployment>().get(object);
            let cached = cached.ok_or_else(|| Fault::no_such_container(&container.record.id))?;
            let mut deployment = Deployment::clone(&cached.object);
            let spec = deployment.spec.get_or_insert_default();
            spec.replicas = Some(1);
            spec.template = template.clone();
            if let Some(notes) = &mut deployment.metadata.annotations {
                notes.remove(keys::LEAVE);
                notes.remove(keys::PAUSED);
            }
            let shaped = self.shape(&set, deployment, Some(&asked))?;
            match self.cluster.replace(object, &shaped.object).await {
                Err(fault) if fault.kind == FaultKind::Conflict && attempt < TRIES => {
                    self.await_newer(&cached.object.metadata, object).await;
                }
                result => return result.map(|_| ()),
            }
        }
        Ok(())
    }

    async fn await_newer(
        &self,
        old: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
        name: &str,
    ) {
        let newer = || {
            let now = self.cluster.cache::<Deployment>().get(name)?;
            (now.object.metadata.resource_version != old.resource_version).then_some(())
        };
        self.cluster.wait(std::time::Duration::from_secs(1), newer).await;
    }

    /// A Job that was never started is released; one that has run is made anew.
    async fn run_job(&self, container: &Container) -> Result<()> {
        let object = &container.record.object;
        let cached = self
            .cluster
            .cache::<Job>()
            .get(object)
            .ok_or_else(|| Fault::no_such_container(&container.record.id))?;
        // A Job that was stopped, or whose start failed, looks as if it had not begun, but counts the Pod that it had.
        let state = &container.record.state;
        let is_new = state.pod.is_empty() && state.error.is_empty() && container.pods.is_empty();
        if is_new && !workload::job_has_started(&cached.object) {
            let forgotten = json!({keys::LEAVE: null, keys::PAUSED: null});
            let release = json!({"metadata": {"annotations": forgotten}, "spec": {"suspend": false}});
            return self.cluster.patch::<Job>(object, &release).await.map(|_| ());
        }
        if let (Some(pod), Some(run)) = (container.pod(), Some(&container.record.state)) {
            let (uid, name) = (pod.metadata.uid.clone(), pod.metadata.name.clone());
            let container_name = container.container_name();
            self.keep_log(
                &container.record,
                &uid.unwrap_or_default(),
                &name.unwrap_or_default(),
                &container_name,
                run.finished,
            )
            .await;
        }
        let template = self.template(&container.record).await?;
        self.remake_job(container, template, false).await
    }

    /// Replaces the Job of a container by a new one of the same name: a Job's template is immutable.
    pub(crate) async fn remake_job(
        &self,
        container: &Container,
        template: PodTemplateSpec,
        suspended: bool,
    ) -> Result<()> {
        let (set, asked) = (self.policies.current(), decisions::container(&container.record));
        let job = workload::job(&container.record, template, suspended);
        // A policy that refuses it does so before the one that is there goes.
        self.shape(&set, job.clone(), Some(&asked))?;
        self.replace_job(&set, &container.record, job, &asked).await
    }

    async fn await_start(&self, container: &Container, before: &BTreeSet<String>) -> Result<()> {
        let id = &container.record.id;
        let (mut trouble, mut made) = (None, BTreeSet::new());
        let look = || {
            let Some(now) = self.own_container(&container.record.object, id) else {
                return self
                    .container_by_id(id)
                    .is_none()
                    .then(|| Err(Fault::no_such_container(&container.record.id)));
            };
            if let Some(words) = now.refused.clone() {
                return Some(Err(Fault::internal(format!(
                    "Kubernetes refuses to run the container: {words}"
                ))));
            }
            made.extend(
                now.pods.iter().filter_map(|p| p.metadata.uid.clone()).filter(|u| !before.contains(u)),
            );
            if !made.contains(&uid_of(&now)) {
                return None;
            }
            let state = now.state();
            trouble = state.trouble.clone().or(trouble.take());
            match (state.phase, state.trouble) {
                // Docker tells of the start before it answers.
                (Phase::Running | Phase::Restarting, _) => {
                    (self.runs.was_told(&uid_of(&now)) && self.may_be_told(&now)).then_some(Ok(()))
                }
                // The end of an earlier run may be written down only now.
                (Phase::Exited, _) if made.contains(&state.run.pod) => Some(ended(&state.run)),
                (_, Some(trouble)) if trouble.fatal => Some(Err(cannot_start(&now, &trouble))),
                _ => None,
            }
        };
        let limit = self.options.start_timeout;
        tokio::select! {
            started = self.cluster.wait(limit, look) => {
                if let Some(result) = started {
                    return result;
                }
            }
            words = self.refusal_of_job(container, before) => {
                return Err(Fault::internal(format!("Kubernetes refuses to run the container: {words}")));
            }
        }
        Err(self.too_late(container, trouble).await)
    }

    /// A Job whose Pod may not be made (quota, admission) says so by Events only, unlike a Deployment.
    async fn refusal_of_job(&self, container: &Container, before: &BTreeSet<String>) -> String {
        if container.kind != Kind::Job {
            std::future::pending::<()>().await;
        }
        let begin = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(1);
        loop {
            tokio::time::sleep(REFUSAL).await;
            let now = self.container_by_id(&container.record.id);
            let has_pod = |c: &Container| {
                c.pod().and_then(|p| p.metadata.uid.clone()).is_some_and(|uid| !before.contains(&uid))
            };
            if now.as_ref().is_some_and(has_pod) {
                std::future::pending::<()>().await;
            }
            let newest = self.last_warning(&container.record.object).await;
            let refused = |event: &Event| {
                event.reason.as_deref() == Some("FailedCreate")
                    && event.last_timestamp.as_ref().is_some_and(|time| time.0 >= begin)
            };
            if let Some(event) = newest.filter(refused) {
                return event.message.unwrap_or_default();
            }
        }
    }

    /// Whether a container that runs does what it was made for: it does not wait for leave to run.
    fn may_be_told(&self, container: &Container) -> bool {
        let attempt = container.pod().map(|pod| Attempt::of(&container.record, pod));
        !container.record.waits()
            || attempt.is_some_and(|attempt| self.runs.was_released(&attempt) || attempt.restarts > 0)
    }

    async fn too_late(&self, container: &Container, trouble: Option<Trouble>) -> Fault {
        let seconds = self.options.start_timeout.as_secs();
        let words = match trouble {
            Some(trouble) => format!("{}: {}", trouble.reason, trouble.message),
            None => self
                .last_warning(&container.record.object)
                .await
                .and_then(|event| event.message)
                .unwrap_or_else(|| "no reason is known".into()),
        };
        Fault::internal(format!(
            "the container did not start within {seconds} s (D2K_START_TIMEOUT); Kubernetes says: {words}"
        ))
    }

    /// The newest warning Event about the workload or its Pods.
    async fn last_warning(&self, object: &str) -> Option<Event> {
        let events = self.cluster.events().await.ok()?;
        let about = |name: Option<&str>| {
            name.is_some_and(|n| {
                n == object || n.strip_prefix(object).is_some_and(|rest| rest.starts_with('-'))
            })
        };
        let warnings = events
            .into_iter()
            .filter(|e| e.type_.as_deref() == Some("Warning") && about(e.involved_object.name.as_deref()));
        warnings.max_by_key(|e| e.last_timestamp.as_ref().map(|t| t.0))
    }

    /// A container that could not start is stopped again and remembers why.
    async fn undo_start(&self, container: &Container, why: &str) {
        let record = &container.record;
        self.publisher.close(&record.id);
        let Some(now) = self.own_container(&record.object, &record.id) else {
            return;
        };
        let state = RunState { error: why.to_owned(), ..now.record.state.clone() };
        let state = if now.record.state.finished.is_some() || state.exit_code != 0 {
            state
        } else {
            RunState { exit_code: state::refused_start_code(why), ..state }
        };
        let note = json!({keys::STATE: record::json(&state)});
        let result = match now.kind {
            Kind::Job => {
                let patch = json!({"metadata": {"annotations": note}, "spec": {"suspend": true}});
                self.cluster.patch::<Job>(&record.object, &patch).await.map(|_| ())
            }
            _ => {
                let patch = json!({"metadata": {"annotations": note}, "spec": {"replicas": 0}});
                self.cluster.patch::<Deployment>(&record.object, &patch).await.map(|_| ())
            }
        };
        if let Err(error) = result {
            tracing::warn!(container = %record.name, %error, "a container that could not start was not stopped");
        }
    }

    /// Whether a start of this container is under way.
    pub fn is_starting(&self, id: &str) -> bool {
        self.runs.is_starting(id)
    }
}

/// The Pods of earlier runs. One that is still coming up belongs to this start, although another
/// d2k, or this one before it was killed, has made it.
fn pods(container: &Container) -> BTreeSet<String> {
    let (recorded, last) = (&container.record.state.pod, container.state());
    let over = |uid: &String| uid == recorded || (last.phase == Phase::Exited && *uid == last.run.pod);
    let earlier = |uid: &String, ends: bool| ends || over(uid);
    let all = container
        .pods
        .iter()
        .filter_map(|p| Some((p.metadata.uid.clone()?, p.metadata.deletion_timestamp.is_some())));
    all.filter(|(uid, ends)| earlier(uid, *ends)).map(|(uid, _)| uid).collect()
}

fn uid_of(container: &Container) -> String {
    container.pod().and_then(|p| p.metadata.uid.clone()).unwrap_or_default()
}

/// A run that has already ended was a start, unless its process never ran.
fn ended(run: &RunState) -> Result<()> {
    if run.error.is_empty() || run.exit_code == state::UNKNOWN {
        return Ok(());
    }
    // Users and groups are looked up before the runtime is asked.
    if run.error.starts_with("unable to find") {
        return Err(Fault::invalid(&run.error));
    }
    Err(Fault::invalid(format!("failed to create task for container: {}", run.error)))
}

fn cannot_start(container: &Container, trouble: &Trouble) -> Fault {
    let image = container.record.body.image.clone().unwrap_or_default();
    let words = format!("{}: {}", trouble.reason, trouble.message);
    if is_failed_start(&trouble.reason) {
        return Fault::invalid(format!("failed to create task for container: {}", trouble.message));
    }
    match trouble.reason.as_str() {
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" => {
            Fault::internal(format!("Kubernetes cannot pull the image {image}: {words}"))
        }
        _ => Fault::internal(format!("Kubernetes cannot start the container: {words}")),
    }
}
