//! How a registry is convinced: Basic, Bearer tokens from a token server, and identity tokens.
//! An answer's challenge leads to the value of the `Authorization` header, or to a refusal.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, StatusCode, header};
use reqwest::Url;
use serde::Deserialize;

use super::auth::Credentials;
use super::error::{RegistryError, RegistryErrorKind};
use super::reference::Reference;
use super::transport::{Transport, words};

const TOKEN_LIMIT: usize = 1 << 20;
const CLIENT: &str = "d2k";

/// What authorisation came to.
#[derive(Debug, Default)]
pub(super) struct Authorization {
    /// Value of the `Authorization` header; `None` if there is nothing to send.
    pub(super) header: Option<String>,
    /// A token that stands for the password from now on, if the token server gave one.
    pub(super) identity_token: String,
}

/// A refusal before the image was asked for.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The token server lets nobody in without credentials.
    Anonymous,
    /// Anything that is already in words.
    Error(RegistryError),
}

impl Refusal {
    /// In Docker's words for a pull.
    pub(super) fn for_image(self, reference: &Reference) -> RegistryError {
        match self {
            Self::Anonymous => RegistryError::denied(reference),
            Self::Error(error) => error,
        }
    }
}

impl From<RegistryError> for Refusal {
    fn from(error: RegistryError) -> Self {
        Self::Error(error)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TokenAnswer {
    token: String,
    access_token: String,
    refresh_token: String,
}

/// Answers the challenge in `headers` of an answer from `url`.
pub(super) async fn authorize(
    transport: &Transport,
    url: &str,
    headers: &HeaderMap,
    scope: Option<&str>,
    credentials: Option<&Credentials>,
) -> Result<Authorization, Refusal> {
    if let Some(known) = credentials.filter(|known| !known.registry_token.is_empty()) {
        return Ok(Authorization {
            header: Some(format!("Bearer {}", known.registry_token)),
            ..Default::default()
        });
    }
    match challenge(headers) {
        Some(Challenge::Bearer { realm, service, scope: asked }) => {
            let scope = asked.as_deref().or(scope);
            let mut realm = Url::parse(&realm).map_err(|error| {
                RegistryError::other(format!("the registry's token server {realm:?}: {error}"))
            })?;
            if url.starts_with("https://") && realm.scheme() != "https" {
                let words = format!("the registry sends credentials to {realm} without TLS: refused");
                return Err(RegistryError::other(words).into());
            }
            let service = service.as_deref().unwrap_or_default();
            let refresh = credentials.filter(|known| !known.identity_token.is_empty());
            let request = match refresh {
                Some(known) => refreshing(transport, &realm, service, scope, &known.identity_token),
                None => asking(transport, &mut realm, service, scope, credentials),
            };
            token(transport, request, realm.as_str(), credentials.is_some()).await
        }
        Some(Challenge::Basic) => match credentials {
            Some(known) => Ok(Authorization { header: Some(basic(known)), ..Default::default() }),
            None => Err(Refusal::Anonymous),
        },
        None => Ok(Authorization::default()),
    }
}

fn basic(credentials: &Credentials) -> String {
    let pair = format!("{}:{}", credentials.username, credentials.password);
    format!("Basic {}", STANDARD.encode(pair))
}

fn asking(
    transport: &Transport,
    realm: &mut Url,
    service: &str,
    scope: Option<&str>,
    credentials: Option<&Credentials>,
) -> reqwest::RequestBuilder {
    append(realm, &[("service", service), ("scope", scope.unwrap_or_default())]);
    let request = transport.http.get(realm.clone());
    match credentials {
        Some(known) => request.header(header::AUTHORIZATION, basic(known)),
        None => request,
    }
}

fn refreshing(
    transport: &Transport,
    realm: &Url,
    service: &str,
    scope: Option<&str>,
    identity_token: &str,
) -> reqwest::RequestBuilder {
    let mut form = realm.clone();
    form.set_query(None);
    let fields = [
        ("grant_type", "refresh_token"),
        ("service", service),
        ("client_id", CLIENT),
        ("refresh_token", identity_token),
        ("scope", scope.unwrap_or_default()),
    ];
    append(&mut form, &fields);
    let body = form.query().unwrap_or_default().to_owned();
    let kind = "application/x-www-form-urlencoded";
    transport.http.post(realm.clone()).header(header::CONTENT_TYPE, kind).body(body)
}

fn append(url: &mut Url, fields: &[(&str, &str)]) {
    let mut pairs = url.query_pairs_mut();
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        pairs.append_pair(name, value);
    }
}

async fn token(
    transport: &Transport,
    request: reqwest::RequestBuilder,
    realm: &str,
    named: bool,
) -> Result<Authorization, Refusal> {
    let answer = transport.send(request, realm, TOKEN_LIMIT).await?;
    match answer.status {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if named => {
            return Err(RegistryError::bad_credentials().into());
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(Refusal::Anonymous),
        status => return Err(RegistryError::other(words(status, &answer.body)).into()),
    }
    let read: TokenAnswer = serde_json::from_slice(&answer.body).map_err(|error| {
        RegistryError::other(format!("the registry's token server sent no token: {error}"))
    })?;
    let bearer = if read.token.is_empty() { read.access_token } else { read.token };
    if bearer.is_empty() {
        return Err(RegistryError::other("the registry's token server sent no token").into());
    }
    Ok(Authorization { header: Some(format!("Bearer {bearer}")), identity_token: read.refresh_token })
}

/// Bearer goes before Basic: it is narrower.
fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let values = headers.get_all(header::WWW_AUTHENTICATE).into_iter();
    let mut found: Vec<Challenge> = values.filter_map(|value| value.to_str().ok()).flat_map(parse).collect();
    found.sort_by_key(|challenge| *challenge == Challenge::Basic);
    found.into_iter().next()
}

fn parse(text: &str) -> Vec<Challenge> {
    let read = http_auth::parse_challenges(text).unwrap_or_default();
    read.into_iter().filter_map(|challenge| known(&challenge)).collect()
}

fn known(challenge: &http_auth::ChallengeRef<'_>) -> Option<Challenge> {
    if challenge.scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !challenge.scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let value = |name: &str| {
        let mut all = challenge.params.iter();
        all.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_unescaped())
    };
    let scope = value("scope").filter(|scope| !scope.is_empty());
    Some(Challenge::Bearer { realm: value("realm")?, service: value("service"), scope })
}

/// In the words of a login: there is no image to name.
pub(super) fn login_refusal(refusal: Refusal) -> RegistryError {
    match refusal {
        Refusal::Anonymous => RegistryError::bad_credentials(),
        Refusal::Error(error) if error.kind == RegistryErrorKind::Denied => RegistryError::bad_credentials(),
        Refusal::Error(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_and_bearer_is_preferred() {
        let mut headers = HeaderMap::new();
        headers.append(header::WWW_AUTHENTICATE, "Basic realm=\"x\"".parse().expect("value"));
        assert_eq!(challenge(&headers), Some(Challenge::Basic));
        let bearer = "bearer realm=\"https://a/token\",service=\"s\",scope=\"repository:a/b:pull\"";
        headers.append(header::WWW_AUTHENTICATE, bearer.parse().expect("value"));
        let expected = Challenge::Bearer {
            realm: "https://a/token".into(),
            service: Some("s".into()),
            scope: Some("repository:a/b:pull".into()),
        };
        assert_eq!(challenge(&headers), Some(expected));
        assert_eq!(parse("Negotiate"), []);
        assert_eq!(parse("Bearer service=x"), []);
        assert_eq!(parse("\"\"\","), []);
    }
}
