//! The server over real connections: odd requests, ends of clients, and its own end.

use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::routing::{get, post};
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::body::JsonBody;
use crate::stream::{Newline, json_lines};
use crate::version::front;

const SOON: Duration = Duration::from_secs(5);

/// A server of some routes on a port of its own.
pub(crate) async fn start(routes: Router) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
    let stopping = CancellationToken::new();
    let mut server = Server::new(stopping.clone());
    let address = server.tcp("127.0.0.1:0".parse().unwrap(), None).await.unwrap();
    (address, stopping, tokio::spawn(server.run(front(routes, crate::guard::tests::open()))))
}

/// Sends a request and reads until the server closes.
pub(crate) async fn talk(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads until `wanted` has come.
pub(crate) async fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut answer = Vec::new();
    while !String::from_utf8_lossy(&answer).contains(wanted) {
        let read = tokio::time::timeout(SOON, stream.read_buf(&mut answer)).await.unwrap().unwrap();
        assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Tells by a flag that it was dropped.
pub(crate) struct Dropped(pub Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Waits until a flag is set.
pub(crate) async fn set(flag: &AtomicBool) {
    let wait = async {
        while !flag.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.expect("never set");
}

/// Events of a silent system: one object, then nothing.
fn silent(dropped: Arc<AtomicBool>) -> Router {
    let events = async move || {
        let guard = Dropped(dropped.clone());
        let items = futures::stream::iter([serde_json::json!({"a": 1})]).chain(futures::stream::pending());
        json_lines("application/json", Newline::Lf, items.inspect(move |_| _ = &guard))
    };
    Router::new().route("/events", get(events))
}

#[tokio::test]
async fn a_request_without_a_host_is_served() {
    let (address, _stop, _) = start(Router::new().route("/_ping", get(async || "OK"))).await;
    for host in ["", "Host:\r\n", "Host: d2k\r\n"] {
        let request = format!("GET /v1.41/_ping HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
        let answer = talk(address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nOK"), "{answer}");
        assert!(answer.contains("Api-Version: 1.55\r\n") && answer.contains("Ostype: linux\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn a_large_body_gets_its_refusal() {
    let take = async |body: JsonBody<serde_json::Value>| body.raw.to_string();
    let (address, _stop, _) = start(Router::new().route("/x", post(take))).await;
    let body = vec![b' '; 10 * 1024 * 1024];
    let head = format!(
        "POST /x HTTP/1.1\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let answer = talk(address, &[head.as_bytes(), &body].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("request body too large"), "{answer}");
}

#[tokio::test]
async fn a_refusal_that_reads_no_body_leaves_the_connection_usable() {
    let routes = Router::new()
        .route("/commit", post(async || (axum::http::StatusCode::NOT_IMPLEMENTED, "no")))
        .route("/_ping", get(async || "pong"));
    let (address, _stop, _) = start(routes).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"POST /commit HTTP/1.1\r\nContent-Length: 5\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    stream.write_all(b"later").await.unwrap();
    read_until(&mut stream, "\r\n\r\nno").await;
    stream.write_all(b"GET /_ping HTTP/1.1\r\n\r\n").await.unwrap();
    read_until(&mut stream, "\r\n\r\npong").await;
    // Of what has no known end nothing is read: the client is told that the connection closes.
    stream.write_all(b"POST /commit HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    let answer = read_until(&mut stream, "\r\n\r\nno").await;
    assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn headers_and_the_first_object_come_at_once_and_a_client_that_leaves_is_noticed() {
    let dropped = Arc::new(AtomicBool::new(false));
    let (address, _stop, _) = start(silent(dropped.clone())).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /events HTTP/1.1\r\n\r\n").await.unwrap();
    let answer = read_until(&mut stream, "{\"a\":1}\n").await;
    assert!(answer.contains("Transfer-Encoding: chunked"), "{answer}");
    assert!(!dropped.load(Ordering::SeqCst));
    drop(stream);
    set(&dropped).await;
}

#[tokio::test]
async fn the_end_lets_requests_end() {
    let slow = async || {
        tokio::time::sleep(Duration::from_millis(200)).await;
        "done"
    };
    let (address, stop, server) = start(Router::new().route("/slow", get(slow))).await;
    let asked = tokio::spawn(async move { talk(address, b"GET /slow HTTP/1.1\r\n\r\n").await });
    let idle = TcpStream::connect(address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    stop.cancel();
    assert!(asked.await.unwrap().ends_with("done"));
    tokio::time::timeout(SOON, server).await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
    drop(idle);
}

#[tokio::test]
async fn a_unix_socket_is_for_owner_and_group_and_a_stale_one_is_replaced() {
    let path = std::env::temp_dir().join(format!("d2k-test-{}.sock", std::process::id()));
    drop(UnixListener::bind(&path).unwrap());
    let stopping = CancellationToken::new();
    let mut server = Server::new(stopping.clone());
    server.unix(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let error = Server::new(stopping.clone()).unix(&path).unwrap_err().to_string();
    assert_eq!(error, format!("cannot listen on {}: another program listens there", path.display()));
    let dropped = Arc::new(AtomicBool::new(false));
    let running = tokio::spawn(server.run(front(silent(dropped.clone()), crate::guard::tests::open())));
    let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    stream.write_all(b"GET /events HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(stream.read(&mut [0; 64]).await.unwrap() > 0);
    drop(stream);
    set(&dropped).await;
    stopping.cancel();
    running.await.unwrap();
    assert!(!path.exists());
    std::fs::write(&path, "").unwrap();
    assert!(Server::new(stopping).unix(&path).unwrap_err().to_string().ends_with("is no socket"));
    std::fs::remove_file(&path).unwrap();
}
