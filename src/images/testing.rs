//! What the tests of the images need: archives made entry by entry, hostile ones too, and a registry
//! in the test's own process that can be slow, wrong or cut off.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::json;
use sha2::{Digest, Sha256};

use d2k_registry::{Registry, RegistrySettings};

use super::Images;

/// A folder that is gone with the test.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("d2k-images-{:016x}", rand::random::<u64>()));
        std::fs::create_dir_all(&path).expect("folder");
        Self(path)
    }

    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        super::store::remove(&self.0);
    }
}

/// An archive in the making.
#[derive(Default)]
pub(super) struct Tar(Vec<u8>);

impl Tar {
    /// An entry with any name, as no honest program would write it.
    pub(super) fn raw(mut self, name: &str, kind: u8, mode: u32, link: &str, content: &[u8]) -> Self {
        let mut header = [0_u8; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, name.as_bytes());
        put(100, format!("{mode:07o}\0").as_bytes());
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{:011o}\0", content.len()).as_bytes());
        put(136, format!("{:011o}\0", 1_700_000_000).as_bytes());
        put(148, b"        ");
        put(156, &[kind]);
        put(157, link.as_bytes());
        put(257, b"ustar\x0000");
        // Some programs leave these empty where they mean nothing.
        if matches!(kind, b'3' | b'4') {
            put(329, b"0000000\0");
            put(337, b"0000000\0");
        }
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn file(self, name: &str, content: &[u8]) -> Self {
        self.raw(name, b'0', 0o644, "", content)
    }

    pub(super) fn folder(self, name: &str, mode: u32) -> Self {
        self.raw(name, b'5', mode, "", b"")
    }

    pub(super) fn symlink(self, name: &str, target: &str) -> Self {
        self.raw(name, b'2', 0o777, target, b"")
    }

    pub(super) fn hard_link(self, name: &str, target: &str) -> Self {
        self.raw(name, b'1', 0o644, target, b"")
    }

    /// Extensions of the next entry.
    pub(super) fn extension(self, name: &str, value: &str) -> Self {
        let line = |length: usize| format!("{length} {name}={value}\n");
        let mut length = line(0).len();
        while line(length).len() != length {
            length = line(length).len();
        }
        self.raw("pax", b'x', 0o644, "", line(length).as_bytes())
    }

    pub(super) fn done(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("gzip");
    encoder.finish().expect("gzip")
}

pub(super) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A config for layers, given as plain archives.
pub(super) fn config(layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    let history: Vec<_> = layers.iter().map(|_| json!({ "created_by": "test" })).collect();
    let config = json!({
        "created": "2026-01-02T03:04:05Z", "os": "linux", "architecture": "amd64",
        "config": { "Entrypoint": ["/e"], "Cmd": ["c"], "Env": ["A=b"], "User": "1:2", "StopSignal": "SIGQUIT" },
        "rootfs": { "type": "layers", "diff_ids": diff_ids }, "history": history,
    });
    config.to_string().into_bytes()
}

/// How a registry answers for one path.
#[derive(Clone, Default)]
pub(super) struct Answer {
    pub(super) bytes: Vec<u8>,
    /// Connections are lost after so many bytes, so many times.
    pub(super) cut: Option<(usize, usize)>,
    /// The wait before the bytes.
    pub(super) wait: Duration,
}

/// A registry that runs as long as the test.
pub(super) struct Fake {
    pub(super) host: String,
    objects: Arc<Mutex<HashMap<String, Answer>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

type Shared = (Arc<Mutex<HashMap<String, Answer>>>, Arc<Mutex<Vec<String>>>);

impl Fake {
    pub(super) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let host = listener.local_addr().expect("address").to_string();
        let fake = Self { host, objects: Arc::default(), asked: Arc::default() };
        let shared: Shared = (Arc::clone(&fake.objects), Arc::clone(&fake.asked));
        let router = Router::new().fallback(serve).with_state(shared);
        tokio::spawn(async move { axum::serve(listener, router).await });
        fake
    }

    /// Serves an image of these layers (plain archives) under a name; its layers' digests.
    pub(super) fn image(&self, repository: &str, layers: &[Vec<u8>]) -> Vec<String> {
        let config = config(layers);
        let blobs: Vec<Vec<u8>> = layers.iter().map(|layer| gzip(layer)).collect();
        let descriptors: Vec<_> = blobs
            .iter()
            .map(|blob| json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest(blob), "size": blob.len() }))
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(&config), "size": config.len() },
            "layers": descriptors,
        });
        self.put(&format!("{repository}/manifests/latest"), manifest.to_string().into_bytes());
        self.put(&format!("{repository}/blobs/{}", digest(&config)), config);
        for blob in &blobs {
            self.put(&format!("{repository}/blobs/{}", digest(blob)), blob.clone());
        }
        blobs.iter().map(|blob| digest(blob)).collect()
    }

    pub(super) fn put(&self, path: &str, bytes: Vec<u8>) {
        let answer = Answer { bytes, ..Answer::default() };
        self.objects.lock().expect("objects").insert(path.to_owned(), answer);
    }

    pub(super) fn change(&self, path: &str, change: impl FnOnce(&mut Answer)) {
        change(self.objects.lock().expect("objects").get_mut(path).expect("object"));
    }

    /// How often a path was asked for.
    pub(super) fn asked(&self, path: &str) -> usize {
        self.asked.lock().expect("asked").iter().filter(|asked| asked.contains(path)).count()
    }

    /// A store in `folder` that can ask this registry.
    pub(super) fn images(&self, folder: &Path) -> Images {
        images(folder)
    }
}

/// A store in `folder`.
pub(super) fn images(folder: &Path) -> Images {
    let settings = RegistrySettings {
        timeout: Duration::from_secs(2),
        platform: "linux/amd64".parse().expect("platform"),
        ..RegistrySettings::default()
    };
    Images::open(folder.join("images"), Registry::new(&settings).expect("registry")).expect("images")
}

async fn serve(State((objects, asked)): State<Shared>, request: Request) -> Response {
    let path = request.uri().path().trim_start_matches("/v2/").to_owned();
    asked.lock().expect("asked").push(path.clone());
    let answer = {
        let mut objects = objects.lock().expect("objects");
        let Some(answer) = objects.get_mut(&path) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let given = answer.clone();
        answer.cut = answer.cut.filter(|(_, times)| *times > 1).map(|(at, times)| (at, times - 1));
        given
    };
    tokio::time::sleep(answer.wait).await;
    let range = request.headers().get(header::RANGE).and_then(|value| value.to_str().ok());
    let from = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let bytes = Bytes::from(answer.bytes).split_off(from.unwrap_or(0));
    let status = if from.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let Some((at, _)) = answer.cut else {
        return (status, bytes).into_response();
    };
    let length = bytes.len();
    let parts = futures::stream::iter([Ok(bytes.slice(..at.min(length))), Err(std::io::Error::other("cut"))]);
    let slow = futures::StreamExt::then(parts, |part| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        part
    });
    (status, [(header::CONTENT_LENGTH, length.to_string())], Body::from_stream(slow)).into_response()
}
