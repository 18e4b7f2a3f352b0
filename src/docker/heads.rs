//! Bounds the heads of a connection's requests: a head that has begun is complete in time, and all large heads
//! together take a bounded amount of memory. The HTTP library knows one time-out for idle connections and
//! for slow heads, and no bound across connections.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};

use super::limits::{HEAD_BYTES_FREE, HEADS_IN_FLIGHT_KIB};

/// Places for the KiB of large heads, shared by all connections.
static PLACES: Semaphore = Semaphore::const_new(HEADS_IN_FLIGHT_KIB);

/// Where a connection is between its requests. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Heads(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    begun: Notify,
}

#[derive(Default)]
struct State {
    phase: Phase,
    bytes: usize,
    held: Vec<SemaphorePermit<'static>>,
}

#[derive(Default, Clone, Copy)]
enum Phase {
    /// Between two requests.
    #[default]
    Idle,
    /// A head has begun to arrive.
    Head(Instant),
    /// Parts of this many requests (their bodies, their handlers) are at work.
    Busy(u8),
}

impl Heads {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.state.lock())
    }

    /// Bytes have arrived.
    fn arrived(&self, bytes: usize) -> io::Result<()> {
        self.with(|state| match state.phase {
            Phase::Busy(_) => Ok(()),
            Phase::Idle => {
                state.phase = Phase::Head(Instant::now());
                self.0.begun.notify_one();
                state.count(bytes)
            }
            Phase::Head(_) => state.count(bytes),
        })
    }

    /// A head is complete; the connection is at work until this many parts are done.
    pub fn complete(&self, parts: u8) {
        self.with(|state| state.phase = Phase::Busy(parts));
    }

    /// A part of the request is done.
    pub fn done(&self) {
        self.with(|state| {
            if let Phase::Busy(parts) = state.phase {
                match parts.saturating_sub(1) {
                    0 => *state = State::default(),
                    left => state.phase = Phase::Busy(left),
                }
            }
        });
    }

    /// Returns when a head that has begun is not complete after `limit`.
    pub async fn late(&self, limit: Duration) {
        loop {
            let begun = self.with(|state| match state.phase {
                Phase::Head(begun) => Some(begun),
                _ => None,
            });
            match begun {
                None => self.0.begun.notified().await,
                Some(begun) if begun.elapsed() >= limit => return,
                Some(begun) => sleep_until(begun + limit).await,
            }
        }
    }
}

impl State {
    fn count(&mut self, bytes: usize) -> io::Result<()> {
        self.bytes += bytes;
        let needed = self.bytes.saturating_sub(HEAD_BYTES_FREE).div_ceil(1024);
        let held: usize = self.held.iter().map(SemaphorePermit::num_permits).sum();
        let more = u32::try_from(needed.saturating_sub(held)).unwrap_or(u32::MAX);
        if more > 0 {
            let places = PLACES.try_acquire_many(more);
            self.held.push(places.map_err(|_| io::Error::other("too many large heads at the same time"))?);
        }
        Ok(())
    }
}

/// A connection whose heads are bounded.
pub(super) struct Bounded<I> {
    pub io: I,
    pub heads: Heads,
}

impl<I: AsyncRead + Unpin> AsyncRead for Bounded<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, into))?;
        let read = into.filled().len() - before;
        Poll::Ready(if read > 0 { self.heads.arrived(read) } else { Ok(()) })
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Bounded<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_head_is_late_and_an_idle_connection_is_not() {
        let heads = Heads::default();
        let limit = Duration::from_millis(50);
        let late = async |heads: &Heads| tokio::time::timeout(limit * 4, heads.late(limit)).await.is_ok();
        assert!(!late(&heads).await);
        heads.arrived(1).unwrap();
        assert!(late(&heads).await);
        heads.complete(2);
        assert!(!late(&heads).await);
        heads.done();
        heads.arrived(1_000_000).unwrap();
        assert!(!late(&heads).await, "its body still arrives");
        heads.done();
        assert!(!late(&heads).await);
        heads.arrived(1).unwrap();
        assert!(late(&heads).await);
    }

    #[test]
    fn large_heads_take_a_bounded_amount_together_and_give_it_back() {
        let heads: Vec<Heads> = (0..).map(|_| Heads::default()).take(64).collect();
        let taken = heads.iter().filter(|head| head.arrived(1024 * 1024).is_ok()).count();
        assert!((10..20).contains(&taken), "{taken}");
        heads.iter().for_each(|head| head.complete(1));
        heads.iter().for_each(Heads::done);
        assert!(heads[0].arrived(1024 * 1024).is_ok());
        assert!(heads[1].arrived(HEAD_BYTES_FREE).is_ok());
    }
}
