//! The daemon's end of the socket to the helper: one thread writes, one reads, so that no thread of
//! tokio ever waits for the helper; every call has a deadline.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::runtime::wire::{Envelope, Failure, Notice, Request, receive, send};
use d2k_engine::{Result, Trouble};

/// The longest that the helper may take for one request, waiting for others included.
const DEADLINE: Duration = Duration::from_secs(60);

/// A request with its files.
type Outgoing = (Envelope, Vec<OwnedFd>);
type Answer = std::result::Result<Vec<OwnedFd>, Failure>;

/// How a process has ended: its exit code, and whether its memory limit was the reason.
pub type End = (i32, bool);

#[derive(Default)]
struct Waiting {
    answers: HashMap<u64, oneshot::Sender<Answer>>,
    ends: HashMap<String, oneshot::Sender<End>>,
    gone: bool,
}

/// The connection.
pub struct Link {
    queue: Mutex<Option<Sender<Outgoing>>>,
    waiting: Arc<Mutex<Waiting>>,
    next: AtomicU64,
    socket: Arc<OwnedFd>,
    /// Cancelled when the helper has gone.
    gone: CancellationToken,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

impl Link {
    /// Starts the two threads.
    pub fn new(socket: OwnedFd) -> std::io::Result<Arc<Self>> {
        let socket = Arc::new(socket);
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let (queue, requests) = channel::<Outgoing>();
        let writing = Arc::clone(&socket);
        thread("engine-requests", move || {
            for (envelope, files) in requests {
                if send(&*writing, &envelope, &files).is_err() {
                    break;
                }
            }
            // Ends the reader, too.
            let _ = rustix::net::shutdown(&*writing, rustix::net::Shutdown::Both);
        })?;
        let (reading, told) = (Arc::clone(&socket), Arc::clone(&waiting));
        let gone = CancellationToken::new();
        let tell = gone.clone();
        thread("engine-notices", move || {
            while let Ok(Some((notice, files))) = receive::<Notice>(&*reading) {
                hear(&told, notice, files);
            }
            let mut waiting = locked(&told);
            // Whoever waits for a dropped sender learns that the helper has gone.
            *waiting = Waiting { gone: true, ..Waiting::default() };
            drop(waiting);
            tell.cancel();
        })?;
        let queue = Mutex::new(Some(queue));
        Ok(Arc::new(Self { queue, waiting, next: AtomicU64::new(1), socket, gone }))
    }

    /// Cancelled when the helper has gone.
    pub fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// Asks the helper for something; the files that come back.
    pub async fn call(&self, request: Request, files: Vec<OwnedFd>) -> Result<Vec<OwnedFd>> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        {
            let mut waiting = locked(&self.waiting);
            if waiting.gone {
                return Err(gone());
            }
            waiting.answers.insert(number, sender);
        }
        if let Some(queue) = locked(&self.queue).as_ref() {
            let _ = queue.send((Envelope { number, request }, files));
        }
        match tokio::time::timeout(DEADLINE, answer).await {
            Ok(Ok(answer)) => answer.map_err(Trouble::from),
            Ok(Err(_)) => Err(gone()),
            Err(_) => {
                locked(&self.waiting).answers.remove(&number);
                let message =
                    format!("the engine's helper process has not answered within {} s", DEADLINE.as_secs());
                Err(Trouble::new("RunContainerError", message))
            }
        }
    }

    /// The end of a process that is about to be started under that name. An error: the helper has gone.
    pub fn end_of(&self, key: &str) -> oneshot::Receiver<End> {
        let (sender, end) = oneshot::channel();
        let mut waiting = locked(&self.waiting);
        if !waiting.gone {
            waiting.ends.insert(key.to_owned(), sender);
        }
        end
    }

    /// It has not been started after all.
    pub fn forget(&self, key: &str) {
        locked(&self.waiting).ends.remove(key);
    }

    /// Lets the helper end, with all that it has.
    pub fn close(&self) {
        *locked(&self.queue) = None;
        let _ = rustix::net::shutdown(&*self.socket, rustix::net::Shutdown::Both);
    }
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).stack_size(256 << 10).spawn(work).map(|_| ())
}

fn hear(waiting: &Mutex<Waiting>, notice: Notice, files: Vec<OwnedFd>) {
    match notice {
        Notice::Reply { number, failure } => {
            if let Some(sender) = locked(waiting).answers.remove(&number) {
                let _ = sender.send(failure.map_or(Ok(files), Err));
            }
        }
        Notice::Ended { key, code, oom } => {
            if let Some(sender) = locked(waiting).ends.remove(&key) {
                let _ = sender.send((code, oom));
            }
        }
        Notice::Ready(_) | Notice::Failed(_) => {}
    }
}

fn gone() -> Trouble {
    let message = "the engine's helper process has ended, and all containers with it; start d2k again";
    Trouble::new("RunContainerError", message)
}
