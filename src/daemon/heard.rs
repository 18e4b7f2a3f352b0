//! Which lines of a log are standard error. Kubernetes keeps one log for both streams and tells them
//! apart only to those who are attached; what d2k has heard while it was attached is remembered here,
//! a number a line, and the lines are known again in the log by their text.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::Notify;

use super::logs::line::{LONGEST_LINE, split};
use d2k_common::log_streams::STDERR_ZONE;

/// Lines of standard error that are remembered of a Pod, the last ones: 256 KiB.
const LINES: usize = 32 * 1024;
/// How much later than in the log a line may be heard.
const LATE: SignedDuration = SignedDuration::from_millis(50);
/// How much later than its end the last line of a container may be heard.
const LAST: Duration = Duration::from_millis(500);
/// Pods that are gone and whose logs may still be read.
const GONE: usize = 64;
/// Bytes that are read at once.
const BUFFER: usize = 64 * 1024;

/// What was heard, by the Pod's name.
#[derive(Default)]
pub struct Heard(Mutex<Pods>);

#[derive(Default)]
struct Pods {
    lines: HashMap<String, Arc<Lines>>,
    gone: VecDeque<String>,
}

impl Heard {
    /// The lines of a Pod that is listened to from now on.
    pub(crate) fn lines(&self, pod: &str) -> Arc<Lines> {
        let mut pods = self.0.lock();
        pods.gone.retain(|gone| gone != pod);
        pods.lines.entry(pod.to_owned()).or_default().clone()
    }

    /// Tells the lines of a Pod's log apart; `None` for a Pod that was never listened to.
    pub(crate) fn reader(&self, pod: &str) -> Option<Reader> {
        let pods = self.0.lock();
        let lines = pods.lines.get(pod)?.clone();
        Some(Reader { lines, next: 0, unread: HashMap::new(), late: LATE })
    }

    /// The log of a Pod, marked with what was heard of it.
    pub(crate) async fn mark(&self, pod: &str, log: Vec<u8>) -> Vec<u8> {
        match self.reader(pod) {
            Some(mut reader) => marked(&log, &mut reader).await,
            None => log,
        }
    }

    /// Waits until all was heard of a Pod whose container has ended.
    pub(crate) async fn all(&self, pod: &str) {
        let lines = self.0.lock().lines.get(pod).cloned();
        let Some(lines) = lines else { return };
        let closed = async {
            loop {
                let changed = lines.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if lines.lock().open == 0 {
                    return;
                }
                changed.await;
            }
        };
        let _ = tokio::time::timeout(LAST, closed).await;
    }

    /// Forgets a Pod that is gone, in a while.
    pub(crate) fn forget(&self, pod: &str) {
        let mut pods = self.0.lock();
        if !pods.lines.contains_key(pod) {
            return;
        }
        pods.gone.push_back(pod.to_owned());
        if pods.gone.len() > GONE
            && let Some(oldest) = pods.gone.pop_front()
        {
            pods.lines.remove(&oldest);
        }
    }
}

/// The lines of standard error of one Pod, over all restarts of its container.
#[derive(Default)]
pub(crate) struct Lines {
    kept: Mutex<Kept>,
    changed: Notify,
}

#[derive(Default)]
struct Kept {
    lines: VecDeque<u64>,
    /// The number of the first line that is kept.
    first: u64,
    /// Streams that are being read.
    open: usize,
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock()
    }

    /// Notes that a stream is being read, until the guard is dropped.
    pub(crate) fn open(self: &Arc<Self>) -> Open {
        self.lock().open += 1;
        Open { lines: self.clone(), partial: Vec::new() }
    }
}

/// A stream of standard error that is being read.
pub(crate) struct Open {
    lines: Arc<Lines>,
    /// The line that has not ended yet.
    partial: Vec<u8>,
}

impl Open {
    /// Reads a stream to its end.
    pub(crate) async fn read(&mut self, stream: &mut (impl AsyncRead + Unpin)) {
        let mut buffer = vec![0; BUFFER];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            self.hear(buffer.get(..count).unwrap_or_default());
        }
    }

    /// Takes in what was read of the stream.
    pub(crate) fn hear(&mut self, bytes: &[u8]) {
        let mut kept = self.lines.lock();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            // Longer lines are split in the log, and not known again.
            if self.partial.len() + piece.len() <= LONGEST_LINE {
                self.partial.extend_from_slice(piece);
            }
            if piece.ends_with(b"\n") {
                kept.push(number(&self.partial));
                self.partial.clear();
            }
        }
        drop(kept);
        self.lines.changed.notify_waiters();
    }
}

impl Kept {
    fn push(&mut self, line: u64) {
        self.lines.push_back(line);
        if self.lines.len() > LINES {
            self.lines.pop_front();
            self.first += 1;
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut kept = self.lines.lock();
        if !self.partial.is_empty() {
            kept.push(number(&self.partial));
        }
        kept.open -= 1;
        drop(kept);
        self.lines.changed.notify_waiters();
    }
}

/// The number of a line: that of its text, since runtimes drop what ends it.
fn number(line: &[u8]) -> u64 {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    let mut hasher = DefaultHasher::new();
    text.strip_suffix(b"\r").unwrap_or(text).hash(&mut hasher);
    hasher.finish()
}

/// Tells the lines of one reading of a log apart. Lines with the same text in both streams are told apart
/// by their number alone.
pub(crate) struct Reader {
    lines: Arc<Lines>,
    /// The number of the next line to be taken over.
    next: u64,
    /// Lines that were heard and not found in the log yet.
    unread: HashMap<u64, u32>,
    /// How much later than its time a line is certain to have been heard: below zero where the clock of
    /// the node is ahead of this one.
    late: SignedDuration,
}

impl Reader {
    /// Whether a line of the log with this time is standard error. A line of the last moment is waited for, since
    /// it may be heard after it is read.
    pub(crate) async fn is_stderr(&mut self, time: Option<Timestamp>, text: &[u8]) -> bool {
        let line = number(text);
        let lines = self.lines.clone();
        let age = time.map_or(LATE, |time| Timestamp::now().duration_since(time));
        let wait = (self.late - age).clamp(SignedDuration::ZERO, LATE);
        let deadline = tokio::time::Instant::now() + Duration::try_from(wait).unwrap_or_default();
        loop {
            let changed = lines.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let is_open = lines.lock().open > 0;
            if self.take(line) {
                return true;
            }
            if !is_open || wait.is_zero() {
                return false;
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                let age = time.map_or(LATE, |time| Timestamp::now().duration_since(time));
                self.late = self.late.min(age);
                return self.take(line);
            }
        }
    }

    fn take(&mut self, line: u64) -> bool {
        let kept = self.lines.lock();
        let skip = usize::try_from(self.next.saturating_sub(kept.first)).unwrap_or(usize::MAX);
        for new in kept.lines.iter().skip(skip) {
            *self.unread.entry(*new).or_default() += 1;
        }
        self.next = kept.first + kept.lines.len() as u64;
        drop(kept);
        let Some(count) = self.unread.get_mut(&line) else { return false };
        *count -= 1;
        if *count == 0 {
            self.unread.remove(&line);
        }
        true
    }
}

/// The log, the lines of standard error marked as a cluster marks them that tells them apart.
async fn marked(log: &[u8], heard: &mut Reader) -> Vec<u8> {
    let mut marked = Vec::with_capacity(log.len());
    for line in log.split_inclusive(|b| *b == b'\n') {
        let (time, text) = split(line);
        let stamp = line.get(..line.len() - text.len()).unwrap_or_default();
        match stamp.strip_suffix(b"Z ") {
            Some(stamp) if heard.is_stderr(time, text).await => {
                marked.extend_from_slice(stamp);
                marked.extend_from_slice(STDERR_ZONE.as_bytes());
                marked.push(b' ');
                marked.extend_from_slice(text);
            }
            _ => marked.extend_from_slice(line),
        }
    }
    marked
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(reader: &mut Reader, log: &[&str]) -> Vec<bool> {
        let mut told = Vec::new();
        for line in log {
            told.push(reader.is_stderr(Some(Timestamp::now()), line.as_bytes()).await);
        }
        told
    }

    #[tokio::test]
    async fn lines_are_known_again_in_whatever_pieces_they_were_heard() {
        let heard = Heard::default();
        let mut open = heard.lines("web").open();
        open.read(&mut &b"fir"[..]).await;
        open.read(&mut &b"st\nsecond\r\nno end"[..]).await;
        drop(open);
        let mut reader = heard.reader("web").unwrap();
        let log = ["other\n", "first\n", "second\n", "no end\n", "first\n"];
        assert_eq!(told(&mut reader, &log).await, [false, true, true, true, false]);
        assert_eq!(
            told(&mut heard.reader("web").unwrap(), &["first\n"]).await,
            [true],
            "each reading begins anew"
        );
    }

    #[tokio::test]
    async fn a_line_that_is_heard_a_moment_later_is_waited_for() {
        let heard = Heard::default();
        let mut open = heard.lines("web").open();
        let mut reader = heard.reader("web").unwrap();
        let late = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            open.read(&mut &b"late\n"[..]).await;
            open
        });
        assert_eq!(told(&mut reader, &["late\n"]).await, [true]);
        let begin = std::time::Instant::now();
        let old = Timestamp::now() - SignedDuration::from_secs(1);
        assert!(!reader.is_stderr(Some(old), b"old\n").await);
        assert!(begin.elapsed() < Duration::from_millis(20), "an old line is not waited for");
        drop(late.await.unwrap());
    }

    #[tokio::test]
    async fn the_clock_of_a_node_that_is_ahead_delays_the_lines_of_one_moment_once() {
        let heard = Heard::default();
        let _open = heard.lines("web").open();
        let mut reader = heard.reader("web").unwrap();
        let begin = std::time::Instant::now();
        let ahead = Timestamp::now() + SignedDuration::from_secs(60);
        for _ in 0..20 {
            assert!(!reader.is_stderr(Some(ahead), b"out\n").await);
        }
        assert!(begin.elapsed() < Duration::from_millis(500), "{:?}", begin.elapsed());
    }

    #[test]
    fn the_last_lines_are_kept_and_pods_that_are_gone_are_forgotten_in_a_while() {
        let mut kept = Kept::default();
        (0..LINES as u64 + 2).for_each(|line| kept.push(line));
        assert_eq!((kept.first, kept.lines.len()), (2, LINES));
        let heard = Heard::default();
        for pod in 0..=GONE {
            heard.lines(&pod.to_string());
            heard.forget(&pod.to_string());
        }
        assert!(heard.reader("0").is_none() && heard.reader("1").is_some());
    }
}
