//! JSON bodies under Docker's rules: the content type must be JSON where there is a body, and a wrong
//! one is a 400 that says where. Its bytes, its values, its time and the sum of all large bodies at work are
//! bounded: a value takes many times its text in memory. A body is parsed once, the type is read from the values.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::early;
use super::error::{Error, Result};
use super::limits::{
    BODIES_IN_FLIGHT_KIB, BODY_TURN_TIME, JSON_BODY_TIME, JSON_BYTES_MAX, JSON_VALUES_MAX, SMALL_BODY_BYTES,
};
use d2k_common::fault::Fault;

/// Places for the KiB of large bodies, shared by all requests.
static PLACES: Semaphore = Semaphore::const_new(BODIES_IN_FLIGHT_KIB as usize);

/// A body that must be there.
#[derive(Debug)]
pub struct JsonBody<T> {
    /// The body as its type.
    pub value: T,
    /// The body as it came, with fields that the type does not know.
    pub raw: Value,
    /// Its place among the large bodies, until its request is handled.
    _place: Option<SemaphorePermit<'static>>,
}

/// A body that may be absent.
#[derive(Debug)]
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
        let place = place(&PLACES, body.size_hint().upper(), BODY_TURN_TIME).await?;
        let bytes = tokio::time::timeout(JSON_BODY_TIME, read(body)).await;
        let bytes = bytes.map_err(|_| Fault::invalid("the request body did not arrive in time"))??;
        if bytes.is_empty() {
            return Ok(Self(None));
        }
        check_type(&parts)?;
        let (value, raw) = parse(&bytes)?;
        Ok(Self(Some(JsonBody { value, raw, _place: place })))
    }
}

/// Waits for a place among the large bodies, by the size if it is known; a small one needs none.
async fn place(
    places: &'static Semaphore,
    size: Option<u64>,
    turn: Duration,
) -> Result<Option<SemaphorePermit<'static>>, Fault> {
    let size = size.unwrap_or(u64::MAX).min(JSON_BYTES_MAX as u64);
    if size <= SMALL_BODY_BYTES {
        return Ok(None);
    }
    let needed = u32::try_from(size.div_ceil(1024)).unwrap_or(BODIES_IN_FLIGHT_KIB);
    match tokio::time::timeout(turn, places.acquire_many(needed)).await {
        Ok(place) => Ok(place.ok()),
        Err(_) => Err(Fault::unavailable("too many large requests at the same time: try it again")),
    }
}

/// Reads a whole body within [`JSON_BYTES_MAX`].
async fn read(mut body: Body) -> Result<Bytes, Fault> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Fault::invalid(format!("the request body did not arrive: {e}")))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > JSON_BYTES_MAX {
            early::drain(&mut early::reader(body)).await;
            return Err(too_large(JSON_BYTES_MAX));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

pub(super) fn too_large(limit: usize) -> Fault {
    Fault::invalid(format!("http: request body too large: at most {} KiB are read", limit / 1024))
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

/// Reads JSON as a type and as values.
///
/// # Errors
/// 400 with the place of what is wrong.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, Value), Fault> {
    let wrong = |e: serde_json::Error| Fault::invalid(format!("invalid JSON: {e}"));
    if values_at_most(bytes) > JSON_VALUES_MAX {
        let words = format!("invalid JSON: more than {JSON_VALUES_MAX} values");
        return Err(Fault::invalid(words));
    }
    let raw: Value = serde_json::from_slice(bytes).map_err(wrong)?;
    let value = T::deserialize(&raw).map_err(wrong)?;
    Ok((value, raw))
}

/// An upper bound of the number of values in a JSON text: each but the first follows a `,`, `[`, `{` or `:`.
pub(super) fn values_at_most(text: &[u8]) -> usize {
    let (mut count, mut quoted, mut escaped) = (1, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' | b'[' | b'{' | b':' if !quoted => count += 1,
            _ => {}
        }
    }
    count
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
        let error = post(Some("application/json"), vec![b' '; JSON_BYTES_MAX + 1]).await.unwrap_err();
        assert_eq!(error.0.message, "http: request body too large: at most 2048 KiB are read");
    }

    #[tokio::test]
    async fn a_body_of_very_many_values_is_refused_before_it_is_parsed() {
        let zeros = |count: usize| format!("{{\"J\":[{}0]}}", "0,".repeat(count));
        assert!(post(Some("application/json"), zeros(90_000)).await.is_ok());
        let error = post(Some("application/json"), zeros(200_000)).await.unwrap_err();
        assert_eq!(error.0.message, "invalid JSON: more than 100000 values");
        let text = format!("{{\"Image\":\"{}\"}}", ",\\\"[".repeat(200_000));
        assert!(post(Some("application/json"), text).await.is_ok(), "text is no value");
    }

    #[tokio::test]
    async fn large_bodies_wait_for_their_turn_and_small_ones_do_not() {
        // Not those of the process, which other tests take at the same time.
        static OWN: Semaphore = Semaphore::const_new(BODIES_IN_FLIGHT_KIB as usize);
        let turn = Duration::from_millis(50);
        let mut places = Vec::new();
        for _ in 0..4 {
            places.push(place(&OWN, None, turn).await.unwrap().unwrap());
        }
        let refused = place(&OWN, None, turn).await.unwrap_err();
        assert_eq!(refused.message, "too many large requests at the same time: try it again");
        assert!(place(&OWN, Some(2), turn).await.unwrap().is_none());
        places.pop();
        assert!(place(&OWN, None, turn).await.is_ok());
    }
}
