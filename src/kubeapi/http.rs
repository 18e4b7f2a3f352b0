//! The HTTP face: paths and queries become verbs, answers take the form that the client accepts.

mod attributes;
#[cfg(test)]
mod bad_input;
mod body;
mod json;
mod query;
mod reads;
#[cfg(test)]
pub mod testing;
mod unstored;
mod writes;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::Value;

use super::access::{self, User};
use super::identities::Identities;
use super::path::{self, Path};
use super::reply::{Form, Reply, plain};
use super::status::{Result, Status};
use super::tokens::ISSUER;
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
    /// All that come with a token.
    pub identities: Arc<Identities>,
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
        // As in Kubernetes, a wrong token is refused also where none is needed.
        if self.anonymous
            && !request.headers().contains_key(header::AUTHORIZATION)
            && let Some(open) = open(&path)
        {
            return Ok(open);
        }
        let query = Query::of(request.uri());
        let user = self.authenticate(request.headers(), request.extensions().get::<Certified>())?;
        access::authorize(&user, &attributes::of(request.method(), &path, &query))?;
        if let Some(open) = open(&path) {
            return Ok(open);
        }
        // Its documents have media types of their own.
        if let Some(document) = openapi::document(&path, request.headers()) {
            return Ok(document);
        }
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
        if let Some(kind) = reviews::of(&path) {
            return self.review(kind, &user, request, &form).await;
        }
        if path.group == kinds::METRICS {
            return self.metrics(&path, &form).await;
        }
        self.resource(path, query, request, &form).await
    }

    /// Answers a request about a kind that is kept.
    async fn resource(
        &self,
        path: Path,
        query: Query,
        request: Request,
        form: &Form,
    ) -> Result<Response<Body>> {
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
        if kind.name == "ServiceAccount" && path.subresource == "token" && !path.namespace.is_empty() {
            return self.token(&path, request, form).await;
        }
        let answer = match *request.method() {
            Method::GET => self.read(kind, &path, &query, form).await,
            Method::POST | Method::PUT | Method::PATCH | Method::DELETE => {
                let answer = self.write(kind, &path, request, form).await?;
                self.api.store.sync().await?;
                Ok(answer)
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

    /// The user whose certificate or token a request comes with.
    fn authenticate(&self, headers: &HeaderMap, certified: Option<&Certified>) -> Result<User> {
        if certified.is_some_and(|c| c.0) {
            return Ok(User::administrator());
        }
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        let now = Timestamp::now().as_second();
        match self.identities.of_token(given, &[ISSUER.to_owned()], now) {
            Ok((user, _)) => Ok(user),
            Err(error) => {
                tracing::debug!(%error, "a request came without a right token");
                Err(Status::unauthorized())
            }
        }
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

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use serde_json::json;

    use super::*;
    use crate::identities::Wanted;
    use crate::store::Store;
    use crate::tokens::testing::key;
    use crate::verbs::{Settings, Target};

    /// A node that would do whatever it is asked.
    struct Obedient;

    impl Node for Obedient {
        fn serve<'a>(&'a self, _: Asked, _: Request) -> BoxFuture<'a, Result<Response<Body>>> {
            async { Ok(Response::new(Body::from("done"))) }.boxed()
        }

        fn metrics<'a>(&'a self, _: &'a str, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Vec<Value>>> {
            async { Ok(vec![json!({"metadata": {"name": "secret"}})]) }.boxed()
        }
    }

    /// A cluster with the account `default`.
    fn front(anonymous: bool) -> Front {
        let api = Arc::new(Api::new(Store::in_memory(), Settings::default()));
        let made = json!({"metadata": {"name": "default"}});
        api.create(&Target::own(&kinds::NAMESPACE, "", ""), made.clone()).unwrap();
        api.create(&Target::own(&kinds::SERVICE_ACCOUNT, "default", ""), made).unwrap();
        let identities = Arc::new(Identities::new(api.clone(), key(), "secret".into()));
        Front { api, node: Arc::new(Obedient), identities, anonymous }
    }

    /// The token of the account, for somebody.
    fn token_for(front: &Front, audience: &str) -> String {
        let wanted = Wanted {
            namespace: "default",
            account: "default",
            audiences: vec![audience.to_owned()],
            seconds: 600,
            bound: None,
        };
        front.identities.issue(&wanted, Timestamp::now().as_second()).unwrap()
    }

    /// The status of the answer to a request with this token, and the answer.
    async fn ask(front: &Front, line: &str, token: &str) -> (u16, String) {
        let (method, uri) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(uri);
        if !token.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = if method == "GET" { Body::empty() } else { Body::from("{}") };
        let answer = front.answer(request.body(body).unwrap()).await;
        let status = answer.status().as_u16();
        let bytes = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8_lossy(&bytes).into_owned())
    }

    #[tokio::test]
    async fn an_account_reaches_nothing_but_what_tells_of_the_cluster_and_of_itself() {
        let front = front(false);
        let token = token_for(&front, ISSUER);
        for (line, wanted) in [
            ("GET /version", 200),
            ("GET /healthz", 200),
            ("GET /api/v1", 200),
            ("GET /apis/apps/v1/", 200),
            ("GET /apis/nonsense/v1", 404),
            ("GET /openapi/v3", 200),
            ("POST /apis/authentication.k8s.io/v1/selfsubjectreviews", 201),
            ("GET /", 403),
            ("POST /version", 403),
            ("GET /api/v1/namespaces/default/pods", 403),
            ("GET /api/v1/namespaces/default/pods/p/log", 403),
            ("GET /api/v1/namespaces/default/pods/p/exec?command=sh", 403),
            ("GET /api/v1/namespaces/default/secrets?watch=true", 403),
            ("GET /apis/metrics.k8s.io/v1beta1/pods", 403),
            ("GET //api/v1/pods", 403),
            ("GET /api/v1/namespaces/default%2fpods", 403),
            ("GET /api/v1//pods", 404),
            ("GET /api/v1/../api/v1/pods", 403),
            ("POST /api/v1/namespaces/default/serviceaccounts/default/token", 403),
            ("POST /apis/authentication.k8s.io/v1/tokenreviews", 403),
            ("POST /apis/authorization.k8s.io/v1/subjectaccessreviews", 403),
        ] {
            let (status, answer) = ask(&front, line, &token).await;
            assert_eq!(status, wanted, "{line}: {answer}");
            if status == 403 {
                let user = r#"User \"system:serviceaccount:default:default\" cannot "#;
                assert!(answer.contains(user), "{line}: {answer}");
            }
        }
    }

    #[tokio::test]
    async fn nobody_gets_in_without_a_token_that_is_for_the_api() {
        let front = front(false);
        let (foreign, other) = (token_for(&front, "vault"), token_for(&self::front(false), ISSUER));
        for token in ["", "wrong", &foreign, &other] {
            for line in ["GET /version", "GET /api/v1/pods", "GET /nonsense", "POST /api/v1/namespaces"] {
                let (status, answer) = ask(&front, line, token).await;
                assert_eq!(status, 401, "{line} with {token:?}: {answer}");
            }
        }
        assert_eq!(ask(&front, "GET /api/v1/pods", "secret").await.0, 200);
        let open = self::front(true);
        assert_eq!(ask(&open, "GET /version", "").await.0, 200);
        assert_eq!(ask(&open, "GET /version", "wrong").await.0, 401);
        assert_eq!(ask(&open, "GET /api", "").await.0, 401);
    }

    #[tokio::test]
    async fn an_administrator_gets_a_token_of_an_account_for_as_long_as_is_asked() {
        let front = front(false);
        let line = "POST /api/v1/namespaces/default/serviceaccounts/default/token";
        let (status, answer) = ask(&front, line, "secret").await;
        assert_eq!(status, 201, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["spec"]["expirationSeconds"], 3600);
        assert_eq!(answer["spec"]["audiences"], json!([ISSUER]));
        let until: Timestamp = answer["status"]["expirationTimestamp"].as_str().unwrap().parse().unwrap();
        let made: Timestamp = answer["metadata"]["creationTimestamp"].as_str().unwrap().parse().unwrap();
        assert_eq!(until.as_second() - made.as_second(), 3600);
        let token = answer["status"]["token"].as_str().unwrap();
        assert_eq!(ask(&front, "GET /version", token).await.0, 200);
        let none = "POST /api/v1/namespaces/default/serviceaccounts/none/token";
        assert_eq!(ask(&front, none, "secret").await.0, 404);
        assert_eq!(ask(&front, &line.replace("POST", "GET"), "secret").await.0, 405);
    }
}
