//! `docker save`: images as an archive that `docker load`, Podman and skopeo read: an OCI layout with
//! Docker's `manifest.json` beside it. Layers go out as they came in, so their digests stay.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use futures::Stream;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};
use tokio_stream::wrappers::ReceiverStream;

use d2k_common::fault::{Fault, Result};
use d2k_registry::Reference;

use super::store::LayerRecord;
use super::stream::{ChannelWriter, Chunk};
use super::{Images, Shared, host};

const BUFFER: usize = 128 << 10;
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image that goes into the archive, with the names that were asked for.
struct Chosen {
    config: Arc<[u8]>,
    names: Vec<String>,
    layers: Vec<LayerRecord>,
}

impl Images {
    /// The archive of these images. A name goes with its image, an ID goes without names.
    pub fn save(&self, references: &[String]) -> Result<impl Stream<Item = Chunk> + Send + use<>> {
        let mut chosen: BTreeMap<String, Chosen> = BTreeMap::new();
        for reference in references {
            let entry = self.get(reference)?;
            if entry.id == host::id() {
                return Err(Fault::conflict("the image host is this machine itself and cannot be saved"));
            }
            let chains =
                self.shared.shelf.read(|index| index.images.get(&entry.id).map(|image| image.layers.clone()));
            let records = chains.unwrap_or_default();
            let layers = records.iter().filter_map(|chain| self.shared.store.layer_record(chain)).collect();
            let image = chosen.entry(entry.id.clone()).or_insert_with(|| Chosen {
                config: entry.config,
                names: Vec::new(),
                layers,
            });
            let name = Reference::parse(reference).ok().map(|name| name.to_string());
            let fresh = |name: &String| entry.references.contains(name) && !image.names.contains(name);
            if let Some(name) = name.filter(fresh) {
                image.names.push(name);
            }
        }
        let blobs = chosen.values().flat_map(|image| image.layers.iter().map(|layer| layer.blob.clone()));
        let pin = self.shared.shelf.pin(blobs.chain(chosen.keys().cloned()).collect());
        let shared = Arc::clone(&self.shared);
        let (sender, chunks) = tokio::sync::mpsc::channel(16);
        tokio::task::spawn_blocking(move || {
            let _pin = pin;
            let out = BufWriter::with_capacity(BUFFER, ChannelWriter(sender.clone()));
            if let Err(error) = write(&shared, &chosen, out) {
                let _ = sender.blocking_send(Err(error));
            }
        });
        Ok(ReceiverStream::new(chunks))
    }
}

fn write(shared: &Shared, chosen: &BTreeMap<String, Chosen>, out: impl Write) -> io::Result<()> {
    let mut archive = Builder::new(out);
    let mut written = BTreeSet::new();
    let (mut manifests, mut docker) = (Vec::new(), Vec::new());
    for folder in ["blobs/", "blobs/sha256/"] {
        add(&mut archive, folder, EntryType::Directory, 0, io::empty())?;
    }
    for (id, image) in chosen {
        small(&mut archive, &mut written, &blob(id), &image.config)?;
        let mut layers = Vec::new();
        for layer in &image.layers {
            let path = shared.store.blob(&layer.blob);
            let (size, kind) = look(&path)?;
            if written.insert(blob(&layer.blob)) {
                add(&mut archive, &blob(&layer.blob), EntryType::Regular, size, File::open(&path)?)?;
            }
            layers.push(json!({ "mediaType": format!("{LAYER}{kind}"), "digest": layer.blob, "size": size }));
        }
        let config = json!({ "mediaType": CONFIG, "digest": id, "size": image.config.len() });
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers })
                .to_string();
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(&manifest)));
        small(&mut archive, &mut written, &blob(&digest), manifest.as_bytes())?;
        manifests.extend(descriptors(image, &digest, manifest.len()));
        let familiar = image.names.iter().filter_map(|name| Reference::parse(name).ok());
        let tags: Vec<String> = familiar.map(|name| name.familiar()).collect();
        let paths: Vec<String> = image.layers.iter().map(|layer| blob(&layer.blob)).collect();
        docker.push(json!({ "Config": blob(id), "RepoTags": tags, "Layers": paths }));
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
    small(&mut archive, &mut written, "index.json", index.to_string().as_bytes())?;
    small(&mut archive, &mut written, "manifest.json", Value::Array(docker).to_string().as_bytes())?;
    small(&mut archive, &mut written, "oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}")?;
    archive.into_inner()?.flush()
}

/// One line of the layout's index for each name, or one without a name.
fn descriptors(image: &Chosen, digest: &str, size: usize) -> Vec<Value> {
    let plain = json!({ "mediaType": MANIFEST, "digest": digest, "size": size });
    let named = |name: &String| {
        let tag = name.rsplit(':').next().unwrap_or_default();
        let mut line = plain.clone();
        if let Some(line) = line.as_object_mut() {
            let names = json!({ "io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag });
            line.insert("annotations".to_owned(), names);
        }
        line
    };
    if image.names.is_empty() { vec![plain] } else { image.names.iter().map(named).collect() }
}

/// Size of a blob, and what its compression adds to its media type.
fn look(path: &Path) -> io::Result<(u64, &'static str)> {
    let mut file = File::open(path)?;
    let mut first = [0; 4];
    let size = file.metadata()?.len();
    let read = io::Read::read(&mut file, &mut first)?;
    let kind = match first.get(..read).unwrap_or_default() {
        [0x1f, 0x8b, ..] => "+gzip",
        [0x28, 0xb5, 0x2f, 0xfd] => "+zstd",
        _ => "",
    };
    Ok((size, kind))
}

fn small(
    archive: &mut Builder<impl Write>,
    written: &mut BTreeSet<String>,
    name: &str,
    bytes: &[u8],
) -> io::Result<()> {
    if !written.insert(name.to_owned()) {
        return Ok(());
    }
    add(archive, name, EntryType::Regular, bytes.len() as u64, bytes)
}

fn add(
    archive: &mut Builder<impl Write>,
    name: &str,
    kind: EntryType,
    size: u64,
    content: impl io::Read,
) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    header.set_size(size);
    archive.append_data(&mut header, name, content)
}

fn blob(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}
