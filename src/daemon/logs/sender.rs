//! Sends the lines of a log to a client, or counts them: one at a time, cut by time and number, each once although
//! the same log is read in several parts.

use bytes::Bytes;
use futures::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt as _};
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::Query;
use super::line::{LONGEST_LINE, channel, is_foreign, split};
use crate::heard::Reader;
use crate::pipe::{Channel, Chunk};

/// Where a reader is in a log: lines already sent are recognised when a log is read again.
#[derive(Default)]
pub(super) struct Position {
    pub(super) last: Option<Timestamp>,
    /// Lines sent that carry exactly the time `last`.
    pub(super) same: usize,
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

/// Sends the lines of a log to a client, or counts them. Lines pass through one at a time: a log may be larger
/// than the memory that d2k has.
pub(super) struct Sender<'a> {
    pub query: &'a Query,
    /// `None` counts only.
    pub output: Option<&'a mpsc::Sender<Chunk>>,
    /// Lines that fit the query's times.
    pub count: usize,
    /// The time of the first of them.
    pub first: Option<Timestamp>,
    /// Of those, how many are left out from the first one on, because of the query's `tail`.
    pub skip: usize,
    /// The log of the current run is read from this second on, since all wanted lines are there. Lines before it do
    /// not count, wherever they are read: the log may be kept and its Pod go meanwhile.
    pub from: Option<Timestamp>,
    pub position: Position,
    /// Lines known to be from standard error, of the Pod whose log is read.
    pub heard: Option<Reader>,
}

/// Resolves when the client has gone. A count has none.
pub(super) async fn closed(output: Option<&mpsc::Sender<Chunk>>) {
    match output {
        Some(output) => output.closed().await,
        None => std::future::pending().await,
    }
}

impl<'a> Sender<'a> {
    pub fn new(query: &'a Query, output: Option<&'a mpsc::Sender<Chunk>>) -> Self {
        Self {
            query,
            output,
            count: 0,
            first: None,
            skip: 0,
            from: None,
            position: Position::default(),
            heard: None,
        }
    }

    /// Sends one line; false when the client has gone or no later line can be wanted.
    async fn line(&mut self, line: &[u8]) -> bool {
        let (time, text) = split(line);
        if is_foreign(time, line) {
            return true;
        }
        if let Some(time) = time {
            if self.query.until.is_some_and(|until| time > until) {
                return false;
            }
            let before = self.from.is_some_and(|from| time.as_second() < from.as_second());
            if before || self.query.since.is_some_and(|since| time < since) {
                self.position.note(time.into());
                return true;
            }
        }
        self.count += 1;
        self.first = self.first.or(time);
        let Some(output) = self.output.filter(|_| self.count > self.skip) else {
            self.position.note(time);
            return true;
        };
        let mut channel = channel(line);
        if let Some(heard) = &mut self.heard
            && channel == Channel::Stdout
            && heard.is_stderr(time, text).await
        {
            channel = Channel::Stderr;
        }
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
                // Or does not: it depends on the runtime.
                out.extend_from_slice(text.strip_suffix(b"\r").unwrap_or(text));
                out.extend_from_slice(b"\r\n");
            }
            _ => out.extend_from_slice(text),
        }
        let chunk = Chunk { channel, bytes: Bytes::from(out) };
        let sent = output.send(chunk).await.is_ok();
        // After the send: a reader that is cut off here sends the line again when it goes on.
        self.position.note(time);
        sent
    }

    /// Sends lines until the stream ends; false when nothing more is wanted.
    pub async fn stream(&mut self, stream: impl AsyncBufRead, skip_seen: bool) -> bool {
        let mut stream = std::pin::pin!(stream);
        let (seen, mut same) = (self.position.last.filter(|_| skip_seen), self.position.same);
        let mut line = Vec::new();
        loop {
            line.clear();
            match (&mut stream).take(LONGEST_LINE as u64).read_until(b'\n', &mut line).await {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_the_kubelet_says_of_a_log_that_is_gone_is_no_line_of_it() {
        let (output, mut sent) = mpsc::channel(4);
        let query = Query::default();
        let mut sender = Sender::new(&query, Some(&output));
        let log = b"unable to retrieve container logs for containerd://602532fc\n2026-01-01T00:00:01Z a\n";
        assert!(sender.stream(log.as_slice(), false).await);
        assert_eq!(sent.try_recv().unwrap().bytes.as_ref(), b"a\n");
        assert!(sent.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_tail_counts_the_lines_that_the_times_leave() {
        let log = b"2026-01-01T00:00:01Z a\n2026-01-01T00:00:02Z b\n2026-01-01T00:00:03Z c\n";
        let lines = async |query: Query| {
            let mut counter = Sender::new(&query, None);
            counter.stream(log.as_slice(), false).await;
            let (output, mut sent) = mpsc::channel(4);
            let mut sender = Sender::new(&query, Some(&output));
            sender.skip = query.tail.map_or(0, |tail| counter.count.saturating_sub(tail));
            sender.stream(log.as_slice(), false).await;
            std::iter::from_fn(|| sent.try_recv().ok()).map(|chunk| chunk.bytes[0]).collect::<Vec<u8>>()
        };
        let until = "2026-01-01T00:00:02Z".parse().ok();
        assert_eq!(lines(Query { tail: Some(1), until, ..Query::default() }).await, b"b");
        assert_eq!(lines(Query { tail: Some(2), ..Query::default() }).await, b"bc");
        assert_eq!(lines(Query { tail: Some(0), ..Query::default() }).await, b"");
        assert_eq!(lines(Query { tail: Some(9), since: until, ..Query::default() }).await, b"bc");
        assert_eq!(lines(Query::default()).await, b"abc");
    }
}
