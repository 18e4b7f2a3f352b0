//! Bodies of requests that may be answered before they have come. A refusal that reads nothing would leave the
//! body on the connection, which then closes under the client's next request.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONNECTION, HeaderValue};
use axum::http::{Request, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::io::StreamReader;

/// What is read before the request is handled.
const SMALL: u64 = 64 * 1024;

/// The request with its body read, if that is small, and whether the connection has nothing unread then.
pub async fn read<B>(request: Request<B>) -> (Request<Body>, bool)
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError> + Send,
{
    let (parts, body) = request.into_parts();
    let whole = body.size_hint().upper().is_some_and(|size| size <= SMALL);
    let body = match whole {
        false => Body::new(body),
        true => match body.collect().await {
            Ok(collected) => Body::from(collected.to_bytes()),
            // Whoever reads it says so.
            Err(error) => Body::from_stream(stream::iter([Err::<Bytes, _>(error)])),
        },
    };
    (Request::from_parts(parts, body), whole)
}

/// The most bytes that are read of what is refused anyway, and how long at most.
const MOST: u64 = 64 * 1024 * 1024;
const LONGEST: Duration = Duration::from_secs(10);

/// A body as bytes to read.
pub fn reader(body: Body) -> impl AsyncRead + Send + Unpin {
    let blocks = body.into_data_stream();
    StreamReader::new(TryStreamExt::map_err(blocks, std::io::Error::other).boxed())
}

/// Reads a body that nobody needs, so that its client, which sends first and then reads, gets to read why.
pub async fn drain(body: &mut (impl AsyncRead + Unpin)) {
    let mut nothing = tokio::io::sink();
    let _ = tokio::time::timeout(LONGEST, tokio::io::copy(&mut body.take(MOST), &mut nothing)).await;
}

/// Tells the client that the connection ends where a refusal may have left a body on it.
pub fn mark(response: &mut Response, whole: bool) {
    let refused = response.status() >= StatusCode::BAD_REQUEST;
    if refused && !whole {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}
