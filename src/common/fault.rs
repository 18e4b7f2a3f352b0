//! What went wrong, in Docker's terms and free of HTTP. Every layer below the HTTP front
//! answers with a [`Fault`]; the front alone turns its kind into a status code.

use std::fmt;

/// The kinds of failure that Docker's API tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request itself is wrong (400).
    Invalid,
    /// Credentials are missing or wrong (401).
    Unauthorized,
    /// The rules of Docker or of the cluster forbid it (403).
    Forbidden,
    /// The named object does not exist (404).
    NotFound,
    /// The object is in a state that does not allow it (409).
    Conflict,
    /// The object is already in the state asked for (304, no body).
    NotModified,
    /// d2k cannot do this on Kubernetes (501).
    NotImplemented,
    /// Something that d2k needs does not answer, or this is no swarm (503).
    Unavailable,
    /// Anything else (500).
    Internal,
}

/// A failure with the words that the user reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which kind of failure it is.
    pub kind: Kind,
    /// The sentence shown to the user: what failed, on which object, what to do.
    pub message: String,
}

/// The result of everything below the HTTP front.
pub type Result<T, E = Fault> = std::result::Result<T, E>;

impl Fault {
    /// A fault of `kind` with the words `message`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
    /// 400: the request is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }
    /// 401: credentials are missing or wrong.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(Kind::Unauthorized, message)
    }
    /// 403: forbidden.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(Kind::Forbidden, message)
    }
    /// 404: no such object.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }
    /// 404: Docker's answer where no container has the name or ID.
    pub fn no_such_container(key: &str) -> Self {
        Self::not_found(format!("No such container: {key}"))
    }
    /// 409: the object's state does not allow it.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, message)
    }
    /// 304: nothing to do.
    pub fn not_modified() -> Self {
        Self::new(Kind::NotModified, "")
    }
    /// 501: d2k cannot do this on Kubernetes.
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(Kind::NotImplemented, message)
    }
    /// 503: something that d2k needs does not answer.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, message)
    }
    /// 500: anything else.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}
