//! What a run has written and its stream has lost: a Kubernetes node drops the last output of a process that
//! ends while it is still being sent input. The log has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::AsyncRead;
use tokio::sync::mpsc;
use tokio_util::io::InspectReader;

use super::super::Daemon;
use super::super::pipe::{Channel, Chunk};
use super::super::release::Attempt;
use super::Options;
use d2k_cluster::Process;
use d2k_translate::container::Container;

type Stream = Box<dyn AsyncRead + Send + Unpin>;

/// How many bytes of output have come.
#[derive(Default)]
pub(super) struct Received {
    stdout: Arc<AtomicU64>,
    stderr: Arc<AtomicU64>,
}

impl Received {
    /// Counts what comes of a process from now on.
    pub(super) fn of(process: &mut Process) -> Self {
        let received = Self::default();
        process.stdout = process.stdout.take().map(|stream| counted(stream, &received.stdout));
        process.stderr = process.stderr.take().map(|stream| counted(stream, &received.stderr));
        received
    }

    /// The part of a log that has not come.
    fn rest(&self, log: Vec<Chunk>) -> Vec<Chunk> {
        let (out, err) = (self.stdout.load(Ordering::Acquire), self.stderr.load(Ordering::Acquire));
        let told: usize = log.iter().filter(|c| c.channel == Channel::Stderr).map(|c| c.bytes.len()).sum();
        let mut skip_err = err.min(told as u64);
        // What came as standard error and is not told to be so in the log.
        let mut skip_out = out + err - skip_err;
        let mut rest = Vec::new();
        for mut chunk in log {
            let skip = if chunk.channel == Channel::Stderr { &mut skip_err } else { &mut skip_out };
            let known = chunk.bytes.len().min(usize::try_from(*skip).unwrap_or(usize::MAX));
            *skip -= known as u64;
            chunk.bytes = chunk.bytes.split_off(known);
            if !chunk.bytes.is_empty() {
                rest.push(chunk);
            }
        }
        rest
    }
}

fn counted(stream: Stream, count: &Arc<AtomicU64>) -> Stream {
    let count = count.clone();
    Box::new(InspectReader::new(stream, move |bytes: &[u8]| {
        count.fetch_add(bytes.len() as u64, Ordering::AcqRel);
    }))
}

impl Daemon {
    /// Sends a client what its stream of a run that has ended had lost.
    pub(super) async fn send_rest(
        &self,
        container: &Container,
        attempt: &Attempt,
        received: &Received,
        options: Options,
        output: &mpsc::Sender<Chunk>,
    ) {
        let (sender, mut receiver) = mpsc::channel(16);
        let collect = async {
            let mut log = Vec::new();
            while let Some(chunk) = receiver.recv().await {
                log.push(chunk);
            }
            log
        };
        let read = async {
            let _ = self.rest_of_log(container, attempt, &sender).await;
            drop(sender);
        };
        let ((), log) = tokio::join!(read, collect);
        let rest = received.rest(log);
        let wanted = |chunk: &Chunk| match chunk.channel {
            Channel::Stderr => options.stderr,
            _ => options.stdout,
        };
        for chunk in rest.into_iter().filter(wanted) {
            tracing::debug!(container = %container.record.name, bytes = chunk.bytes.len(), "output was lost and is in the log");
            if output.send(chunk).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(out: u64, err: u64, log: &[(Channel, &str)]) -> String {
        let received = Received { stdout: Arc::new(out.into()), stderr: Arc::new(err.into()) };
        let log =
            log.iter().map(|(channel, text)| Chunk { channel: *channel, bytes: text.to_string().into() });
        let rest = received.rest(log.collect());
        let text =
            rest.iter().map(|chunk| format!("{:?} {}", chunk.channel, String::from_utf8_lossy(&chunk.bytes)));
        text.collect::<Vec<_>>().join("|")
    }

    #[test]
    fn the_rest_is_what_the_log_has_more() {
        use Channel::{Stderr, Stdout};
        let log = [(Stdout, "one\n"), (Stderr, "bad\n"), (Stdout, "two\n")];
        assert_eq!(rest(8, 4, &log), "");
        assert_eq!(rest(6, 4, &log), "Stdout o\n");
        assert_eq!(rest(0, 0, &log), "Stdout one\n|Stderr bad\n|Stdout two\n");
        assert_eq!(rest(8, 0, &log), "Stderr bad\n");
        assert_eq!(rest(100, 100, &log), "", "a log can be shorter than what came");
    }

    #[test]
    fn a_log_that_does_not_tell_the_streams_apart_repeats_nothing() {
        use Channel::Stdout;
        let log = [(Stdout, "one\n"), (Stdout, "bad\n"), (Stdout, "two\n")];
        assert_eq!(rest(8, 4, &log), "");
        assert_eq!(rest(4, 4, &log), "Stdout two\n");
    }
}
