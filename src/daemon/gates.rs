//! Who is to read a container's output from its first byte on: clients that attached before the
//! process ran. Leave to run is given when all of them are connected, by one of their own streams.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use d2k_cluster::ProcessStatus;

/// How long a client may take to be connected before the process runs without it.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a process has ended.
pub(crate) type Ended = Shared<BoxFuture<'static, ProcessStatus>>;

/// A stream by which leave was given.
pub(crate) struct Given {
    /// Its end.
    pub ended: Ended,
    /// Cancelled when the process has written something.
    pub output: CancellationToken,
    /// A client reads it.
    pub is_read: bool,
    /// How soon the news would come that the process could not be run, where nobody reads.
    pub at_once: Duration,
}

/// What a connected client is told.
pub(crate) enum Turn {
    /// Write the byte that gives leave; the answer is the end of the stream, or nothing where that failed.
    Give(oneshot::Sender<Option<Given>>),
    /// Leave was given.
    Given,
}

/// The clients that wait for a container's process, by container ID.
#[derive(Default)]
pub struct Gates(Arc<Inner>, Arc<()>);

#[derive(Default)]
struct Inner {
    gates: Mutex<HashMap<String, Gate>>,
    changed: Notify,
}

#[derive(Default)]
struct Gate {
    /// Clients that are not connected yet.
    expected: usize,
    /// Connected ones, and whether standard input is among their streams.
    connected: Vec<(bool, oneshot::Sender<Turn>)>,
}

impl Inner {
    fn with<T>(&self, id: &str, act: impl FnOnce(&mut Gate) -> T) -> T {
        let mut gates = self.gates.lock();
        let gate = gates.entry(id.to_owned()).or_default();
        let result = act(gate);
        if gate.expected == 0 && gate.connected.is_empty() {
            gates.remove(id);
        }
        result
    }

    fn change(&self, id: &str, act: impl FnOnce(&mut Gate)) {
        self.with(id, act);
        self.changed.notify_waiters();
    }
}

impl Gates {
    /// Takes a place for a client, until it is connected or the place is dropped.
    pub fn enter(&self, id: &str) -> Place {
        self.0.change(id, |gate| gate.expected += 1);
        Place { inner: self.0.clone(), id: id.to_owned(), connected: false }
    }

    /// Notes that a container is tried before it is known to run, until the guard is dropped.
    pub(crate) fn try_early(&self) -> Arc<()> {
        self.1.clone()
    }

    /// How many containers are tried so.
    pub(crate) fn tried_early(&self) -> u32 {
        u32::try_from(Arc::strong_count(&self.1).saturating_sub(1)).unwrap_or(u32::MAX).max(1)
    }

    /// Whether a client waits for the container's process.
    pub fn is_expected(&self, id: &str) -> bool {
        self.0.with(id, |gate| gate.expected > 0 || !gate.connected.is_empty())
    }

    /// Waits until all clients are connected, and lets one of them give leave; `None` if none of them can.
    pub(crate) async fn open(&self, id: &str) -> Option<Given> {
        let all = async {
            loop {
                let changed = self.0.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if self.0.with(id, |gate| gate.expected == 0) {
                    return;
                }
                changed.await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, all).await;
        let mut connected = self.0.with(id, |gate| std::mem::take(&mut gate.connected));
        // One whose standard input is connected.
        connected.sort_by_key(|(stdin, _)| !stdin);
        let mut given = None;
        for (stdin, turn) in connected {
            if given.is_some() || !stdin {
                let _ = turn.send(Turn::Given);
                continue;
            }
            let (done, answer) = oneshot::channel();
            if turn.send(Turn::Give(done)).is_ok() {
                given = answer.await.ok().flatten();
            }
        }
        given
    }
}

/// A client's place.
pub struct Place {
    inner: Arc<Inner>,
    id: String,
    connected: bool,
}

impl Place {
    /// The client is connected; what it is told comes by the channel.
    pub(crate) fn connected(mut self, stdin: bool) -> oneshot::Receiver<Turn> {
        let (turn, wait) = oneshot::channel();
        self.connected = true;
        self.inner.change(&self.id, |gate| {
            gate.expected = gate.expected.saturating_sub(1);
            gate.connected.push((stdin, turn));
        });
        wait
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.connected {
            self.inner.change(&self.id, |gate| gate.expected = gate.expected.saturating_sub(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn leave_is_given_by_the_one_with_input_when_all_are_connected() {
        let gates = Gates::default();
        let (first, second) = (gates.enter("c"), gates.enter("c"));
        let reader = first.connected(false);
        let writer = second.connected(true);
        let answer = tokio::spawn(async move {
            let Ok(Turn::Give(done)) = writer.await else { return false };
            done.send(Some(Given {
                ended: std::future::pending().boxed().shared(),
                output: CancellationToken::new(),
                is_read: true,
                at_once: Duration::ZERO,
            }))
            .is_ok()
        });
        assert!(gates.open("c").await.is_some());
        assert!(answer.await.unwrap_or(false));
        assert!(matches!(reader.await, Ok(Turn::Given)));
    }

    #[tokio::test]
    async fn nobody_gives_leave_where_nobody_waits_or_all_have_gone() {
        let gates = Gates::default();
        assert!(gates.open("c").await.is_none());
        drop(gates.enter("c"));
        assert!(gates.open("c").await.is_none());
    }
}
