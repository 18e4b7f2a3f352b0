//! `docker logs`: the kept logs of earlier Pods, then the Pod's, then what follows, cut by time
//! and number of lines as Docker cuts them. Kubernetes merges both streams: all of it is stdout, unless
//! the cluster marks the lines of stderr.

use std::time::Duration;

use bytes::Bytes;
use futures::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::Daemon;
use super::pipe::{Channel, Chunk};
use crate::cluster::LogQuery;
use crate::fault::{Kind as FaultKind, Result};
use crate::kubeapi::log_streams::STDERR_ZONE;
use crate::translate::container::{Container, Kind};
use crate::translate::record::Record;
use crate::translate::state::Phase;

/// Docker splits longer lines; so does the kubelet, at the same size.
const LONGEST_LINE: u64 = 1024 * 1024;

/// Between two looks at the log of an ended container that still grows.
const DRAIN: Duration = Duration::from_millis(50);

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

/// Splits a line of the kubelet into its time and its text (with its newline).
pub(crate) fn split(line: &[u8]) -> (Option<Timestamp>, &[u8]) {
    let Some(space) = line.iter().position(|b| *b == b' ') else {
        return (None, line);
    };
    let (stamp, rest) = line.split_at(space);
    let time = std::str::from_utf8(stamp).ok().and_then(|s| s.parse().ok());
    match time {
        Some(time) => (Some(time), rest.get(1..).unwrap_or_default()),
        None => (None, line),
    }
}

/// Which stream a line of the kubelet was written to, as far as the cluster tells.
fn channel(line: &[u8]) -> Channel {
    let stamp = line.split(|b| *b == b' ').next().unwrap_or_default();
    match stamp.ends_with(STDERR_ZONE.as_bytes()) && split(line).0.is_some() {
        true => Channel::Stderr,
        false => Channel::Stdout,
    }
}

/// Where a reader is in a log: lines already sent are recognised when a log is read again.
#[derive(Default)]
struct Position {
    last: Option<Timestamp>,
    /// Lines sent that carry exactly the time `last`.
    same: usize,
}

impl Position {
    fn note(&mut self, time: Option<Timestamp>) {
        if time == self.last {
            self.same += 1;
        } else {
            self.last = time;
            self.same = 1;
        }
    }
}

/// Sends the lines of a log to a client.
struct Sender<'a> {
    query: &'a Query,
    output: &'a mpsc::Sender<Chunk>,
    position: Position,
}

impl Sender<'_> {
    /// Sends one line; false when the client has gone or no later line can be wanted.
    async fn line(&mut self, line: &[u8]) -> bool {
        let (time, text) = split(line);
        if let Some(time) = time {
            if self.query.until.is_some_and(|until| time > until) {
                return false;
            }
            if self.query.since.is_some_and(|since| time < since) {
                self.position.note(time.into());
                return true;
            }
        }
        let channel = channel(line);
        let unwanted = if channel == Channel::Stderr { self.query.no_stderr } else { self.query.no_stdout };
        if unwanted {
            self.position.note(time);
            return true;
        }
        let mut out = Vec::with_capacity(line.len() + 16);
        if let (true, Some(time)) = (self.query.timestamps, time) {
            out.extend_from_slice(format!("{time:.9} ").as_bytes());
        }
        if let Some(details) = &self.query.details {
            out.extend_from_slice(format!("{details} ").as_bytes());
        }
        match text.strip_suffix(b"\n") {
            // The runtime's log drops the carriage return that a terminal puts before each newline.
            Some(text) if self.query.tty => {
                out.extend_from_slice(text);
                out.extend_from_slice(b"\r\n");
            }
            _ => out.extend_from_slice(text),
        }
        let chunk = Chunk { channel, bytes: Bytes::from(out) };
        let sent = self.output.send(chunk).await.is_ok();
        // After the send: a reader that is cut off here sends the line again when it goes on.
        self.position.note(time);
        sent
    }

    /// Sends lines until the stream ends; false when nothing more is wanted.
    async fn stream(&mut self, stream: impl AsyncBufRead, skip_seen: bool) -> bool {
        let mut stream = std::pin::pin!(stream);
        let (seen, mut same) = (self.position.last.filter(|_| skip_seen), self.position.same);
        let mut line = Vec::new();
        loop {
            line.clear();
            match (&mut stream).take(LONGEST_LINE).read_until(b'\n', &mut line).await {
                Ok(0) | Err(_) => return true,
                Ok(_) => {}
            }
            if let Some(seen) = seen {
                let time = split(&line).0;
                if time.is_some_and(|t| t < seen) {
                    continue;
                }
                if time == Some(seen) && same > 0 {
                    same -= 1;
                    continue;
                }
            }
            if !self.line(&line).await {
                return false;
            }
        }
    }
}

/// The last lines of a log that fit the query's times.
fn last_lines<'a>(log: &'a [u8], query: &Query) -> Vec<&'a [u8]> {
    let fits = |line: &&[u8]| {
        let time = split(line).0;
        time.is_none_or(|t| query.since.is_none_or(|s| t >= s) && query.until.is_none_or(|u| t <= u))
    };
    let lines: Vec<&[u8]> = log.split_inclusive(|b| *b == b'\n').filter(fits).collect();
    let skip = query.tail.map_or(0, |tail| lines.len().saturating_sub(tail));
    lines.into_iter().skip(skip).collect()
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
        let record = &container.record;
        let mut sender = Sender { query, output, position: Position::default() };
        let past = self.past_log(container).await;
        // `tail` counts over all Pods: what the live Pod has is read whole, once, to count it.
        let current = match query.tail {
            Some(_) => self.read_now(container).await,
            None => Vec::new(),
        };
        let whole = [past, current].concat();
        for line in last_lines(&whole, query) {
            if !sender.line(line).await {
                return Ok(());
            }
        }
        if query.tail.is_some() {
            if let Some(last) = whole.split_inclusive(|b| *b == b'\n').next_back() {
                sender.position.last = split(last).0;
                sender.position.same = count_same(&whole, sender.position.last);
            }
            if !query.follow {
                return Ok(());
            }
        }
        self.live(record, &mut sender).await
    }

    /// Reads the log of each run of the container, until nothing more can come.
    async fn live(&self, record: &Record, sender: &mut Sender<'_>) -> Result<()> {
        let mut read = None;
        loop {
            let Some(container) = self.container_by_id(&record.id) else {
                return Ok(());
            };
            let run = run_of(&container);
            if let Some(run) = run.filter(|run| read.as_ref() != Some(run)) {
                if !self.live_run(&container, &run, sender).await? {
                    return Ok(());
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
                () = sender.output.closed() => return Ok(()),
                () = self.stopping.cancelled() => return Ok(()),
            }
        }
    }

    /// Sends the log of one run; false when the client wants no more.
    async fn live_run(&self, container: &Container, run: &Run, sender: &mut Sender<'_>) -> Result<bool> {
        let query = LogQuery {
            container: container.container_name(),
            follow: sender.query.follow,
            since: sender.query.since,
            ..LogQuery::default()
        };
        let seen = sender.position.last.is_some();
        if run.restarts > 0 && !seen {
            let previous = LogQuery { previous: true, follow: false, ..query.clone() };
            if let Some(stream) = self.open_log(run, &previous).await?
                && !sender.stream(stream, false).await
            {
                return Ok(false);
            }
        }
        let Some(stream) = self.open_log(run, &query).await? else {
            return Ok(true);
        };
        if !query.follow {
            return Ok(sender.stream(stream, seen).await);
        }
        // The kubelet notices the end of a container up to 5 s late; the watch knows it at once.
        let output = sender.output.clone();
        let id = &container.record.id;
        let over = self.cluster.wait(Duration::MAX, || self.run_is_over(id, run).then_some(()));
        let go_on = tokio::select! {
            go_on = sender.stream(stream, seen) => go_on,
            _ = over => true,
            () = output.closed() => false,
            () = self.stopping.cancelled() => false,
        };
        if !go_on {
            return Ok(false);
        }
        // The runtime may still be writing down what the process left in its pipe.
        loop {
            let before = (sender.position.last, sender.position.same);
            let since = sender.position.last.or(query.since);
            // The kubelet may have started the container again already: then this run is the one before.
            for previous in [true, false] {
                let rest = LogQuery { follow: false, since, previous, ..query.clone() };
                let Some(stream) = self.open_log(run, &rest).await? else {
                    continue;
                };
                if !sender.stream(stream, true).await {
                    return Ok(false);
                }
            }
            if before == (sender.position.last, sender.position.same) {
                return Ok(true);
            }
            tokio::time::sleep(DRAIN).await;
        }
    }

    /// Opens a run's log; `None` when its Pod is gone. The kubelet may be late or busy: it is asked
    /// again, for some time.
    async fn open_log(&self, run: &Run, query: &LogQuery) -> Result<Option<impl AsyncBufRead + use<>>> {
        let mut pauses = RETRIES.iter();
        loop {
            match self.cluster.logs(&run.pod, query).await {
                Ok(stream) => return Ok(Some(stream)),
                Err(fault) if fault.kind == FaultKind::NotFound || query.previous => return Ok(None),
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
        let mut sender = Sender { query, output, position: Position::default() };
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

    /// What the current Pod has logged so far.
    async fn read_now(&self, container: &Container) -> Vec<u8> {
        let Some(run) = run_of(container) else {
            return Vec::new();
        };
        let query = LogQuery { container: container.container_name(), ..LogQuery::default() };
        let mut all = Vec::new();
        if run.restarts > 0
            && let Ok(stream) =
                self.cluster.logs(&run.pod, &LogQuery { previous: true, ..query.clone() }).await
        {
            let _ = std::pin::pin!(stream).read_to_end(&mut all).await;
        }
        if let Ok(stream) = self.cluster.logs(&run.pod, &query).await {
            let _ = std::pin::pin!(stream).read_to_end(&mut all).await;
        }
        all
    }
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
    let status = crate::translate::state::status_of(pod, &container.record.object)?;
    let state = status.state.as_ref();
    let ran =
        state.is_some_and(|s| s.running.is_some() || s.terminated.is_some()) || status.restart_count > 0;
    (ran && !kept).then(|| Some(Run { pod: pod.metadata.name.clone()?, restarts: status.restart_count }))?
}

fn count_same(log: &[u8], time: Option<Timestamp>) -> usize {
    log.split_inclusive(|b| *b == b'\n').rev().take_while(|line| split(line).0 == time).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &[u8] = b"2026-01-01T00:00:01Z a\n2026-01-01T00:00:02Z b\n2026-01-01T00:00:03Z c\n";

    fn lines(query: &Query) -> Vec<&'static str> {
        last_lines(LOG, query).into_iter().map(|l| std::str::from_utf8(split(l).1).unwrap().trim()).collect()
    }

    #[test]
    fn tail_counts_after_the_times_have_cut() {
        let query = Query { tail: Some(1), until: "2026-01-01T00:00:02Z".parse().ok(), ..Query::default() };
        assert_eq!(lines(&query), ["b"]);
        assert_eq!(lines(&Query { tail: Some(0), ..Query::default() }), Vec::<&str>::new());
        assert_eq!(lines(&Query::default()), ["a", "b", "c"]);
    }

    #[test]
    fn only_a_time_with_the_mark_makes_a_line_standard_error() {
        assert_eq!(channel(b"2026-01-01T00:00:01.5+00:00 a\n"), Channel::Stderr);
        for line in ["2026-01-01T00:00:01.5Z a+00:00\n", "2026-01-01T00:00:01+01:00 a\n", "no+00:00 time\n"] {
            assert_eq!(channel(line.as_bytes()), Channel::Stdout, "{line}");
        }
    }

    #[test]
    fn a_line_without_a_time_is_all_text() {
        assert_eq!(split(b"no time here\n"), (None, b"no time here\n".as_slice()));
    }
}
