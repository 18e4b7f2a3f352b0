//! The two ends of a container's streams as the front hands them down: bytes in until the client
//! half-closes, chunks out; and who is reading the output of which container.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

pub use d2k_cluster::TerminalSize;

/// Which of a process's streams a chunk belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Channel {
    Stdout,
    Stderr,
    /// Words of the daemon, which make the client fail.
    SystemError,
}

/// Some bytes of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Where they were written.
    pub channel: Channel,
    /// The bytes.
    pub bytes: Bytes,
}

/// The client's end of a stream.
pub struct Pipe {
    /// Standard input; closed when the client half-closes.
    pub input: mpsc::Receiver<Bytes>,
    /// Output; closed when the client has gone.
    pub output: mpsc::Sender<Chunk>,
}

/// Who reads the output of which container, and how large their terminals are.
pub struct Attached {
    readers: Arc<Mutex<HashMap<String, usize>>>,
    left: watch::Sender<()>,
    sizes: Mutex<HashMap<String, watch::Sender<Option<TerminalSize>>>>,
}

impl Default for Attached {
    fn default() -> Self {
        Self { readers: Arc::default(), left: watch::Sender::new(()), sizes: Mutex::default() }
    }
}

impl Attached {
    /// Notes a reader of a container until the guard is dropped.
    pub fn enter(&self, id: &str) -> Reader {
        *self.readers.lock().entry(id.to_owned()).or_default() += 1;
        Reader { readers: self.readers.clone(), left: self.left.clone(), id: id.to_owned() }
    }

    /// Resolves when nobody reads.
    pub async fn none(&self, id: &str) {
        let mut left = self.left.subscribe();
        while self.readers.lock().contains_key(id) {
            if left.changed().await.is_err() {
                return;
            }
        }
    }

    /// Tells the terminal size of a container or exec. Kept for a stream that opens later.
    pub fn resize(&self, id: &str, size: TerminalSize) {
        self.size(id).send_replace(Some(size));
    }

    /// The terminal sizes told for a container or exec.
    pub fn sizes(&self, id: &str) -> watch::Receiver<Option<TerminalSize>> {
        self.size(id).subscribe()
    }

    fn size(&self, id: &str) -> watch::Sender<Option<TerminalSize>> {
        let mut sizes = self.sizes.lock();
        sizes.entry(id.to_owned()).or_insert_with(|| watch::Sender::new(None)).clone()
    }

    /// Forgets the terminal size of a container or exec that is gone.
    pub fn forget(&self, id: &str) {
        self.sizes.lock().remove(id);
    }
}

/// A reader of a container's output.
pub struct Reader {
    readers: Arc<Mutex<HashMap<String, usize>>>,
    left: watch::Sender<()>,
    id: String,
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut readers = self.readers.lock();
        if let Some(count) = readers.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                readers.remove(&self.id);
                self.left.send_replace(());
            }
        }
    }
}
