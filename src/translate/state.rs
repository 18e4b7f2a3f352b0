//! What Docker calls a container's state, from the record of its workload and its Pod. The same
//! function decides what `ps` shows, when `wait` ends and when an exit is recorded.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};

use super::helper;
use super::record::{Record, RunState};

/// The exit code of a process of which nobody knows how it ended: Docker's own after it has lost sight of one.
pub const UNKNOWN: i32 = 255;

/// The states that d2k can tell (Docker also knows `dead`; `paused` is a running one).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Phase {
    Created,
    Running,
    Restarting,
    Exited,
}

impl Phase {
    /// Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
        }
    }
}

/// A container's state.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Docker's word for it.
    pub phase: Phase,
    /// The run that it is about.
    pub run: RunState,
    /// Why the container cannot start at the moment; empty if nothing is known to be wrong.
    pub trouble: Option<Trouble>,
    /// Its processes are stopped.
    pub paused: bool,
}

/// Why a Pod's container does not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The kubelet's reason, `ImagePullBackOff`.
    pub reason: String,
    /// The cluster's words.
    pub message: String,
    /// It will not go away by waiting.
    pub fatal: bool,
}

impl State {
    /// Docker's word for it.
    pub fn word(&self) -> &'static str {
        match () {
            () if self.paused => "paused",
            () if self.never_ran() => Phase::Created.as_str(),
            () => self.phase.as_str(),
        }
    }

    /// Whether there was nothing to run: a container that could not be started stays a created one.
    pub fn never_ran(&self) -> bool {
        self.phase == Phase::Exited && !self.run.error.is_empty() && matches!(self.run.exit_code, 126 | 127)
    }

    /// Docker's `Running` flag, which is also set while restarting.
    pub fn running(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Restarting)
    }
}

/// The Pod that a container's state is about: the newest that is not being deleted,
/// else the newest.
pub fn current<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> Option<&'a Pod> {
    pods.into_iter().max_by_key(|pod| {
        (pod.metadata.deletion_timestamp.is_none(), pod.metadata.creation_timestamp.as_ref().map(|t| t.0))
    })
}

/// The status of the Pod's main container.
pub fn status_of<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let all = pod.status.as_ref()?.container_statuses.as_ref()?;
    all.iter().find(|s| s.name == container).or_else(|| all.first())
}

/// The end before what a container does now, and which run it was of, counted from 0: one that waits to be
/// started again is not counted up yet, one that was made and does not run yet is.
pub fn last_end(status: &ContainerStatus) -> Option<(&ContainerStateTerminated, i32)> {
    let end = status.last_state.as_ref()?.terminated.as_ref()?;
    let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
    let reason = waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default();
    let waits = !matches!(reason, "" | "ContainerCreating");
    Some((end, status.restart_count - i32::from(!waits)))
}

/// The state of a container, given its current Pod ([`current`]) and the number of Pods that
/// failed before it in the same run (a Job makes a new Pod for each retry).
pub fn state(record: &Record, pod: Option<&Pod>, earlier: i32) -> State {
    let Some(pod) = pod else {
        return recorded(record, None);
    };
    if let Some(ended) = ended(record, pod, earlier) {
        return State { phase: Phase::Exited, run: ended, trouble: None, paused: false };
    }
    let Some(status) = status_of(pod, &record.object) else {
        return recorded(record, trouble_of_pod(pod));
    };
    let run = RunState { restart_count: earlier + status.restart_count, ..record.state.clone() };
    let now = status.state.as_ref();
    let last = status.last_state.as_ref().and_then(|s| s.terminated.as_ref());
    if let Some(running) = now.and_then(|s| s.running.as_ref()) {
        let started = running.started_at.as_ref().map(|t| t.0);
        let finished = last.and_then(|t| t.finished_at.as_ref()).map(|t| t.0).or(record.state.finished);
        let run =
            RunState { started, finished, exit_code: 0, oom_killed: false, error: String::new(), ..run };
        let paused = !record.paused.is_empty() && Some(&record.paused) == pod.metadata.uid.as_ref();
        return State { phase: Phase::Running, run, trouble: None, paused };
    }
    if let Some(done) = now.and_then(|s| s.terminated.as_ref()).or(last) {
        let run = RunState { restart_count: earlier + status.restart_count, ..run_of(done, pod) };
        return State { phase: Phase::Restarting, run, trouble: None, paused: false };
    }
    recorded(record, trouble_of(status).or_else(|| trouble_before(pod)).or_else(|| trouble_of_pod(pod)))
}

/// The run that has ended in this Pod and is not started again by policy: what must be recorded.
pub fn ended(record: &Record, pod: &Pod, earlier: i32) -> Option<RunState> {
    if record.state.finished.is_some() && Some(&record.state.pod) == pod.metadata.uid.as_ref() {
        return Some(record.state.clone());
    }
    let status = status_of(pod, &record.object);
    let deleting = pod.metadata.deletion_timestamp.is_some();
    if let Some((done, restarts)) = status.and_then(|s| first_end(record, s, earlier, deleting)) {
        // What runs once was not restarted, however often the kubelet has tried.
        let restart_count = if record.runs_once() { earlier } else { restarts };
        return Some(RunState { restart_count, ..run_of(done, pod) });
    }
    if let Some(lost) = status.and_then(|status| lost_end(record, status, pod)) {
        return Some(lost);
    }
    let has_status = status.is_some_and(|s| s.state.as_ref().is_some_and(|s| s.terminated.is_some()));
    let failed = pod.status.as_ref().filter(|s| s.phase.as_deref() == Some("Failed") && !has_status)?;
    Some(evicted(failed, pod))
}

/// A Pod that the cluster failed as a whole (evicted, node lost) has no container status of its own.
fn evicted(status: &PodStatus, pod: &Pod) -> RunState {
    let reason = status.reason.clone().unwrap_or_default();
    let message = status.message.clone().unwrap_or_default();
    RunState {
        started: status.start_time.as_ref().map(|t| t.0),
        finished: last_transition(pod).or_else(|| pod.metadata.creation_timestamp.as_ref().map(|t| t.0)),
        exit_code: 137,
        error: failed_before(status).unwrap_or_else(|| format!("{reason}: {message}")),
        pod: pod.metadata.uid.clone().unwrap_or_default(),
        ..RunState::default()
    }
}

fn last_transition(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().filter_map(|c| c.last_transition_time.as_ref().map(|t| t.0)).max()
}

/// The termination that counts. A kubelet restarts the container of a Deployment at once, also
/// where Docker would not: then the earlier termination is the end, not what came after it.
fn first_end<'a>(
    record: &Record,
    status: &'a ContainerStatus,
    earlier: i32,
    deleting: bool,
) -> Option<(&'a ContainerStateTerminated, i32)> {
    if let Some((last, run)) = last_end(status)
        && run >= 0
        && !record.restarts(last.exit_code, earlier + run)
    {
        return Some((last, earlier + run));
    }
    let now = status.state.as_ref()?.terminated.as_ref()?;
    let count = earlier + status.restart_count;
    (deleting || !record.restarts(now.exit_code, count)).then_some((now, count))
}

/// The end of a process that runs once, where Kubernetes tells only that its container was started again: a
/// kubelet clears ended containers away once a minute, and keeps one too few while it makes the next one.
fn lost_end(record: &Record, status: &ContainerStatus, pod: &Pod) -> Option<RunState> {
    let running = status.state.as_ref().and_then(|state| state.running.as_ref());
    (status.restart_count > 0 && record.runs_once()).then(|| RunState {
        started: pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0),
        finished: running
            .and_then(|running| running.started_at.as_ref())
            .map(|time| time.0)
            .or_else(|| last_transition(pod))
            .or_else(|| pod.metadata.creation_timestamp.as_ref().map(|time| time.0)),
        exit_code: UNKNOWN,
        error: "Kubernetes has cleared the container away before its exit code was read".to_owned(),
        pod: pod.metadata.uid.clone().unwrap_or_default(),
        ..RunState::default()
    })
}

fn run_of(done: &ContainerStateTerminated, pod: &Pod) -> RunState {
    let reason = done.reason.as_deref().unwrap_or_default();
    let failed_start = is_failed_start(reason);
    let message = done.message.clone().unwrap_or_default();
    let unable = helper::failure(done.message.as_deref());
    RunState {
        started: done.started_at.as_ref().map(|t| t.0).filter(|t| *t > Timestamp::UNIX_EPOCH),
        finished: done
            .finished_at
            .as_ref()
            .map(|t| t.0)
            .filter(|t| *t > Timestamp::UNIX_EPOCH)
            .or_else(|| last_transition(pod)),
        exit_code: if failed_start { start_failure_code(&message) } else { done.exit_code },
        oom_killed: reason == "OOMKilled",
        error: unable.unwrap_or_else(|| if failed_start { message } else { String::new() }),
        restart_count: 0,
        pod: pod.metadata.uid.clone().unwrap_or_default(),
    }
}

/// Whether a process has run: neither the runtime nor the helper could not start it.
pub fn has_run(done: &ContainerStateTerminated) -> bool {
    !is_failed_start(done.reason.as_deref().unwrap_or_default())
        && helper::failure(done.message.as_deref()).is_none()
}

/// Whether the process of a Pod is known never to have run: it was still waiting for its first run.
pub fn never_ran(pod: &Pod, container: &str) -> bool {
    let Some(status) = status_of(pod, container) else { return true };
    let waits = status.state.as_ref().is_none_or(|state| state.waiting.is_some());
    waits
        && status.restart_count == 0
        && status.last_state.as_ref().is_none_or(|last| last.terminated.is_none())
}

/// Whether a kubelet's reason says that the process never ran.
pub fn is_failed_start(reason: &str) -> bool {
    matches!(reason, "StartError" | "ContainerCannotRun" | "RunContainerError")
}

/// Docker's exit code for a process that could not be started: 126 or 127, as a shell's.
pub fn start_failure_code(message: &str) -> i32 {
    if message.contains("permission denied") || message.contains("is a directory") { 126 } else { 127 }
}

/// Docker's exit code for a start that failed before there was a process, as dockerd derives it from the message.
pub fn refused_start_code(why: &str) -> i32 {
    let missing = ["no such file or directory", "not a directory", "executable file not found"];
    let why = why.to_lowercase();
    match why.as_str() {
        why if missing.iter().any(|words| why.contains(words)) => 127,
        why if why.contains("permission denied") => 126,
        _ => 128,
    }
}

fn recorded(record: &Record, trouble: Option<Trouble>) -> State {
    let ran = record.state.finished.is_some() || record.state.started.is_some();
    let phase = if ran { Phase::Exited } else { Phase::Created };
    State { phase, run: record.state.clone(), trouble, paused: false }
}

fn trouble_of(status: &ContainerStatus) -> Option<Trouble> {
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.clone().unwrap_or_default();
    let fatal = matches!(
        reason.as_str(),
        "ErrImagePull"
            | "ImagePullBackOff"
            | "InvalidImageName"
            | "ErrImageNeverPull"
            | "CreateContainerConfigError"
            | "CreateContainerError"
            | "RunContainerError"
    );
    let message = waiting.message.clone().unwrap_or_default();
    fatal.then_some(Trouble { reason, message, fatal })
}

/// What keeps a container that comes before the real one from doing its part.
fn trouble_before(pod: &Pod) -> Option<Trouble> {
    let before = pod.status.as_ref()?.init_container_statuses.iter().flatten();
    before.clone().find_map(trouble_of).or_else(|| {
        let message = failed_before(pod.status.as_ref()?)?;
        Some(Trouble { reason: "Init:Error".into(), message, fatal: true })
    })
}

/// The words of a container that comes before the real one and has failed.
fn failed_before(status: &PodStatus) -> Option<String> {
    status.init_container_statuses.iter().flatten().find_map(|status| {
        let now = status.state.as_ref()?.terminated.as_ref();
        let done = now.or(status.last_state.as_ref()?.terminated.as_ref())?;
        let words = helper::failure(done.message.as_deref()).or_else(|| done.message.clone());
        (done.exit_code != 0).then(|| words.unwrap_or_else(|| format!("{} has failed", status.name)))
    })
}

fn trouble_of_pod(pod: &Pod) -> Option<Trouble> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let unscheduled = conditions.iter().find(|c| {
        c.type_ == "PodScheduled" && c.status == "False" && c.reason.as_deref() == Some("Unschedulable")
    })?;
    Some(Trouble {
        reason: "Unschedulable".into(),
        message: unscheduled.message.clone().unwrap_or_default(),
        fatal: false,
    })
}

#[cfg(test)]
mod tests;
