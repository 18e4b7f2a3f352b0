//! Prepares every request for the routes: asks the guard, takes the API version off the path. Adds the headers
//! that every answer carries, refusals included, counts the answer, and turns a panic into the 500 of one request.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use futures::future::BoxFuture;
use tower::Service;

use super::error::{Error, page_not_found};
use super::guard::Guard;
use super::limits::METHOD_BYTES_MAX;
use d2k_common::fault::Fault;
use d2k_common::metrics;

/// The newest API version that is spoken, `1.55`.
pub const NEWEST: ApiVersion = ApiVersion { minor: 55 };
/// The oldest API version that is spoken, `1.24`.
pub const OLDEST: ApiVersion = ApiVersion { minor: 24 };
/// The engine release whose API this is: tools compare it with what they need.
pub const ENGINE: &str = "29.7.2";

const API_VERSION: HeaderName = HeaderName::from_static("api-version");
const OSTYPE: HeaderName = HeaderName::from_static("ostype");
const EXPERIMENTAL: HeaderName = HeaderName::from_static("docker-experimental");

/// The API version of a request, `1.minor`. As an extractor it never fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    /// The part after `1.`.
    pub minor: u32,
}

impl ApiVersion {
    /// Whether the client's version is below `1.minor`.
    pub fn below(self, minor: u32) -> bool {
        self.minor < minor
    }
}

impl std::fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "1.{}", self.minor)
    }
}

impl<S: Sync> FromRequestParts<S> for ApiVersion {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().copied().unwrap_or(NEWEST))
    }
}

/// The whole front around its routes: unknown paths and methods are Docker's 404, and every
/// request and answer passes [`Versioned`].
pub fn front(routes: Router, guard: Guard) -> Versioned<Router> {
    let missing = || async { page_not_found() };
    Versioned { inner: routes.fallback(missing).method_not_allowed_fallback(missing), guard }
}

/// Strips and checks `/vX.Y`, refuses what the guard refuses, answers OPTIONS, marks all answers.
#[derive(Clone)]
pub struct Versioned<S> {
    inner: S,
    guard: Guard,
}

impl<S, B> Service<Request<B>> for Versioned<S>
where
    S: Service<Request<B>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (method, path) = (method_label(request.method()), request.uri().path().to_owned());
        let begun = Instant::now();
        let (inner, guard) = (self.inner.clone(), self.guard.clone());
        // The ready one goes with the request, its copy waits for the next.
        let inner = std::mem::replace(&mut self.inner, inner);
        Box::pin(async move {
            let answered = AssertUnwindSafe(answer(inner, guard, request)).catch_unwind().await;
            let mut answer = answered.unwrap_or_else(|_| {
                let words = format!("d2k failed at {method} {path}: see its log");
                Ok(Error(Fault::internal(words)).into_response())
            })?;
            mark(answer.headers_mut());
            let status = answer.status();
            let took = begun.elapsed();
            tracing::debug!(%method, path, status = status.as_u16(), ?took, "answered");
            metrics::count(&metrics::REQUESTS, &[method, status.as_str()]);
            metrics::observe(&metrics::REQUEST_SECONDS, &[method], took.as_secs_f64());
            Ok(answer)
        })
    }
}

async fn answer<S, B>(mut inner: S, guard: Guard, request: Request<B>) -> Result<Response, Infallible>
where
    S: Service<Request<B>, Response = Response, Error = Infallible>,
{
    let (parts, body) = request.into_parts();
    if let Err(fault) = guard.check(&parts).await {
        let mut refusal = Error(fault).into_response();
        // A connection that may not call keeps no place.
        refusal.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        return Ok(refusal);
    }
    let mut request = Request::from_parts(parts, body);
    match admit(&mut request) {
        Ok(()) => inner.call(request).await,
        Err(answer) => Ok(*answer),
    }
}

/// A method as the label of a metric. A client may send any word, and each label is kept for ever.
fn method_label(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

/// Prepares a request for the routes, or answers it at once.
fn admit<B>(request: &mut Request<B>) -> Result<(), Box<Response>> {
    if request.method().as_str().len() > METHOD_BYTES_MAX {
        return Err(Box::new(page_not_found().into_response()));
    }
    if request.method() == Method::OPTIONS {
        return Err(Box::new(StatusCode::OK.into_response()));
    }
    let mut version = NEWEST;
    if let Some((wanted, rest)) = split(request.uri().path()) {
        version = check(wanted)?;
        let query = request.uri().query();
        let target = query.map_or_else(|| rest.to_owned(), |query| format!("{rest}?{query}"));
        *request.uri_mut() =
            replaced(request.uri(), &target).ok_or_else(|| Box::new(page_not_found().into_response()))?;
    }
    request.extensions_mut().insert(version);
    Ok(())
}

/// `/v1.41/info` is version `1.41` and path `/info`; `/version` and `/volumes` are neither.
fn split(path: &str) -> Option<(&str, &str)> {
    let (version, _) = path.strip_prefix("/v")?.split_once('/')?;
    let numeric = !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let rest = path.get(version.len() + 2..)?;
    numeric.then_some((version, rest))
}

fn replaced(uri: &Uri, target: &str) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(target.parse::<PathAndQuery>().ok()?);
    Uri::from_parts(parts).ok()
}

/// Compares as Docker does: part by part, missing parts are 0.
fn check(text: &str) -> Result<ApiVersion, Box<Response>> {
    let number = |part: &str| part.parse::<u32>().unwrap_or(if part.is_empty() { 0 } else { u32::MAX });
    let mut parts = text.split('.').map(number);
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let rest = parts.max().unwrap_or(0);
    if (major, minor, rest) > (1, NEWEST.minor, 0) {
        let words = format!("client version {text} is too new. Maximum supported API version is {NEWEST}");
        return Err(Box::new(Error(Fault::invalid(words)).into_response()));
    }
    if (major, minor) < (1, OLDEST.minor) {
        let words = format!(
            "client version {text} is too old. Minimum supported API version is {OLDEST}, \
             please upgrade your client to a newer version"
        );
        // Clients of these versions read errors as plain text.
        return Err(Box::new((StatusCode::BAD_REQUEST, words + "\n").into_response()));
    }
    Ok(ApiVersion { minor })
}

fn mark(headers: &mut HeaderMap) {
    // dockerd knows no 405, and so no header of one.
    headers.remove(header::ALLOW);
    // NEWEST and ENGINE as header values; a test compares them.
    headers.insert(API_VERSION, HeaderValue::from_static("1.55"));
    headers.insert(OSTYPE, HeaderValue::from_static("linux"));
    headers.insert(EXPERIMENTAL, HeaderValue::from_static("false"));
    headers.insert(header::SERVER, HeaderValue::from_static("Docker/29.7.2 (linux)"));
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::{get, post};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    fn routes() -> Versioned<Router> {
        let tell = |version: ApiVersion, uri: Uri| async move { format!("{version} {uri}") };
        front(
            Router::new()
                .route("/info", get(tell))
                .route("/images/{*name}", get(tell))
                .route("/auth", post(tell)),
            super::super::guard::tests::open(),
        )
    }

    async fn ask(method: &str, target: &str, headers: &[(&str, &str)]) -> (u16, String, HeaderMap) {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = routes().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap(), headers)
    }

    async fn get_text(target: &str) -> (u16, String) {
        let (status, body, _) = ask("GET", target, &[]).await;
        (status, body)
    }

    #[tokio::test]
    async fn the_version_is_taken_off_the_path() {
        let cases = [
            ("/info", "1.55 /info"),
            ("/v1.24/info", "1.24 /info"),
            ("/v1.41/info?a=b%20c", "1.41 /info?a=b%20c"),
            ("/v1.55.0/info", "1.55 /info"),
            ("/v1.43/images/a/b:c%2Fd/json", "1.43 /images/a/b:c%2Fd/json"),
        ];
        for (target, want) in cases {
            assert_eq!(get_text(target).await, (200, want.to_owned()), "{target}");
        }
    }

    #[tokio::test]
    async fn versions_out_of_range_are_refused_in_dockers_words() {
        let new = r#"{"message":"client version 1.99 is too new. Maximum supported API version is 1.55"}"#;
        assert_eq!(get_text("/v1.99/info").await, (400, new.to_owned()));
        let old = "client version 1.23 is too old. Minimum supported API version is 1.24, \
                   please upgrade your client to a newer version\n";
        assert_eq!(get_text("/v1.23/info").await, (400, old.to_owned()));
        for target in
            ["/v1/info", "/v0.9/info", "/v2.0/info", "/v1.99999999999999/info", "/v1.55.1/info", "/v./info"]
        {
            assert_eq!(get_text(target).await.0, 400, "{target}");
        }
    }

    #[tokio::test]
    async fn what_is_not_there_is_a_page_not_found() {
        let missing = (404, r#"{"message":"page not found"}"#.to_owned());
        for target in ["/nosuch", "/v1.41/nosuch", "/v1.41", "/v1.41/", "/", "/vx/info", "/auth"] {
            assert_eq!(get_text(target).await, missing, "{target}");
        }
        assert_eq!(ask("DELETE", "/v1.41/info", &[]).await.0, 404);
    }

    #[tokio::test]
    async fn every_answer_is_marked() {
        for (method, target) in
            [("GET", "/info"), ("GET", "/nosuch"), ("GET", "/v1.1/x"), ("OPTIONS", "/any")]
        {
            let (status, _, headers) = ask(method, target, &[]).await;
            assert_eq!(headers["api-version"], NEWEST.to_string(), "{target} {status}");
            assert_eq!(headers["ostype"], "linux");
            assert_eq!(headers["docker-experimental"], "false");
            assert_eq!(headers["server"], format!("Docker/{ENGINE} (linux)"));
        }
        assert_eq!(ask("OPTIONS", "/any", &[]).await.0, 200);
    }

    #[tokio::test]
    async fn a_panic_ends_one_request() {
        let fails = async || -> &'static str { panic!("a test's own panic") };
        let routes = || {
            let router = Router::new().route("/fails", get(fails)).route("/info", get(async || "fine"));
            front(router, super::super::guard::tests::open())
        };
        let ask = async |path: &str| {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            let answer = routes().oneshot(request).await.unwrap();
            let status = answer.status().as_u16();
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            (status, String::from_utf8(body.to_vec()).unwrap())
        };
        let failed = ask("/fails").await;
        assert_eq!(failed, (500, r#"{"message":"d2k failed at GET /fails: see its log"}"#.to_owned()));
        assert_eq!(ask("/info").await, (200, "fine".to_owned()));
    }

    #[tokio::test]
    async fn methods_of_a_clients_own_are_one_label_and_a_page_not_found() {
        for method in ["BREW", &"A".repeat(900_000)] {
            assert_eq!(ask(method, "/info", &[]).await.0, 404);
        }
        let metrics = metrics::render();
        assert!(metrics.contains("d2k_requests_total{method=\"other\",status=\"404\"}"), "{metrics}");
        assert!(!metrics.contains("BREW") && metrics.len() < 500_000);
    }
}
