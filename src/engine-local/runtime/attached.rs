//! Clients attached to a container: each gets what the container says from then on through a buffer of
//! its own. A slow client slows the container, one that has gone does not.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::watch;
use tokio::time::Instant;

/// What a client may leave unread before it slows the container.
pub const BUFFER: usize = 64 << 10;
/// How long a client may take for a piece once the container has ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// The clients of one stream of a container.
#[derive(Debug)]
pub struct Clients {
    /// Those that have come since the last piece; none any more once the stream has ended.
    coming: Mutex<Option<Vec<DuplexStream>>>,
}

impl Default for Clients {
    fn default() -> Self {
        Self { coming: Mutex::new(Some(Vec::new())) }
    }
}

impl Clients {
    /// Adds a client. What it reads is at its end at once if the stream is.
    pub fn join(&self) -> DuplexStream {
        let (theirs, ours) = duplex(BUFFER);
        if let Some(coming) = self.coming.lock().as_mut() {
            coming.push(ours);
        }
        theirs
    }

    /// Takes those that have come.
    fn come(&self) -> Vec<DuplexStream> {
        let mut coming = self.coming.lock();
        coming.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Gives a piece to all; those that have gone are forgotten.
    pub async fn give(
        &self,
        here: &mut Vec<DuplexStream>,
        piece: &[u8],
        ended: &watch::Receiver<Option<Instant>>,
    ) {
        here.extend(self.come());
        let mut at = 0;
        while let Some(client) = here.get_mut(at) {
            let mut ended = ended.clone();
            let too_long = async move {
                let _ = ended.wait_for(Option::is_some).await;
                tokio::time::sleep(PATIENCE).await;
            };
            let taken = tokio::select! {
                written = client.write_all(piece) => written.is_ok(),
                () = too_long => false,
            };
            if taken {
                at += 1;
            } else {
                here.swap_remove(at);
            }
        }
    }

    /// The stream has ended.
    pub fn end(&self) {
        *self.coming.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn a_slow_client_slows_and_a_gone_one_does_not() {
        let clients = Clients::default();
        let (_told, ended) = watch::channel(None);
        let (gone, mut slow) = (clients.join(), clients.join());
        drop(gone);
        let mut here = Vec::new();
        let piece = vec![b'x'; BUFFER + 1];
        let mut given = Box::pin(clients.give(&mut here, &piece, &ended));
        let waited = tokio::time::timeout(Duration::from_millis(50), given.as_mut()).await;
        assert!(waited.is_err(), "a client that does not read holds the container up");
        let mut rest = vec![0; BUFFER + 1];
        let (read, ()) = tokio::join!(slow.read_exact(&mut rest), given);
        assert_eq!(read.unwrap(), piece.len());
        assert_eq!(here.len(), 1);
        clients.end();
        drop(here);
        assert_eq!(slow.read(&mut rest).await.unwrap(), 0);
        assert_eq!(clients.join().read(&mut rest).await.unwrap(), 0);
    }
}
