//! Images made on the spot, and a registry that wants a login, both in front of the registry of the
//! cluster under test, from which every Pod pulls whatever registry its image names.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;

use base64::Engine;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::http::{self, Reply};
use super::{cluster, store};

/// Where the registry of a cluster that was given listens.
const GIVEN: &str = "127.0.0.1:5000";

/// Where the registry of the cluster under test listens, without TLS or login. That of the embedded
/// cluster is in this process.
pub fn registry() -> &'static str {
    static OWN: OnceLock<String> = OnceLock::new();
    match cluster::given() {
        Some(_) => GIVEN,
        None => OWN.get_or_init(|| format!("127.0.0.1:{}", store::serve())),
    }
}

/// An image to be made: what is in it, and what its configuration says.
#[derive(Debug, Clone)]
pub struct Image {
    name: String,
    base: Option<&'static str>,
    created: &'static str,
    config: Value,
    layers: Vec<Vec<u8>>,
    files: Vec<(String, Vec<u8>, u32)>,
}

impl Image {
    /// An image with all of busybox in it.
    pub fn busybox(name: &str) -> Self {
        Self { base: Some("busybox"), ..Self::empty(name) }
    }

    /// An image with nothing in it but the files added.
    pub fn empty(name: &str) -> Self {
        let created = "2026-01-02T03:04:05Z";
        Self {
            name: name.to_owned(),
            base: None,
            created,
            config: json!({}),
            layers: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Sets fields of the configuration: `Cmd`, `Env`, `ExposedPorts`, `User`, `Volumes`, ….
    pub fn config(mut self, fields: Value) -> Self {
        for (key, value) in fields.as_object().unwrap() {
            self.config[key] = value.clone();
        }
        self
    }

    /// Adds a file with its permissions.
    pub fn file(mut self, path: &str, content: impl Into<Vec<u8>>, mode: u32) -> Self {
        self.files.push((path.to_owned(), content.into(), mode));
        self
    }

    /// Sets when it was made; in January 2026 otherwise.
    pub fn created(mut self, time: &'static str) -> Self {
        self.created = time;
        self
    }

    /// Adds a layer, as a tar archive.
    pub fn layer(mut self, tar: Vec<u8>) -> Self {
        self.layers.push(tar);
        self
    }

    /// Puts it into the registry as `name:latest` and gives the digest of its manifest.
    #[track_caller]
    pub fn push(mut self) -> String {
        let repository = format!("library/{}", self.name);
        let (mut layers, mut diffs, mut config) = match self.base {
            Some(base) => layers_of(base, &repository),
            None => (Vec::new(), Vec::new(), json!({})),
        };
        if !self.files.is_empty() {
            self.layers.push(tar_of(&self.files));
        }
        for layer in &self.layers {
            diffs.push(json!(digest(layer)));
            layers.push(json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": push_blob(&repository, layer),
                "size": layer.len(),
            }));
        }
        for (key, value) in self.config.as_object().unwrap() {
            config[key] = value.clone();
        }
        let config = json!({
            "created": self.created, "architecture": architecture(), "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": diffs},
            "history": [{"created": self.created, "created_by": "the suite of d2k"}],
        })
        .to_string();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": push_blob(&repository, config.as_bytes()), "size": config.len(),
            },
            "layers": layers,
        })
        .to_string();
        put_manifest(&repository, manifest.as_bytes());
        digest(manifest.as_bytes())
    }
}

/// Puts an OCI archive that holds one image into the registry as `name:latest`.
#[track_caller]
pub fn push_archive(name: &str, archive: &Path) {
    let repository = format!("library/{name}");
    let (mut blobs, mut index) = (HashMap::new(), Value::Null);
    let mut tar = tar::Archive::new(File::open(archive).unwrap());
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        if let Some(hex) = path.strip_prefix("blobs/sha256/").filter(|hex| !hex.is_empty()) {
            blobs.insert(format!("sha256:{hex}"), content);
        } else if path == "index.json" {
            index = serde_json::from_slice(&content).unwrap();
        }
    }
    let manifest = blobs.remove(index["manifests"][0]["digest"].as_str().unwrap()).unwrap();
    for (named, blob) in &blobs {
        assert_eq!(&push_blob(&repository, blob), named, "the archive's names are digests");
    }
    put_manifest(&repository, &manifest);
}

#[track_caller]
fn put_manifest(repository: &str, manifest: &[u8]) {
    let kind = [("Content-Type", "application/vnd.oci.image.manifest.v1+json")];
    let reply = ask("PUT", &format!("/v2/{repository}/manifests/latest"), &kind, manifest);
    assert_eq!(reply.status, 201, "{}", reply.text());
}

/// Layers, layer contents' digests and configuration of an image that is there already.
fn layers_of(base: &str, repository: &str) -> (Vec<Value>, Vec<Value>, Value) {
    let accept = [("Accept", "application/vnd.oci.image.manifest.v1+json")];
    let manifest = ask("GET", &format!("/v2/library/{base}/manifests/latest"), &accept, b"").json();
    let config = manifest["config"]["digest"].as_str().unwrap();
    let config = ask("GET", &format!("/v2/library/{base}/blobs/{config}"), &[], b"").json();
    let layers = manifest["layers"].as_array().unwrap().clone();
    for layer in &layers {
        let blob = layer["digest"].as_str().unwrap();
        let mount = format!("/v2/{repository}/blobs/uploads/?mount={blob}&from=library/{base}");
        let reply = ask("POST", &mount, &[], b"");
        assert_eq!(reply.status, 201, "the registry did not mount {blob}: {}", reply.text());
    }
    (layers, config["rootfs"]["diff_ids"].as_array().unwrap().clone(), config["config"].clone())
}

#[track_caller]
fn push_blob(repository: &str, bytes: &[u8]) -> String {
    let digest = digest(bytes);
    let reply = ask("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"");
    let location = reply.header("location").unwrap_or_else(|| panic!("no upload: {}", reply.text()));
    let path = location.strip_prefix(&format!("http://{}", registry())).unwrap_or(location);
    let joint = if path.contains('?') { '&' } else { '?' };
    let kind = [("Content-Type", "application/octet-stream")];
    let reply = ask("PUT", &format!("{path}{joint}digest={digest}"), &kind, bytes);
    assert_eq!(reply.status, 201, "{}", reply.text());
    digest
}

fn ask(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let stream = TcpStream::connect(registry()).unwrap();
    http::ask(stream, method, path, headers, body).unwrap_or_else(|| panic!("{method} {path}: no answer"))
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

fn tar_of(files: &[(String, Vec<u8>, u32)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content, mode) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        header.set_mtime(1_700_000_000);
        tar.append_data(&mut header, path.trim_start_matches('/'), content.as_slice()).unwrap();
    }
    tar.into_inner().unwrap()
}

/// A registry at a port of its own that wants the user `tester` with a password, `s3cret` at first, and
/// passes on to the registry of the cluster what it lets through.
pub struct GuardedRegistry {
    /// Its port on 127.0.0.1.
    pub port: u16,
    rules: Arc<Mutex<Rules>>,
    accepting: Option<JoinHandle<()>>,
}

/// Whom a registry lets in.
struct Rules {
    password: &'static str,
    /// Requests without credentials are let through; wrong ones never are.
    public: bool,
    stopped: bool,
}

impl GuardedRegistry {
    /// Starts it.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let rules = Arc::new(Mutex::new(Rules { password: "s3cret", public: false, stopped: false }));
        let shared = Arc::clone(&rules);
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.lock().unwrap().stopped {
                    return;
                }
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || guard(stream, &shared));
            }
        });
        Self { port, rules, accepting: Some(accepting) }
    }

    /// Changes the password.
    pub fn set_password(&self, password: &'static str) {
        self.rules.lock().unwrap().password = password;
    }

    /// Gives everything to everybody who does not come with wrong credentials.
    pub fn make_public(&self) {
        self.rules.lock().unwrap().public = true;
    }
}

impl Drop for GuardedRegistry {
    fn drop(&mut self) {
        self.rules.lock().unwrap().stopped = true;
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        // From here on nothing listens.
        let _ = self.accepting.take().map(JoinHandle::join);
    }
}

/// Answers one request of a connection and closes it.
fn guard(mut client: TcpStream, rules: &Mutex<Rules>) {
    let mut request = Vec::new();
    let mut part = [0; 4096];
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        match client.read(&mut part) {
            Ok(read @ 1..) => request.extend_from_slice(&part[..read]),
            _ => return,
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let allowed = {
        let rules = rules.lock().unwrap();
        let login = base64::engine::general_purpose::STANDARD.encode(format!("tester:{}", rules.password));
        match request.lines().find(|line| line.to_lowercase().starts_with("authorization:")) {
            Some(line) => line.ends_with(&format!("Basic {login}")),
            None => rules.public,
        }
    };
    if !allowed {
        let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
        let _ = write!(
            client,
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"suite\"\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        return;
    }
    let Ok(mut upstream) = TcpStream::connect(registry()) else {
        return;
    };
    let head: Vec<&str> = request
        .lines()
        .filter(|line| {
            let line = line.to_lowercase();
            !line.is_empty() && !line.starts_with("authorization:") && !line.starts_with("connection:")
        })
        .collect();
    let _ = write!(upstream, "{}\r\nConnection: close\r\n\r\n", head.join("\r\n"));
    let _ = std::io::copy(&mut upstream, &mut client);
}
