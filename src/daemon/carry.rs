//! The bytes between a client and a process, for attach and for exec: input, output and terminal sizes.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};

use super::pipe::{Channel, Chunk};
use d2k_cluster::{Resizer, TerminalSize};

/// Bytes read from a process at once.
const BLOCK: usize = 32 * 1024;

/// What the end of a client's input means.
pub(crate) enum InputEnd {
    /// The end of the process's input.
    Process,
    /// The client leaves; the process's input stays open for the next one.
    Client(tokio::sync::oneshot::Sender<()>),
}

/// Writes a client's bytes to a process.
pub(crate) async fn feed(
    mut input: mpsc::Receiver<Bytes>,
    stdin: Option<Box<dyn tokio::io::AsyncWrite + Send + Unpin>>,
    end: InputEnd,
) {
    let Some(mut stdin) = stdin else { return };
    while let Some(bytes) = input.recv().await {
        if stdin.write_all(&bytes).await.is_err() || stdin.flush().await.is_err() {
            return;
        }
    }
    match end {
        InputEnd::Process => {
            let _ = stdin.shutdown().await;
        }
        InputEnd::Client(left) => {
            let _ = left.send(());
        }
    }
    // Dropping the writer is a second end of file; it must outlive what is still in the pipe.
    std::future::pending::<()>().await;
}

/// Sends what a process writes to the client; what nobody asked for is read and dropped.
pub(crate) async fn read(
    stream: Option<Box<dyn AsyncRead + Send + Unpin>>,
    channel: Channel,
    output: mpsc::Sender<Chunk>,
    wanted: bool,
) {
    let Some(mut stream) = stream else { return };
    let mut buffer = bytes::BytesMut::with_capacity(BLOCK);
    while let Ok(1..) = stream.read_buf(&mut buffer).await {
        let bytes = buffer.split().freeze();
        if wanted && output.send(Chunk { channel, bytes }).await.is_err() {
            return;
        }
        buffer.reserve(BLOCK);
    }
}

/// Sends the sizes that a client tells to the terminal of a process, the last one told first.
pub(crate) async fn resize(resizer: Option<Resizer>, mut sizes: watch::Receiver<Option<TerminalSize>>) {
    let Some(mut resizer) = resizer else { return };
    sizes.mark_changed();
    while sizes.changed().await.is_ok() {
        let size = *sizes.borrow_and_update();
        if let Some(size) = size {
            resizer.send(size).await;
        }
    }
}
