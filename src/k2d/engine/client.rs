//! Speaks the Docker Engine API: requests and answers as JSON values, streams, and connections that become streams of a
//! process. Values and not types of each answer, because an answer may have words that no list of today knows (Podman, later
//! engines); a connection of its own for each request, because an idle device holds none but that of the events.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Newest version of the API that is used.
const NEWEST: (u32, u32) = (1, 52);
/// Oldest version of the API that suffices: Debian's dockerd 20.10, every Podman.
const OLDEST: (u32, u32) = (1, 41);
/// How long an answer may take that is no stream.
const ANSWER: Duration = Duration::from_secs(120);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// Most bytes of an answer that is no stream.
const LARGEST: usize = 32 << 20;

/// What a request fails with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is none that an engine can have.
    #[error("the engine's address {0:?} is neither unix:///PATH nor tcp://HOST:PORT")]
    Address(String),
    /// Nobody answers there.
    #[error("the engine at {address} cannot be reached: {source}")]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// It answers, but too late.
    #[error("the engine did not answer {0} in time")]
    Late(String),
    /// It refuses.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// In the engine's words.
        message: String,
    },
    /// It answers with something else than the Engine API does.
    #[error("the engine's answer to {request} cannot be read: {why}")]
    Broken {
        /// What was asked.
        request: String,
        /// What is wrong.
        why: String,
    },
    /// Its API is too old.
    #[error(
        "the engine speaks version {0} of the Engine API; 1.41 is needed at least (Docker 20.10, Podman 3)"
    )]
    Old(String),
}

impl Error {
    /// Whether the engine refused with this status.
    pub fn is(&self, status: StatusCode) -> bool {
        matches!(self, Self::Refused { status: refused, .. } if *refused == status)
    }

    /// Whether there was no answer.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Late(_) | Self::Broken { .. })
    }
}

/// What a request answers.
pub type Result<T> = std::result::Result<T, Error>;

/// A two-way connection.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Chunks of an answer as they come.
pub type Chunks = BoxStream<'static, Result<Bytes>>;

#[derive(Debug, Clone)]
enum Address {
    Unix(PathBuf),
    Tcp(String),
}

/// An engine that can be asked.
#[derive(Debug)]
pub struct Client {
    address: Address,
    /// `/v1.44`, once it was asked for its version.
    version: OnceLock<String>,
}

impl Client {
    /// The engine at an address as `DOCKER_HOST` has it.
    ///
    /// # Errors
    /// One that names the address if it is none.
    pub fn new(host: &str) -> Result<Self> {
        let wrong = || Error::Address(host.to_owned());
        let address = match host.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Address::Unix(path.into()),
            Some(("tcp" | "http", rest)) if rest.contains(':') => {
                Address::Tcp(rest.trim_end_matches('/').to_owned())
            }
            None if host.starts_with('/') => Address::Unix(host.into()),
            _ => return Err(wrong()),
        };
        Ok(Self { address, version: OnceLock::new() })
    }

    /// The path of its socket, where it has one.
    pub fn socket(&self) -> Option<&std::path::Path> {
        match &self.address {
            Address::Unix(path) => Some(path),
            Address::Tcp(_) => None,
        }
    }

    /// Asks the engine what it is, and speaks the newest version from then on that both know.
    ///
    /// # Errors
    /// Those of a request, and if it is too old.
    pub async fn negotiate(&self) -> Result<Value> {
        let about = self.get("/version").await?;
        let said = about.get("ApiVersion").and_then(Value::as_str).unwrap_or_default();
        let (major, minor) = said.split_once('.').unwrap_or_default();
        let theirs = (major.parse().unwrap_or(0), minor.parse().unwrap_or(0));
        if theirs < OLDEST {
            return Err(Error::Old(said.to_owned()));
        }
        let (major, minor) = theirs.min(NEWEST);
        let _ = self.version.set(format!("/v{major}.{minor}"));
        Ok(about)
    }

    /// Whether the engine knows what came with version 1.N of the API.
    pub fn knows(&self, minor: u32) -> bool {
        let spoken = self.version.get().and_then(|version| version.strip_prefix("/v1.")?.parse::<u32>().ok());
        spoken.is_some_and(|spoken| spoken >= minor)
    }

    /// `GET`, answered with JSON.
    ///
    /// # Errors
    /// Those of a request.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.ask(Method::GET, path, None, &[]).await
    }

    /// `POST` with a body or without, answered with JSON or nothing (`null`).
    ///
    /// # Errors
    /// Those of a request.
    pub async fn post(&self, path: &str, body: Option<&Value>) -> Result<Value> {
        self.ask(Method::POST, path, body, &[]).await
    }

    /// `DELETE`.
    ///
    /// # Errors
    /// Those of a request.
    pub async fn delete(&self, path: &str) -> Result<()> {
        self.ask(Method::DELETE, path, None, &[]).await.map(drop)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, String)],
    ) -> Result<Value> {
        let request = format!("{method} {path}");
        let answered = async {
            let body = body.map(|body| Bytes::from(body.to_string()));
            let response = self.send(method, path, body, "application/json", headers).await?;
            read_json(&request, response).await
        };
        match tokio::time::timeout(ANSWER, answered).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Late(request)),
        }
    }

    /// An answer that comes in pieces: events, logs, a pull. It has no deadline, because some engines send not even its
    /// head before there is something to tell.
    ///
    /// # Errors
    /// Those of a request.
    pub async fn stream(&self, method: Method, path: &str, headers: &[(&str, String)]) -> Result<Chunks> {
        let request = format!("{method} {path}");
        let response = self.send(method, path, None, "application/json", headers).await?;
        let body = response.into_body().into_data_stream();
        let broken =
            move |why: hyper::Error| Error::Broken { request: request.clone(), why: why.to_string() };
        Ok(body.map_err(broken).boxed())
    }

    /// `POST` of bytes.
    ///
    /// # Errors
    /// Those of a request.
    pub async fn upload(&self, path: &str, media: &str, body: Bytes) -> Result<Chunks> {
        let request = format!("POST {path}");
        let response = self.send(Method::POST, path, Some(body), media, &[]).await?;
        let broken =
            move |why: hyper::Error| Error::Broken { request: request.clone(), why: why.to_string() };
        Ok(response.into_body().into_data_stream().map_err(broken).boxed())
    }

    /// A request whose connection becomes that of a process.
    ///
    /// # Errors
    /// Those of a request.
    pub async fn hijack(&self, path: &str, body: Option<&Value>) -> Result<Box<dyn Connection>> {
        let request = format!("POST {path}");
        let broken = |why: String| Error::Broken { request: request.clone(), why };
        let headers = [("connection", "Upgrade".to_owned()), ("upgrade", "tcp".to_owned())];
        let body = body.map(|body| Bytes::from(body.to_string()));
        let sent = self.send(Method::POST, path, body, "application/json", &headers);
        let response =
            tokio::time::timeout(ANSWER, sent).await.map_err(|_| Error::Late(request.clone()))??;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(broken(format!("{} instead of an upgrade", response.status())));
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(|error| broken(error.to_string()))?;
        Ok(Box::new(TokioIo::new(upgraded)))
    }

    /// Sends a request on a connection of its own; an answer that refuses is an error.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        media: &str,
        headers: &[(&str, String)],
    ) -> Result<Response<Incoming>> {
        let name = format!("{method} {path}");
        let broken = |why: String| Error::Broken { request: name.clone(), why };
        let connection = self.connect().await?;
        let (mut sender, driver) =
            http1::handshake(TokioIo::new(connection)).await.map_err(|error| broken(error.to_string()))?;
        tokio::spawn(driver.with_upgrades());
        let version = self.version.get().map_or("", String::as_str);
        let mut request = Request::builder().method(method).uri(format!("{version}{path}"));
        request = request.header(header::HOST, "docker").header(header::CONTENT_TYPE, media);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request =
            request.body(Full::new(body.unwrap_or_default())).map_err(|error| broken(error.to_string()))?;
        let response = sender.send_request(request).await.map_err(|error| broken(error.to_string()))?;
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            let words = read_json(&name, response).await.unwrap_or_default();
            let message = words.get("message").and_then(Value::as_str).unwrap_or_else(|| status.as_str());
            return Err(Error::Refused { status, message: message.to_owned() });
        }
        Ok(response)
    }

    async fn connect(&self) -> Result<Box<dyn Connection>> {
        let connected = async {
            Ok::<Box<dyn Connection>, std::io::Error>(match &self.address {
                Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
                Address::Tcp(address) => Box::new(TcpStream::connect(address).await?),
            })
        };
        let connected = tokio::time::timeout(CONNECT, connected).await;
        let late = || std::io::Error::from(std::io::ErrorKind::TimedOut);
        connected.unwrap_or_else(|_| Err(late())).map_err(|source| {
            let address = match &self.address {
                Address::Unix(path) => format!("unix://{}", path.display()),
                Address::Tcp(address) => format!("tcp://{address}"),
            };
            Error::Unreachable { address, source }
        })
    }
}

async fn read_json(request: &str, response: Response<Incoming>) -> Result<Value> {
    let broken = |why: String| Error::Broken { request: request.to_owned(), why };
    let body = http_body_util::Limited::new(response.into_body(), LARGEST);
    let bytes = body.collect().await.map_err(|error| broken(error.to_string()))?.to_bytes();
    if bytes.trim_ascii().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))
}

/// Values of a stream of JSON, one after the other.
pub fn values(chunks: Chunks) -> BoxStream<'static, Result<Value>> {
    let lines = async_stream::try_stream! {
        let (mut chunks, mut rest) = (chunks, Vec::new());
        while let Some(chunk) = chunks.next().await {
            rest.extend_from_slice(&chunk?);
            let mut read = serde_json::Deserializer::from_slice(&rest).into_iter::<Value>();
            let mut values = Vec::new();
            // What cannot be read yet is read with the next chunk.
            while let Some(Ok(value)) = read.next() {
                values.push(value);
            }
            let used = read.byte_offset();
            rest.drain(..used);
            if rest.len() > LARGEST {
                Err(Error::Broken { request: "a stream".into(), why: "a value has no end".into() })?;
            }
            for value in values {
                yield value;
            }
        }
    };
    lines.boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_that_of_a_socket_or_a_host() {
        for good in ["unix:///run/docker.sock", "/run/docker.sock", "tcp://127.0.0.1:2375", "tcp://h:1/"] {
            assert!(Client::new(good).is_ok(), "{good}");
        }
        for bad in ["", "unix://docker.sock", "ssh://host", "docker.sock", "tcp://host"] {
            assert!(matches!(Client::new(bad), Err(Error::Address(_))), "{bad}");
        }
    }

    #[tokio::test]
    async fn values_are_read_wherever_the_chunks_end() {
        let text = "{\"a\": 1}\n{\"b\": [2, 3]}{\"c\": \"}\"}\n";
        for length in 1..text.len() {
            let chunks: Vec<Result<Bytes>> =
                text.as_bytes().chunks(length).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
            let read: Vec<Value> = values(futures::stream::iter(chunks).boxed()).try_collect().await.unwrap();
            let wanted = serde_json::json!([{"a": 1}, {"b": [2, 3]}, {"c": "}"}]);
            assert_eq!(Value::Array(read), wanted, "chunks of {length}");
        }
    }
}
