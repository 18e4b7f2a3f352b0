//! SPDY/3.1, as far as Kubernetes' clients speak it: streams with headers over one connection, either
//! after an HTTP upgrade (clients before 1.31) or inside a WebSocket (`kubectl port-forward` since).

mod frames;

use std::collections::HashMap;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::extract::ws::{Message, WebSocket};
use axum::http::{HeaderValue, Response, StatusCode, header};
use futures::{SinkExt, Stream as Source, StreamExt};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::io::ReaderStream;
use tokio_util::task::AbortOnDropHandle;

use crate::status::{Result, Status};
use frames::{Blocks, Frame, Headers};

/// The header by which the protocol inside is chosen.
const PROTOCOL: &str = "x-stream-protocol-version";
/// Frames that wait for a slow reader, a stream.
const WAITING: usize = 256;
/// Streams that a client may have open.
const STREAMS: usize = 1024;
/// Bytes in a frame of data.
const CHUNK: usize = 32 * 1024;
/// A frame that is longer ends the connection.
const LONGEST: usize = 16 << 20;

/// A stream that a client has opened.
pub struct Stream {
    headers: Headers,
    /// What it sends; the end is its own.
    pub input: mpsc::Receiver<Bytes>,
    /// What it gets.
    pub output: Output,
}

/// The way back to a client.
#[derive(Clone)]
pub struct Output {
    id: u32,
    frames: mpsc::Sender<Bytes>,
}

impl Stream {
    /// One of its headers, empty if it has none of that name.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

impl Output {
    /// Sends bytes; `false` if the client is gone.
    pub async fn send(&self, bytes: &[u8]) -> bool {
        self.frames.send(frames::data(self.id, bytes, false)).await.is_ok()
    }

    /// Sends the end.
    pub async fn end(&self) {
        let _ = self.frames.send(frames::data(self.id, &[], true)).await;
    }

    /// Sends what a reader gives, and the end.
    pub async fn copy(&self, reader: Option<impl AsyncRead + Unpin>) {
        if let Some(mut reader) = reader {
            let mut buffer = vec![0; CHUNK];
            while let Ok(length @ 1..) = reader.read(&mut buffer).await {
                if !self.send(buffer.get(..length).unwrap_or_default()).await {
                    return;
                }
            }
        }
        self.end().await;
    }
}

/// Whether a request asks for an upgrade to SPDY.
pub fn is_asked(request: &Request) -> bool {
    let upgrade = request.headers().get(header::UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|value| value.eq_ignore_ascii_case("SPDY/3.1"))
}

/// Answers the upgrade, and hands the streams to `serve` with the protocol that was chosen.
///
/// # Errors
/// 403 if no protocol of the client is known, as Kubernetes has it.
pub fn upgrade<F, R>(mut request: Request, protocols: &[&str], serve: F) -> Result<Response<Body>>
where
    F: FnOnce(mpsc::Receiver<Stream>, String) -> R + Send + 'static,
    R: Future<Output = ()> + Send,
{
    let offered: Vec<String> = request
        .headers()
        .get_all(PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|value| value.trim().to_owned())
        .collect();
    let chosen = protocols.iter().find(|known| offered.iter().any(|o| o == *known));
    // The oldest clients name none.
    let chosen = chosen.or_else(|| protocols.last().filter(|_| offered.is_empty()));
    let chosen = chosen.copied().unwrap_or_default().to_owned();
    let named = HeaderValue::from_str(&chosen).ok().filter(|_| !chosen.is_empty());
    let named = named.ok_or_else(|| Status {
        code: 403,
        reason: "Forbidden",
        message: format!("unable to upgrade: unable to negotiate protocol: client supports {offered:?}, server accepts {protocols:?}"),
        details: serde_json::Value::Null,
    })?;
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let (reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
        let incoming = ReaderStream::new(reader).take_while(|part| std::future::ready(part.is_ok()));
        let incoming = incoming.filter_map(|part| std::future::ready(part.ok()));
        let Started { streams, mut outgoing, reading } = start(Box::pin(incoming));
        let write = async move {
            while let Some(frame) = outgoing.recv().await {
                if writer.write_all(&frame).await.is_err() {
                    return;
                }
            }
            let _ = writer.shutdown().await;
        };
        let served = async {
            serve(streams, chosen).await;
            drop(reading);
        };
        tokio::join!(served, write);
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    headers.insert(PROTOCOL, named);
    Ok(response)
}

/// The streams inside a WebSocket, handed to `serve` until their end.
pub async fn inside<F, R>(socket: WebSocket, serve: F)
where
    F: FnOnce(mpsc::Receiver<Stream>) -> R,
    R: Future<Output = ()>,
{
    let (mut sender, receiver) = socket.split();
    let incoming = receiver
        .take_while(|message| std::future::ready(!matches!(message, Err(_) | Ok(Message::Close(_)))))
        .filter_map(|message| {
            std::future::ready(match message {
                Ok(Message::Binary(bytes)) => Some(bytes),
                _ => None,
            })
        });
    let Started { streams, mut outgoing, reading } = start(Box::pin(incoming));
    let write = async move {
        while let Some(frame) = outgoing.recv().await {
            if sender.send(Message::Binary(frame)).await.is_err() {
                return;
            }
        }
        let _ = sender.close().await;
    };
    let served = async {
        serve(streams).await;
        drop(reading);
    };
    tokio::join!(served, write);
}

/// Reads a connection: the streams that the client opens, and the frames to be written.
fn start(incoming: impl Source<Item = Bytes> + Send + Unpin + 'static) -> Started {
    let (opened, streams) = mpsc::channel(STREAMS);
    let (frames, outgoing) = mpsc::channel(WAITING);
    let reading = AbortOnDropHandle::new(tokio::spawn(async move {
        if read(incoming, opened, frames).await.is_none() {
            tracing::debug!("a client's SPDY makes no sense, or it is gone");
        }
    }));
    Started { streams, outgoing, reading }
}

/// A connection that is read.
struct Started {
    streams: mpsc::Receiver<Stream>,
    /// Ends when nobody can write any more: neither a stream nor the reader.
    outgoing: mpsc::Receiver<Bytes>,
    reading: AbortOnDropHandle<()>,
}

async fn read(
    mut incoming: impl Source<Item = Bytes> + Unpin,
    opened: mpsc::Sender<Stream>,
    frames: mpsc::Sender<Bytes>,
) -> Option<()> {
    let mut blocks = Blocks::new()?;
    let mut inputs: HashMap<u32, mpsc::Sender<Bytes>> = HashMap::new();
    let mut buffer = Vec::new();
    while let Some(bytes) = incoming.next().await {
        buffer.extend_from_slice(&bytes);
        while let Some(frame) = frames::next(&mut buffer) {
            match frame {
                Frame::Open { id, block, last } => {
                    let headers = blocks.read(&block)?;
                    frames.send(frames::reply(id, &blocks.none()?)).await.ok()?;
                    let (sender, input) = mpsc::channel(WAITING);
                    if !last {
                        inputs.insert(id, sender);
                    }
                    let output = Output { id, frames: frames.clone() };
                    opened.send(Stream { headers, input, output }).await.ok()?;
                }
                Frame::Data { id, bytes, last } => {
                    if let Some(input) = inputs.get(&id).filter(|_| !bytes.is_empty()) {
                        let _ = input.send(bytes).await;
                    }
                    if last {
                        inputs.remove(&id);
                    }
                }
                Frame::Reset { id } => drop(inputs.remove(&id)),
                Frame::Ping { id } => frames.send(frames::pong(id)).await.ok()?,
                Frame::Headers { block } => drop(blocks.read(&block)?),
                Frame::Other => {}
            }
        }
        if buffer.len() > LONGEST {
            return None;
        }
    }
    Some(())
}
