//! Accepts connections of the API: TLS, HTTP/1.1 with upgrades, an end in order.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::http::{Certified, Front};

/// How long a handshake, and the head of a request, may take.
const HEAD: Duration = Duration::from_secs(30);
/// Pause after a failed accept (no file descriptors left).
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stopping` is cancelled.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    front: Arc<Front>,
    stopping: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let (acceptor, front, stopping) = (acceptor.clone(), front.clone(), stopping.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = connection(stream, acceptor, front) => {}
                () = stopping.cancelled() => {}
            }
        });
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, front: Arc<Front>) {
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(HEAD, acceptor.accept(stream)).await else { return };
    let certified = Certified(stream.get_ref().1.peer_certificates().is_some());
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let front = front.clone();
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(certified);
            Ok::<_, Infallible>(front.answer(request).await)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(300))
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection of the API ended");
    }
}
