//! An engine that requests are sent to: a d2k on a port, or a real one at a unix socket.

use std::path::PathBuf;

use super::support::{Connection, Reply, http_parse};

/// Where an engine listens.
#[derive(Debug, Clone)]
pub enum Engine {
    Port(u16),
    Socket(PathBuf),
}

impl Engine {
    /// The engine of a `DOCKER_HOST`.
    #[track_caller]
    pub fn of(host: &str) -> Self {
        match host.strip_prefix("unix://") {
            Some(path) => Self::Socket(path.into()),
            None => panic!("{host} is no unix:// address of an engine"),
        }
    }

    /// A connection for bytes of one's own.
    pub fn connect(&self) -> Connection {
        match self {
            Self::Port(port) => Connection::open(*port),
            Self::Socket(path) => Connection::unix(path),
        }
    }

    /// Sends a request and reads its answer to the end of the connection.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, headers: &[(String, String)], body: &[u8]) -> Reply {
        let mut connection = self.connect();
        connection.send(head(method, path, headers, body.len())).send(body);
        answer(&connection.rest(), &format!("{method} {path}"))
    }

    /// A plain request whose answer is JSON.
    #[track_caller]
    pub fn json(&self, method: &str, path: &str) -> serde_json::Value {
        self.ask(method, path, &[], b"").json()
    }
}

/// The bytes of a connection as an answer.
#[track_caller]
pub fn answer(bytes: &[u8], what: &str) -> Reply {
    http_parse(bytes).unwrap_or_else(|| panic!("{what}: no answer: {:?}", String::from_utf8_lossy(bytes)))
}

/// The head of a request; a length is said unless the headers speak of the body themselves.
pub fn head(method: &str, path: &str, headers: &[(String, String)], length: usize) -> String {
    let given = |name: &str| headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
    let mut head = format!("{method} {path} HTTP/1.1\r\n");
    if !given("host") {
        head.push_str("Host: docker\r\n");
    }
    if !given("connection") {
        head.push_str("Connection: close\r\n");
    }
    if !given("transfer-encoding") && !given("content-length") && (length > 0 || method == "POST") {
        head.push_str(&format!("Content-Length: {length}\r\n"));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head + "\r\n"
}
