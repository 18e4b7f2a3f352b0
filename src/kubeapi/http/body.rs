//! Bodies of requests: JSON, YAML or protocol buffers, of a size that is bounded.

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use serde_json::Value;

use super::json;
use crate::protobuf;
use crate::status::{Result, Status};

/// As much as Kubernetes takes.
const LIMIT: usize = 3 * 1024 * 1024;
/// As much of a body as an error shows.
const SHOWN: usize = 30;

/// A body that was read.
#[derive(Debug, Default)]
pub struct Sent {
    /// Its value; `null` if it was empty.
    pub value: Value,
    /// Paths of fields that were there twice.
    pub twice: Vec<String>,
}

/// The media type of a body.
pub fn media(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

async fn bytes(body: Body) -> Result<axum::body::Bytes> {
    axum::body::to_bytes(body, LIMIT)
        .await
        .map_err(|e| Status::too_large(format!("Request entity too large: limit is {LIMIT}: {e}")))
}

/// An object of a kind.
///
/// # Errors
/// 400, 413, 415.
pub async fn object(headers: &HeaderMap, body: Body, kind: &str) -> Result<Sent> {
    let bytes = bytes(body).await?;
    let media = media(headers);
    let name = media.split(';').next().unwrap_or_default().trim();
    let wrong = |words: String| {
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): {words} ({})",
            summary(&bytes)
        ))
    };
    let not_read = |words: String| wrong(format!("couldn't get version/kind; json parse error: {words}"));
    let mut twice = Vec::new();
    let value = match name {
        protobuf::MEDIA => protobuf::read(&bytes).map_err(|error| Status::bad_request(error.to_string()))?,
        "application/yaml" => serde_yaml_ng::from_slice(&bytes).map_err(|e| wrong(format!("yaml: {e}")))?,
        "" | "application/json" => json::read(&String::from_utf8_lossy(&bytes), &mut twice)
            .map_err(|error| not_read(error.to_string()))?,
        other => {
            let known = format!("application/json, application/yaml, {}", protobuf::MEDIA);
            return Err(Status::media_type(other, &known));
        }
    };
    if value.is_object() {
        return Ok(Sent { value, twice });
    }
    let of = r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;
    let what = match value {
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        _ => return Err(not_read("the body is null".into())),
    };
    Err(not_read(format!("json: cannot unmarshal {what} into Go value of type {of}")))
}

/// What a request may leave empty, such as the options of a delete.
///
/// # Errors
/// Those of [`object()`].
pub async fn optional(headers: &HeaderMap, body: Body, kind: &str) -> Result<Sent> {
    let bytes = bytes(body).await?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Sent::default());
    }
    object(headers, Body::from(bytes), kind).await
}

/// A patch of any format.
///
/// # Errors
/// 400, 413.
pub async fn patch(headers: &HeaderMap, body: Body) -> Result<Sent> {
    let bytes = bytes(body).await?;
    let mut twice = Vec::new();
    if media(headers).contains("yaml") {
        let value = serde_yaml_ng::from_slice(&bytes)
            .map_err(|e| Status::bad_request(format!("error decoding YAML: {e}")))?;
        return Ok(Sent { value, twice });
    }
    let value = json::read(&String::from_utf8_lossy(&bytes), &mut twice)
        .map_err(|error| Status::bad_request(error.to_string()))?;
    Ok(Sent { value, twice })
}

/// The beginning of a body, as errors show it.
fn summary(bytes: &[u8]) -> String {
    let part = bytes.get(..SHOWN).unwrap_or(bytes);
    let more = if bytes.len() > SHOWN { " ..." } else { "" };
    match bytes.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(part)),
        Some(_) => format!("{}{more}", hex::encode(part)),
    }
}
