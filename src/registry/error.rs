//! What a registry said no with, in Docker's words, and whether it answered at all: a registry
//! that nobody reaches is no reason to refuse an image that the nodes of the cluster may have.

use std::fmt;

use d2k_common::fault::{Fault, Kind};

use super::reference::Reference;

/// The kinds of failure that callers act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistryErrorKind {
    /// The repository exists, the tag or digest does not.
    NotFound,
    /// The repository does not exist, or these credentials do not open it.
    Denied,
    /// User name, password or token are wrong.
    BadCredentials,
    /// Nothing answers: name resolution, connection, TLS or a timeout.
    Unreachable,
    /// Any other answer.
    Other,
}

/// A failure with the words that the user reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryError {
    /// Which kind of failure it is.
    pub kind: RegistryErrorKind,
    /// Docker's words.
    pub message: String,
}

impl RegistryError {
    /// The tag or digest is not in the repository.
    pub fn not_found(reference: &Reference) -> Self {
        let words =
            format!("manifest for {} not found: manifest unknown: manifest unknown", reference.familiar());
        Self { kind: RegistryErrorKind::NotFound, message: words }
    }

    /// The repository does not exist or is closed.
    pub fn denied(reference: &Reference) -> Self {
        let words = format!(
            "pull access denied for {}, repository does not exist or may require 'docker login': \
             denied: requested access to the resource is denied",
            reference.familiar_name()
        );
        Self { kind: RegistryErrorKind::Denied, message: words }
    }

    /// The credentials are wrong.
    pub fn bad_credentials() -> Self {
        let words = "unauthorized: incorrect username or password".to_owned();
        Self { kind: RegistryErrorKind::BadCredentials, message: words }
    }

    /// Nothing answers at `url`.
    pub fn unreachable(url: &str, why: &str) -> Self {
        Self { kind: RegistryErrorKind::Unreachable, message: format!("{url} does not answer: {why}") }
    }

    /// Any other failure.
    pub fn other(message: impl Into<String>) -> Self {
        Self { kind: RegistryErrorKind::Other, message: message.into() }
    }

    /// The failure of a request to `url` that got no whole answer.
    pub(super) fn from_request(url: &str, error: reqwest::Error) -> Self {
        let timed_out = error.is_timeout();
        let misled = error.is_builder() || error.is_redirect();
        // The address may hold a signature of a storage service, so only ours is shown.
        let words = chain(&error.without_url());
        if misled {
            return Self::other(format!("cannot ask {url}: {words}"));
        }
        Self::unreachable(url, if timed_out { "no answer in time" } else { &words })
    }

    /// True if nothing answered.
    pub fn is_unreachable(&self) -> bool {
        self.kind == RegistryErrorKind::Unreachable
    }
}

/// The causes from the outermost on, without the client's own steps, which say nothing to a user.
fn chain(error: &dyn std::error::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let words = cause.to_string();
        let noise = ["error sending request", "client error"].iter().any(|noise| words.starts_with(noise));
        if !noise && !parts.iter().any(|part| part.contains(&words)) {
            parts.push(words);
        }
        next = cause.source();
    }
    if parts.is_empty() { error.to_string() } else { parts.join(": ") }
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for RegistryError {}

impl From<RegistryError> for Fault {
    /// Docker answers 404 to a pull that is denied, as to one of an unknown tag.
    fn from(error: RegistryError) -> Self {
        let kind = match error.kind {
            RegistryErrorKind::NotFound | RegistryErrorKind::Denied => Kind::NotFound,
            RegistryErrorKind::BadCredentials => Kind::Unauthorized,
            RegistryErrorKind::Unreachable => Kind::Unavailable,
            RegistryErrorKind::Other => Kind::Internal,
        };
        Fault::new(kind, error.message)
    }
}
