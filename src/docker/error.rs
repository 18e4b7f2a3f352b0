//! How a fault travels over HTTP: its kind becomes a status, its words `{"message": "…"}`. The
//! only place of the front that knows both.

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use d2k_common::fault::{Fault, Kind};

/// A fault on its way to the client. Handlers get it from a [`Fault`] by `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(pub Fault);

/// What handlers and extractors of the front answer.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self(fault)
    }
}

/// The status code of a kind of failure.
pub fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Unauthorized => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::NotModified => StatusCode::NOT_MODIFIED,
        Kind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let Fault { kind, message } = self.0;
        if kind == Kind::Internal {
            tracing::error!(%message, "a request failed");
        }
        if kind == Kind::NotModified {
            return StatusCode::NOT_MODIFIED.into_response();
        }
        let json = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        (status(kind), json, serde_json::json!({ "message": message }).to_string()).into_response()
    }
}

/// What dockerd answers for a path or method that it does not have.
pub fn page_not_found() -> Error {
    Error(Fault::not_found("page not found"))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn read(error: Error) -> (StatusCode, String) {
        let answer = error.into_response();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn words_travel_as_a_message() {
        let (status, body) = read(Fault::conflict("name \"/a\" is in use").into()).await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert_eq!(body, r#"{"message":"name \"/a\" is in use"}"#);
    }

    #[tokio::test]
    async fn nothing_to_do_has_no_body() {
        let (status, body) = read(Fault::not_modified().into()).await;
        assert_eq!((status, body.as_str()), (StatusCode::NOT_MODIFIED, ""));
    }
}
