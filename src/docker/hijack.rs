//! The connection that becomes a process's streams: attach and exec. With `Upgrade: tcp` the
//! client gets a 101 and the raw connection, else a streaming 200; a websocket serves browsers'
//! tools. What runs over it is the same async closure in all three cases.

use std::future::Future;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::body::{parse, too_large};
use super::error::{Error, Result};
use super::frames::{Channel, Chunk, encode};
use super::limits::{HIJACK_BYTES_MAX, HIJACK_TIME, MESSAGE_BYTES_MAX};
use super::peer::Peer;
use super::stream::{RAW, WAITING, bytes, chunks, output_type};
use super::version::ApiVersion;
use d2k_common::fault::Fault;
use d2k_common::metrics;

/// Between the 101 and the first byte. Clients that read the 101 through a buffer of its own
/// lose what lies in the same segment; dockerd has this gap by nature.
const GAP: Duration = Duration::from_millis(20);
/// How long a client may take to read the rest and close after the stream has ended.
const LINGER: Duration = Duration::from_secs(2);
/// Most bytes of input taken at once.
const READ: usize = 32 * 1024;

/// The two ends of a stream, for whoever serves it. When its future ends, so does the output;
/// when the client goes or d2k ends, the future is dropped.
#[derive(Debug)]
pub struct Session {
    /// Standard input; closed when the client half-closes. May be dropped if not wanted.
    pub input: mpsc::Receiver<Bytes>,
    /// Output. Waits for a slow client.
    pub output: mpsc::Sender<Chunk>,
}

impl Session {
    /// Tells a failure that came after the 101: as a line of the output, as Docker does.
    pub async fn fail(&self, fault: &Fault) {
        let bytes = Bytes::from(format!("{fault}\r\n"));
        let _ = self.output.send(Chunk { channel: Channel::Stdout, bytes }).await;
    }
}

fn session() -> (Session, mpsc::Sender<Bytes>, mpsc::Receiver<Chunk>) {
    let (into, input) = mpsc::channel(WAITING);
    let (output, out) = mpsc::channel(WAITING);
    (Session { input, output }, into, out)
}

/// A request for a hijacked stream. Extract it last: it owns the body.
pub struct Hijack {
    upgrade: Option<OnUpgrade>,
    body: Body,
    /// Input that came behind the JSON of the body.
    rest: Bytes,
    version: ApiVersion,
    peer: Peer,
}

impl<S: Sync> FromRequest<S> for Hijack {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let (mut parts, body) = request.into_parts();
        let upgrade = parts.extensions.remove::<OnUpgrade>().filter(|_| wants_upgrade(&parts.headers));
        let version = parts.extensions.get().copied().unwrap_or(super::version::NEWEST);
        let peer = parts.extensions.get().cloned().unwrap_or_default();
        Ok(Self { upgrade, body, rest: Bytes::new(), version, peer })
    }
}

fn wants_upgrade(headers: &HeaderMap) -> bool {
    let has = |name, token: &str| {
        let values = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
        values.flat_map(|v| v.split(',')).any(|v| v.trim().eq_ignore_ascii_case(token))
    };
    has(header::CONNECTION, "upgrade") && has(header::UPGRADE, "tcp")
}

impl Hijack {
    /// Reads the JSON object with which the body begins (exec start); what follows it is input.
    /// An empty body is an empty object.
    ///
    /// # Errors
    /// 400 as for any JSON body, and where it does not arrive within [`HIJACK_TIME`].
    pub async fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        let late = |_| Fault::invalid("the request body did not arrive in time");
        let object = tokio::time::timeout(HIJACK_TIME, self.object()).await.map_err(late)??;
        Ok(parse(if object.is_empty() { b"{}" } else { &object })?.0)
    }

    /// The bytes of the first JSON object; what follows it is kept as input.
    async fn object(&mut self) -> Result<Bytes> {
        let mut read = BytesMut::new();
        let mut end = ObjectEnd::default();
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|e| Fault::invalid(format!("the request body did not arrive: {e}")))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let before = read.len();
            if let Some(at) = end.find(&data) {
                read.extend_from_slice(&data);
                let object = read.split_to(before + at);
                // Go's encoder ends a body with a newline, which is no input.
                self.rest =
                    read.strip_prefix(b"\n").map_or_else(|| read.clone().freeze(), Bytes::copy_from_slice);
                return Ok(object.freeze());
            }
            if before + data.len() > HIJACK_BYTES_MAX {
                return Err(too_large(HIJACK_BYTES_MAX).into());
            }
            read.extend_from_slice(&data);
        }
        Ok(read.freeze())
    }

    /// Answers and runs `serve` over the stream. Check everything that may be refused before.
    pub fn run<F, Fut>(self, tty: bool, serve: F) -> Response
    where
        F: FnOnce(Session) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let Self { upgrade, body, rest, version, peer } = self;
        let Some(upgrade) = upgrade else {
            return plain(body, rest, tty, peer, serve);
        };
        let tasks = peer.tasks.clone();
        tasks.spawn(async move {
            let Ok(upgraded) = upgrade.await else { return };
            tokio::time::sleep(GAP).await;
            let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
            let input = rest_then(rest, reader);
            converse(input, writer, !tty, &peer, serve).await;
        });
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(output_type(tty, version)));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("tcp"));
        response
    }
}

/// Finds the end of a JSON object in text that comes in parts. Each byte is looked at once.
#[derive(Default)]
struct ObjectEnd {
    depth: usize,
    quoted: bool,
    escaped: bool,
}

impl ObjectEnd {
    /// How many bytes of this part belong to the object, once it is whole.
    fn find(&mut self, part: &[u8]) -> Option<usize> {
        for (at, byte) in part.iter().enumerate() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.quoted => self.escaped = true,
                b'"' => self.quoted = !self.quoted,
                b'{' if !self.quoted => self.depth += 1,
                b'}' if !self.quoted => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

fn rest_then<R: AsyncRead + Unpin>(rest: Bytes, reader: R) -> tokio::io::Chain<std::io::Cursor<Bytes>, R> {
    AsyncReadExt::chain(std::io::Cursor::new(rest), reader)
}

/// Marks an answer whose client may end its sending and still reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReadsOn;

/// The streaming 200 for clients that ask for no upgrade: their input is the request's body.
fn plain<F, Fut>(body: Body, rest: Bytes, tty: bool, peer: Peer, serve: F) -> Response
where
    F: FnOnce(Session) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let (session, into, out) = session();
    let task = peer.tasks.clone().spawn(async move {
        let _open = metrics::Open::new(&metrics::STREAMS, &["plain"]);
        tokio::select! {
            () = serve(session) => {}
            () = feed(rest, body, into) => {}
            () = peer.gone() => {}
            () = peer.stopping.cancelled() => {}
        }
    });
    let mut response = bytes(RAW, chunks(out, !tty, AbortOnDropHandle::new(task)));
    response.extensions_mut().insert(ReadsOn);
    response
}

/// Hands the body on as input; returns only when the client is lost.
async fn feed(rest: Bytes, mut body: Body, into: mpsc::Sender<Bytes>) {
    if !rest.is_empty() {
        let _ = into.send(rest).await;
    }
    while let Some(frame) = body.frame().await {
        match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) => _ = into.send(data).await,
            Ok(Err(_)) => {}
            Err(_) => return,
        }
    }
    drop(into);
    std::future::pending().await
}

/// Runs a session over a raw connection until it ends or the client is lost.
async fn converse<R, W, F, Fut>(mut reader: R, mut writer: W, framed: bool, peer: &Peer, serve: F)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    F: FnOnce(Session) -> Fut,
    Fut: Future<Output = ()>,
{
    let _open = metrics::Open::new(&metrics::STREAMS, &["upgraded"]);
    let (session, into, out) = session();
    let served = async {
        let serve = async {
            serve(session).await;
            Ok(())
        };
        tokio::try_join!(serve, write(&mut writer, out, framed))
    };
    tokio::select! {
        _ = served => {}
        () = read(&mut reader, into) => return,
        () = peer.gone() => return,
        () = peer.stopping.cancelled() => {}
    }
    // Closing with unread input would reset the connection and cost the client the last bytes.
    let _ = tokio::time::timeout(LINGER, async {
        if writer.shutdown().await.is_ok() {
            let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
        }
    })
    .await;
}

/// Hands input on, or drops what nobody wants; returns only when the client is lost.
async fn read<R: AsyncRead + Unpin>(reader: &mut R, into: mpsc::Sender<Bytes>) {
    let mut buffer = BytesMut::with_capacity(READ);
    loop {
        buffer.reserve(READ);
        match reader.read_buf(&mut buffer).await {
            Ok(0) => break,
            Ok(_) => _ = into.send(buffer.split().freeze()).await,
            Err(_) => return,
        }
    }
    drop(into);
    std::future::pending().await
}

async fn write<W>(writer: &mut W, mut out: mpsc::Receiver<Chunk>, framed: bool) -> std::io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    while let Some(chunk) = out.recv().await {
        writer.write_all(&encode(chunk, framed)).await?;
        while let Ok(chunk) = out.try_recv() {
            writer.write_all(&encode(chunk, framed)).await?;
        }
        writer.flush().await?;
    }
    Ok(())
}

/// Runs `serve` over a websocket: binary messages, never framed. Its client cannot half-close.
pub fn websocket<F, Fut>(upgrade: WebSocketUpgrade, peer: Peer, serve: F) -> Response
where
    F: FnOnce(Session) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    upgrade.max_message_size(MESSAGE_BYTES_MAX).on_upgrade(move |socket| async move {
        let tasks = peer.tasks.clone();
        tasks.track_future(converse_messages(socket, peer, serve)).await;
    })
}

async fn converse_messages<F, Fut>(socket: WebSocket, peer: Peer, serve: F)
where
    F: FnOnce(Session) -> Fut,
    Fut: Future<Output = ()>,
{
    let _open = metrics::Open::new(&metrics::STREAMS, &["websocket"]);
    let (mut sink, mut messages) = socket.split();
    let (session, into, out) = session();
    let served = async {
        let serve = async {
            serve(session).await;
            Ok(())
        };
        tokio::try_join!(serve, send_messages(&mut sink, out))
    };
    tokio::select! {
        _ = served => {}
        () = read_messages(&mut messages, into) => return,
        () = peer.gone() => return,
        () = peer.stopping.cancelled() => {}
    }
    let _ = tokio::time::timeout(LINGER, async {
        let _ = sink.send(Message::Close(None)).await;
        while let Some(Ok(_)) = messages.next().await {}
    })
    .await;
}

async fn read_messages(messages: &mut SplitStream<WebSocket>, into: mpsc::Sender<Bytes>) {
    while let Some(Ok(message)) = messages.next().await {
        match message {
            Message::Binary(data) => _ = into.send(data).await,
            Message::Text(text) => _ = into.send(text.into()).await,
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) => {}
        }
    }
}

async fn send_messages(
    sink: &mut SplitSink<WebSocket, Message>,
    mut out: mpsc::Receiver<Chunk>,
) -> Result<(), axum::Error> {
    while let Some(chunk) = out.recv().await {
        sink.send(Message::Binary(chunk.bytes)).await?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "hijack_tests.rs"]
mod tests;
