//! Requests to registries: one pool of connections, a bound on time and size of every answer, and
//! authorisation on demand. Credentials live as long as one operation and go to one place only.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, Method, StatusCode, header};
use oci_client::errors::{OciEnvelope, OciErrorCode};
use rustls::crypto::ring;
use sha2::{Digest, Sha256};

use crate::fault::{Fault, Result};

use super::auth::Credentials;
use super::error::RegistryError;
use super::reference::Reference;
use super::settings::{Endpoint, Places, RegistrySettings};
use super::tokens;

/// The largest manifest that a registry must accept (OCI distribution specification).
pub(super) const MANIFEST_LIMIT: usize = 4 << 20;
/// Configs are JSON of some kilobytes; long histories and labels fit many times.
pub(super) const CONFIG_LIMIT: usize = 8 << 20;
/// How long a place that timed out is not asked again: a client asks thrice for one `docker run`.
const SILENCE: Duration = Duration::from_secs(30);

type MakeProxy = fn(String) -> reqwest::Result<reqwest::Proxy>;
/// Variables that name a proxy, and for which addresses it is.
const PROXIES: [(&str, MakeProxy); 2] =
    [("HTTPS_PROXY", reqwest::Proxy::https), ("HTTP_PROXY", reqwest::Proxy::http)];

/// The connections and places of a reader of registries.
#[derive(Debug)]
pub(super) struct Transport {
    pub(super) places: Places,
    pub(super) http: reqwest::Client,
    direct: reqwest::Client,
    pub(super) timeout: Duration,
    silent: Mutex<HashMap<String, Instant>>,
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Transport {
    pub(super) fn new(settings: &RegistrySettings) -> Result<Self> {
        let tls = tls()?;
        let direct = client(tls.clone()).redirect(reqwest::redirect::Policy::none());
        let failed =
            |error: reqwest::Error| Fault::internal(format!("cannot set up HTTP for registries: {error}"));
        Ok(Self {
            places: Places::new(settings)?,
            http: client(tls).build().map_err(failed)?,
            direct: direct.build().map_err(failed)?,
            timeout: settings.timeout,
            silent: Mutex::default(),
        })
    }

    /// Sends one request and reads its answer, at most `limit` bytes of it.
    pub(super) async fn send(
        &self,
        request: reqwest::RequestBuilder,
        url: &str,
        limit: usize,
    ) -> Result<Answer, RegistryError> {
        let place = origin(url);
        self.check_silence(place)?;
        let answer = async {
            let mut response = request.timeout(self.timeout).send().await?;
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await? {
                body.extend_from_slice(&chunk);
                if body.len() > limit {
                    break;
                }
            }
            Ok(Answer { status: response.status(), headers: response.headers().clone(), body })
        };
        match answer.await {
            Ok(answer) if answer.body.len() > limit => Err(RegistryError::other(format!(
                "{place} sent more than {limit} bytes where less was expected"
            ))),
            // A gateway speaks for a registry that does not.
            Ok(answer) if matches!(answer.status.as_u16(), 502..=504) => {
                Err(RegistryError::unreachable(place, &answer.status.to_string()))
            }
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.failed(place, error)),
        }
    }

    fn failed(&self, place: &str, error: reqwest::Error) -> RegistryError {
        if error.is_timeout() {
            let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
            silent.insert(place.to_owned(), Instant::now());
        }
        RegistryError::from_request(place, error)
    }

    fn check_silence(&self, place: &str) -> Result<(), RegistryError> {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.retain(|_, since| since.elapsed() < SILENCE);
        match silent.get(place) {
            Some(_) => Err(RegistryError::unreachable(place, "no answer in time, seconds ago")),
            None => Ok(()),
        }
    }
}

/// Roots of trust come from the system; where it has none (an image of one file), plain HTTP still
/// works and TLS fails with a clear error, hence no ready-made verifier that insists on them.
fn tls() -> Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        tracing::warn!("no root certificates on this system: registries are reached by plain HTTP only");
    }
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Fault::internal(format!("cannot set up TLS for registries: {error}")))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Proxies are those of the environment, except on the way to this machine, as with Docker.
fn client(tls: rustls::ClientConfig) -> reqwest::ClientBuilder {
    let ourselves = concat!("d2k/", env!("CARGO_PKG_VERSION"));
    let mut client =
        reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls).user_agent(ourselves);
    let set = |name: &str| std::env::var(name).or_else(|_| std::env::var(name.to_lowercase()));
    let direct = format!("localhost,127.0.0.0/8,::1,{}", set("NO_PROXY").unwrap_or_default());
    for (name, make) in PROXIES {
        let Some(url) = set(name).ok().filter(|url| !url.is_empty()) else {
            continue;
        };
        match make(url) {
            Ok(proxy) => client = client.proxy(proxy.no_proxy(reqwest::NoProxy::from_string(&direct))),
            Err(error) => tracing::warn!("{name} is not used for registries: {error}"),
        }
    }
    client
}

/// Scheme and host of `url`.
pub(super) fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(start..).and_then(|rest| rest.find(['/', '?'])).map_or(url.len(), |at| start + at);
    url.get(..end).unwrap_or(url)
}

/// One repository at one place, for one operation: what was authorised stays authorised.
pub(super) struct Repository<'a> {
    transport: &'a Transport,
    endpoint: Endpoint,
    reference: &'a Reference,
    credentials: Option<&'a Credentials>,
    authorization: Mutex<Option<String>>,
}

impl<'a> Repository<'a> {
    /// Credentials go to the registry they are for, never to a mirror of it unless it is named.
    pub(super) fn new(
        transport: &'a Transport,
        endpoint: Endpoint,
        reference: &'a Reference,
        credentials: Option<&'a Credentials>,
    ) -> Self {
        let host = origin(&endpoint.url).split("://").last().unwrap_or_default();
        let own = endpoint.mirror_of.is_none();
        let credentials = credentials.filter(|known| own || known.host() == host);
        Self { transport, endpoint, reference, credentials, authorization: Mutex::default() }
    }

    /// A manifest by tag or digest.
    pub(super) async fn manifest(&self, wanted: &str, accept: &str) -> Result<Answer, RegistryError> {
        let url = self.url(&format!("manifests/{wanted}"));
        let answer = self.ask(&self.transport.http, Method::GET, &url, accept, MANIFEST_LIMIT).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Err(self.unknown(&answer).await);
        }
        self.accept(answer)
    }

    /// Whether a manifest is there for us. Asked by HEAD, which counts against nobody's limit of pulls.
    pub(super) async fn has_manifest(&self, wanted: &str, accept: &str) -> Result<(), RegistryError> {
        let url = self.url(&format!("manifests/{wanted}"));
        let answer = self.ask(&self.transport.http, Method::HEAD, &url, accept, MANIFEST_LIMIT).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Err(self.unknown(&answer).await),
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                self.manifest(wanted, accept).await.map(drop)
            }
            _ => self.accept(answer).map(drop),
        }
    }

    /// The config blob, checked against its digest.
    pub(super) async fn blob(&self, digest: &str) -> Result<Vec<u8>, RegistryError> {
        let url = self.url(&format!("blobs/{digest}"));
        let answer = self.ask(&self.transport.http, Method::GET, &url, "*/*", CONFIG_LIMIT).await?;
        let answer = self.accept(self.blob_known(answer, digest)?)?;
        check_digest(&answer.body, digest)?;
        Ok(answer.body)
    }

    /// Whether a blob is there. A registry that sends the client elsewhere knows the blob; it is not
    /// followed, since a storage service's signed address is often good for GET only.
    pub(super) async fn has_blob(&self, digest: &str) -> Result<(), RegistryError> {
        let url = self.url(&format!("blobs/{digest}"));
        let answer = self.ask(&self.transport.direct, Method::HEAD, &url, "*/*", CONFIG_LIMIT).await?;
        if answer.status.is_redirection() {
            return Ok(());
        }
        self.accept(self.blob_known(answer, digest)?).map(drop)
    }

    fn blob_known(&self, answer: Answer, digest: &str) -> Result<Answer, RegistryError> {
        if answer.status == StatusCode::NOT_FOUND {
            let image = self.reference.familiar();
            return Err(RegistryError::other(format!(
                "blob {digest} of {image} is not at the registry: blob unknown"
            )));
        }
        Ok(answer)
    }

    fn url(&self, rest: &str) -> String {
        let base = format!("{}/v2/{}/{rest}", self.endpoint.url, self.reference.repository());
        match &self.endpoint.mirror_of {
            // containerd's way of telling a mirror of everything which registry is meant.
            Some(registry) => format!("{base}?ns={registry}"),
            None => base,
        }
    }

    async fn ask(
        &self,
        client: &reqwest::Client,
        method: Method,
        url: &str,
        accept: &str,
        limit: usize,
    ) -> Result<Answer, RegistryError> {
        let request = || {
            let known = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let plain = client.request(method.clone(), url).header(header::ACCEPT, accept);
            match known {
                Some(value) => plain.header(header::AUTHORIZATION, value),
                None => plain,
            }
        };
        let answer = self.transport.send(request(), url, limit).await?;
        if answer.status != StatusCode::UNAUTHORIZED || !self.authorize(url, &answer.headers).await? {
            return Ok(answer);
        }
        self.transport.send(request(), url, limit).await
    }

    /// Gets what opens the repository; false if there is nothing that could be sent.
    async fn authorize(&self, url: &str, challenge: &HeaderMap) -> Result<bool, RegistryError> {
        let scope = format!("repository:{}:pull", self.reference.repository());
        let answered =
            tokens::authorize(self.transport, url, challenge, Some(&scope), self.credentials).await;
        let Some(value) = answered.map_err(|refusal| refusal.for_image(self.reference))?.header else {
            return Ok(false);
        };
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        Ok(true)
    }

    /// The beginning of a blob's answer, from byte `offset` on where the registry can do that. Its
    /// body has no bound in time: each part of it has [`Self::patience`].
    pub(super) async fn open_blob(
        &self,
        digest: &str,
        offset: u64,
    ) -> Result<reqwest::Response, RegistryError> {
        let url = self.url(&format!("blobs/{digest}"));
        let response = self.begin(&url, offset).await?;
        let refused = response.status() == StatusCode::UNAUTHORIZED;
        let response = match refused && self.authorize(&url, response.headers()).await? {
            true => self.begin(&url, offset).await?,
            false => response,
        };
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if matches!(status.as_u16(), 502..=504) {
            return Err(RegistryError::unreachable(origin(&url), &status.to_string()));
        }
        let headers = response.headers().clone();
        let answer = Answer { status, headers, body: Vec::new() };
        self.accept(self.blob_known(answer, digest)?)?;
        Err(RegistryError::other(words(status, &[])))
    }

    /// How long the next part of an answer may take.
    pub(super) fn patience(&self) -> Duration {
        self.transport.timeout
    }

    /// The place that is asked, for words.
    pub(super) fn place(&self) -> &str {
        origin(&self.endpoint.url)
    }

    async fn begin(&self, url: &str, offset: u64) -> Result<reqwest::Response, RegistryError> {
        let place = origin(url);
        self.transport.check_silence(place)?;
        let mut request = self.transport.http.get(url).header(header::ACCEPT, "*/*");
        if offset > 0 {
            request = request.header(header::RANGE, format!("bytes={offset}-"));
        }
        if let Some(value) = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            request = request.header(header::AUTHORIZATION, value);
        }
        match tokio::time::timeout(self.patience(), request.send()).await {
            Ok(answer) => answer.map_err(|error| self.transport.failed(place, error)),
            Err(_) => Err(RegistryError::unreachable(place, "no answer in time")),
        }
    }

    fn accept(&self, answer: Answer) -> Result<Answer, RegistryError> {
        match answer.status {
            status if status.is_success() => Ok(answer),
            StatusCode::UNAUTHORIZED if self.named_itself() => Err(RegistryError::bad_credentials()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(RegistryError::denied(self.reference)),
            status => Err(RegistryError::other(words(status, &answer.body))),
        }
    }

    /// With Basic the registry itself judges the password; with Bearer the token server has.
    fn named_itself(&self) -> bool {
        let sent = self.authorization.lock().unwrap_or_else(PoisonError::into_inner);
        sent.as_deref().is_some_and(|value| value.starts_with("Basic "))
    }

    /// An unknown tag, or an unknown repository? Many registries say the same of both, so the list
    /// of tags decides.
    async fn unknown(&self, answer: &Answer) -> RegistryError {
        if first_code(&answer.body) == Some(OciErrorCode::NameUnknown) {
            return RegistryError::denied(self.reference);
        }
        let url = self.url("tags/list");
        match self.ask(&self.transport.http, Method::GET, &url, "application/json", CONFIG_LIMIT).await {
            Ok(tags) if tags.status == StatusCode::NOT_FOUND => RegistryError::denied(self.reference),
            _ => RegistryError::not_found(self.reference),
        }
    }
}

/// Docker's words for a status that means nothing special.
pub(super) fn words(status: StatusCode, body: &[u8]) -> String {
    let envelope: Option<OciEnvelope> = serde_json::from_slice(body).ok();
    match envelope.and_then(|envelope| envelope.errors.into_iter().next()) {
        Some(error) => {
            let code = serde_json::to_value(&error.code).ok();
            let code = code.as_ref().and_then(|code| code.as_str()).unwrap_or("unknown").to_lowercase();
            format!("{}: {}", code.replace('_', " "), error.message)
        }
        None => format!("received unexpected HTTP status: {status}"),
    }
}

fn first_code(body: &[u8]) -> Option<OciErrorCode> {
    let envelope: OciEnvelope = serde_json::from_slice(body).ok()?;
    envelope.errors.into_iter().next().map(|error| error.code)
}

/// Refuses bytes that are not what their digest says.
pub(super) fn check_digest(bytes: &[u8], digest: &str) -> Result<(), RegistryError> {
    let actual = match digest.split_once(':') {
        Some(("sha256", _)) => sha256(bytes),
        Some(("sha512", _)) => format!("sha512:{}", hex::encode(sha2::Sha512::digest(bytes))),
        _ => {
            return Err(RegistryError::other(format!("unsupported digest algorithm: {digest}")));
        }
    };
    if actual == digest {
        return Ok(());
    }
    Err(RegistryError::other(format!("the registry sent {actual} where {digest} was asked for")))
}

/// `sha256:` and the digest of `bytes`.
pub(super) fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}
