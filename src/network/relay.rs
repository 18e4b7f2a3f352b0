//! Bytes from one TCP connection to another until both ends have said that they are done. An end that
//! breaks breaks the other one too, as a wire would.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// Held for each direction of a connection; more does not make it faster.
const BUFFER: usize = 32 * 1024;

/// Copies both ways, with half-close, until both directions have ended or it is told to stop.
pub async fn relay(mut one: TcpStream, mut other: TcpStream, stopping: &CancellationToken) {
    for stream in [&one, &other] {
        prepare(stream);
    }
    let copying = tokio::io::copy_bidirectional_with_sizes(&mut one, &mut other, BUFFER, BUFFER);
    match stopping.run_until_cancelled(copying).await {
        Some(Ok(_)) => {}
        Some(Err(_)) | None => {
            reset(one);
            reset(other);
        }
    }
}

/// Small packets are not held back, and a peer that is gone without a word is noticed: a Pod whose
/// network was removed sends nothing more.
fn prepare(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    let done = stream.set_nodelay(true).and_then(|()| SockRef::from(stream).set_tcp_keepalive(&keepalive));
    if let Err(error) = done {
        tracing::debug!(%error, "a connection goes without keep-alive");
    }
}

/// Closes a connection so that its peer is told that it broke.
pub fn reset(stream: TcpStream) {
    if let Err(error) = SockRef::from(&stream).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "a connection is closed without a reset");
    }
}
