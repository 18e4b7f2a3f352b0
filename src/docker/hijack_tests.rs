//! Hijacked streams over real connections: both ways of asking, half-close, clients that vanish.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::Router;
use axum::routing::{get, post};
use tokio::net::TcpStream;

use super::*;
use crate::server::tests::{Dropped, read_until, set, start, talk};

/// Reads all input, then answers with it on both channels.
async fn echo(mut session: Session) {
    let mut all = Vec::new();
    while let Some(bytes) = session.input.recv().await {
        all.extend_from_slice(&bytes);
    }
    for channel in [Channel::Stdout, Channel::Stderr] {
        let chunk = Chunk { channel, bytes: all.clone().into() };
        let _ = session.output.send(chunk).await;
    }
}

#[derive(serde::Deserialize)]
struct Start {
    #[serde(rename = "Tty")]
    tty: Option<bool>,
}

fn routes() -> Router {
    let attach = async |hijack: Hijack| hijack.run(false, echo);
    let exec = async |mut hijack: Hijack| {
        let start: Start = hijack.json().await?;
        Ok::<_, Error>(hijack.run(start.tty == Some(true), echo))
    };
    let ws = async |upgrade: WebSocketUpgrade, peer: Peer| websocket(upgrade, peer, echo);
    Router::new().route("/attach", post(attach)).route("/exec", post(exec)).route("/ws", get(ws))
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: tcp\r\n";
const FRAMES: &str = "\u{1}\0\0\0\0\0\0\u{3}abc\u{2}\0\0\0\0\0\0\u{3}abc";

async fn upgraded(target: &str, body: &str) -> (String, String) {
    let (address, _stop, _) = start(routes()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let request = format!(
        "POST {target} HTTP/1.1\r\n{UPGRADE}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}abc"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_until(&mut stream, "\r\n\r\n").await;
    stream.shutdown().await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    (head, rest)
}

#[tokio::test]
async fn an_upgraded_client_half_closes_and_still_reads_everything() {
    let (head, output) = upgraded("/v1.42/attach", "").await;
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert!(head.ends_with("\r\n\r\n"), "the 101 comes alone: {head}");
    for line in
        ["Connection: Upgrade", "Upgrade: tcp", "Content-Type: application/vnd.docker.multiplexed-stream"]
    {
        assert!(head.contains(&format!("{line}\r\n")), "{line}: {head}");
    }
    assert_eq!(output, FRAMES);
}

#[tokio::test]
async fn the_type_of_the_stream_depends_on_version_and_terminal() {
    let (head, output) = upgraded("/v1.41/attach", "").await;
    assert!(head.contains("application/vnd.docker.raw-stream"), "{head}");
    assert_eq!(output, FRAMES);
    let (head, output) = upgraded("/exec", r#"{"Tty":true}"#).await;
    assert!(head.contains("application/vnd.docker.raw-stream"), "{head}");
    assert_eq!(output, "abcabc");
}

#[tokio::test]
async fn without_an_upgrade_the_body_is_the_input() {
    let (address, _stop, _) = start(routes()).await;
    for (target, body) in [
        ("/attach", "Content-Length: 3\r\n\r\nabc"),
        ("/attach", "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"),
        (
            "/exec",
            "Transfer-Encoding: chunked\r\n\r\n9\r\n {\"Tty\":f\r\n7\r\nalse}ab\r\n1\r\nc\r\n0\r\n\r\n",
        ),
        ("/exec", "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n3\r\nabc\r\n0\r\n\r\n"),
    ] {
        let request = format!("POST {target} HTTP/1.1\r\nConnection: close\r\n{body}");
        let answer = talk(address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("Content-Type: application/vnd.docker.raw-stream\r\n"), "{answer}");
        for frame in [&FRAMES[..11], &FRAMES[11..]] {
            assert!(answer.contains(frame), "{target}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn bad_json_is_refused_before_the_stream() {
    let (address, _stop, _) = start(routes()).await;
    for body in ["{\"Tty\":3}", "[]", "nonsense"] {
        let length = body.len();
        let request = format!("POST /exec HTTP/1.1\r\n{UPGRADE}Content-Length: {length}\r\n\r\n{body}");
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        assert!(read_until(&mut stream, "}").await.starts_with("HTTP/1.1 400 "));
    }
}

/// A process that never ends by itself and writes if told to.
fn endless(dropped: Arc<AtomicBool>, writes: bool) -> Router {
    let attach = async move |hijack: Hijack| {
        let guard = Dropped(dropped.clone());
        hijack.run(false, async move |session: Session| {
            let _guard = guard;
            loop {
                let bytes = Bytes::from_static(b"tick");
                let chunk = Chunk { channel: Channel::Stdout, bytes };
                if writes {
                    let _ = session.output.send(chunk).await;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    };
    Router::new().route("/attach", post(attach))
}

#[tokio::test]
async fn a_client_that_vanishes_ends_its_session() {
    for upgrade in [UPGRADE, ""] {
        let dropped = Arc::new(AtomicBool::new(false));
        let (address, _stop, _) = start(endless(dropped.clone(), true)).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("POST /attach HTTP/1.1\r\n{upgrade}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        read_until(&mut stream, "tick").await;
        drop(stream);
        set(&dropped).await;
    }
}

#[tokio::test]
async fn a_silent_session_ends_when_its_connection_is_reset() {
    for upgrade in [UPGRADE, ""] {
        let dropped = Arc::new(AtomicBool::new(false));
        let (address, _stop, _) = start(endless(dropped.clone(), false)).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("POST /attach HTTP/1.1\r\n{upgrade}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        read_until(&mut stream, "\r\n\r\n").await;
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(stream);
        set(&dropped).await;
    }
}

#[tokio::test]
async fn the_end_of_d2k_ends_sessions() {
    let dropped = Arc::new(AtomicBool::new(false));
    let (address, stop, server) = start(endless(dropped.clone(), true)).await;
    let mut streams = Vec::new();
    for upgrade in [UPGRADE, ""] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("POST /attach HTTP/1.1\r\n{upgrade}\r\n").as_bytes()).await.unwrap();
        read_until(&mut stream, "tick").await;
        streams.push(stream);
    }
    stop.cancel();
    for mut stream in streams {
        stream.read_to_end(&mut Vec::new()).await.unwrap();
    }
    tokio::time::timeout(Duration::from_secs(5), server).await.unwrap().unwrap();
    set(&dropped).await;
}

#[tokio::test]
async fn output_waits_for_a_slow_client_and_none_is_lost() {
    const CHUNKS: usize = 2000;
    let attach = async |hijack: Hijack| {
        hijack.run(true, async |session: Session| {
            for _ in 0..CHUNKS {
                let bytes = Bytes::from(vec![b'x'; 8192]);
                let _ = session.output.send(Chunk { channel: Channel::Stdout, bytes }).await;
            }
        })
    };
    let (address, _stop, _) = start(Router::new().route("/attach", post(attach))).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("POST /attach HTTP/1.1\r\n{UPGRADE}\r\nunread input").as_bytes()).await.unwrap();
    let head = read_until(&mut stream, "\r\n\r\n").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut output = Vec::new();
    stream.read_to_end(&mut output).await.unwrap();
    let early = head.len() - head.find("\r\n\r\n").unwrap() - 4;
    assert_eq!(output.len() + early, CHUNKS * 8192);
}

#[tokio::test]
async fn a_websocket_carries_bare_messages() {
    let upper = async |upgrade: WebSocketUpgrade, peer: Peer| {
        websocket(upgrade, peer, async |mut session: Session| {
            let Some(bytes) = session.input.recv().await else {
                return;
            };
            let chunk = Chunk { channel: Channel::Stdout, bytes: bytes.to_ascii_uppercase().into() };
            let _ = session.output.send(chunk).await;
        })
    };
    let (address, _stop, _) = start(routes().route("/upper", get(upper))).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = "GET /v1.41/upper HTTP/1.1\r\nHost: d2k\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(read_until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 101 "));
    // A masked binary message "abc" with the mask 0.
    stream.write_all(b"\x82\x83\0\0\0\0abc").await.unwrap();
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"\x82\x03ABC\x88\0");
}
