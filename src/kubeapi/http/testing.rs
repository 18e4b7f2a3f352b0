//! The API server without a network, for tests.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Response, header};
use futures::future::BoxFuture;
use serde_json::Value;

use super::{Asked, Certified, Front, Node};
use crate::identities::Identities;
use crate::status::{Result, Status};
use crate::tokens::testing::key;
use crate::verbs::Api;

/// A Node where no process runs.
struct Nothing;

impl Node for Nothing {
    fn serve<'a>(&'a self, _: Asked, _: Request) -> BoxFuture<'a, Result<Response<Body>>> {
        Box::pin(async { Err(Status::no_resource()) })
    }

    fn metrics<'a>(&'a self, _: &'a str, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Vec<Value>>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub code: u16,
    /// The texts of its warnings.
    pub warnings: Vec<String>,
    /// Its body.
    pub text: String,
}

impl Answer {
    /// The body as JSON, `null` if it is none.
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}

/// An API server.
pub struct Server(Front);

impl Server {
    /// Over these objects.
    pub fn new(api: Arc<Api>) -> Self {
        let identities = Arc::new(Identities::new(api.clone(), key(), "token".to_owned()));
        Self(Front { api, node: Arc::new(Nothing), identities, anonymous: false })
    }

    /// Sends a request as the user of the cluster.
    pub async fn send(&self, method: &str, uri: &str, media: &str, body: impl Into<Vec<u8>>) -> Answer {
        let body: Vec<u8> = body.into();
        let mut request = Request::builder().method(method).uri(uri).body(Body::from(body)).unwrap();
        request.headers_mut().insert(header::CONTENT_TYPE, media.parse().unwrap());
        request.headers_mut().insert(header::USER_AGENT, "test/1".parse().unwrap());
        request.extensions_mut().insert(Certified(true));
        let (parts, body) = self.0.answer(request).await.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let warnings = parts.headers.get_all(header::WARNING).iter();
        let text = |value: &axum::http::HeaderValue| {
            let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            let quoted = text.strip_prefix("299 - \"").and_then(|text| text.strip_suffix('"')).unwrap();
            quoted.replace("\\\"", "\"").replace("\\\\", "\\")
        };
        Answer {
            code: parts.status.as_u16(),
            warnings: warnings.map(text).collect(),
            text: String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    /// Sends an object.
    pub async fn make(&self, uri: &str, object: &Value) -> Answer {
        self.send("POST", uri, "application/json", object.to_string()).await
    }
}
