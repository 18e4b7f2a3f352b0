//! A registry of images in this process, so that tests need no network: what a cluster pulls, and what
//! tests push, over the HTTP API of registries. Blobs are sent in one piece; there is no login and no
//! TLS, and nothing is ever deleted.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hex::encode;
use serde_json::json;
use sha2::{Digest, Sha256};

#[derive(Default)]
struct Store {
    blobs: HashMap<String, Arc<Vec<u8>>>,
    /// By repository and tag or digest: media type and digest.
    manifests: HashMap<(String, String), (String, String)>,
}

struct Request {
    method: String,
    path: String,
    query: String,
    kind: String,
    body: Vec<u8>,
}

struct Answer {
    status: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Arc<Vec<u8>>,
}

/// Serves until the process ends; the port on 127.0.0.1.
pub fn serve() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let store = Arc::new(Mutex::new(Store::default()));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let store = store.clone();
            std::thread::spawn(move || connection(stream, &store));
        }
    });
    port
}

/// Answers one request and closes.
fn connection(mut stream: TcpStream, store: &Mutex<Store>) -> Option<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let request = read(&mut stream)?;
    let answer = store.lock().unwrap().answer(&request);
    let mut head = format!(
        "HTTP/1.1 {}\r\nConnection: close\r\nDocker-Distribution-Api-Version: registry/2.0\r\nContent-Length: {}\r\n",
        answer.status,
        answer.body.len()
    );
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    if request.method != "HEAD" {
        stream.write_all(&answer.body).ok()?;
    }
    Some(())
}

fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut part = vec![0; 64 * 1024];
    let mut more = |bytes: &mut Vec<u8>| match stream.read(&mut part) {
        Ok(count @ 1..) => {
            bytes.extend_from_slice(&part[..count]);
            Some(())
        }
        _ => None,
    };
    let end = loop {
        match bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            Some(end) => break end,
            None => more(&mut bytes)?,
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let header = |name: &str| {
        let mut headers = head.lines().filter_map(|line| line.split_once(':'));
        headers.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    };
    let length: usize = header("content-length").map_or(Some(0), |length| length.parse().ok())?;
    let mut body = bytes.split_off(end + 4);
    while body.len() < length {
        more(&mut body)?;
    }
    let mut words = head.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let query = query.replace("%3A", ":").replace("%3a", ":").replace("%2F", "/").replace("%2f", "/");
    Some(Request {
        method,
        path: path.to_owned(),
        query,
        kind: header("content-type").unwrap_or_default(),
        body,
    })
}

impl Store {
    fn answer(&mut self, request: &Request) -> Answer {
        let Some(path) = request.path.strip_prefix("/v2/") else {
            return missing("UNSUPPORTED", "no such path");
        };
        if path.is_empty() {
            return Answer::new("200 OK", &[]);
        }
        if let Some(repository) = path.strip_suffix("/tags/list") {
            return self.tags(repository);
        }
        if let Some((repository, reference)) = path.split_once("/manifests/") {
            return match request.method.as_str() {
                "PUT" => self.put_manifest(repository, reference, request),
                _ => self.manifest(repository, reference),
            };
        }
        match (path.split_once("/blobs/"), request.method.as_str()) {
            (Some((repository, _)), "POST") => self.begin_upload(repository, request),
            (Some((repository, _)), "PUT") => self.put_blob(repository, request),
            (Some((_, digest)), "GET" | "HEAD") => self.blob(digest),
            _ => missing("UNSUPPORTED", "no such path"),
        }
    }

    fn manifest(&self, repository: &str, reference: &str) -> Answer {
        let key = (repository.to_owned(), reference.to_owned());
        let Some((kind, digest)) = self.manifests.get(&key) else {
            return match self.has(repository) {
                true => missing("MANIFEST_UNKNOWN", "manifest unknown"),
                false => missing("NAME_UNKNOWN", "repository name not known to registry"),
            };
        };
        let mut answer = self.blob(digest);
        answer.headers = vec![("Content-Type", kind.clone()), ("Docker-Content-Digest", digest.clone())];
        answer
    }

    fn has(&self, repository: &str) -> bool {
        self.manifests.keys().any(|(known, _)| known == repository)
    }

    fn tags(&self, repository: &str) -> Answer {
        if !self.has(repository) {
            return missing("NAME_UNKNOWN", "repository name not known to registry");
        }
        let known = self.manifests.keys().filter(|(known, _)| known == repository);
        let tags: Vec<&String> = known.map(|(_, tag)| tag).filter(|tag| !tag.contains(':')).collect();
        let mut answer = Answer::new("200 OK", &[("Content-Type", "application/json")]);
        answer.body = Arc::new(json!({"name": repository, "tags": tags}).to_string().into_bytes());
        answer
    }

    fn put_manifest(&mut self, repository: &str, reference: &str, request: &Request) -> Answer {
        let digest = self.keep(&request.body);
        for reference in [reference, &digest] {
            let key = (repository.to_owned(), reference.to_owned());
            self.manifests.insert(key, (request.kind.clone(), digest.clone()));
        }
        Answer::new("201 Created", &[("Docker-Content-Digest", &digest)])
    }

    fn blob(&self, digest: &str) -> Answer {
        let Some(body) = self.blobs.get(digest) else {
            return missing("BLOB_UNKNOWN", "blob unknown to registry");
        };
        let kind = ("Content-Type", "application/octet-stream".to_owned());
        Answer { status: "200 OK", headers: vec![kind], body: body.clone() }
    }

    /// A blob that another repository has need not be sent.
    fn begin_upload(&self, repository: &str, request: &Request) -> Answer {
        let digest = request.value("mount");
        if self.blobs.contains_key(digest) {
            return Answer::new("201 Created", &[("Location", &format!("/v2/{repository}/blobs/{digest}"))]);
        }
        Answer::new("202 Accepted", &[("Location", &format!("/v2/{repository}/blobs/uploads/one"))])
    }

    fn put_blob(&mut self, repository: &str, request: &Request) -> Answer {
        let digest = self.keep(&request.body);
        if request.value("digest") != digest {
            return refused(
                "400 Bad Request",
                "DIGEST_INVALID",
                "provided digest did not match uploaded content",
            );
        }
        Answer::new("201 Created", &[("Location", &format!("/v2/{repository}/blobs/{digest}"))])
    }

    fn keep(&mut self, bytes: &[u8]) -> String {
        let digest = format!("sha256:{}", encode(Sha256::digest(bytes)));
        self.blobs.insert(digest.clone(), Arc::new(bytes.to_vec()));
        digest
    }
}

impl Request {
    /// A parameter of the query; empty if it is not there.
    fn value(&self, name: &str) -> &str {
        let mut pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }
}

impl Answer {
    fn new(status: &'static str, headers: &[(&'static str, &str)]) -> Self {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Self { status, headers, body: Arc::default() }
    }
}

fn missing(code: &str, words: &str) -> Answer {
    refused("404 Not Found", code, words)
}

fn refused(status: &'static str, code: &str, words: &str) -> Answer {
    let body = json!({"errors": [{"code": code, "message": words}]}).to_string();
    let headers = vec![("Content-Type", "application/json".to_owned())];
    Answer { status, headers, body: Arc::new(body.into_bytes()) }
}
