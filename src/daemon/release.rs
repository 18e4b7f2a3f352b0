//! Leave to run for containers whose process waits for it (the helper's `--wait`): when its readers are
//! connected, and only where Docker would run it. A run that must happen once has one Pod: which one
//! is written down before the process runs, so that no other Pod ever runs it, whoever makes one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio_util::io::InspectReader;
use tokio_util::sync::CancellationToken;

use super::Daemon;
use super::gates::{Given, Place, Turn};
use d2k_cluster::{Process, Wanted};
use d2k_common::fault::{Fault, Result};
use d2k_translate::container::Container;
use d2k_translate::helper::{self, protocol};
use d2k_translate::record::{Leave, Record, RunState};
use d2k_translate::state;

/// How long a Pod that another d2k has started is left to that d2k.
const STRANGER: Duration = Duration::from_secs(5);
/// Before the first try to give leave to a container of which it is not known that it runs.
const EARLY: Duration = Duration::from_millis(80);
/// Between such tries, at most.
const LATE: Duration = Duration::from_millis(600);
/// How long the node may take to refuse a stream, and between two tries with a container that runs.
const REFUSED: Duration = Duration::from_millis(60);
/// How soon the news comes of a process that could not be run.
const AT_ONCE: Duration = Duration::from_millis(150);
/// The same as a multiple of the time in which the stream was opened: a busy cluster tells later.
const SLOWNESS: u32 = 8;
/// The share of it that is left after the kubelet has said that the container runs.
const AFTER_NEWS: u32 = 4;
/// The same where a client reads and waits for the end anyway: more certain on a busy node.
const AT_ONCE_IF_READ: Duration = Duration::from_millis(800);
/// How long the node may take to refuse a stream by which leave was given.
const LINGER: Duration = Duration::from_secs(2);

/// One start of the process of a Pod's container.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Attempt {
    /// UID of the Pod.
    pub uid: String,
    /// Restarts of the container before.
    pub restarts: i32,
}

impl Attempt {
    /// The attempt that a Pod is at.
    pub(crate) fn of(record: &Record, pod: &Pod) -> Self {
        let restarts = state::status_of(pod, &record.object).map_or(0, |status| status.restart_count);
        Self { uid: pod.metadata.uid.clone().unwrap_or_default(), restarts }
    }
}

impl Daemon {
    /// Gives leave to the process of a Pod that has a node, unless that is under way or not to be.
    pub(crate) fn release_soon(self: &Arc<Self>, container: &Container, pod: &Arc<Pod>, initial: bool) {
        let record = &container.record;
        let has_node = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        if !container.own || !record.waits() || !has_node || pod.metadata.deletion_timestamp.is_some() {
            return;
        }
        if state::ended(record, pod, 0).is_some() {
            return;
        }
        let attempt = Attempt::of(record, pod);
        if initial
            && record.leave == Some(Leave { pod: attempt.uid.clone(), given: true })
            && record.runs_once()
        {
            self.runs.released(&attempt);
            return;
        }
        if self.runs.begin_release(&attempt) {
            let (daemon, container, pod) = (self.clone(), container.clone(), pod.clone());
            tokio::spawn(async move { daemon.release(&container, &pod, attempt).await });
        }
    }

    async fn release(self: &Arc<Self>, container: &Container, pod: &Pod, attempt: Attempt) {
        let record = &container.record;
        let serves = self.runs.serves(&record.id);
        if !serves {
            tokio::time::sleep(STRANGER).await;
            if !self.is_at(container, &attempt) {
                // It was stopped, or started again, in the meantime: what runs now is not this run.
                return self.runs.end_release(&attempt);
            }
        }
        let name = pod.metadata.name.clone().unwrap_or_default();
        let given = match self.may_run(container, &attempt, serves).await {
            Ok(true) if serves => self.give_leave(container, &name, &attempt).await,
            Ok(true) => self.give_leave_again(container, &name, &attempt).await.map(|()| None),
            Ok(false) => return self.lost(container, &attempt).await,
            Err(fault) => Err(fault),
        };
        match given {
            Ok(stream) => {
                if let Some(given) = &stream
                    && self.has_ended_at_once(container, &name, &attempt, given).await
                {
                    // Whether it was run at all is told by the watch, and the start waits for that.
                    return;
                }
                self.runs.released(&attempt);
                self.cluster.nudge();
                if let Some(given) = stream {
                    self.see_to_it(container, &name, &attempt, given).await;
                }
                if record.runs_once() {
                    self.note_leave_given(container, &attempt.uid).await;
                }
            }
            Err(fault) => {
                tracing::debug!(container = %record.name, error = fault.message, "no leave to run was given");
                self.runs.end_release(&attempt);
            }
        }
    }

    /// Whether this is what a container does now.
    fn is_at(&self, container: &Container, attempt: &Attempt) -> bool {
        let now = self.container_by_id(&container.record.id);
        now.as_ref().and_then(Container::pod).is_some_and(|pod| {
            pod.metadata.deletion_timestamp.is_none() && Attempt::of(&container.record, pod) == *attempt
        })
    }

    /// Lets the process run: by a reader's own stream, else by one that is opened for it.
    async fn give_leave(
        self: &Arc<Self>,
        container: &Container,
        pod: &str,
        attempt: &Attempt,
    ) -> Result<Option<Given>> {
        let record = &container.record;
        if self.gates.is_expected(&record.id) {
            self.name_of_running(container, attempt).await?;
            if let Some(given) = self.gates.open(&record.id).await {
                return Ok(Some(given));
            }
        }
        if record.open_stdin() && record.body.stdin_once == Some(true) && !record.tty() {
            // The end of a stream with input would be the end of the process's input.
            return self.give_leave_again(container, pod, attempt).await.map(|()| None);
        }
        let (process, took) = self.give_leave_early(container, pod, attempt).await?;
        Ok(Some(Given {
            ended: process.ended().boxed().shared(),
            output: self.listen_on((container, pod, attempt), process),
            is_read: false,
            at_once: (took * SLOWNESS).clamp(AT_ONCE, AT_ONCE_IF_READ),
        }))
    }

    /// Lets a process run that nobody reads. The kubelet tells up to a second late that a container runs;
    /// so it is tried before, and the node refuses as long as there is nothing to attach to.
    async fn give_leave_early(
        &self,
        container: &Container,
        pod: &str,
        attempt: &Attempt,
    ) -> Result<(Process, Duration)> {
        let record = &container.record;
        // A stream without output does not end with the process.
        let wanted = Wanted { stdin: true, stdout: true, stderr: self.hears(container), tty: record.tty() };
        let _trying = self.gates.try_early();
        let begin = Instant::now();
        loop {
            // Many at once are tried less often each; and so is one that takes long (an image is pulled).
            let pause = (EARLY * self.gates.tried_early()).max(begin.elapsed() / 8).min(LATE);
            // Ends early where it runs, and for good where it has ended.
            let known = tokio::time::timeout(pause, self.name_of_running(container, attempt)).await;
            let runs = known.is_ok();
            known.unwrap_or(Ok(String::new()))?;
            let asked = Instant::now();
            let opened = self.cluster.attach(pod, &record.object, wanted).await;
            let took = asked.elapsed();
            if let Ok(mut process) = opened
                && write_leave(&mut process).await
                && !matches!(tokio::time::timeout(REFUSED, process.ended()).await, Ok(s) if s.code.is_none())
            {
                return Ok((process, took));
            }
            if runs {
                tokio::time::sleep(REFUSED).await;
            }
        }
    }

    /// Whether a process has ended as soon as it had leave to run; where its stream was refused it is
    /// given leave by other means.
    async fn has_ended_at_once(
        self: &Arc<Self>,
        container: &Container,
        pod: &str,
        attempt: &Attempt,
        given: &Given,
    ) -> bool {
        // The first look at a terminal's size comes after the answer to the start.
        let read = given.is_read && !container.record.tty();
        let limit = if read { AT_ONCE_IF_READ } else { given.at_once };
        // Where nobody reads, a program that cannot be run is mostly over before the kubelet sees it run.
        let runs = async {
            let told =
                !container.record.is_attached() && self.name_of_running(container, attempt).await.is_ok();
            if !told {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(given.at_once / AFTER_NEWS).await;
        };
        let ended = tokio::select! {
            biased;
            ended = tokio::time::timeout(limit, given.ended.clone()) => ended,
            () = given.output.cancelled() => return false,
            () = runs => return false,
        };
        match ended {
            Ok(_) if given.output.is_cancelled() && !given.is_read => false,
            Ok(status) if status.code.is_none() => {
                self.give_leave_late(container, pod, attempt).await.is_err()
            }
            Ok(_) => true,
            Err(_) => false,
        }
    }

    /// A stream to a container opens before the node is asked, and what is written into it is lost
    /// where the node says no: that is told by the stream's end.
    async fn see_to_it(self: &Arc<Self>, container: &Container, pod: &str, attempt: &Attempt, given: Given) {
        let Ok(status) = tokio::time::timeout(LINGER, given.ended).await else { return };
        if status.code.is_some() || given.output.is_cancelled() {
            return;
        }
        tracing::debug!(pod, error = status.message, "a stream was refused; leave is given again");
        if let Err(fault) = self.give_leave_late(container, pod, attempt).await {
            tracing::debug!(pod, error = fault.message, "the process did not wait for leave any more");
        }
    }

    /// Lets a process run whose stream was refused, when it is there; by exec at the latest, which is certain.
    async fn give_leave_late(
        self: &Arc<Self>,
        container: &Container,
        pod: &str,
        attempt: &Attempt,
    ) -> Result<()> {
        let record = &container.record;
        self.name_of_running(container, attempt).await?;
        // What is written twice would be input of a process that has one.
        if self.hears(container) && !record.open_stdin() {
            let wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: false };
            if let Ok(mut process) = self.cluster.attach(pod, &record.object, wanted).await
                && write_leave(&mut process).await
            {
                let ended = process.ended();
                self.listen_on((container, pod, attempt), process);
                if matches!(tokio::time::timeout(REFUSED, ended).await, Ok(status) if status.code.is_some()) {
                    return Ok(());
                }
            }
        }
        self.give_leave_again(container, pod, attempt).await
    }

    /// Lets the process run if it still waits; may be done twice.
    async fn give_leave_again(&self, container: &Container, pod: &str, attempt: &Attempt) -> Result<()> {
        self.name_of_running(container, attempt).await?;
        let command = helper::command(["release"]);
        match self.run_quietly(pod, &container.container_name(), &command).await? {
            (0, _) => Ok(()),
            (_, words) => Err(Fault::internal(words)),
        }
    }

    /// Connects with the process of an attempt when it runs.
    pub(crate) async fn connect(
        &self,
        container: &Container,
        attempt: &Attempt,
        wanted: Wanted,
    ) -> Result<Process> {
        let pod = self.name_of_running(container, attempt).await?;
        self.cluster.attach(&pod, &container.record.object, wanted).await
    }

    /// Waits until the process of an attempt runs; the name of its Pod.
    async fn name_of_running(&self, container: &Container, attempt: &Attempt) -> Result<String> {
        let id = &container.record.id;
        let look = || {
            let Some(now) = self.container_by_id(id) else { return Some(None) };
            let pod = now.pod().filter(|pod| Attempt::of(&now.record, pod) == *attempt);
            let Some(pod) = pod else { return Some(None) };
            let status = state::status_of(pod, &now.record.object)?.state.as_ref()?;
            let name = status.running.is_some().then(|| pod.metadata.name.clone()).flatten();
            (name.is_some() || status.terminated.is_some()).then_some(name)
        };
        let pod = tokio::select! {
            pod = self.cluster.until(look) => pod,
            () = self.stopping.cancelled() => None,
        };
        pod.ok_or_else(|| Fault::conflict("the container ended before it could be attached to"))
    }

    /// Takes part in giving leave, with a connection that is there. Whether leave was given by it: then
    /// all output comes by it, too.
    pub(crate) async fn take_turn(
        self: &Arc<Self>,
        place: Place,
        container: &Container,
        attempt: &Attempt,
        process: &mut Process,
    ) -> bool {
        let turn = place.connected(process.stdin.is_some());
        // Leave was given before, where the client came late.
        let given = self.cluster.until(|| self.runs.was_released(attempt).then_some(()));
        let turn = tokio::select! {
            turn = turn => turn.unwrap_or(Turn::Given),
            _ = given => Turn::Given,
            _ = process.ended() => Turn::Given,
        };
        let Turn::Give(done) = turn else { return false };
        let written = write_leave(process).await;
        let output = CancellationToken::new();
        process.stdout = process.stdout.take().map(|stream| noticed(stream, &output));
        process.stderr = process.stderr.take().map(|stream| noticed(stream, &output));
        process.stderr = process.stderr.take().map(|stream| self.overhear(container, attempt, stream));
        let ended = process.ended().boxed().shared();
        let _ = done.send(written.then(|| Given { ended, output, is_read: true, at_once: AT_ONCE }));
        written
    }

    /// A Pod that must not run what another has run: the run is over.
    async fn lost(&self, container: &Container, attempt: &Attempt) {
        let record = &container.record;
        if attempt.restarts > 0 {
            // Its end is seen and written down as any other.
            return;
        }
        // The Pod may have been replaced while the end of its run was being written down.
        self.runs.recorded(&record.id).await;
        let known = self.record_now(container).await;
        if known.is_ok_and(|now| {
            now.state.finished.is_some()
                && self.runs.pod_of_run(&record.id) == Some(Some(now.state.pod.clone()))
        }) {
            // The end of the Pod before it is on record, and says more.
            return;
        }
        tracing::warn!(container = %record.name, "Kubernetes has replaced the Pod of a run that happens once; it does not run again");
        let end = RunState {
            finished: Some(jiff::Timestamp::now()),
            exit_code: 137,
            error: "the Pod was lost, and a run with restart policy \"no\" is not repeated".to_owned(),
            pod: attempt.uid.clone(),
            ..record.state.clone()
        };
        if self.runs.begin_record(&attempt.uid)
            && let Err(fault) = self.record_end(container, &end).await
        {
            tracing::warn!(container = %record.name, error = fault.message, "the end of a run could not be written down");
            self.runs.forget(&attempt.uid);
        }
    }
}

/// The stream, which tells when something is read of it.
fn noticed(
    stream: Box<dyn AsyncRead + Send + Unpin>,
    output: &CancellationToken,
) -> Box<dyn AsyncRead + Send + Unpin> {
    let output = output.clone();
    Box::new(InspectReader::new(stream, move |bytes: &[u8]| {
        if !bytes.is_empty() {
            output.cancel();
        }
    }))
}

/// Writes the byte that gives leave.
async fn write_leave(process: &mut Process) -> bool {
    let Some(stdin) = process.stdin.as_mut() else { return false };
    stdin.write_all(&[protocol::GO]).await.is_ok() && stdin.flush().await.is_ok()
}
