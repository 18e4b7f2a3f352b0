//! From the blobs of layers to unpacked layers and an entry in the index: what pull, load and import
//! have in common. A layer's folder goes by its chain ID, since what an archive leaves out (the mode of
//! a folder, the file behind a hard link) is found in the layers below.

use std::collections::HashSet;
use std::fs::{self, File};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use d2k_common::fault::{Fault, Result};
use d2k_registry::Verifier;
use d2k_registry::blobs::read_config;

use super::Shared;
use super::index::{Index, Pin, Record, layer_pin};
use super::store::{LayerRecord, failed};
use super::stream::Counted;
use super::unpack::unpack;

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Digest of its blob, as an archive that may be compressed.
    pub(super) blob: String,
    /// Size of the blob.
    pub(super) size: u64,
    /// Digest of the plain archive.
    pub(super) diff_id: String,
    /// Chain ID of it and all below it.
    pub(super) chain: String,
    /// Chain IDs of the layers below, topmost first.
    pub(super) below: Vec<String>,
}

/// The layers of an image, lowest first, from their blobs and plain digests.
pub(super) fn parts(blobs: Vec<(String, u64)>, diff_ids: &[String]) -> Result<Vec<Part>> {
    if blobs.len() != diff_ids.len() {
        return Err(Fault::internal(format!(
            "the image has {} layers, but its config names {}",
            blobs.len(),
            diff_ids.len()
        )));
    }
    let mut parts: Vec<Part> = Vec::new();
    for ((blob, size), diff_id) in blobs.into_iter().zip(diff_ids) {
        let (chain, below) = match parts.last() {
            None => (diff_id.clone(), Vec::new()),
            Some(under) => {
                let chain = Sha256::digest(format!("{} {diff_id}", under.chain));
                let below = [std::slice::from_ref(&under.chain), under.below.as_slice()].concat();
                (format!("sha256:{}", hex::encode(chain)), below)
            }
        };
        parts.push(Part { blob, size, diff_id: diff_id.clone(), chain, below });
    }
    // Both become names of files.
    for part in &parts {
        Verifier::new(&part.diff_id)?;
        Verifier::new(&part.blob)?;
    }
    Ok(parts)
}

impl Shared {
    /// Keeps what belongs to an image from being removed as unused.
    pub(super) fn pin(&self, id: &str, parts: &[Part]) -> Pin {
        let blobs = parts.iter().map(|part| part.blob.clone());
        let layers = parts.iter().map(|part| layer_pin(&part.chain));
        self.shelf.pin(blobs.chain(layers).chain([id.to_owned()]).collect())
    }

    /// Unpacks a layer whose blob is here. The caller holds the lock of the layer. Blocks.
    pub(super) fn unpack_layer(&self, part: &Part, told: impl FnMut(u64)) -> Result<()> {
        let made = self.store.temporary();
        let files = made.path.join("fs");
        fs::create_dir_all(&files).map_err(failed("write", &files))?;
        let path = self.store.blob(&part.blob);
        let blob = Counted::new(File::open(&path).map_err(failed("read", &path))?, told);
        let below: Vec<_> = part.below.iter().map(|chain| self.store.layer_files(chain)).collect();
        let size = unpack(blob, &part.diff_id, &files, &below, self.marks)?;
        let record = LayerRecord { diff_id: part.diff_id.clone(), blob: part.blob.clone(), size };
        self.store.keep_layer(&part.chain, &made.path, &record)
    }

    /// Unpacks what is not unpacked yet, the lowest layer first. Blocks.
    pub(super) fn unpack_all(&self, parts: &[Part]) -> Result<()> {
        for part in parts {
            let _lock = self.locks.lock_blocking(&part.chain);
            if self.store.layer_record(&part.chain).is_none() {
                self.unpack_layer(part, |_| {})?;
            }
        }
        Ok(())
    }

    /// Enters an image whose layers are all here, with its names: full ones with a tag, and at most
    /// one with a digest. Its files get to the disk later. Blocks.
    pub(super) fn commit(
        self: &Arc<Self>,
        id: &str,
        config: &[u8],
        parts: &[Part],
        names: &[String],
        digest: Option<String>,
    ) -> Result<()> {
        let facts = read_config(config, &[])?;
        let records: Vec<_> = parts.iter().filter_map(|part| self.store.layer_record(&part.chain)).collect();
        if records.len() < parts.len() {
            return Err(Fault::internal(format!("layers of image {id} are missing: pull or load it again")));
        }
        if !self.store.blob(id).exists() {
            self.store.write_blob(id, config)?;
        }
        self.shelf.change(&self.store, Some((id, config)), |index| {
            let record = index.images.entry(id.to_owned()).or_default();
            record.layers = parts.iter().map(|part| part.chain.clone()).collect();
            record.blobs = records.iter().map(|layer| layer.blob.clone()).collect();
            record.sizes = records.iter().map(|layer| layer.size).collect();
            (record.size, record.created) = (record.sizes.iter().sum(), facts.created);
            record.unsynced = Some(boot());
            record.digests.extend(digest);
            for name in names {
                index.references.insert(name.clone(), id.to_owned());
            }
            Ok(())
        })?;
        let shared = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            if let Err(fault) = shared.settle() {
                tracing::warn!("images are not on the disk yet: {fault}");
            }
        });
        Ok(())
    }

    /// Puts the files of all layers on the disk, and notes that.
    fn settle(&self) -> Result<()> {
        let waiting = |index: &Index| -> Vec<String> {
            let images = index.images.iter().filter(|(_, image)| image.unsynced.is_some());
            images.map(|(id, _)| id.clone()).collect()
        };
        let ids = self.shelf.read(waiting);
        if ids.is_empty() {
            return Ok(());
        }
        self.store.sync()?;
        self.shelf.change(&self.store, None, |index| {
            for id in ids {
                if let Some(image) = index.images.get_mut(&id) {
                    image.unsynced = None;
                }
            }
            Ok(())
        })
    }

    /// Unpacks once more what a machine that lost its power may have on its disk in parts only: blobs
    /// are always whole. An image that cannot be mended is removed. Blocks; nobody else is there yet.
    pub(super) fn mend(&self) -> Result<()> {
        let now = boot();
        let doubtful = |image: &Record| {
            let lost = image.unsynced.as_ref().is_some_and(|then| *then != now);
            lost || image.layers.iter().any(|chain| self.store.layer_record(chain).is_none())
        };
        let (broken, sound): (Vec<_>, Vec<_>) =
            self.shelf.read(|index| index.images.clone()).into_iter().partition(|(_, image)| doubtful(image));
        if broken.is_empty() {
            return Ok(());
        }
        let sound: HashSet<String> = sound.into_iter().flat_map(|(_, image)| image.layers).collect();
        for chain in
            broken.iter().flat_map(|(_, image)| &image.layers).filter(|chain| !sound.contains(*chain))
        {
            drop(self.store.take_away(&self.store.layer(chain)));
        }
        let mut gone = Vec::new();
        for (id, image) in broken {
            if let Err(fault) = self.mend_one(&id, image) {
                tracing::warn!("image {id} is damaged and has to be pulled or loaded again: {fault}");
                gone.push(id);
            }
        }
        self.store.sync()?;
        self.shelf.change(&self.store, None, |index| {
            index.images.retain(|id, _| !gone.contains(id));
            index.references.retain(|_, id| !gone.contains(id));
            index.images.values_mut().for_each(|image| image.unsynced = None);
            Ok(())
        })
    }

    fn mend_one(&self, id: &str, image: Record) -> Result<()> {
        let config = self.shelf.config(id).ok_or_else(|| Fault::internal("its config is missing"))?;
        let blobs = image.blobs.into_iter().map(|blob| (blob, 0)).collect();
        for part in parts(blobs, &read_config(&config, &[])?.layers)? {
            if self.store.layer_record(&part.chain).is_none() {
                self.unpack_layer(&part, |_| {})?;
            }
        }
        Ok(())
    }
}

/// What the kernel calls the time since the machine has started.
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// The config of an image made here.
pub(super) fn id_of(config: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(config)))
}
