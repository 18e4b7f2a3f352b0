//! The daemon's own work, driven by the watches and by nothing else: it sees starts and ends, tells
//! Docker's clients, writes each end down before its Pod goes, stops what Docker would not restart,
//! removes what was run with `--rm`, and keeps networks, ports and health checks up to date.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_util::sync::DropGuard;

use super::Daemon;
use d2k_cluster::{Change, Object};
use d2k_policy::News;
use d2k_translate::container::{Container, Kind};
use d2k_translate::keys;
use d2k_translate::record::RunState;
use d2k_translate::state::{self, Phase};

/// How long `--rm` waits for clients that still read the output.
const READERS: Duration = Duration::from_secs(10);

/// How long a container of `--rm` that another process started is left to that process.
const STRANGER: Duration = Duration::from_secs(15);

/// What the keeper knows of a Pod: which starts and ends have been told.
#[derive(Default)]
struct Seen {
    /// Restarts of the run whose start was told; -1 before the first.
    started: Option<i32>,
    died: Option<i32>,
    over: bool,
}

/// Does the work until the changes end.
pub async fn run(daemon: Arc<Daemon>, mut changes: mpsc::UnboundedReceiver<Change>) {
    let left = daemon.clone();
    tokio::spawn(async move { left.free_what_was_left().await });
    tokio::spawn(tell_of_policies(daemon.clone()));
    tokio::spawn(daemon.clone().collect_helpers());
    tokio::spawn(daemon.clone().collect_logins());
    let names = daemon.clone();
    tokio::spawn(async move { names.collect_reservations().await });
    let mut keeper = Keeper { daemon, pods: HashMap::new() };
    while let Some(change) = changes.recv().await {
        keeper.take(&change).await;
    }
}

/// What happens to the policies is Docker's `daemon reload`.
async fn tell_of_policies(daemon: Arc<Daemon>) {
    let mut news = daemon.policies.news();
    loop {
        let (result, words) = match news.recv().await {
            Ok(News::Active { policies, rolled_back }) => {
                (if rolled_back { "rolled back" } else { "active" }, policies.join(", "))
            }
            Ok(News::Refused(words)) => ("refused", words),
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        let name = format!("d2k-{}", daemon.cluster.namespace());
        let attributes = [
            ("name".to_owned(), name),
            ("policies".to_owned(), words),
            ("result".to_owned(), result.to_owned()),
        ];
        daemon.tell_of("daemon", "reloaded", &daemon.system_id(), attributes.into());
    }
}

struct Keeper {
    daemon: Arc<Daemon>,
    pods: HashMap<String, Seen>,
}

impl Keeper {
    async fn take(&mut self, change: &Change) {
        match &change.object {
            Object::Pod(entry) => self.pod(&entry.object, change),
            Object::Deployment(_) | Object::Job(_) | Object::StatefulSet(_) | Object::DaemonSet(_) => {
                self.workload(change);
            }
            Object::Claim(entry) => self.volume(&entry.object, change),
            Object::ConfigMap(_) | Object::Service(_) => {}
        }
    }

    fn workload(&mut self, change: &Change) {
        let daemon = &self.daemon;
        let Some(container) = daemon.container_of(&change.object) else {
            return;
        };
        let id = container.record.id.as_str();
        if change.deleted {
            if daemon.runs.is_replacing(id) {
                return;
            }
            daemon.publisher.close(id);
            daemon.attached.forget(id);
            daemon.health.forget(id);
            daemon.held.forget(id);
            daemon.runs.forget_container(id);
            daemon.links.forget(id);
            if container.own {
                let (daemon, container) = (daemon.clone(), container.clone());
                tokio::spawn(async move { daemon.release_name_of(&container).await });
            }
            daemon.tell(&container.record, "removed", []);
        } else if change.previous.is_none() && !daemon.runs.end_replace(id) && !change.initial {
            daemon.tell(&container.record, "created", []);
        }
        if container.own && !change.deleted {
            daemon.links.note(&container.record);
        }
        if change.initial {
            self.recover(&container);
        }
    }

    /// What was left undone when d2k last ended.
    fn recover(&mut self, container: &Container) {
        if container.own && container.record.state.finished.is_some() && container.record.auto_remove() {
            self.remove_later(container);
        } else if container.own && container.state().running() {
            let (daemon, record) = (self.daemon.clone(), container.record.clone());
            tokio::spawn(async move {
                if let Err(error) = daemon.open_ports(&record).await {
                    tracing::warn!(container = %record.name, %error, "a published port could not be opened again");
                }
            });
        }
    }

    /// The container that a Pod belongs to, with this Pod as it is in the change.
    fn container_of_pod(&self, pod: &Arc<Pod>) -> Option<Container> {
        let label = pod.metadata.labels.as_ref().and_then(|l| l.get(keys::CONTAINER));
        let uid = pod.metadata.uid.as_ref();
        let all = self.daemon.containers_of(label.map(String::as_str), pod);
        let mut container = all.into_iter().find(|c| c.own == label.is_some())?;
        for other in &mut container.pods {
            if other.metadata.uid.as_ref() == uid {
                *other = pod.clone();
            }
        }
        if container.pods.iter().all(|p| p.metadata.uid.as_ref() != uid) {
            container.pods.push(pod.clone());
        }
        Some(container)
    }

    fn pod(&mut self, pod: &Arc<Pod>, change: &Change) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if let Some(container) = self.container_of_pod(pod) {
            // Kubernetes replaces a Pod that goes, also where its run happens once: that Pod waits and runs nothing.
            let runs = !container.own
                || !container.record.runs_once()
                || !container.record.is_bound_elsewhere(&uid, container.wanted > 0);
            if runs {
                self.told(&container, pod, &uid, change.initial);
            }
            if !change.deleted {
                self.daemon.release_soon(&container, pod, change.initial);
            }
            if container.own {
                if runs {
                    self.ended(&container, pod, &uid, change.deleted, change.initial);
                }
                self.networks(&container, change);
            }
        }
        if change.deleted {
            self.pods.remove(&uid);
            self.daemon.runs.forget(&uid);
            self.daemon.heard.forget(pod.metadata.name.as_deref().unwrap_or_default());
        }
    }

    /// Tells of starts, restarts and ends.
    fn told(&mut self, container: &Container, pod: &Pod, uid: &str, initial: bool) {
        let Some(status) = state::status_of(pod, &container.record.object) else {
            return;
        };
        let seen = self.pods.entry(uid.to_owned()).or_default();
        let record = &container.record;
        let now = status.state.as_ref();
        let runs = now.is_some_and(|s| s.running.is_some());
        let done = now.and_then(|s| s.terminated.as_ref());
        let (last, restarts) = (state::last_end(status), status.restart_count);
        let daemon = &self.daemon;
        let over = record.state.pod == uid && record.state.finished.is_some();
        if seen.over || over {
            if !seen.over && !initial {
                daemon.told_by_record(
                    container,
                    seen,
                    done.filter(|end| state::has_run(end)).map(|_| restarts),
                );
            }
            seen.over = true;
            return;
        }
        if pod.metadata.deletion_timestamp.is_some() {
            daemon.told_of_going(
                container,
                seen,
                uid,
                last.into_iter().chain(done.map(|end| (end, restarts))),
            );
            return;
        }
        let first_end = state::ended(record, pod, 0).filter(|_| restarts > 0);
        let before = last.map(|(end, run)| (end.exit_code, end.reason.as_deref(), run));
        let before = before.or(first_end.as_ref().map(|end| (end.exit_code, None, restarts - 1)));
        if let Some((code, reason, run)) = before {
            if seen.died < Some(run) && !initial {
                if seen.started < Some(run) {
                    daemon.started(record);
                }
                daemon.died(container, code, reason);
            }
            seen.died = seen.died.max(Some(run));
            seen.started = seen.started.max(Some(run));
        }
        if first_end.is_some() {
            seen.over = true;
            daemon.runs.tell(uid);
            daemon.cluster.nudge();
            return;
        }
        let ran = done.is_some_and(state::has_run);
        if (runs || ran) && seen.started < Some(restarts) {
            seen.started = Some(restarts);
            if !initial {
                daemon.started(record);
            }
            daemon.runs.tell(uid);
            daemon.cluster.nudge();
            daemon.clone().watch_health(container, pod);
        }
        if let Some(done) = done.filter(|_| seen.died < Some(restarts)) {
            seen.died = Some(restarts);
            if !initial && ran {
                let code = daemon.exit_code(uid, done.exit_code);
                daemon.died(container, code, done.reason.as_deref());
            }
        }
    }

    /// Records the end of a run that Docker does not start again.
    fn ended(&mut self, container: &Container, pod: &Pod, uid: &str, deleted: bool, initial: bool) {
        if container.record.state.pod == uid && container.record.state.finished.is_some() {
            // Another d2k has recorded the end of a run that this one serves.
            if !initial && self.daemon.runs.serves(&container.record.id) && self.daemon.runs.begin_record(uid)
            {
                tokio::spawn(self.daemon.clone().clean_up(container.clone()));
            }
            return;
        }
        let earlier = i32::try_from(container.pods.len().saturating_sub(1)).unwrap_or(0);
        let earlier = if container.kind == Kind::Job { earlier } else { 0 };
        let end = match state::ended(&container.record, pod, earlier) {
            Some(end) => end,
            // That the workload is scaled down may be known only later, where a watch was broken.
            // A start that failed leaves a Pod without a run, whose end is none of the container's.
            None if state::never_ran(pod, &container.container_name()) => return,
            None if deleted && (container.wanted == 0 || self.daemon.runs.is_taken_down(uid)) => {
                unseen_end(container, pod)
            }
            None => return,
        };
        let seen = self.pods.entry(uid.to_owned()).or_default();
        if deleted && !seen.over && seen.died < seen.started && !initial {
            seen.died = seen.started;
            self.daemon.died(container, end.exit_code, None);
        }
        if self.daemon.runs.begin_record(uid) {
            let exit_code = self.daemon.exit_code(uid, end.exit_code);
            let end = RunState { exit_code, ..end };
            let recording = self.daemon.runs.recording(&container.record.id);
            let record = self.daemon.clone().record(container.clone(), pod.clone(), end, recording);
            tokio::spawn(record);
        }
    }

    fn remove_later(&self, container: &Container) {
        let (daemon, id) = (self.daemon.clone(), container.record.id.clone());
        tokio::spawn(async move { daemon.auto_remove(&id).await });
    }

    fn networks(&self, container: &Container, change: &Change) {
        let Object::Pod(now) = &change.object else {
            return;
        };
        let before = match &change.previous {
            Some(Object::Pod(before)) => address(&before.object),
            _ => None,
        };
        let after = address(&now.object).filter(|_| !change.deleted);
        if before != after && self.daemon.is_looked_for(&container.record) {
            let daemon = self.daemon.clone();
            tokio::spawn(async move { daemon.sync_networks().await });
        }
    }

    fn volume(&self, claim: &k8s_openapi::api::core::v1::PersistentVolumeClaim, change: &Change) {
        if change.initial || (!change.deleted && change.previous.is_some()) {
            return;
        }
        let name = d2k_translate::volume::name(claim);
        let what = if change.deleted { "removed" } else { "created" };
        self.daemon.tell_of("volume", what, &name, [("driver".to_owned(), "local".to_owned())].into());
    }
}

fn address(pod: &Pod) -> Option<String> {
    pod.metadata.deletion_timestamp.is_none().then(|| pod.status.as_ref()?.pod_ip.clone()).flatten()
}

/// The end of a Pod that was deleted before its container's end could be seen.
fn unseen_end(container: &Container, pod: &Pod) -> RunState {
    let state = container.state().run;
    RunState {
        started: state.started,
        finished: Some(jiff::Timestamp::now()),
        exit_code: 137,
        pod: pod.metadata.uid.clone().unwrap_or_default(),
        ..RunState::default()
    }
}

impl Daemon {
    fn started(&self, record: &d2k_translate::record::Record) {
        for (name, membership) in &record.networks {
            let attributes = [
                ("container".to_owned(), record.id.clone()),
                ("name".to_owned(), name.clone()),
                ("type".to_owned(), "bridge".to_owned()),
            ];
            self.tell_of("network", "joined", &self.network_id(name, membership), attributes.into());
        }
        self.tell(record, "started", []);
    }

    /// Tells of an end that another d2k in this namespace recorded before this one saw the Pod end, and of
    /// the start of its run (the number of restarts before it).
    fn told_by_record(&self, container: &Container, seen: &Seen, run: Option<i32>) {
        let started = seen.started.max(run);
        if seen.started < started {
            self.started(&container.record);
        }
        if seen.died < started {
            let state = &container.record.state;
            self.died(container, state.exit_code, state.oom_killed.then_some("OOMKilled"));
        }
    }

    /// Tells of the end of a Pod that is being deleted, from the ends that its status shows, each with the number
    /// of restarts before it.
    fn told_of_going<'a>(
        &self,
        container: &Container,
        seen: &mut Seen,
        uid: &str,
        mut ends: impl Iterator<Item = (&'a ContainerStateTerminated, i32)>,
    ) {
        if seen.started.is_none() {
            return;
        }
        // A kubelet may start the process once more while its Pod ends; Docker knows one end.
        let Some((end, run)) = ends.find(|(_, run)| Some(*run) >= seen.started) else { return };
        seen.over = true;
        if seen.died < Some(run) {
            self.died(container, self.exit_code(uid, end.exit_code), end.reason.as_deref());
        }
    }

    fn died(&self, container: &Container, code: i32, reason: Option<&str>) {
        let record = &container.record;
        if reason == Some("OOMKilled") {
            self.tell(record, "out-of-memory", []);
        }
        let run = container.state().run;
        let seconds = match (run.started, run.finished) {
            (Some(started), Some(finished)) => finished.as_second() - started.as_second(),
            _ => 0,
        };
        let extra = [("exitCode", code.to_string()), ("execDuration", seconds.max(0).to_string())];
        self.tell(record, "ended", extra);
        for (name, membership) in &record.networks {
            let attributes = [
                ("container".to_owned(), record.id.clone()),
                ("name".to_owned(), name.clone()),
                ("type".to_owned(), "bridge".to_owned()),
            ];
            self.tell_of("network", "left", &self.network_id(name, membership), attributes.into());
        }
    }

    /// The exit code of a Pod: 137 where `docker kill` ended it, whatever the process made of the
    /// TERM that Kubernetes sends a moment before.
    fn exit_code(&self, uid: &str, code: i32) -> i32 {
        if self.runs.was_killed(uid) { 137 } else { code }
    }

    /// Keeps the log of an ended run and writes its end down; then `--rm` does its part.
    async fn record(self: Arc<Self>, container: Container, pod: Pod, end: RunState, recording: DropGuard) {
        let record = &container.record;
        let name = pod.metadata.name.clone().unwrap_or_default();
        // A finished Job keeps its Pod, and the Pod its log, unless it was stopped.
        if container.kind != Kind::Job || pod.metadata.deletion_timestamp.is_some() {
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            self.keep_log(record, &uid, &name, &container.container_name(), end.finished).await;
        }
        self.end_services(record).await;
        if let Err(error) = self.record_end(&container, &end).await {
            tracing::warn!(container = %record.name, %error, "the end of a run could not be written down");
            self.runs.forget(&end.pod);
        }
        drop(recording);
        if record.auto_remove() {
            self.auto_remove(&record.id).await;
        }
    }

    /// Does what follows the end of a run whose end another d2k has recorded.
    async fn clean_up(self: Arc<Self>, container: Container) {
        // It may have been started again in the meantime, and then its ports are those of the new run.
        let now = self.container_by_id(&container.record.id);
        if now.is_none_or(|now| now.record.state.pod != container.record.state.pod || now.state().running()) {
            return;
        }
        self.end_services(&container.record).await;
        if container.record.auto_remove() {
            self.auto_remove(&container.record.id).await;
        }
    }

    /// Ends what this process does for a container while it runs: ports, health checks, held streams, names.
    async fn end_services(&self, record: &d2k_translate::record::Record) {
        self.publisher.close(&record.id);
        self.health.forget(&record.id);
        self.held.forget(&record.id);
        if self.is_looked_for(record) {
            self.sync_networks().await;
        }
    }

    /// Removes a container that was run with `--rm`, when nobody reads its output any more.
    pub(crate) async fn auto_remove(&self, id: &str) {
        if !self.runs.serves(id) {
            // Another d2k may serve its clients; if it was killed, nobody else cleans up.
            tokio::time::sleep(STRANGER).await;
        }
        let quiet = tokio::time::timeout(READERS, self.attached.none(id));
        let _ = quiet.await;
        self.auto_remove_now(id).await;
    }

    /// Removes a `--rm` container that does not run, whoever reads its stream.
    pub(crate) async fn auto_remove_now(&self, id: &str) {
        let _lock = self.locks.container(id).await;
        let Some(container) = self.container_by_id(id).filter(|c| c.state().phase != Phase::Running) else {
            return;
        };
        if let Err(error) = self.remove_locked(&container, true).await {
            tracing::warn!(container = %container.record.name, %error, "--rm could not remove the container");
        }
    }

    /// The containers that a Pod may belong to.
    fn containers_of(&self, label: Option<&str>, pod: &Pod) -> Vec<Container> {
        if label.is_some() {
            let object = pod.spec.as_ref().and_then(|s| s.containers.first()).map(|c| c.name.clone());
            return object.into_iter().flat_map(|object| self.workload_containers(&object)).collect();
        }
        let uid = pod.metadata.uid.as_ref();
        let holds = |c: &Container| c.pods.iter().any(|p| p.metadata.uid.as_ref() == uid);
        self.containers().into_iter().filter(holds).collect()
    }
}
