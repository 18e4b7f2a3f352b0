//! One repository of a registry, for one operation: manifests and blobs, authorised on demand. Credentials go to
//! the place that they are for.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode, header};
use parking_lot::Mutex;

use super::auth::Credentials;
use super::error::RegistryError;
use super::reference::Reference;
use super::settings::Endpoint;
use super::tokens;
use super::transport::{Answer, CONFIG_LIMIT, Transport, check_digest, origin, words};
use super::wire::first_problem;

/// The largest manifest that a registry must accept (OCI distribution specification).
const MANIFEST_LIMIT: usize = 4 << 20;

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
            let known = self.authorization.lock().clone();
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
        *self.authorization.lock() = Some(value);
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
        if let Some(value) = self.authorization.lock().clone() {
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
        let sent = self.authorization.lock();
        sent.as_deref().is_some_and(|value| value.starts_with("Basic "))
    }

    /// An unknown tag, or an unknown repository? Many registries say the same of both, so the list
    /// of tags decides.
    async fn unknown(&self, answer: &Answer) -> RegistryError {
        if first_problem(&answer.body).is_some_and(|problem| problem.code == "NAME_UNKNOWN") {
            return RegistryError::denied(self.reference);
        }
        let url = self.url("tags/list");
        match self.ask(&self.transport.http, Method::GET, &url, "application/json", CONFIG_LIMIT).await {
            Ok(tags) if tags.status == StatusCode::NOT_FOUND => RegistryError::denied(self.reference),
            _ => RegistryError::not_found(self.reference),
        }
    }
}
