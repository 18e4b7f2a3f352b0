//! Bodies of requests: JSON or YAML, of a size that is bounded.

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use serde_json::Value;

use crate::kubeapi::protobuf;
use crate::kubeapi::status::{Result, Status};

/// As much as Kubernetes takes.
const LIMIT: usize = 3 * 1024 * 1024;

/// The media type of a body.
pub fn media(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The value of a body; `null` if it is empty.
///
/// # Errors
/// 400, 413, 415.
pub async fn read(headers: &HeaderMap, body: Body) -> Result<Value> {
    let bytes = axum::body::to_bytes(body, LIMIT).await.map_err(|e| Status {
        code: 413,
        reason: "RequestEntityTooLarge",
        message: format!("Request entity too large: limit is {LIMIT}: {e}"),
        details: Value::Null,
    })?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Null);
    }
    let media = media(headers);
    let known = ["", "application/json", "application/yaml", protobuf::MEDIA];
    let name = media.split(';').next().unwrap_or_default().trim();
    if !known.contains(&name) && !name.contains("patch") {
        return Err(Status::media_type(
            name,
            "application/json, application/yaml, application/vnd.kubernetes.protobuf",
        ));
    }
    let yaml = media.contains("yaml");
    if media.contains(protobuf::MEDIA) {
        return protobuf::read(&bytes).map_err(Status::bad_request);
    }
    if let Ok(value) = serde_json::from_slice(&bytes) {
        return Ok(value);
    }
    if yaml {
        return serde_yaml_ng::from_slice(&bytes)
            .map_err(|e| Status::bad_request(format!("error parsing YAML: {e}")));
    }
    let words = serde_json::from_slice::<Value>(&bytes).err().map(|e| e.to_string()).unwrap_or_default();
    Err(Status::bad_request(format!("the object provided is unrecognized (must be JSON or YAML): {words}")))
}
