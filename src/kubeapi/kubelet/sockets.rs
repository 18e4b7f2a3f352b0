//! The WebSocket protocols of exec, attach and port-forward: `v5.channel.k8s.io` with half-close
//! (KEP-4006), `v4.channel.k8s.io`, and their older relatives. The first byte of a message is its channel.

use axum::body::Body;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{FromRequestParts, Request};
use axum::http::Response;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::status::{Result, Status};

/// Channels.
pub const STDIN: u8 = 0;
/// Standard output.
pub const STDOUT: u8 = 1;
/// Standard error.
pub const STDERR: u8 = 2;
/// The status at the end.
pub const ERROR: u8 = 3;
/// Sizes of the terminal.
pub const RESIZE: u8 = 4;
/// The end of a channel (v5).
pub const CLOSE: u8 = 255;

/// Bytes in a message.
const CHUNK: usize = 64 * 1024;

/// The sending side of a connection.
pub type Sender = SplitSink<WebSocket, Message>;
/// The receiving side.
pub type Receiver = SplitStream<WebSocket>;

/// Answers the upgrade, and hands the connection to `serve` with the protocol that was chosen.
///
/// # Errors
/// 400 if the request is no upgrade to a WebSocket.
pub async fn upgrade<F>(
    request: Request,
    protocols: &'static [&'static str],
    serve: F,
) -> Result<Response<Body>>
where
    F: AsyncServe,
{
    let (mut parts, _) = request.into_parts();
    let socket = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let socket = socket.map_err(|e| {
        Status::bad_request(format!(
            "Upgrade request required: this server speaks WebSocket ({})",
            e.body_text()
        ))
    })?;
    let socket =
        socket.protocols(protocols.iter().copied()).max_message_size(16 << 20).max_frame_size(16 << 20);
    Ok(socket.on_upgrade(move |socket| async move {
        let protocol = socket.protocol().and_then(|p| p.to_str().ok()).unwrap_or_default().to_owned();
        serve.serve(socket, protocol).await;
    }))
}

/// What serves a connection.
pub trait AsyncServe: Send + 'static {
    /// Until its end.
    fn serve(self, socket: WebSocket, protocol: String) -> impl Future<Output = ()> + Send;
}

impl<F, R> AsyncServe for F
where
    F: FnOnce(WebSocket, String) -> R + Send + 'static,
    R: Future<Output = ()> + Send,
{
    fn serve(self, socket: WebSocket, protocol: String) -> impl Future<Output = ()> + Send {
        self(socket, protocol)
    }
}

/// A message on a channel.
pub fn message(channel: u8, bytes: &[u8]) -> Message {
    let mut all = Vec::with_capacity(bytes.len() + 1);
    all.push(channel);
    all.extend_from_slice(bytes);
    Message::Binary(all.into())
}

/// Sends what a stream gives on a channel, until its end or the client's.
pub async fn pump(
    stream: Option<Box<dyn AsyncRead + Send + Unpin>>,
    channel: u8,
    sender: &tokio::sync::Mutex<Sender>,
) {
    let Some(mut stream) = stream else { return };
    let mut buffer = vec![0; CHUNK + 1];
    loop {
        let Some(room) = buffer.get_mut(1..) else { return };
        let length = stream.read(room).await.unwrap_or(0);
        if length == 0 {
            return;
        }
        if let Some(first) = buffer.first_mut() {
            *first = channel;
        }
        let bytes = buffer.get(..=length).unwrap_or_default().to_vec();
        if sender.lock().await.send(Message::Binary(bytes.into())).await.is_err() {
            return;
        }
    }
}

/// The next message of a client: its channel and bytes; `None` at the end.
pub async fn next(receiver: &mut Receiver) -> Option<(u8, axum::body::Bytes)> {
    loop {
        match receiver.next().await?.ok()? {
            Message::Binary(bytes) => {
                if let Some(channel) = bytes.first() {
                    return Some((*channel, bytes.slice(1..)));
                }
            }
            // Old clients write channels as digits.
            Message::Text(text) => {
                let bytes = axum::body::Bytes::from(text);
                if let Some(digit) = bytes.first().filter(|d| d.is_ascii_digit()) {
                    return Some((digit - b'0', bytes.slice(1..)));
                }
            }
            Message::Close(_) => return None,
            Message::Ping(_) | Message::Pong(_) => {}
        }
    }
}

/// Sends the last message and closes.
pub async fn finish(sender: &tokio::sync::Mutex<Sender>, status: &serde_json::Value) {
    let mut sender = sender.lock().await;
    let _ = sender.send(message(ERROR, status.to_string().as_bytes())).await;
    // Without a code, Go's clients take the end for a failure.
    let end = CloseFrame { code: close_code::NORMAL, reason: "".into() };
    let _ = sender.send(Message::Close(Some(end))).await;
    let _ = sender.close().await;
}
