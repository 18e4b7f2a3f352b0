//! Accepts connections of the API: TLS, HTTP/1.1 with upgrades, an end in order.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::http::{Certified, Front};

/// How long a handshake may take, and the head of a request of a client without a certificate: nobody knows yet who that is.
const HEAD: Duration = Duration::from_secs(30);
/// How long the next request of a client with a certificate may take.
const NEXT_HEAD: Duration = Duration::from_secs(300);
/// Length of the head of a request, in bytes: a URI, which holds the command of an exec, may have half of it.
const LONGEST_HEAD: usize = 128 << 10;
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
    let places = Arc::new(Semaphore::new(front.api.store.limits().connections));
    loop {
        // Whoever comes when there are too many waits in the kernel's queue.
        if places.available_permits() == 0 {
            tracing::warn!(
                "the API server has as many connections as it takes: new ones wait until one ends"
            );
        }
        let place = tokio::select! {
            place = places.clone().acquire_owned() => place.ok(),
            () = stopping.cancelled() => return,
        };
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
            let _place = place;
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
            let mut response = front.answer(request).await;
            if response.status() == StatusCode::UNAUTHORIZED {
                // A place is for those who are known.
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(if certified.0 { NEXT_HEAD } else { HEAD })
        .max_buf_size(LONGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection of the API ended");
    }
}
