//! `docker load`: images from an archive as `docker save`, Podman, Buildah or skopeo write it, with
//! Docker's `manifest.json` or as an OCI layout, plain or compressed.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use tar::{Archive, EntryType};
use tokio::io::AsyncRead;

use d2k_common::fault::{Fault, Result};
use d2k_registry::blobs::read_config;
use d2k_registry::{Platform, Reference};

use super::layers::{id_of, parts};
use super::manage::taggable;
use super::store::{Temporary, failed};
use super::stream::{channel, fed};
use super::{Images, Shared, blocking};
use d2k_common::compression::plain;

/// The largest JSON file of an archive that is read.
const JSON: u64 = 8 << 20;
/// Files in one archive: every layer of many images fits.
const MOST: usize = 100_000;
/// Lists in lists and links to links.
const DEEPEST: usize = 8;
const CHUNK: usize = 128 << 10;

/// What an archive had in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loaded {
    /// A name, as people write it: `busybox:latest`.
    Name(String),
    /// The ID of an image without a name.
    Id(String),
}

impl Images {
    /// Loads all images of an archive; the answer names them in their order there.
    pub async fn load(&self, archive: impl AsyncRead + Send + Unpin) -> Result<Vec<Loaded>> {
        let (sender, reader) = channel();
        let shared = Arc::clone(&self.shared);
        let loading = blocking(move || {
            let mut members = Members::read(&shared, reader)?;
            members.load(&shared)
        });
        fed(archive, sender, loading).await
    }
}

/// The files of an archive, unpacked under numbers.
struct Members {
    folder: Temporary,
    files: HashMap<String, Member>,
    links: HashMap<String, String>,
}

#[derive(Clone)]
struct Member {
    path: PathBuf,
    digest: String,
    size: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    platform: Option<ListedPlatform>,
    annotations: HashMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ListedPlatform {
    os: String,
    architecture: String,
}

/// A manifest or a list of them.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Document {
    config: Option<Descriptor>,
    layers: Vec<Descriptor>,
    manifests: Vec<Descriptor>,
}

impl Members {
    fn read(shared: &Arc<Shared>, archive: impl Read) -> Result<Self> {
        let folder = shared.store.temporary();
        fs::create_dir(&folder.path).map_err(failed("write", &folder.path))?;
        let mut members = Self { folder, files: HashMap::new(), links: HashMap::new() };
        members.unpack(archive).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                failed("load the archive into", &members.folder.path)(error)
            }
            _ => Fault::invalid(format!("cannot load the archive: {error}")),
        })?;
        Ok(members)
    }

    fn unpack(&mut self, archive: impl Read) -> io::Result<()> {
        let mut archive = Archive::new(plain(archive)?);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let name = normal(&String::from_utf8_lossy(&entry.path_bytes()), "");
            if self.files.len() + self.links.len() > MOST {
                return Err(io::Error::other("it has too many files for an archive of images"));
            }
            match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => {
                    let path = self.folder.path.join(self.files.len().to_string());
                    let member = store(&mut entry, path)?;
                    self.files.insert(name, member);
                }
                kind @ (EntryType::Symlink | EntryType::Link) => {
                    let target = entry.link_name_bytes().unwrap_or_default();
                    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                    let base = if kind == EntryType::Symlink { folder } else { "" };
                    let target = normal(&String::from_utf8_lossy(&target), base);
                    self.links.insert(name, target);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn load(&mut self, shared: &Arc<Shared>) -> Result<Vec<Loaded>> {
        if self.find("manifest.json").is_some() {
            let images: Vec<DockerImage> = self.json("manifest.json")?;
            let mut loaded = Vec::new();
            for image in images {
                let names = image.repo_tags.unwrap_or_default();
                loaded.extend(self.image(shared, &image.config, &image.layers, &names)?);
            }
            return Ok(loaded);
        }
        if self.find("index.json").is_some() {
            return self.layout(shared);
        }
        Err(Fault::invalid(
            "this is no archive of images: it has neither manifest.json nor index.json; \
             use `docker import` for the archive of a file system",
        ))
    }

    fn layout(&self, shared: &Arc<Shared>) -> Result<Vec<Loaded>> {
        let index: Document = self.json("index.json")?;
        let mut loaded = Vec::new();
        for entry in &index.manifests {
            let document = self.for_us(entry, 0)?;
            let config = document.config.unwrap_or_default();
            let layers: Vec<String> = document.layers.iter().map(|layer| blob(&layer.digest)).collect();
            let named = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
            let name = named.iter().find_map(|key| entry.annotations.get(*key));
            // A bare tag names no image.
            let name = name.filter(|name| name.contains([':', '/'])).cloned();
            let names: Vec<String> = name.into_iter().collect();
            loaded.extend(self.image(shared, &blob(&config.digest), &layers, &names)?);
        }
        Ok(loaded)
    }

    /// The manifest for this machine that a descriptor leads to.
    fn for_us(&self, descriptor: &Descriptor, depth: usize) -> Result<Document> {
        let document: Document = self.json(&blob(&descriptor.digest))?;
        if document.config.is_some() || depth > DEEPEST {
            return Ok(document);
        }
        let ours = Platform::default();
        let fits = |entry: &&Descriptor| match &entry.platform {
            Some(listed) => listed.os == ours.os && listed.architecture == ours.architecture,
            None => entry.media_type.contains("manifest") || entry.media_type.contains("index"),
        };
        // Archives often have one platform of a list only.
        let here = |entry: &&Descriptor| self.find(&blob(&entry.digest)).is_some();
        match document.manifests.iter().filter(here).find(fits) {
            Some(entry) => self.for_us(entry, depth + 1),
            None => Err(Fault::invalid(format!("the archive has no image for {ours}"))),
        }
    }

    fn image(
        &self,
        shared: &Arc<Shared>,
        config: &str,
        layers: &[String],
        names: &[String],
    ) -> Result<Vec<Loaded>> {
        let config = self.bytes(config)?;
        let id = id_of(&config);
        let facts = read_config(&config, &[])?;
        let members = layers.iter().map(|name| self.find(name).ok_or_else(|| missing(name)));
        let members = members.collect::<Result<Vec<_>>>()?;
        let blobs = members.iter().map(|member| (member.digest.clone(), member.size)).collect();
        let parts = parts(blobs, &facts.layers)?;
        let names = names.iter().map(|name| taggable(name)).collect::<Result<Vec<Reference>>>()?;
        let _pin = shared.pin(&id, &parts);
        for (part, member) in parts.iter().zip(&members) {
            let _lock = shared.locks.lock_blocking(&format!("blob {}", part.blob));
            let needed = shared.store.layer_record(&part.chain).is_none();
            if needed && !shared.store.blob(&part.blob).exists() {
                // A link, since another image of the archive may have the same layer.
                let made = shared.store.temporary();
                fs::hard_link(&member.path, &made.path).map_err(failed("keep", &member.path))?;
                shared.store.keep_blob(&part.blob, &made.path)?;
            }
        }
        shared.unpack_all(&parts)?;
        let full: Vec<String> = names.iter().map(Reference::to_string).collect();
        shared.commit(&id, &config, &parts, &full, None)?;
        match names.is_empty() {
            true => Ok(vec![Loaded::Id(id)]),
            false => Ok(names.iter().map(|name| Loaded::Name(name.familiar())).collect()),
        }
    }

    fn find(&self, name: &str) -> Option<&Member> {
        let mut name = normal(name, "");
        for _ in 0..DEEPEST {
            if let Some(member) = self.files.get(&name) {
                return Some(member);
            }
            name.clone_from(self.links.get(&name)?);
        }
        None
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        let member = self.find(name).ok_or_else(|| missing(name))?;
        if member.size > JSON {
            return Err(Fault::invalid(format!("{name} in the archive is too large: {} bytes", member.size)));
        }
        fs::read(&member.path).map_err(failed("read", &member.path))
    }

    fn json<T: for<'a> Deserialize<'a>>(&self, name: &str) -> Result<T> {
        serde_json::from_slice(&self.bytes(name)?)
            .map_err(|error| Fault::invalid(format!("{name} in the archive is malformed: {error}")))
    }
}

/// Writes a file, digests it and has it on the disk.
fn store(content: &mut impl Read, path: PathBuf) -> io::Result<Member> {
    let mut file = File::create_new(&path)?;
    let (mut hasher, mut size, mut buffer) = (Sha256::new(), 0, vec![0; CHUNK]);
    loop {
        let length = content.read(&mut buffer)?;
        let bytes = buffer.get(..length).unwrap_or_default();
        if bytes.is_empty() {
            break;
        }
        hasher.update(bytes);
        file.write_all(bytes)?;
        size += length as u64;
    }
    file.sync_all()?;
    Ok(Member { path, digest: format!("sha256:{}", hex::encode(hasher.finalize())), size })
}

fn blob(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

fn missing(name: &str) -> Fault {
    Fault::invalid(format!("{name} is missing in the archive"))
}

/// A name in an archive, from `folder` on, without dots and double slashes.
fn normal(name: &str, folder: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
