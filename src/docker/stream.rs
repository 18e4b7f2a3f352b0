//! Answers that go on: JSON objects one a line, output of a process, plain bytes. Headers leave
//! before the first item, because clients wait for them; each item leaves when it comes.

use std::convert::Infallible;
use std::future::Future;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::frames::{Chunk, encode};
use super::peer::Peer;
use super::version::ApiVersion;

/// Content type of output without frames.
pub const RAW: &str = "application/vnd.docker.raw-stream";
/// Content type of output in frames, which clients know from API 1.42.
pub const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";
/// Chunks that may wait for a slow client.
pub(super) const WAITING: usize = 32;

/// What ends each JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Newline {
    /// `\n`: events, stats.
    Lf,
    /// `\r\n`: progress of pull and push.
    CrLf,
}

/// The content type of a process's output.
pub fn output_type(tty: bool, version: ApiVersion) -> &'static str {
    if tty || version.below(42) { RAW } else { MULTIPLEXED }
}

/// A 200 with JSON objects as they come.
pub fn json_lines<S>(content_type: &'static str, newline: Newline, items: S) -> Response
where
    S: Stream<Item = Value> + Send + 'static,
{
    let end: &[u8] = match newline {
        Newline::Lf => b"\n",
        Newline::CrLf => b"\r\n",
    };
    bytes(
        content_type,
        items.map(move |item| {
            let mut line = item.to_string().into_bytes();
            line.extend_from_slice(end);
            Ok::<_, Infallible>(Bytes::from(line))
        }),
    )
}

/// A 200 whose headers leave now and whose JSON comes later: `wait`.
pub fn json_later(body: impl Future<Output = Value> + Send + 'static) -> Response {
    json_lines("application/json", Newline::Lf, stream::once(body))
}

/// A 200 with bytes as they come. An error cuts the connection, so that the client sees that
/// something is missing.
pub fn bytes<S, E>(content_type: &'static str, items: S) -> Response
where
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: Into<axum::BoxError> + 'static,
{
    let mut response = Response::new(Body::from_stream(items));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A 200 with the output of `produce`, framed unless there is a terminal: `logs`. The future is
/// dropped when the client goes.
pub fn output<F, Fut>(tty: bool, version: ApiVersion, peer: &Peer, produce: F) -> Response
where
    F: FnOnce(mpsc::Sender<Chunk>) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(WAITING);
    let task = AbortOnDropHandle::new(peer.tasks.spawn(produce(sender)));
    bytes(output_type(tty, version), chunks(receiver, !tty, task))
}

/// The chunks of a task that lives as long as their reader.
pub(super) fn chunks(
    receiver: mpsc::Receiver<Chunk>,
    framed: bool,
    task: AbortOnDropHandle<()>,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold((receiver, task), move |(mut receiver, task)| async move {
        let mut waiting = Vec::new();
        // A log comes line by line: what waits goes out as one piece.
        receiver.recv_many(&mut waiting, WAITING).await;
        let mut encoded = waiting.into_iter().map(|chunk| encode(chunk, framed));
        let first = encoded.next()?;
        if encoded.len() == 0 {
            return Some((Ok(first), (receiver, task)));
        }
        let mut all = BytesMut::from(first);
        encoded.for_each(|bytes| all.extend_from_slice(&bytes));
        Some((Ok(all.freeze()), (receiver, task)))
    })
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::super::frames::Channel;
    use super::super::version::{NEWEST, OLDEST};
    use super::*;

    async fn text(response: Response) -> String {
        let body = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn objects_are_lines() {
        let items = || stream::iter([serde_json::json!({"a": 1}), serde_json::json!({})]);
        assert_eq!(text(json_lines("application/json", Newline::CrLf, items())).await, "{\"a\":1}\r\n{}\r\n");
        assert_eq!(text(json_lines("application/json", Newline::Lf, items())).await, "{\"a\":1}\n{}\n");
        assert_eq!(
            text(json_later(async { serde_json::json!({"StatusCode": 7}) })).await,
            "{\"StatusCode\":7}\n"
        );
    }

    #[tokio::test]
    async fn output_is_framed_without_a_terminal() {
        let answer = |tty, version| {
            output(tty, version, &Peer::default(), |output| async move {
                let _ =
                    output.send(Chunk { channel: Channel::Stderr, bytes: Bytes::from_static(b"x") }).await;
            })
        };
        for (tty, version, media, want) in [
            (false, NEWEST, MULTIPLEXED, "\u{2}\0\0\0\0\0\0\u{1}x"),
            (false, OLDEST, RAW, "\u{2}\0\0\0\0\0\0\u{1}x"),
            (true, NEWEST, RAW, "x"),
        ] {
            let response = answer(tty, version);
            assert_eq!(response.headers()["content-type"], media);
            assert_eq!(text(response).await, want);
        }
    }
}
