//! Bytes between asynchronous code and the threads that hash, write and unpack: a bounded channel
//! of chunks with a blocking reader or writer at its end, and a reader that counts.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

/// Chunks on the way at one time.
const CHUNKS: usize = 16;
/// Size of a chunk that is read from a client.
const CHUNK: usize = 128 << 10;

/// What is sent to a blocking reader: bytes, or why there are no more.
pub(super) type Chunk = io::Result<Bytes>;

/// Reads what is sent to it, on a thread that may block.
pub(super) struct ChannelReader {
    chunks: mpsc::Receiver<Chunk>,
    now: Bytes,
}

/// A channel and the reader at its end.
pub(super) fn channel() -> (mpsc::Sender<Chunk>, ChannelReader) {
    let (sender, chunks) = mpsc::channel(CHUNKS);
    (sender, ChannelReader { chunks, now: Bytes::new() })
}

impl Read for ChannelReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.now.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.now = chunk?,
                None => return Ok(0),
            }
        }
        let length = self.now.len().min(buffer.len());
        let (into, _) = buffer.split_at_mut(length);
        self.now.copy_to_slice(into);
        Ok(length)
    }
}

/// Sends all that `reader` has while `work` reads it at the other end. It ends with the work, however
/// long a client would still take to send the rest.
pub(super) async fn fed<T>(
    reader: impl AsyncRead + Unpin,
    into: mpsc::Sender<Chunk>,
    work: impl Future<Output = T>,
) -> T {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => done,
        () = feed(reader, into) => work.await,
    }
}

async fn feed(mut reader: impl AsyncRead + Unpin, into: mpsc::Sender<Chunk>) {
    loop {
        let mut chunk = bytes::BytesMut::with_capacity(CHUNK);
        let (item, last) = match reader.read_buf(&mut chunk).await {
            Ok(0) => return,
            Ok(_) => (Ok(chunk.freeze()), false),
            Err(error) => (Err(error), true),
        };
        if into.send(item).await.is_err() || last {
            return;
        }
    }
}

/// Tells how much has been read through it.
pub(super) struct Counted<R, F> {
    inner: R,
    done: u64,
    told: F,
}

impl<R, F: FnMut(u64)> Counted<R, F> {
    pub(super) fn new(inner: R, told: F) -> Self {
        Self { inner, done: 0, told }
    }
}

impl<R: Read, F: FnMut(u64)> Read for Counted<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.done += read as u64;
        (self.told)(self.done);
        Ok(read)
    }
}

/// The other direction: what is written goes to an asynchronous reader.
pub(super) struct ChannelWriter(pub(super) mpsc::Sender<Chunk>);

impl io::Write for ChannelWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads the archive any more");
        self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes))).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
