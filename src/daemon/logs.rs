//! `docker logs`: the kept logs of earlier Pods, then the Pod's, then what follows, cut by time
//! and number of lines as Docker cuts them. Kubernetes merges both streams: lines are of stderr where
//! the cluster marks them so, or d2k has heard them there.

use std::time::Duration;

use futures::AsyncBufRead;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;

use super::Daemon;
use super::kept_logs::is_busy;
use super::pipe::Chunk;
use super::remove::followers;
use d2k_cluster::LogQuery;
use d2k_common::fault::{Kind as FaultKind, Result};
use d2k_translate::container::{Container, Kind};
use d2k_translate::keys;
use d2k_translate::record::Record;
use d2k_translate::state::{Phase, last_end};

pub(crate) mod line;
mod sender;

use sender::{Sender, closed};

/// Between two looks at the log of an ended container that still grows.
const DRAIN: Duration = Duration::from_millis(50);

/// How long the record of an ended run may come later than its Pod goes.
const KEPT_TIMEOUT: Duration = Duration::from_secs(10);

/// Before each further try to read a log that cannot be read.
const RETRIES: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
];

/// What `docker logs` asks for.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Go on until the container ends.
    pub follow: bool,
    /// Only lines at or after this time.
    pub since: Option<Timestamp>,
    /// Only lines at or before this time.
    pub until: Option<Timestamp>,
    /// Only the last lines; `None` for all.
    pub tail: Option<usize>,
    /// Leave standard output out.
    pub no_stdout: bool,
    /// Leave standard error out.
    pub no_stderr: bool,
    /// The container has a terminal.
    pub tty: bool,
    /// Put the time before each line.
    pub timestamps: bool,
    /// Put the attributes (`k=v,k2=v2`) before each line.
    pub details: Option<String>,
}

/// What `details` puts before each line: the labels and variables that the log options name.
pub fn details(record: &Record) -> String {
    let options = record.raw.pointer("/HostConfig/LogConfig/Config");
    let named = |key: &str| {
        let list = options.and_then(|o| o.get(key)?.as_str()).unwrap_or_default();
        list.split(',').map(str::to_owned).collect::<Vec<_>>()
    };
    let labels = record.docker_labels();
    let env = record.body.env.clone().unwrap_or_default();
    let mut all: Vec<String> =
        named("labels").iter().filter_map(|key| Some(format!("{key}={}", labels.get(key)?))).collect();
    let wanted = named("env");
    all.extend(env.into_iter().filter(|pair| {
        pair.split_once('=').is_some_and(|(key, _)| wanted.iter().any(|wanted| wanted == key))
    }));
    all.sort();
    all.join(",")
}

impl Daemon {
    /// Sends the log of a container to `output`; returns when it is complete, the container has
    /// ended (`follow`), or the client has gone.
    ///
    /// # Errors
    /// The cluster's words where the log cannot be read.
    pub async fn logs(
        &self,
        container: &Container,
        query: &Query,
        output: &mpsc::Sender<Chunk>,
    ) -> Result<()> {
        let _follower = query.follow.then(|| self.attached.enter(&followers(&container.record.id)));
        let mut sender = Sender::new(query, Some(output));
        let logged = self.logged_so_far(container, query).await?;
        sender.from = logged.from;
        sender.skip = query.tail.map_or(0, |tail| logged.count.saturating_sub(tail));
        if !sender.stream(logged.past.as_slice(), false).await {
            return Ok(());
        }
        self.live(&container.record, logged.kept, &mut sender).await
    }

    /// The time of the first of the last lines that a `tail` wants, if the current run has all of them. The node finds
    /// those from the end of a log; a log that is read from their time on is as exact as one that is read whole.
    async fn begin_of_tail(&self, container: &Container, query: &Query) -> Result<Option<Timestamp>> {
        // The node knows no `until`, and lines after it do not count.
        let Some(tail) = query.tail.filter(|_| query.until.is_none()) else { return Ok(None) };
        let Some(run) = run_of(container) else { return Ok(None) };
        let lines = tail.max(1);
        let last = LogQuery {
            container: container.container_name(),
            since: query.since,
            tail: i64::try_from(lines).ok(),
            ..LogQuery::default()
        };
        let Some(stream) = self.open_log(&run, &last).await? else { return Ok(None) };
        let all = Query { since: query.since, ..Query::default() };
        let mut counter = Sender::new(&all, None);
        counter.stream(stream, false).await;
        Ok(counter.first.filter(|_| counter.count >= lines))
    }

    /// The log as it is now, and with a `tail` its number of lines.
    async fn logged_so_far(&self, container: &Container, query: &Query) -> Result<Logged> {
        let counted = Query { follow: false, ..query.clone() };
        let mut container = container.clone();
        loop {
            let kept = container.record.state.pod.clone();
            let from = self.begin_of_tail(&container, query).await?;
            let past = if from.is_none() { self.past_log(&container).await } else { Vec::new() };
            let mut counter = Sender::new(&counted, None);
            counter.from = from;
            // A `tail` counts over all Pods. Lines are counted first and then read again, so that none is held.
            if query.tail.is_some() && counter.stream(past.as_slice(), false).await {
                self.live(&container.record, kept.clone(), &mut counter).await?;
            }
            match self.container_by_id(&container.record.id) {
                // The current Pod's log was kept in between, and may have been missed in both places.
                Some(now) if now.record.state.pod != kept => container = now,
                _ => return Ok(Logged { kept, past, from, count: counter.count }),
            }
        }
    }

    /// Reads the log of each run of the container, until nothing more can come.
    async fn live(&self, record: &Record, mut kept: String, sender: &mut Sender<'_>) -> Result<()> {
        let mut read = None;
        loop {
            let Some(container) = self.container_by_id(&record.id) else {
                return Ok(());
            };
            if container.record.state.pod != kept {
                // What could not be read of the Pod was kept in between.
                kept.clone_from(&container.record.state.pod);
                let log = self.past_log(&container).await;
                sender.heard = None;
                if !sender.stream(log.as_slice(), true).await {
                    return Ok(());
                }
            }
            let run = run_of(&container);
            if let Some(run) = run.filter(|run| read.as_ref() != Some(run)) {
                match self.live_run(&container, &run, sender).await? {
                    Outcome::Read => {}
                    Outcome::Gone => self.until_kept(&container, &run, &kept).await,
                    Outcome::Closed => return Ok(()),
                }
                read = Some(run);
                continue;
            }
            if !sender.query.follow || container.state().phase == Phase::Exited {
                return Ok(());
            }
            let news = self.cluster.wait(Duration::from_secs(3600), || {
                let Some(now) = self.container_by_id(&record.id) else {
                    return Some(());
                };
                let next = run_of(&now);
                (now.state().phase == Phase::Exited || (next.is_some() && next != read)).then_some(())
            });
            tokio::select! {
                _ = news => {}
                () = closed(sender.output) => return Ok(()),
                () = self.stopping.cancelled() => return Ok(()),
            }
        }
    }

    /// Waits until the log of a Pod that is gone is kept: the watch may tell that later than the Pod's node.
    async fn until_kept(&self, container: &Container, run: &Run, kept: &str) {
        let uid = container.pod().and_then(|pod| pod.metadata.uid.as_deref());
        if !container.own || uid == Some(kept) {
            return;
        }
        self.cluster
            .wait(KEPT_TIMEOUT, || {
                let now = self.container_by_id(&container.record.id);
                let waits = now.is_some_and(|now| {
                    now.record.state.pod == kept && run_of(&now).is_none_or(|other| other == *run)
                });
                (!waits).then_some(())
            })
            .await;
    }

    /// Sends the log of one run.
    async fn live_run(&self, container: &Container, run: &Run, sender: &mut Sender<'_>) -> Result<Outcome> {
        let query = LogQuery {
            container: container.container_name(),
            follow: sender.query.follow,
            since: sender.from.or(sender.query.since),
            ..LogQuery::default()
        };
        if self.run_is_over(&container.record.id, run) {
            self.heard.all(&run.pod).await;
        }
        sender.heard = self.heard.reader(&run.pod);
        if run.restarts > 0 && sender.position.last.is_none() && sender.from.is_none() {
            let previous = LogQuery { previous: true, follow: false, ..query.clone() };
            if let Some(stream) = self.open_log(run, &previous).await?
                && !sender.stream(stream, false).await
            {
                return Ok(Outcome::Closed);
            }
        }
        let Some(stream) = self.open_log(run, &query).await? else {
            return Ok(Outcome::Gone);
        };
        // What was sent as the previous run's may be this one's: it waits for the next.
        let seen = sender.position.last.is_some();
        if !query.follow {
            if !sender.stream(stream, seen).await {
                return Ok(Outcome::Closed);
            }
            // The kubelet may have started the container again already: then this run is the one before.
            if sender.position.last.is_none() && run.restarts == 0 {
                let previous = LogQuery { previous: true, ..query };
                if let Some(stream) = self.open_log(run, &previous).await?
                    && !sender.stream(stream, false).await
                {
                    return Ok(Outcome::Closed);
                }
            }
            return Ok(self.read_or_gone(container, run).await);
        }
        // The kubelet notices the end of a container up to 5 s late; the watch knows it at once.
        let gone = closed(sender.output);
        let id = &container.record.id;
        let over = self.cluster.wait(Duration::MAX, || self.run_is_over(id, run).then_some(()));
        let go_on = tokio::select! {
            go_on = sender.stream(stream, seen) => go_on,
            _ = over => true,
            () = gone => false,
            () = self.stopping.cancelled() => false,
        };
        if !go_on {
            return Ok(Outcome::Closed);
        }
        self.drain_run(container, run, &query, sender).await
    }

    /// Sends what the log of an ended run still gets: the runtime may be writing down what the process left in its
    /// pipe.
    async fn drain_run(
        &self,
        container: &Container,
        run: &Run,
        query: &LogQuery,
        sender: &mut Sender<'_>,
    ) -> Result<Outcome> {
        loop {
            let before = (sender.position.last, sender.position.same);
            let since = sender.position.last.or(query.since);
            // The kubelet may have started the container again already: then this run is the one before.
            for previous in [true, false] {
                let rest = LogQuery { follow: false, since, previous, ..query.clone() };
                let Some(stream) = self.open_log(run, &rest).await? else {
                    if previous {
                        continue;
                    }
                    return Ok(Outcome::Gone);
                };
                if !sender.stream(stream, true).await {
                    return Ok(Outcome::Closed);
                }
            }
            if before == (sender.position.last, sender.position.same) {
                return Ok(self.read_or_gone(container, run).await);
            }
            tokio::time::sleep(DRAIN).await;
        }
    }

    /// Whether a log that was just read was there: a kubelet removes it before the Pod, and answers with an empty
    /// log or a sentence in its place.
    async fn read_or_gone(&self, container: &Container, run: &Run) -> Outcome {
        let labels = container.pod().and_then(|pod| pod.metadata.labels.as_ref());
        let Some(label) = labels.and_then(|labels| labels.get(keys::CONTAINER)) else { return Outcome::Read };
        // The Role has no `get` of Pods.
        let Ok(pods) = self.cluster.list::<Pod>(&format!("{}={label}", keys::CONTAINER)).await else {
            return Outcome::Read;
        };
        let stays = |pod: &Pod| {
            pod.metadata.name.as_ref() == Some(&run.pod) && pod.metadata.deletion_timestamp.is_none()
        };
        if pods.iter().any(stays) { Outcome::Read } else { Outcome::Gone }
    }

    /// Opens a run's log; `None` when its Pod is gone. The kubelet may be late or busy: it is asked
    /// again, for some time.
    async fn open_log(&self, run: &Run, query: &LogQuery) -> Result<Option<impl AsyncBufRead + use<>>> {
        let mut pauses = RETRIES.iter();
        loop {
            match self.cluster.logs(&run.pod, query).await {
                Ok(stream) => return Ok(Some(stream)),
                Err(fault) if fault.kind == FaultKind::NotFound => return Ok(None),
                Err(fault) if query.previous && !is_busy(&fault) => return Ok(None),
                Err(fault) => {
                    tracing::debug!(pod = run.pod, error = fault.message, "the log cannot be read yet");
                    let Some(pause) = pauses.next() else { return Err(fault) };
                    tokio::time::sleep(*pause).await;
                }
            }
        }
    }

    /// Sends the log of one run, from its first line on.
    ///
    /// # Errors
    /// The cluster's words where the log cannot be read.
    pub(crate) async fn run_log(
        &self,
        container: &Container,
        run: &Run,
        query: &Query,
        output: &mpsc::Sender<Chunk>,
    ) -> Result<()> {
        let mut sender = Sender::new(query, Some(output));
        self.live_run(container, run, &mut sender).await.map(|_| ())
    }

    /// Whether a run has ended (its container may be restarted later).
    pub(crate) fn run_is_over(&self, id: &str, run: &Run) -> bool {
        let Some(container) = self.container_by_id(id) else {
            return true;
        };
        run_of(&container).as_ref() != Some(run) || container.state().phase != Phase::Running
    }

    /// What was kept of earlier Pods' logs.
    async fn past_log(&self, container: &Container) -> Vec<u8> {
        let state = &container.record.state;
        if !container.own || (state.finished.is_none() && state.started.is_none()) {
            return Vec::new();
        }
        self.kept_log(&container.record).await
    }

    /// Sends what a run has written so far.
    ///
    /// # Errors
    /// The cluster's words where the log cannot be read.
    pub(crate) async fn written_so_far(
        &self,
        container: &Container,
        run: &Run,
        query: &Query,
        output: &mpsc::Sender<Chunk>,
    ) -> Result<()> {
        let mut sender = Sender::new(query, Some(output));
        sender.heard = self.heard.reader(&run.pod);
        let wanted = LogQuery { container: container.container_name(), ..LogQuery::default() };
        if let Some(stream) = self.open_log(run, &wanted).await? {
            sender.stream(stream, false).await;
        }
        Ok(())
    }
}

/// The log of a container at the time of a request.
struct Logged {
    /// The Pod whose log was kept last.
    kept: String,
    /// The log up to it; empty where only the current Pod's is wanted.
    past: Vec<u8>,
    /// From where on the log of the current Pod is wanted.
    from: Option<Timestamp>,
    /// How many lines there are, with those of the current Pod; 0 without a `tail`.
    count: usize,
}

/// How far the log of a run was read.
enum Outcome {
    /// To its end.
    Read,
    /// As long as its Pod was there.
    Gone,
    /// As far as the client wanted.
    Closed,
}

/// One run of a container: a start of its process in a Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    /// Name of the Pod.
    pub pod: String,
    /// Restarts within the Pod.
    pub restarts: i32,
}

/// The current run whose log is still with its Pod: none while nothing has run, or when the log
/// was kept because the Pod of a Deployment was about to go.
pub(crate) fn run_of(container: &Container) -> Option<Run> {
    let pod = container.pod()?;
    let kept = container.record.state.pod == pod.metadata.uid.clone()? && container.kind != Kind::Job;
    let status = d2k_translate::state::status_of(pod, &container.record.object)?;
    let state = status.state.as_ref();
    let ran = state.is_some_and(|s| s.running.is_some() || s.terminated.is_some())
        || last_end(status).is_some()
        || status.restart_count > 0;
    (ran && !kept).then(|| Some(Run { pod: pod.metadata.name.clone()?, restarts: status.restart_count }))?
}
