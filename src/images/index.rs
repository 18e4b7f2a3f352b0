//! Which images are here and by which names: one JSON file, replaced as a whole, and the same in
//! memory, which readers use without waiting for the disk.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};

use d2k_common::fault::{Fault, Result};
use d2k_registry::Reference;

use super::store::{Store, Temporary};

const FILE: &str = "index.json";

/// The file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Index {
    /// Full names with a tag, and the ID of the image they mean.
    pub(super) references: BTreeMap<String, String>,
    /// Images by ID.
    pub(super) images: BTreeMap<String, Record>,
}

/// An image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    /// `docker.io/library/busybox@sha256:…`: where it came from.
    pub(super) digests: BTreeSet<String>,
    /// Chain IDs of its layers, lowest first.
    pub(super) layers: Vec<String>,
    /// The blob that each is unpacked from.
    pub(super) blobs: Vec<String>,
    /// The sum of the sizes of the files of each.
    pub(super) sizes: Vec<u64>,
    /// The boot of the machine in which its layers were written, until they are surely on the disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unsynced: Option<String>,
    /// Sum of the sizes of its files.
    pub(super) size: u64,
    /// When it was built, as its config says.
    pub(super) created: String,
}

/// The index in memory and on the disk.
pub(super) struct Shelf {
    state: Mutex<State>,
    /// Held while the file is written, so that writes come one after the other.
    writing: Mutex<()>,
}

#[derive(Default)]
struct State {
    index: Index,
    configs: HashMap<String, Arc<[u8]>>,
    /// Blobs and layers that somebody is about to use, and by how many.
    pins: HashMap<String, usize>,
}

/// Keeps blobs and layers from being removed as unused.
pub(super) struct Pin {
    shelf: Arc<Shelf>,
    names: Vec<String>,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.shelf.state();
        for name in &self.names {
            if let Some(count) = state.pins.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    state.pins.remove(name);
                }
            }
        }
    }
}

impl Shelf {
    /// Reads the index; images without a config are left out.
    pub(super) fn open(store: &Store) -> io::Result<Self> {
        let mut index: Index = match fs::read(store.folder().join(FILE)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                let path = store.folder().join(FILE);
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{} is damaged ({error}): remove it, and pull the images again", path.display()),
                )
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Index::default(),
            Err(error) => return Err(error),
        };
        let mut configs = HashMap::new();
        index.images.retain(|id, _| {
            let config = fs::read(store.blob(id));
            let known = config.is_ok();
            if !known {
                tracing::warn!("the config of image {id} is missing: it has to be pulled again");
            }
            configs.extend(config.ok().map(|config| (id.clone(), Arc::from(config))));
            known
        });
        index.references.retain(|_, id| index.images.contains_key(id));
        let state = State { index, configs, pins: HashMap::new() };
        Ok(Self { state: Mutex::new(state), writing: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Looks something up. `read` must not take long.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Index) -> T) -> T {
        read(&self.state().index)
    }

    /// The config of an image.
    pub(super) fn config(&self, id: &str) -> Option<Arc<[u8]>> {
        self.state().configs.get(id).cloned()
    }

    /// Keeps things from being removed as long as the answer lives.
    pub(super) fn pin(self: &Arc<Self>, names: Vec<String>) -> Pin {
        let mut state = self.state();
        for name in &names {
            *state.pins.entry(name.clone()).or_default() += 1;
        }
        Pin { shelf: Arc::clone(self), names }
    }

    /// Changes the index, on the disk first. Blocks.
    pub(super) fn change<T>(
        &self,
        store: &Store,
        config: Option<(&str, &[u8])>,
        change: impl FnOnce(&mut Index) -> Result<T>,
    ) -> Result<T> {
        let _writing = self.writing.lock();
        let mut index = self.read(Index::clone);
        let answer = change(&mut index)?;
        let bytes = serde_json::to_vec_pretty(&index).map_err(|error| Fault::internal(error.to_string()))?;
        store.replace(FILE, &bytes)?;
        let mut state = self.state();
        if let Some((id, config)) = config {
            state.configs.insert(id.to_owned(), Arc::from(config));
        }
        state.configs.retain(|id, _| index.images.contains_key(id));
        state.index = index;
        Ok(answer)
    }

    /// Takes away what no image and nobody else needs; the bytes go with the answer. Blocks.
    pub(super) fn sweep(&self, store: &Store, blobs_too: bool) -> Vec<Temporary> {
        let state = self.state();
        let mut needed: HashSet<String> = state.pins.keys().cloned().collect();
        for (id, record) in &state.index.images {
            needed.insert(id.clone());
            needed.extend(record.blobs.iter().cloned());
            needed.extend(record.layers.iter().map(|chain| layer_pin(chain)));
        }
        let (blobs, layers) = store.stored();
        let blobs = blobs.into_iter().filter(|digest| blobs_too && !needed.contains(digest));
        let layers = layers.into_iter().filter(|chain| !needed.contains(&layer_pin(chain)));
        let gone: Vec<_> =
            blobs.map(|digest| store.blob(&digest)).chain(layers.map(|chain| store.layer(&chain))).collect();
        gone.iter().filter_map(|path| store.take_away(path)).collect()
    }
}

/// Chain IDs and blob digests look the same, and a layer's folder does not tell the algorithm.
pub(super) fn layer_pin(chain: &str) -> String {
    format!("layer {}", chain.split(':').next_back().unwrap_or_default())
}

impl Index {
    /// The ID that a user means by a name, a digest, an ID or the beginning of one.
    pub(super) fn find(&self, text: &str) -> Option<String> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let is_hex = !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let full = format!("sha256:{hex}");
        if is_hex && self.images.contains_key(&full) {
            return Some(full);
        }
        if let Some(id) = Reference::parse(text).ok().and_then(|reference| self.named(&reference)) {
            return Some(id);
        }
        let mut found = self.images.keys().filter(|id| is_hex && id.starts_with(&full));
        let first = found.next()?;
        found.next().is_none().then(|| first.clone())
    }

    /// The ID of the image with this very name. A digest decides, whatever the tag says.
    pub(super) fn named(&self, reference: &Reference) -> Option<String> {
        let Some(digest) = reference.digest() else {
            return self.references.get(&reference.to_string()).cloned();
        };
        let digest = format!("{}@{digest}", reference.name());
        self.images.iter().find(|(_, record)| record.digests.contains(&digest)).map(|(id, _)| id.clone())
    }
}
