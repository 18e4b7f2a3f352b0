//! What users do with images that are here: list, inspect, tag, remove, prune. Removing never takes
//! what a container uses: the caller names the images that are in use.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;

use d2k_common::fault::{Fault, Result};
use d2k_common::image::{HistoryEntry, ImageFacts};
use d2k_registry::blobs::read_config;
use d2k_registry::{Layer, Reference};

use super::index::Index;
use super::progress::short;
use super::store::Temporary;
use super::{Images, blocking, host};

/// An image that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `sha256:…` of the config.
    pub id: String,
    /// Full names, `docker.io/library/busybox:latest`.
    pub references: Vec<String>,
    /// Full names with a digest, `docker.io/library/busybox@sha256:…`.
    pub digests: Vec<String>,
    /// When it was built, RFC 3339; empty if unknown.
    pub created: String,
    /// Sum of the sizes of its files in bytes.
    pub size: u64,
    /// The config, as it came.
    pub config: Arc<[u8]>,
}

/// One line of an answer to a removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name (full) that is no more.
    Untagged(String),
    /// An image that is no more.
    Deleted(String),
}

/// What a prune has removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Names and images.
    pub removed: Vec<Removed>,
    /// Bytes that are free again.
    pub reclaimed: u64,
}

impl Images {
    /// All images but `host`, which is no one's to remove.
    pub fn list(&self) -> Vec<Entry> {
        let shelf = &self.shared.shelf;
        let ids: Vec<String> = shelf.read(|index| index.images.keys().cloned().collect());
        ids.iter().filter_map(|id| self.entry(id)).collect()
    }

    /// One image, by any of its names; `host` too.
    pub fn get(&self, reference: &str) -> Result<Entry> {
        self.find(reference).and_then(|id| self.entry(&id)).ok_or_else(|| no_such(reference))
    }

    /// What Docker's inspect needs. Sizes are those of the files, not of compressed layers.
    pub fn inspect(&self, reference: &str) -> Result<ImageFacts> {
        let entry = self.get(reference)?;
        let sizes =
            self.shared.shelf.read(|index| index.images.get(&entry.id).map(|image| image.sizes.clone()));
        let layer = |size: u64| Layer {
            digest: String::new(),
            size: i64::try_from(size).unwrap_or(i64::MAX),
            foreign: false,
        };
        let layers: Vec<Layer> = sizes.unwrap_or_default().into_iter().map(layer).collect();
        let digest = entry.digests.first().and_then(|digest| digest.split('@').next_back());
        Ok(ImageFacts {
            reference: entry.references.first().cloned().unwrap_or_default(),
            digest: digest.unwrap_or_default().to_owned(),
            id: entry.id,
            ..read_config(&entry.config, &layers)?
        })
    }

    /// The steps that made an image, oldest first.
    pub fn history(&self, reference: &str) -> Result<Vec<HistoryEntry>> {
        Ok(self.inspect(reference)?.history)
    }

    /// Gives an image one more name.
    pub async fn tag(&self, source: &str, target: &str) -> Result<()> {
        let id = self.find(source).filter(|id| *id != host::id()).ok_or_else(|| no_such(source))?;
        let target = taggable(target)?.to_string();
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            shared.shelf.change(&shared.store, None, |index| {
                if !index.images.contains_key(&id) {
                    return Err(no_such(&id));
                }
                index.references.insert(target, id);
                Ok(())
            })
        })
        .await
    }

    /// Removes a name, and the image with its last name; or, by its ID, the image with all its names.
    /// `in_use` are the IDs of images that containers have.
    pub async fn remove(&self, reference: &str, force: bool, in_use: &[String]) -> Result<Vec<Removed>> {
        if host::is(reference) {
            return Err(Fault::conflict("the image host is this machine itself and cannot be removed"));
        }
        let (shared, reference, in_use) = (Arc::clone(&self.shared), reference.to_owned(), in_use.to_vec());
        blocking(move || {
            let removed = shared
                .shelf
                .change(&shared.store, None, |index| removal(index, &reference, force, &in_use))?;
            if removed.iter().any(|line| matches!(line, Removed::Deleted(_))) {
                drop(shared.shelf.sweep(&shared.store, true));
            }
            Ok(removed)
        })
        .await
    }

    /// Removes images without a name, or with `all` every one that is not in use, and what is left of
    /// pulls that did not end well.
    pub async fn prune(&self, all: bool, in_use: &[String]) -> Result<Pruned> {
        let (shared, in_use) = (Arc::clone(&self.shared), in_use.iter().cloned().collect::<HashSet<_>>());
        blocking(move || {
            let removed =
                shared.shelf.change(&shared.store, None, |index| Ok(pruning(index, all, &in_use)))?;
            let gone = shared.shelf.sweep(&shared.store, true);
            Ok(Pruned { removed, reclaimed: gone.iter().map(bytes).sum() })
        })
        .await
    }

    /// When an image was pulled, loaded or imported.
    pub fn here_since(&self, id: &str) -> Option<jiff::Timestamp> {
        let written = std::fs::metadata(self.shared.store.blob(id)).and_then(|file| file.modified());
        written.ok()?.try_into().ok()
    }

    fn entry(&self, id: &str) -> Option<Entry> {
        if id == host::id() {
            return Some(Entry {
                id: host::id(),
                references: vec![host::REFERENCE.to_owned()],
                digests: Vec::new(),
                created: String::new(),
                size: 0,
                config: Arc::from(host::config()),
            });
        }
        let config = self.shared.shelf.config(id)?;
        self.shared.shelf.read(|index| {
            let image = index.images.get(id)?;
            let references = index.references.iter().filter(|(_, named)| *named == id);
            Some(Entry {
                id: id.to_owned(),
                references: references.map(|(name, _)| name.clone()).collect(),
                digests: image.digests.iter().cloned().collect(),
                created: image.created.clone(),
                size: image.size,
                config,
            })
        })
    }
}

/// A name that an image can be given.
pub(super) fn taggable(name: &str) -> Result<Reference> {
    let reference = Reference::parse(name)?;
    if reference.digest().is_some() {
        return Err(Fault::invalid(format!("{name}: refusing to create a tag with a digest reference")));
    }
    if host::is(&reference.to_string()) {
        return Err(Fault::conflict(
            "the name host is this machine's own root file system: use another name",
        ));
    }
    Ok(reference)
}

fn no_such(reference: &str) -> Fault {
    Fault::not_found(format!("No such image: {reference}"))
}

fn removal(index: &mut Index, reference: &str, force: bool, in_use: &[String]) -> Result<Vec<Removed>> {
    let id = index.find(reference).ok_or_else(|| no_such(reference))?;
    let names: Vec<String> =
        index.references.iter().filter(|(_, named)| **named == id).map(|(name, _)| name.clone()).collect();
    let parsed = Reference::parse(reference).ok().filter(|parsed| index.named(parsed).as_ref() == Some(&id));
    let used = in_use.contains(&id);
    if let Some(name) = parsed.filter(|parsed| parsed.digest().is_none()).map(|parsed| parsed.to_string()) {
        if names.len() > 1 {
            index.references.remove(&name);
            return Ok(vec![Removed::Untagged(name)]);
        }
        if used && !force {
            return Err(Fault::conflict(format!(
                "conflict: unable to remove repository reference \"{reference}\" (must force) - a container \
                 is using its referenced image {}",
                short(&id)
            )));
        }
    } else {
        let repositories: HashSet<_> = names.iter().filter_map(|name| name.rsplit(':').next_back()).collect();
        if repositories.len() > 1 && !force {
            return Err(Fault::conflict(format!(
                "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
                short(&id)
            )));
        }
        if used {
            return Err(Fault::conflict(format!(
                "conflict: unable to delete {} (cannot be forced) - image is being used by a container",
                short(&id)
            )));
        }
    }
    Ok(delete(index, &id, names, used))
}

/// Takes all names from an image, and the image itself unless a container needs it.
fn delete(index: &mut Index, id: &str, names: Vec<String>, used: bool) -> Vec<Removed> {
    for name in &names {
        index.references.remove(name);
    }
    let mut removed: Vec<Removed> = names.into_iter().map(Removed::Untagged).collect();
    if !used && let Some(image) = index.images.remove(id) {
        removed.extend(image.digests.into_iter().map(Removed::Untagged));
        removed.push(Removed::Deleted(id.to_owned()));
    }
    removed
}

fn pruning(index: &mut Index, all: bool, in_use: &HashSet<String>) -> Vec<Removed> {
    let named: HashSet<&String> = index.references.values().collect();
    let unused = index.images.keys().filter(|id| !in_use.contains(*id) && (all || !named.contains(id)));
    let unused: Vec<String> = unused.cloned().collect();
    let mut removed = Vec::new();
    for id in unused {
        let names = index.references.iter().filter(|(_, named)| **named == id);
        let names = names.map(|(name, _)| name.clone()).collect();
        removed.extend(delete(index, &id, names, false));
    }
    removed
}

/// How much a removed blob or layer had.
fn bytes(gone: &Temporary) -> u64 {
    let Ok(status) = fs::metadata(&gone.path) else { return 0 };
    if status.is_file() {
        return status.len();
    }
    let record = fs::read(gone.path.join("layer.json")).ok();
    let record = record.and_then(|bytes| serde_json::from_slice::<super::store::LayerRecord>(&bytes).ok());
    record.map_or(0, |record| record.size)
}
