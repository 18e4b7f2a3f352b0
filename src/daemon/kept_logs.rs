//! Logs that outlive their Pods. The tail of a log is kept, compressed, in a ConfigMap of the
//! container, so that `docker logs` after `docker stop` still answers, also after d2k was restarted.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use futures::AsyncReadExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::Daemon;
use super::logs::line::split;
use d2k_cluster::{Cluster, LogQuery};
use d2k_common::fault::{Fault, Kind as FaultKind};
use d2k_translate::keys::role;
use d2k_translate::record::Record;

/// How much of a log is kept, in bytes before compression.
const KEPT: usize = 4 * 1024 * 1024;
/// How much of all logs is held while they are read, in bytes, and how much of one at least.
const READING: usize = 32 * 1024 * 1024;
const READING_LEAST: usize = 256 * 1024;
/// How many logs are marked and compressed at the same time: each takes some times its size.
static PACKING: Semaphore = Semaphore::const_new(2);
/// Logs that are being read now.
static READERS: AtomicUsize = AtomicUsize::new(0);
/// What fits into a ConfigMap (1 MiB with all its metadata), in bytes after compression.
const FITS: usize = 900 * 1024;
/// How many lines are read of a log that is to be kept.
const LINES: i64 = 50_000;
/// How long a captured log may take to end after its container has.
const PATIENCE: Duration = Duration::from_secs(10);
/// When a log that a node did not give is asked for again.
const AGAIN: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(250), Duration::from_millis(1000)];
/// How much later than the end of a run its last lines may be in the log: end times have whole seconds.
const LATE: SignedDuration = SignedDuration::from_secs(1);
/// The same where no later run is known. A busy node writes down only now what the process left in its pipe.
const LATE_ALONE: SignedDuration = SignedDuration::from_secs(10);
/// The key within the ConfigMap.
const KEY: &str = "log.gz";

/// Logs that are being captured, by Pod UID.
#[derive(Default)]
pub struct Captures(Mutex<HashMap<String, JoinHandle<Vec<u8>>>>);

impl Captures {
    fn take(&self, pod: &str) -> Option<JoinHandle<Vec<u8>>> {
        self.0.lock().remove(pod)
    }
}

fn name(record: &Record) -> String {
    format!("d2k-log-{}", record.short())
}

/// One of the logs that are being read.
struct Reading;

impl Reading {
    fn begin() -> Self {
        READERS.fetch_add(1, Ordering::Relaxed);
        Self
    }

    /// How much of a log is held at most, the more are read at once the less.
    fn limit() -> usize {
        (READING / READERS.load(Ordering::Relaxed).max(1)).clamp(READING_LEAST, 2 * KEPT)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        READERS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reads what one container has logged, its last lines, until it ends if `follow`.
async fn read(cluster: Cluster, pod: String, query: LogQuery) -> Vec<u8> {
    let _reading = Reading::begin();
    let mut kept = Vec::new();
    let mut opened = cluster.logs(&pod, &query).await;
    for pause in &AGAIN {
        // Where there is none the cluster says so in other words.
        if !opened.as_ref().is_err_and(is_busy) {
            break;
        }
        tokio::time::sleep(*pause).await;
        opened = cluster.logs(&pod, &query).await;
    }
    let Ok(stream) = opened else {
        return kept;
    };
    let mut stream = std::pin::pin!(stream);
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        kept.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let limit = Reading::limit();
        if kept.len() > limit {
            kept = tail(&kept, limit / 2);
        }
    }
    if is_log(&kept) { tail(&kept, KEPT) } else { Vec::new() }
}

/// Whether a log may be had when it is asked for again.
pub(super) fn is_busy(fault: &Fault) -> bool {
    matches!(fault.kind, FaultKind::Internal | FaultKind::Unavailable)
}

/// Whether this is a log: what a kubelet says in place of one that it has no more has no time in front.
pub(super) fn is_log(text: &[u8]) -> bool {
    first_line(text).is_none_or(|line| split(line).0.is_some())
}

/// The last whole lines of at most `size` bytes.
fn tail(log: &[u8], size: usize) -> Vec<u8> {
    let cut = log.get(log.len().saturating_sub(size)..).unwrap_or_default();
    let start = match cut.len() == log.len() {
        true => 0,
        false => cut.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1),
    };
    cut.get(start..).unwrap_or_default().to_vec()
}

/// The lines whose time is not later than `end` and what is usual: a later run in the same Pod may have written those.
fn until(log: &[u8], end: Option<Timestamp>, late: SignedDuration) -> Vec<u8> {
    let Some(end) = end else { return log.to_vec() };
    let end = end + late;
    let in_time = |line: &&[u8]| split(line).0.is_none_or(|time| time < end);
    log.split_inclusive(|b| *b == b'\n').filter(in_time).flatten().copied().collect()
}

/// The first line, which its time stamp tells from all others.
pub(super) fn first_line(log: &[u8]) -> Option<&[u8]> {
    log.split_inclusive(|byte| *byte == b'\n').next()
}

/// The log of a run that ended at `end`: of the run before the current one, and of the current one, what may be of that run.
/// The run before has no lines of a later one, however late a busy node wrote its last ones down.
fn of_run(mut before: Vec<u8>, now: &[u8], end: Option<Timestamp>) -> Vec<u8> {
    if before.is_empty() || first_line(&before) == first_line(now) {
        return until(now, end, LATE_ALONE);
    }
    before = until(&before, end, LATE_ALONE);
    before.extend(until(now, end, LATE));
    before
}

impl Daemon {
    /// Begins to capture the log of a Pod that is about to go: returns when the log is open, so
    /// that nothing it writes from now on is lost.
    pub(crate) async fn begin_capture(&self, uid: &str, pod: &str, container: &str) {
        let query = LogQuery {
            container: container.to_owned(),
            follow: true,
            tail: Some(LINES),
            ..LogQuery::default()
        };
        let (opened, wait) = tokio::sync::oneshot::channel();
        let (cluster, pod) = (self.cluster.clone(), pod.to_owned());
        let capture = tokio::spawn(async move {
            let reading = read(cluster, pod, query);
            // The request is on its way; the kubelet reads the file as long as the Pod is there.
            let _ = opened.send(());
            reading.await
        });
        let _ = wait.await;
        self.captures.0.lock().insert(uid.to_owned(), capture);
    }

    /// Keeps the log of a Pod whose container has ended.
    pub(crate) async fn keep_log(
        &self,
        record: &Record,
        uid: &str,
        pod: &str,
        container: &str,
        end: Option<Timestamp>,
    ) {
        let query = LogQuery { container: container.to_owned(), tail: Some(LINES), ..LogQuery::default() };
        let previous = LogQuery { previous: true, ..query.clone() };
        // In this order: where the kubelet starts the container again between the two, both are the same
        // run, and the other way round it would be neither.
        let mut now = read(self.cluster.clone(), pod.to_owned(), query).await;
        let log = read(self.cluster.clone(), pod.to_owned(), previous).await;
        if let Some(mut capture) = self.captures.take(uid)
            && (now.is_empty() || capture.is_finished())
        {
            let captured = tokio::time::timeout(PATIENCE, &mut capture).await;
            capture.abort();
            // The Pod may go while its log is read.
            now = captured.ok().and_then(Result::ok).filter(|all| all.len() > now.len()).unwrap_or(now);
        }
        let log = of_run(log, &now, end);
        drop(now);
        self.heard.all(pod).await;
        let _place = PACKING.acquire().await;
        let log = self.heard.mark(pod, log).await;
        if !log.is_empty() {
            self.append(record, log).await;
        }
    }

    async fn append(&self, record: &Record, log: Vec<u8>) {
        let mut all = self.kept_log(record).await;
        all.extend(log);
        all = tail(&all, KEPT);
        let mut packed = pack(&all);
        while packed.len() > FITS && all.len() > 1024 {
            all = tail(&all, all.len() / 2);
            packed = pack(&all);
        }
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(name(record)),
                labels: Some(record.labels(role::LOG)),
                ..ObjectMeta::default()
            },
            binary_data: Some(BTreeMap::from([(KEY.to_owned(), ByteString(packed))])),
            ..ConfigMap::default()
        };
        if let Err(error) = self.cluster.apply(&map).await {
            tracing::warn!(container = %record.name, %error, "the log of the ended run could not be kept");
        }
    }

    /// What was kept of the logs of earlier Pods, lines with timestamps.
    pub(crate) async fn kept_log(&self, record: &Record) -> Vec<u8> {
        let map = match self.cluster.read::<ConfigMap>(&name(record)).await {
            Ok(map) => map,
            Err(error) => {
                tracing::warn!(container = %record.name, %error, "the kept log could not be read");
                None
            }
        };
        let packed = map.and_then(|m| m.binary_data?.remove(KEY));
        packed.map(|bytes| unpack(&bytes.0)).unwrap_or_default()
    }

    /// Forgets the kept log of a removed container.
    pub(crate) async fn drop_log(&self, record: &Record) {
        if let Err(error) = self.cluster.delete_uncached::<ConfigMap>(&name(record)).await {
            tracing::warn!(container = %record.name, %error, "the kept log could not be deleted");
        }
    }
}

fn pack(log: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let written = encoder.write_all(log);
    written.and_then(|()| encoder.finish()).unwrap_or_default()
}

fn unpack(packed: &[u8]) -> Vec<u8> {
    let mut log = Vec::new();
    // A log that somebody damaged is shown as far as it can be read.
    let _ = GzDecoder::new(packed).take(4 * KEPT as u64).read_to_end(&mut log);
    log
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_log_begins_with_a_whole_line() {
        assert_eq!(tail(b"first\nsecond\nthird\n", 9), b"third\n");
    }

    #[test]
    fn what_a_kubelet_says_in_place_of_a_log_is_none() {
        assert!(is_log(b"2026-01-01T00:00:00Z a\n") && is_log(b""));
        assert!(!is_log(b"unable to retrieve container logs for containerd://1a74"));
    }

    #[test]
    fn a_log_survives_packing() {
        assert_eq!(unpack(&pack(b"2026-01-01T00:00:00Z a\n")), b"2026-01-01T00:00:00Z a\n");
    }

    #[test]
    fn lines_of_a_later_run_are_left_out() {
        let log = b"2026-01-01T00:00:00.5Z first\n2026-01-01T00:00:03Z second\n";
        let end = "2026-01-01T00:00:00Z".parse().ok();
        assert_eq!(until(log, end, LATE), b"2026-01-01T00:00:00.5Z first\n");
    }

    #[test]
    fn the_last_line_of_a_run_is_kept_when_the_container_was_started_again() {
        let run = b"2026-01-01T00:00:00.9Z first\n2026-01-01T00:00:01.01Z last\n";
        let later = b"2026-01-01T00:00:01.5Z of the next run\n";
        // The run ended at 00.995, which Kubernetes tells as 00.
        let end = "2026-01-01T00:00:00Z".parse().ok();
        assert_eq!(of_run(run.to_vec(), later, end), run);
        assert_eq!(of_run(run.to_vec(), run, end), run);
        assert_eq!(of_run(Vec::new(), run, end), run);
    }

    #[test]
    fn lines_that_a_busy_node_wrote_late_are_kept() {
        let log = b"2026-01-01T00:00:00.9Z first\n2026-01-01T00:00:01.1Z last\n";
        let end = "2026-01-01T00:00:00Z".parse().ok();
        assert_eq!(until(log, end, LATE_ALONE), log);
    }
}
