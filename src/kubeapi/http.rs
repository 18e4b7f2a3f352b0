//! The HTTP face: paths and queries become verbs, answers take the form that the client accepts.

#[cfg(test)]
mod bad_input;
mod body;
mod json;
mod query;
mod reads;
#[cfg(test)]
pub mod testing;
mod writes;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use futures::future::BoxFuture;
use serde_json::Value;

use super::path::{self, Path};
use super::reply::{Form, Reply, plain};
use super::status::{Result, Status};
use super::verbs::Api;
use super::{discovery, kinds, openapi, reviews};
pub use query::Query;

/// What serves logs, exec, attach and port-forward of Pods, and figures about them.
pub trait Node: Send + Sync + 'static {
    /// Serves one request about a Pod: `log`, `exec`, `attach` or `portforward`.
    fn serve<'a>(&'a self, asked: Asked, request: Request) -> BoxFuture<'a, Result<Response<Body>>>;
    /// What containers use now: the objects of `metrics.k8s.io`, `pods` or `nodes`.
    fn metrics<'a>(
        &'a self,
        resource: &'a str,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Value>>>;
}

/// A request about a Pod's processes.
#[derive(Debug, Clone)]
pub struct Asked {
    /// `log`, `exec`, `attach` or `portforward`.
    pub what: String,
    /// Namespace of the Pod.
    pub namespace: String,
    /// Name of the Pod.
    pub pod: String,
    /// The rest.
    pub query: Query,
}

/// What the handler needs.
pub struct Front {
    /// The objects.
    pub api: Arc<Api>,
    /// What runs the Pods.
    pub node: Arc<dyn Node>,
    /// The token of the cluster's one user.
    pub token: String,
    /// Whether `/healthz` and `/version` answer anybody.
    pub anonymous: bool,
}

/// Set on a connection whose client has a certificate of the cluster's authority.
#[derive(Debug, Clone, Copy)]
pub struct Certified(pub bool);

impl Front {
    /// Answers one request.
    pub async fn answer(&self, request: Request) -> Response<Body> {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let begin = std::time::Instant::now();
        let form = Form::of(request.headers()).unwrap_or_default();
        let reply = match self.route(request).await {
            Ok(response) => response,
            Err(status) => Reply::status(&status).response(&form),
        };
        let status = reply.status().as_u16();
        tracing::debug!(%method, %uri, status, took = ?begin.elapsed(), "kubeapi answered");
        reply
    }

    async fn route(&self, request: Request) -> Result<Response<Body>> {
        let path = request.uri().path().trim_end_matches('/').to_owned();
        if let Some(open) = self.admit(&path, &request)? {
            return Ok(open);
        }
        // Its documents have media types of their own.
        if let Some(document) = openapi::document(&path, request.headers()) {
            return Ok(document);
        }
        let query = Query::of(request.uri());
        let form = Form::of(request.headers())?.including(query.get("includeObject"));
        if let Some(document) = discovery::document(&path, &form) {
            return if request.method() == Method::GET { Ok(document) } else { Err(Status::no_method()) };
        }
        let served = path.strip_prefix("/apis/").map(|rest| rest.split('/').next().unwrap_or_default());
        let served = match served {
            Some(group) => discovery::has_group(group),
            None => path.starts_with("/api/"),
        };
        if !served {
            return Ok(plain(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n"));
        }
        let (path, watched) = path::unwatched(&path);
        let query = if watched { query.with("watch", "true") } else { query };
        let path = Path::parse(&path).ok_or_else(Status::no_resource)?;
        if reviews::is_one(&path) {
            if request.method() != Method::POST {
                return Err(Status::no_method());
            }
            let (parts, body) = request.into_parts();
            let asked = body::object(&parts.headers, body, reviews::kind(&path)).await?.value;
            return Ok(Reply::json(201, &reviews::answer(&path, asked)).response(&form));
        }
        if path.group == kinds::METRICS {
            return self.metrics(&path, &form).await;
        }
        let kind =
            kinds::by_plural(&path.group, &path.version, &path.plural).ok_or_else(Status::no_resource)?;
        let asks = request.method() == Method::GET;
        match path.subresource.as_str() {
            "log" if kind.name == "Pod" && !asks => return Err(Status::no_method()),
            "eviction" | "binding" if kind.name == "Pod" && asks => return Err(Status::no_method()),
            _ => {}
        }
        if !path.namespace.is_empty() && !kind.namespaced {
            return Err(Status::no_resource());
        }
        if kind.name == "Pod"
            && matches!(path.subresource.as_str(), "log" | "exec" | "attach" | "portforward")
        {
            let asked = Asked { what: path.subresource, namespace: path.namespace, pod: path.name, query };
            return self.node.serve(asked, request).await;
        }
        let answer = match *request.method() {
            Method::GET => self.read(kind, &path, &query, &form).await,
            Method::POST | Method::PUT | Method::PATCH | Method::DELETE => {
                self.write(kind, &path, request, &form).await
            }
            _ => Err(Status::no_method()),
        };
        answer.map(|mut answer| {
            if kind.name == "Endpoints" {
                answer.headers_mut().append(header::WARNING, HeaderValue::from_static(DEPRECATED));
            }
            answer
        })
    }

    /// Refuses who may not ask; the answer to what anybody may ask.
    fn admit(&self, path: &str, request: &Request) -> Result<Option<Response<Body>>> {
        let open = open(path);
        if open.is_none() || !self.anonymous {
            self.authenticate(request.headers(), request.extensions().get::<Certified>())?;
        }
        Ok(open)
    }

    fn authenticate(&self, headers: &HeaderMap, certified: Option<&Certified>) -> Result<()> {
        if certified.is_some_and(|c| c.0) {
            return Ok(());
        }
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        // As long for a wrong token as for the right one.
        let differs = given.len() ^ self.token.len()
            | given.bytes().zip(self.token.bytes()).fold(0, |sum, (a, b)| sum | usize::from(a ^ b));
        if differs == 0 && !self.token.is_empty() { Ok(()) } else { Err(Status::unauthorized()) }
    }

    async fn metrics(&self, path: &Path, form: &Form) -> Result<Response<Body>> {
        if !matches!(path.plural.as_str(), "pods" | "nodes") || !path.subresource.is_empty() {
            return Err(Status::no_resource());
        }
        let items = self.node.metrics(&path.plural, &path.namespace, &path.name).await?;
        let kind = if path.plural == "pods" { "PodMetrics" } else { "NodeMetrics" };
        if !path.name.is_empty() {
            let item = items.into_iter().next();
            let words = || Status {
                code: 404,
                reason: "NotFound",
                message: format!("{} {:?} not found", path.plural, path.name),
                details: Value::Null,
            };
            return Ok(Reply::json(200, &item.ok_or_else(words)?).response(form));
        }
        let list = serde_json::json!({
            "kind": format!("{kind}List"), "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}, "items": items,
        });
        Ok(Reply::json(200, &list).response(form))
    }
}

/// What users of Endpoints are told.
const DEPRECATED: &str =
    "299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\"";

/// What anybody may ask.
fn open(path: &str) -> Option<Response<Body>> {
    let text = |body: &'static str| {
        let mut response = Response::new(Body::from(body));
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    };
    match path {
        "/healthz" | "/livez" | "/readyz" => Some(text("ok")),
        "/version" => Some(Reply::json(200, &discovery::version()).response(&Form::default())),
        _ => None,
    }
}
