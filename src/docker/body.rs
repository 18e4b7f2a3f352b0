//! JSON bodies under Docker's rules: the content type must be JSON where there is a body, a wrong
//! one is a 400 that says where, and its size is bounded.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{Error, Result};
use crate::fault::Fault;

/// Largest JSON body that is read.
pub const LIMIT: usize = 8 * 1024 * 1024;
/// What is read and dropped beyond it, so that the client gets to read the refusal.
const DRAIN: usize = 64 * 1024 * 1024;

/// A body that must be there.
#[derive(Debug, Clone)]
pub struct JsonBody<T> {
    /// The body as its type.
    pub value: T,
    /// The body as it came, with fields that the type does not know.
    pub raw: Value,
}

/// A body that may be absent.
#[derive(Debug, Clone)]
pub struct OptionalJson<T>(pub Option<JsonBody<T>>);

/// An answer in JSON.
#[derive(Debug, Clone)]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(text) => {
                ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response()
            }
            Err(e) => {
                Error(Fault::internal(format!("an answer cannot be written as JSON: {e}"))).into_response()
            }
        }
    }
}

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        let OptionalJson(body) = OptionalJson::from_request(request, state).await?;
        let empty = || Fault::invalid("invalid JSON: got EOF while reading request body");
        Ok(body.ok_or_else(empty)?)
    }
}

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for OptionalJson<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let (parts, body) = request.into_parts();
        let bytes = read(body).await?;
        if bytes.is_empty() {
            return Ok(Self(None));
        }
        check_type(&parts)?;
        Ok(Self(Some(parse(&bytes)?)))
    }
}

/// Reads a whole body within [`LIMIT`].
///
/// # Errors
/// 400 when it is larger or does not arrive.
pub async fn read(mut body: Body) -> Result<Bytes, Fault> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Fault::invalid(format!("the request body did not arrive: {e}")))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > LIMIT {
            drain(body).await;
            return Err(too_large());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

pub(super) fn too_large() -> Fault {
    Fault::invalid(format!("http: request body too large: at most {} MiB are read", LIMIT / 1024 / 1024))
}

async fn drain(mut body: Body) {
    let mut left = DRAIN;
    while let Some(Ok(frame)) = body.frame().await {
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        if left == 0 {
            return;
        }
    }
}

fn check_type(parts: &Parts) -> Result<(), Fault> {
    let given = parts.headers.get(CONTENT_TYPE).map(|v| String::from_utf8_lossy(v.as_bytes()));
    let given = given.unwrap_or_default();
    let media = given.split(';').next().unwrap_or_default().trim();
    if media.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Fault::invalid(format!("Content-Type specified ({given}) must be 'application/json'")))
}

/// Reads JSON as a type and as a value.
///
/// # Errors
/// 400 with the place of what is wrong.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<JsonBody<T>, Fault> {
    let wrong = |e: serde_json::Error| Fault::invalid(format!("invalid JSON: {e}"));
    let raw = serde_json::from_slice(bytes).map_err(wrong)?;
    let value = serde_json::from_slice(bytes).map_err(wrong)?;
    Ok(JsonBody { value, raw })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, Debug)]
    struct Config {
        #[serde(rename = "Image")]
        image: Option<String>,
    }

    async fn post(media: Option<&str>, body: impl Into<Body>) -> Result<OptionalJson<Config>> {
        let mut request = Request::builder().method("POST").uri("/x");
        if let Some(media) = media {
            request = request.header(CONTENT_TYPE, media);
        }
        OptionalJson::from_request(request.body(body.into()).unwrap(), &()).await
    }

    #[tokio::test]
    async fn a_body_comes_as_its_type_and_as_it_is() {
        for media in ["application/json", "Application/JSON; charset=utf-8"] {
            let body = post(Some(media), r#"{"Image":"busybox","Odd":[1]}"#).await.unwrap().0.unwrap();
            assert_eq!(body.value.image.as_deref(), Some("busybox"));
            assert_eq!(body.raw["Odd"][0], 1);
        }
        assert!(
            post(Some("application/json"), r#"{"Image":null}"#)
                .await
                .unwrap()
                .0
                .unwrap()
                .value
                .image
                .is_none()
        );
    }

    #[tokio::test]
    async fn no_body_needs_no_content_type() {
        assert!(post(None, "").await.unwrap().0.is_none());
        assert!(post(Some("text/plain"), "").await.unwrap().0.is_none());
        let request = Request::builder().body(Body::empty()).unwrap();
        let error = JsonBody::<Config>::from_request(request, &()).await.unwrap_err();
        assert_eq!(error.0.message, "invalid JSON: got EOF while reading request body");
    }

    #[tokio::test]
    async fn what_is_wrong_is_said() {
        let words = async |media, body: &'static str| post(media, body).await.unwrap_err().0.message;
        let json = Some("application/json");
        assert_eq!(
            words(Some("text/plain"), "{}").await,
            "Content-Type specified (text/plain) must be 'application/json'"
        );
        assert!(words(None, "{}").await.starts_with("Content-Type specified ()"));
        assert!(words(json, "{\n\"Image\" 3}").await.contains("line 2 column"));
        assert!(words(json, r#"{"Image":3}"#).await.contains("invalid type: integer `3`, expected a string"));
        assert!(words(json, "{} {}").await.contains("trailing characters"));
        assert!(words(json, "{\"Image\":\"\u{1}\"}").await.starts_with("invalid JSON"));
    }

    #[tokio::test]
    async fn a_large_body_is_refused() {
        let error = post(Some("application/json"), vec![b' '; LIMIT + 1]).await.unwrap_err();
        assert_eq!(error.0.message, "http: request body too large: at most 8 MiB are read");
    }
}
