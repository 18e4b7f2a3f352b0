//! UDP flows: what one client sends to one place, through a socket of its own, so that answers find
//! back. A flow ends when nothing has gone through it for a while.

use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Datagrams that wait for a flow whose socket is not ready; more are dropped, as UDP may.
const WAITING: usize = 128;
/// The largest datagram.
const LARGEST: usize = 65_535;

type Open<K> = Arc<Mutex<HashMap<K, mpsc::Sender<Vec<u8>>>>>;

/// The flows of one place, by what tells them apart.
pub struct Flows<K> {
    open: Open<K>,
    max: usize,
}

impl<K: Hash + Eq + Clone> Flows<K> {
    /// No flows, and never more than `max`.
    pub fn new(max: usize) -> Self {
        Self { open: Arc::default(), max }
    }

    /// Gives a datagram to its flow. A flow that is new is returned, for the caller to run it.
    pub fn send(&self, key: &K, mut datagram: Vec<u8>) -> Option<Flow<K>> {
        let mut open = self.open.lock();
        if let Some(flow) = open.get(key) {
            match flow.try_send(datagram) {
                Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => return None,
                Err(mpsc::error::TrySendError::Closed(unsent)) => datagram = unsent,
            }
        } else if open.len() >= self.max {
            tracing::debug!(max = self.max, "a datagram was dropped: too many flows");
            return None;
        }
        let (sender, inbox) = mpsc::channel(WAITING);
        sender.try_send(datagram).ok()?;
        open.insert(key.clone(), sender);
        Some(Flow { open: Arc::clone(&self.open), key: key.clone(), inbox })
    }
}

/// One flow; it is forgotten when this is dropped.
pub struct Flow<K: Hash + Eq> {
    open: Open<K>,
    key: K,
    inbox: mpsc::Receiver<Vec<u8>>,
}

impl<K: Hash + Eq> Drop for Flow<K> {
    fn drop(&mut self) {
        self.inbox.close();
        let mut open = self.open.lock();
        // One that began meanwhile has the same key, and stays.
        if open.get(&self.key).is_some_and(mpsc::Sender::is_closed) {
            open.remove(&self.key);
        }
    }
}

impl<K: Hash + Eq> Flow<K> {
    /// Sends what comes through `socket`, which is connected, and gives answers to `reply`, until the
    /// flow is idle, the socket fails (nobody is there), or it is told to stop.
    pub async fn run(
        &mut self,
        socket: &UdpSocket,
        idle: Duration,
        stopping: &CancellationToken,
        mut reply: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let mut deadline = Instant::now() + idle;
        loop {
            tokio::select! {
                () = stopping.cancelled() => return Ok(()),
                () = sleep_until(deadline) => return Ok(()),
                datagram = self.inbox.recv() => match datagram {
                    Some(datagram) => socket.send(&datagram).await.map(drop)?,
                    None => return Ok(()),
                },
                // An error alone does not make a socket readable, and "nobody is there" is one.
                ready = socket.ready(Interest::READABLE | Interest::ERROR) => {
                    ready?;
                    drain(socket, &mut reply)?;
                }
            }
            deadline = Instant::now() + idle;
        }
    }
}

/// A buffer only while there is something to read: flows are many, and most of them wait.
fn drain(socket: &UdpSocket, reply: &mut impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(LARGEST);
    for _ in 0..WAITING {
        buffer.clear();
        match socket.try_recv_buf(&mut buffer) {
            Ok(_) => reply(&buffer),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    // What was readable is known as read by now; that there was an error is forgotten here, or the
    // socket would count as ready for ever.
    let forgotten = socket.try_io(Interest::ERROR, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    drop(forgotten);
    socket.take_error()?.map_or(Ok(()), Err)
}
