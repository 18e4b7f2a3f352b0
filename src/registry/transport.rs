//! Requests to registries: one pool of connections, and a bound on time and size of every answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use rustls::crypto::ring;
use sha2::{Digest, Sha256};

use d2k_common::fault::{Fault, Result};

use super::error::RegistryError;
use super::settings::{Places, RegistrySettings};
use super::wire::first_problem;

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
    /// Follows no redirection.
    pub(super) direct: reqwest::Client,
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

    pub(super) fn failed(&self, place: &str, error: reqwest::Error) -> RegistryError {
        if error.is_timeout() {
            let mut silent = self.silent.lock();
            silent.insert(place.to_owned(), Instant::now());
        }
        RegistryError::from_request(place, error)
    }

    pub(super) fn check_silence(&self, place: &str) -> Result<(), RegistryError> {
        let mut silent = self.silent.lock();
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

/// Docker's words for a status that means nothing special.
pub(super) fn words(status: StatusCode, body: &[u8]) -> String {
    match first_problem(body) {
        Some(problem) => {
            format!("{}: {}", problem.code.to_lowercase().replace('_', " "), problem.message)
        }
        None => format!("received unexpected HTTP status: {status}"),
    }
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
