//! A registry in the test's own process: it serves one image as a list of two platforms, closes
//! some repositories behind Basic or Bearer, and remembers what it was asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::transport::sha256;
use super::{Reference, Registry, RegistrySettings};

const LIST: &str = "application/vnd.oci.image.index.v1+json";
const IMAGE: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// Whom the registry lets in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// Everybody.
    Open,
    /// `ann` with the password `pw`, by Basic.
    Basic,
    /// By tokens of `/token`, which knows `ann`; anonymous tokens open `library/` only.
    Bearer,
}

/// A registry that runs as long as the test.
pub(super) struct Fake {
    /// `127.0.0.1:PORT`.
    pub(super) host: String,
    /// Digest of the manifest list under `library/app:1` and `private/app:1`.
    pub(super) list: String,
    /// Digest of the config for linux/amd64.
    pub(super) config: String,
    shared: Arc<Shared>,
}

struct Shared {
    door: Door,
    host: String,
    objects: Mutex<HashMap<String, (&'static str, Vec<u8>)>>,
    asked: Mutex<Vec<String>>,
}

impl Fake {
    pub(super) async fn start(door: Door) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let host = listener.local_addr().expect("address").to_string();
        let shared =
            Arc::new(Shared { door, host: host.clone(), objects: Mutex::default(), asked: Mutex::default() });
        let router = Router::new().fallback(serve).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let mut fake = Self { host, list: String::new(), config: String::new(), shared };
        fake.fill();
        fake
    }

    fn fill(&mut self) {
        let layers =
            [b"layer one".to_vec(), b"layer number two".to_vec()].map(|bytes| self.blob(LAYER, &bytes));
        let config = json!({
            "architecture": "amd64", "os": "linux", "created": "2026-01-02T03:04:05Z",
            "config": {"Cmd": ["sh"], "ExposedPorts": {"80/tcp": {}}, "Env": ["A=b"]},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:aa", "sha256:bb"]},
            "history": [{"created_by": "one"}, {"created_by": "env", "empty_layer": true}, {"created_by": "two"}]
        });
        let config = self.blob(CONFIG, config.to_string().as_bytes());
        self.config = config["digest"].as_str().expect("digest").to_owned();
        let manifest =
            json!({"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": layers}).to_string();
        let digest = sha256(manifest.as_bytes());
        let other = format!("sha256:{}", "0".repeat(64));
        let entry = |digest: &str, arch: &str, os: &str| {
            json!({"mediaType": IMAGE, "size": manifest.len(), "digest": digest,
                   "platform": {"architecture": arch, "os": os}})
        };
        let entries = [
            entry(&other, "unknown", "unknown"),
            entry(&other, "arm64", "linux"),
            entry(&digest, "amd64", "linux"),
        ];
        let list = json!({"schemaVersion": 2, "mediaType": LIST, "manifests": entries}).to_string();
        self.list = sha256(list.as_bytes());
        for repository in ["library/app", "private/app"] {
            self.put(&format!("{repository}/manifests/{digest}"), IMAGE, manifest.as_bytes());
            self.put(&format!("{repository}/manifests/{}", self.list), LIST, list.as_bytes());
            self.put(&format!("{repository}/manifests/1"), LIST, list.as_bytes());
            self.put(&format!("{repository}/manifests/single"), IMAGE, manifest.as_bytes());
            self.put(&format!("{repository}/tags/list"), "application/json", b"{\"tags\":[\"1\"]}");
        }
    }

    fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = sha256(bytes);
        for repository in ["library/app", "private/app"] {
            self.put(&format!("{repository}/blobs/{digest}"), "application/octet-stream", bytes);
        }
        json!({"mediaType": media_type, "size": bytes.len(), "digest": digest})
    }

    /// Adds or replaces an object below `/v2/`.
    pub(super) fn put(&self, path: &str, media_type: &'static str, bytes: &[u8]) {
        self.shared.objects.lock().expect("objects").insert(path.to_owned(), (media_type, bytes.to_vec()));
    }

    /// Removes every object whose path contains `part`.
    pub(super) fn remove(&self, part: &str) {
        self.shared.objects.lock().expect("objects").retain(|path, _| !path.contains(part));
    }

    /// What was asked so far, `METHOD path?query`, and forgets it.
    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.asked.lock().expect("asked"))
    }

    /// A name at this registry.
    pub(super) fn reference(&self, rest: &str) -> Reference {
        Reference::parse(&format!("{}/{rest}", self.host)).expect("reference")
    }
}

/// A reader for linux/amd64 that waits half a second at most.
pub(super) fn reader(mirrors: &[String]) -> Registry {
    let settings = RegistrySettings {
        mirrors: mirrors.to_vec(),
        timeout: Duration::from_millis(500),
        platform: "linux/amd64".parse().expect("platform"),
        ..RegistrySettings::default()
    };
    Registry::new(&settings).expect("settings")
}

/// An address where nothing listens.
pub(super) async fn nowhere() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    listener.local_addr().expect("address").to_string()
}

/// An address where connections are taken and never answered.
pub(super) async fn silence() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let host = listener.local_addr().expect("address").to_string();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok(connection) = listener.accept().await {
            held.push(connection);
        }
    });
    host
}

/// An address that answers everything with one status.
pub(super) async fn gateway(status: u16) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let host = listener.local_addr().expect("address").to_string();
    let status = StatusCode::from_u16(status).expect("status");
    let router = Router::new().fallback(move || async move { status });
    tokio::spawn(async move { axum::serve(listener, router).await });
    host
}

async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    shared.asked.lock().expect("asked").push(format!("{method} {uri}"));
    let sent =
        request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    if uri.path() == "/token" {
        let body = axum::body::to_bytes(request.into_body(), 1 << 16).await.expect("body");
        return token(uri.query().unwrap_or_default(), sent.as_deref(), &body);
    }
    let Some(path) = uri.path().strip_prefix("/v2/") else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if let Some(refusal) = shared.refusal(path, sent.as_deref()) {
        return refusal;
    }
    if path.is_empty() {
        return StatusCode::OK.into_response();
    }
    match shared.objects.lock().expect("objects").get(path) {
        Some((media_type, bytes)) => ([(header::CONTENT_TYPE, *media_type)], bytes.clone()).into_response(),
        None => failure(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "manifest unknown"),
    }
}

impl Shared {
    fn refusal(&self, path: &str, sent: Option<&str>) -> Option<Response> {
        let (open, challenge) = match self.door {
            Door::Open => return None,
            Door::Basic => (sent == Some(ann().as_str()), "Basic realm=\"test\"".to_owned()),
            Door::Bearer => {
                let library = path.is_empty() || path.starts_with("library/");
                let open = sent == Some("Bearer for-ann") || (library && sent == Some("Bearer for-all"));
                (open, format!("Bearer realm=\"http://{}/token\",service=\"test\"", self.host))
            }
        };
        if open {
            return None;
        }
        let mut response = failure(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge.parse().expect("header"));
        Some(response)
    }
}

fn token(query: &str, sent: Option<&str>, body: &Bytes) -> Response {
    let answer = |token: &str| axum::body::Body::from(json!({ "token": token }).to_string()).into_response();
    let form = String::from_utf8_lossy(body);
    let refreshes = form.contains("grant_type=refresh_token") && form.contains("refresh_token=ident");
    match sent {
        _ if refreshes => answer("for-ann"),
        Some(value) if value == ann() => answer("for-ann"),
        Some(_) => failure(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "incorrect username or password"),
        None if query.contains("service=test") => answer("for-all"),
        None => failure(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "who are you"),
    }
}

fn ann() -> String {
    format!("Basic {}", STANDARD.encode("ann:pw"))
}

fn failure(status: StatusCode, code: &str, message: &str) -> Response {
    let body = json!({ "errors": [{ "code": code, "message": message }] }).to_string();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
