//! Bodies of requests that may be answered before they have come. A refusal that reads nothing would leave the
//! body on the connection, which then closes under the client's next request.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONNECTION, HeaderValue};
use axum::http::{Request, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;
use tokio_util::io::StreamReader;

use super::heads::Heads;
use super::limits::{BODY_IDLE_TIME, HEAD_TIME, REFUSED_BODY_BYTES_MAX, REFUSED_BODY_TIME, SMALL_BODY_BYTES};

/// The request with its body read, if that is small, and whether the connection has nothing unread then.
/// A larger body tells `heads` when it has been read or dropped; a small one is not counted there.
pub(super) async fn read<B>(request: Request<B>, heads: &Heads) -> (Request<Body>, bool)
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<axum::BoxError> + Send,
{
    let (parts, body) = request.into_parts();
    let whole = body.size_hint().upper().is_some_and(|size| size <= SMALL_BODY_BYTES);
    heads.complete(if whole { 1 } else { 2 });
    let body = match whole {
        false => Body::new(Arriving { body, heads: heads.clone() }),
        true => match timeout(HEAD_TIME, body.collect()).await {
            Ok(Ok(collected)) => Body::from(collected.to_bytes()),
            // Its reader reports the error.
            Ok(Err(error)) => Body::from_stream(stream::iter([Err::<Bytes, axum::BoxError>(error.into())])),
            Err(_) => Body::from_stream(stream::iter([Err::<Bytes, axum::BoxError>(LATE.into())])),
        },
    };
    (Request::from_parts(parts, body), whole)
}

const LATE: &str = "it did not arrive in time";

/// A body that arrives while its request is handled.
struct Arriving<B> {
    body: B,
    heads: Heads,
}

impl<B> HttpBody for Arriving<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<axum::BoxError>,
{
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        frame.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Arriving<B> {
    fn drop(&mut self) {
        self.heads.done();
    }
}

/// A body as bytes to read. It fails where the client pauses for too long.
pub fn reader(body: Body) -> impl AsyncRead + Send + Unpin {
    StreamReader::new(blocks(body))
}

/// A body as blocks of bytes. It fails where the client pauses for too long.
pub fn blocks(body: Body) -> BoxStream<'static, std::io::Result<Bytes>> {
    blocks_with_pauses(body, BODY_IDLE_TIME)
}

fn blocks_with_pauses(body: Body, longest: Duration) -> BoxStream<'static, std::io::Result<Bytes>> {
    let blocks = tokio_stream::StreamExt::timeout(body.into_data_stream(), longest);
    let late = |_| std::io::Error::new(std::io::ErrorKind::TimedOut, LATE);
    blocks.map(move |block| block.map_err(late)?.map_err(std::io::Error::other)).boxed()
}

/// Reads a body that nobody needs, so that its client, which sends first and then reads, gets to read why.
pub async fn drain(body: &mut (impl AsyncRead + Unpin)) {
    let mut nothing = tokio::io::sink();
    let mut body = body.take(REFUSED_BODY_BYTES_MAX);
    let _ = timeout(REFUSED_BODY_TIME, tokio::io::copy(&mut body, &mut nothing)).await;
}

/// Tells the client that the connection ends where a refusal may have left a body on it.
pub fn mark(response: &mut Response, whole: bool) {
    let refused = response.status() >= StatusCode::BAD_REQUEST;
    if refused && !whole {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_that_pauses_for_too_long_fails_and_one_that_goes_on_does_not() {
        let block = || Ok::<_, std::io::Error>(Bytes::from("x"));
        let pause = Duration::from_millis(20);
        let slow = stream::iter(0..5).then(move |_| async move {
            tokio::time::sleep(pause).await;
            block()
        });
        let limit = Duration::from_millis(500);
        let whole: Vec<_> = blocks_with_pauses(Body::from_stream(slow), limit).collect().await;
        assert!(whole.len() == 5 && whole.iter().all(Result::is_ok), "{whole:?}");
        let stuck = stream::iter([block()]).chain(stream::pending());
        let mut stuck = blocks_with_pauses(Body::from_stream(stuck), pause);
        assert!(stuck.next().await.unwrap().is_ok());
        let error = stuck.next().await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (std::io::ErrorKind::TimedOut, LATE));
    }
}
