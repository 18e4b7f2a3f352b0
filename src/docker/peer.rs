//! The connection of a request: where it comes from, whether its client is still there, and whether d2k is about
//! to end. Handlers get it as an extractor; the server puts it into every request.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Shutdown};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use sha2::{Digest, Sha256};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often a connection is looked at whose state the system does not tell by itself.
const LOOK: Duration = Duration::from_secs(1);
/// Most bytes taken from a socket at once; the buffer is cleared to this size before.
const READ_MAX: usize = 64 * 1024;

/// The way on which a connection came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Via {
    /// A unix socket: the file system decides who may open it.
    #[default]
    Unix,
    /// TCP.
    Tcp {
        /// The address of the client, or of what translates its address.
        from: IpAddr,
        /// The client has shown a certificate of the authority that d2k was given.
        verified: bool,
    },
    /// The network of an embedded cluster's Pods, by the address of the Pod.
    PodNetwork(IpAddr),
}

impl Via {
    /// The same way with a client whose certificate was checked, or not.
    #[must_use]
    pub fn verified(self, verified: bool) -> Self {
        match self {
            Self::Tcp { from, .. } => Self::Tcp { from, verified },
            other => other,
        }
    }
}

/// The client's end of a request's connection. As an extractor it never fails; without a server
/// (a router called directly) its client never goes.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    socket: Option<Weak<Socket>>,
    /// The way on which the connection came.
    pub via: Via,
    /// Its place among the connections of its listener: an upgraded connection keeps it.
    _place: Option<Arc<OwnedSemaphorePermit>>,
    identity: Arc<str>,
    /// Cancelled when d2k ends: streams end cleanly.
    pub stopping: CancellationToken,
    /// Tasks that outlive their request and that the server waits for when it ends.
    pub tasks: TaskTracker,
}

impl Peer {
    pub(super) fn new(
        socket: &Arc<Socket>,
        via: Via,
        place: OwnedSemaphorePermit,
        stopping: CancellationToken,
        tasks: TaskTracker,
    ) -> Self {
        let identity = socket.identity().into();
        let socket = Some(Arc::downgrade(socket));
        Self { socket, via, _place: Some(Arc::new(place)), identity, stopping, tasks }
    }

    /// A client without a connection that is said to have come this way.
    #[cfg(test)]
    pub(super) fn by(via: Via) -> Self {
        Self { via, ..Self::default() }
    }

    /// The same client, which has shown a certificate (DER) that was verified.
    pub(super) fn with_certificate(self, certificate: &[u8]) -> Self {
        let hash = hex::encode(Sha256::digest(certificate));
        Self { identity: format!("certificate {hash}").into(), ..self }
    }

    /// The client's identity, as far as its connection tells: `certificate` and a hash of it, `user` and a
    /// number on this machine, or `address` and an IP address, behind which there may be several. Empty
    /// without a server.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Resolves when the client can receive nothing any more. A mere end of its sending is not that.
    pub async fn gone(&self) {
        self.until(Interest::WRITABLE, Ready::is_write_closed).await;
    }

    /// Resolves when the client has ended its sending, which of a plain request means it has gone.
    pub async fn left(&self) {
        self.until(Interest::READABLE, Ready::is_read_closed).await;
    }

    async fn until(&self, interest: Interest, closed: fn(Ready) -> bool) {
        let Some(socket) = &self.socket else {
            return std::future::pending().await;
        };
        loop {
            let Some(strong) = socket.upgrade() else {
                return;
            };
            match tokio::time::timeout(LOOK, strong.ready(interest)).await {
                Ok(Ok(ready)) if closed(ready) => return,
                Ok(Err(_)) => return,
                Err(_) => continue,
                Ok(Ok(_)) => {}
            }
            drop(strong);
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}

/// An accepted connection. Shared, so that its state can be asked while HTTP reads and writes it.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn identity(&self) -> String {
        match self {
            Self::Tcp(socket) => {
                let address = socket.peer_addr().map(|peer| peer.ip().to_canonical().to_string());
                format!("address {}", address.unwrap_or_default())
            }
            Self::Unix(socket) => match socket.peer_cred() {
                Ok(peer) => format!("user {}", peer.uid()),
                Err(_) => String::new(),
            },
        }
    }

    async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match self {
            Self::Tcp(socket) => socket.ready(interest).await,
            Self::Unix(socket) => socket.ready(interest).await,
        }
    }

    fn poll_write(
        &self,
        context: &mut Context<'_>,
        mut write: impl FnMut(&Self) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(match self {
                Self::Tcp(socket) => socket.poll_write_ready(context),
                Self::Unix(socket) => socket.poll_write_ready(context),
            })?;
            match write(self) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_read(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(match self {
                Self::Tcp(socket) => socket.poll_read_ready(context),
                Self::Unix(socket) => socket.poll_read_ready(context),
            })?;
            let read = match self {
                Self::Tcp(socket) => socket.try_read(buffer),
                Self::Unix(socket) => socket.try_read(buffer),
            };
            match read {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

/// A [`Socket`] as HTTP and TLS use it.
#[derive(Debug)]
pub(super) struct Io(pub Arc<Socket>);

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let size = buffer.remaining().min(READ_MAX);
        let read = ready!(self.0.poll_read(context, buffer.initialize_unfilled_to(size)))?;
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(context, |socket| match socket {
            Socket::Tcp(socket) => socket.try_write(bytes),
            Socket::Unix(socket) => socket.try_write(bytes),
        })
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(context, |socket| match socket {
            Socket::Tcp(socket) => socket.try_write_vectored(slices),
            Socket::Unix(socket) => socket.try_write_vectored(slices),
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = match &*self.0 {
            Socket::Tcp(socket) => SockRef::from(socket).shutdown(Shutdown::Write),
            Socket::Unix(socket) => SockRef::from(socket).shutdown(Shutdown::Write),
        };
        // A client that closed first leaves nothing to shut down.
        Poll::Ready(done.or_else(|e| if e.kind() == io::ErrorKind::NotConnected { Ok(()) } else { Err(e) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(socket: &Arc<Socket>) -> Peer {
        let place = Arc::new(tokio::sync::Semaphore::new(1)).try_acquire_owned().unwrap();
        Peer::new(socket, Via::Unix, place, CancellationToken::new(), TaskTracker::new())
    }

    #[tokio::test]
    async fn a_client_is_its_certificate_or_its_user_or_its_address() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let client = TcpStream::connect(listener.local_addr().expect("address"));
        let (_client, accepted) = tokio::join!(client, listener.accept());
        let socket = Arc::new(Socket::Tcp(accepted.expect("accept").0));
        let peer = of(&socket);
        assert_eq!(peer.identity(), "address 127.0.0.1");
        let [one, same, other] = [b"one", b"one", b"two"].map(|der| peer.clone().with_certificate(der));
        assert!(one.identity().starts_with("certificate ") && one.identity() == same.identity());
        assert_ne!(one.identity(), other.identity());
        let (here, _there) = UnixStream::pair().expect("a pair");
        let uid = here.peer_cred().expect("credentials").uid();
        let peer = of(&Arc::new(Socket::Unix(here)));
        assert_eq!(peer.identity(), format!("user {uid}"));
    }
}
