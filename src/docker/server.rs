//! Accepts connections over TCP, TLS, a unix socket and the network of embedded Pods, speaks HTTP/1.1 on them, and
//! ends in an orderly way: no new connections, running requests finish, after ten seconds it is over.
//! Each listener has places of its own for connections, so that containers cannot take those of other clients.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Service, ServiceExt};

use super::early;
use super::heads::{Bounded, Heads};
use super::hijack::ReadsOn;
use super::limits::{CONNECTIONS_MAX, HANDSHAKE_TIME, HEAD_BYTES_MAX, HEAD_TIME, HEADERS_MAX, IDLE_TIME};
use super::peer::{Io, Peer, Socket, Via};
use super::request_line::RequestLines;
use super::tls::Tls;

/// How long requests may go on after the signal to stop.
const GRACE: Duration = Duration::from_secs(10);
/// After which silence the system asks whether the other end still exists.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// The answer to a connection for which there is no place.
const NO_PLACE: &[u8] = b"HTTP/1.1 503 Service Unavailable
Content-Type: application/json
Content-Length: 66
\
    Connection: close

{\"message\":\"too many connections: close some, then try it again\"}
";
/// Pause after a failed accept (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listeners that share one service and one end.
pub struct Server {
    listeners: Vec<Listener>,
    stopping: CancellationToken,
}

struct Listener {
    source: Source,
    tls: Option<Tls>,
    places: Arc<Semaphore>,
}

impl Listener {
    fn new(source: Source, tls: Option<Tls>) -> Self {
        Self { source, tls, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }
}

enum Source {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
    Pods(TcpListener),
}

/// Nobody can connect there.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ListenError {
    /// The port is taken, the address is none of this machine, or d2k may not use it.
    #[error("cannot listen on {address}: {source}")]
    Tcp { address: SocketAddr, source: io::Error },
    /// The socket is in use, or cannot be made.
    #[error("cannot listen on {path}: {source}")]
    Unix { path: PathBuf, source: io::Error },
}

impl Server {
    /// A server that ends when `stopping` is cancelled.
    pub fn new(stopping: CancellationToken) -> Self {
        Self { listeners: Vec::new(), stopping }
    }

    /// Listens on a TCP port (0 = any free one); gives the address.
    ///
    /// # Errors
    /// One line that names the address.
    pub async fn tcp(&mut self, address: SocketAddr, tls: Option<Tls>) -> Result<SocketAddr, ListenError> {
        let wrong = |source| ListenError::Tcp { address, source };
        let listener = TcpListener::bind(address).await.map_err(wrong)?;
        let bound = listener.local_addr().map_err(wrong)?;
        self.listeners.push(Listener::new(Source::Tcp(listener), tls));
        Ok(bound)
    }

    /// Listens on a socket that only Pods of an embedded cluster reach, at their own addresses.
    pub fn pods(&mut self, listener: TcpListener) {
        self.listeners.push(Listener::new(Source::Pods(listener), None));
    }

    /// Listens on a unix socket for its owner and group; a stale one is replaced.
    ///
    /// # Errors
    /// One line that names the path.
    pub fn unix(&mut self, path: &Path) -> Result<(), ListenError> {
        let wrong = |source| ListenError::Unix { path: path.to_owned(), source };
        let listener = bind_unix(path).map_err(wrong)?;
        self.listeners.push(Listener::new(Source::Unix(listener, path.to_owned()), None));
        Ok(())
    }

    /// Serves until `stopping` is cancelled and all requests have ended, ten seconds at most.
    pub async fn run<S>(self, service: S)
    where
        S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
    {
        let tasks = TaskTracker::new();
        let over = CancellationToken::new();
        for listener in self.listeners {
            let shared = Shared { stopping: self.stopping.clone(), over: over.clone(), tasks: tasks.clone() };
            tasks.spawn(accept(listener, service.clone(), shared));
        }
        self.stopping.cancelled().await;
        tasks.close();
        if tokio::time::timeout(GRACE, tasks.wait()).await.is_err() {
            tracing::warn!(open = tasks.len(), "requests did not end in time and are cut");
            over.cancel();
        }
    }
}

#[derive(Clone)]
struct Shared {
    stopping: CancellationToken,
    over: CancellationToken,
    tasks: TaskTracker,
}

/// The socket gets its rights before it gets its name, so that nobody slips in between.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match std::fs::metadata(path) {
        Ok(file) if !file.file_type().is_socket() => {
            return Err(io::Error::other("a file of this name is no socket"));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(io::Error::other("another program listens there"));
        }
        _ => {}
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let passing = PathBuf::from(name);
    let listener = UnixListener::bind(&passing)?;
    let named = std::fs::set_permissions(&passing, std::fs::Permissions::from_mode(0o660))
        .and_then(|()| std::fs::rename(&passing, path));
    if named.is_err() {
        let _ = std::fs::remove_file(&passing);
    }
    named.map(|()| listener)
}

async fn accept<S>(listener: Listener, service: S, shared: Shared)
where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    loop {
        let socket = tokio::select! {
            socket = listener.source.next() => socket,
            () = shared.stopping.cancelled() => break,
        };
        match socket {
            Ok((socket, via)) => {
                let Ok(place) = listener.places.clone().try_acquire_owned() else {
                    shared.tasks.spawn(turn_away(socket, listener.tls.is_some()));
                    continue;
                };
                let (tls, service) = (listener.tls.clone(), service.clone());
                let via = via.verified(tls.as_ref().is_some_and(Tls::verifies_clients));
                let socket = (Arc::new(socket), via, place);
                shared.tasks.spawn(connection(socket, tls, service, shared.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    if let Source::Unix(_, path) = &listener.source {
        let _ = std::fs::remove_file(path);
    }
}

impl Source {
    async fn next(&self) -> io::Result<(Socket, Via)> {
        match self {
            Self::Unix(listener, _) => Ok((Socket::Unix(listener.accept().await?.0), Via::Unix)),
            Self::Tcp(listener) | Self::Pods(listener) => {
                let (stream, from) = listener.accept().await?;
                let from = from.ip().to_canonical();
                let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
                // Both are improvements; a system that refuses them still works.
                let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
                let _ = stream.set_nodelay(true);
                let via = match self {
                    Self::Pods(_) => Via::PodNetwork(from),
                    _ => Via::Tcp { from, verified: false },
                };
                Ok((Socket::Tcp(stream), via))
            }
        }
    }
}

/// Tells a client that there are too many connections. One that expects TLS could not read it.
async fn turn_away(socket: Socket, tls: bool) {
    tracing::warn!(limit = CONNECTIONS_MAX, "a connection was refused: too many are open");
    if !tls {
        let mut io = Io(Arc::new(socket));
        let _ = tokio::time::timeout(HANDSHAKE_TIME, async {
            io.write_all(NO_PLACE).await?;
            io.shutdown().await
        })
        .await;
    }
}

async fn connection<S>(
    (socket, via, place): (Arc<Socket>, Via, OwnedSemaphorePermit),
    tls: Option<Tls>,
    service: S,
    shared: Shared,
) where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let peer = Peer::new(&socket, via, place, shared.stopping.clone(), shared.tasks.clone());
    let io = Io(socket);
    let Some(tls) = tls else {
        return speak(io, peer, service, shared).await;
    };
    match tokio::time::timeout(HANDSHAKE_TIME, tls.acceptor().accept(io)).await {
        Ok(Ok(stream)) => {
            let certificates = stream.get_ref().1.peer_certificates();
            let peer = match certificates.and_then(|all| all.first()) {
                Some(own) => peer.with_certificate(own),
                None => peer,
            };
            speak(stream, peer, service, shared).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

async fn speak<I, S>(io: I, peer: Peer, service: S, shared: Shared)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let heads = Heads::default();
    let io = Bounded { io, heads: heads.clone() };
    let (reading, own) = (heads.clone(), peer.clone());
    let service = tower::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(own.clone());
        let (service, peer, heads) = (service.clone(), own.clone(), reading.clone());
        async move {
            let (request, whole) = early::read(request, &heads).await;
            let mut response = service.oneshot(request).await?;
            early::mark(&mut response, whole);
            // An upgraded connection has no more heads.
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                heads.done();
            }
            Ok::<_, Infallible>(response.map_while_there(peer))
        }
    });
    let mut http = http1::Builder::new();
    http.half_close(true).title_case_headers(true).timer(TokioTimer::new()).header_read_timeout(IDLE_TIME);
    http.max_headers(HEADERS_MAX).max_buf_size(HEAD_BYTES_MAX);
    let served = http
        .serve_connection(TokioIo::new(RequestLines::new(io)), TowerToHyperService::new(service))
        .with_upgrades();
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = heads.late(HEAD_TIME) => return tracing::debug!("a request's head did not arrive in time"),
        () = shared.stopping.cancelled() => {
            served.as_mut().graceful_shutdown();
            tokio::select! {
                ended = served => ended,
                () = shared.over.cancelled() => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

trait WhileThere {
    /// Ends a body that goes on for a client that has left. HTTP does not look at a connection
    /// while it has nothing to write; without this, `events` of a silent cluster would stay forever.
    fn map_while_there(self, peer: Peer) -> Response;
}

impl WhileThere for Response {
    fn map_while_there(self, peer: Peer) -> Response {
        if self.extensions().get::<ReadsOn>().is_some() || self.body().is_end_stream() {
            return self;
        }
        self.map(|body| {
            let left = Box::pin(async move { peer.left().await }) as BoxFuture<'static, ()>;
            Body::new(ThereBody { body, left })
        })
    }
}

/// See [`WhileThere`].
struct ThereBody {
    body: Body,
    left: BoxFuture<'static, ()>,
}

impl HttpBody for ThereBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        self.left.as_mut().poll(context).map(|()| None)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Resolves at Ctrl-C and at SIGTERM.
///
/// # Errors
/// The system allows no signal handlers.
pub async fn stop_signal() -> io::Result<()> {
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        done = tokio::signal::ctrl_c() => done,
        _ = term.recv() => Ok(()),
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
pub(super) mod tests;
