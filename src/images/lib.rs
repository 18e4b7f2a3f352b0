//! The images of the local engine: pulled from registries, loaded from archives or made from a file
//! system, kept below one folder, and turned into the roots of containers.

mod changes;
mod entries;
pub mod host;
mod import;
mod index;
mod layers;
mod load;
mod manage;
mod marks;
mod merge;
mod plan;
mod progress;
mod pull;
pub mod rootfs;
mod save;
mod store;
mod stream;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tree;
mod unpack;
#[cfg(test)]
mod unpack_tests;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{OwnedMutexGuard, mpsc};

use crate::rootfs::Rootfs;
use d2k_common::fault::{Fault, Kind};
use d2k_common::image::ImageFacts;
use d2k_engine::{self as engine, Image, Login, Pull, Trouble};
use d2k_registry::blobs::read_config;
use d2k_registry::{Reference, Registry};

use index::Shelf;
use marks::Marks;
use store::Store;

pub use import::Import;
pub use load::Loaded;
pub use manage::{Entry, Pruned, Removed};
pub use plan::How;
pub use progress::Progress;

/// The images on this machine. Cheap to clone.
#[derive(Clone)]
pub struct Images {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    shelf: Arc<Shelf>,
    registry: Registry,
    marks: Marks,
    how: How,
    locks: Locks,
}

impl Images {
    /// Opens the folder, makes it if it is missing, and removes what a killed process has not
    /// finished. Only one process at a time may have it open. Blocks.
    pub fn open(directory: PathBuf, registry: Registry) -> io::Result<Self> {
        let store = Store::open(directory)?;
        let scratch = store.temporary();
        std::fs::create_dir(&scratch.path)?;
        let marks = Marks::probe(&scratch.path)?;
        let how = How::probe(&scratch.path, marks)?;
        drop(scratch);
        let shelf = Arc::new(Shelf::open(&store)?);
        let shared = Shared { store, shelf, registry, marks, how, locks: Locks::default() };
        shared.mend().map_err(|fault| io::Error::other(fault.message))?;
        // A layer without an image was on its way when the process ended, and nobody knows how much
        // of it is on the disk. Blobs are: they are found again by the next pull.
        drop(shared.shelf.sweep(&shared.store, false));
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The same with copies instead of overlays, for a machine whose runtime cannot mount them.
    /// To be called before the first use.
    pub fn without_overlays(mut self, why: &str) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.how = How::Copy(why.to_owned());
        }
        self
    }

    /// How roots are made here.
    pub fn how(&self) -> &How {
        &self.shared.how
    }

    /// Sees to it that an image is here.
    pub async fn ensure(
        &self,
        reference: &str,
        pull: Pull,
        logins: &[Login],
        progress: Option<mpsc::Sender<Progress>>,
    ) -> engine::Result<Image> {
        if host::is(reference) {
            return Ok(host::image());
        }
        let known = self.find(reference);
        let parsed = Reference::parse(reference);
        // There is no asking a registry for an ID.
        let is_id = reference.starts_with("sha256:") || (parsed.is_err() && known.is_some());
        match (pull, known) {
            (Pull::Never | Pull::IfNotPresent, Some(id)) => return self.describe(&id, reference),
            (Pull::Always, Some(id)) if is_id => return self.describe(&id, reference),
            (Pull::Always | Pull::IfNotPresent, None) if is_id => {
                let words = format!("no such image: {reference}, and an ID cannot be pulled");
                return Err(Trouble::new("ErrImagePull", words));
            }
            _ => {}
        }
        let parsed = parsed.map_err(|fault| {
            let words = format!("couldn't parse image name \"{reference}\": {}", fault.message);
            Trouble::new("InvalidImageName", words)
        })?;
        if pull == Pull::Never {
            let words = format!("Container image \"{reference}\" is not present with pull policy of Never");
            return Err(Trouble::new("ErrImageNeverPull", words));
        }
        let id = self.pull(&parsed, logins, progress).await?;
        self.describe(&id, reference)
    }

    /// Plans the root of a container below `folder`, which is the container's own.
    pub async fn rootfs(&self, reference: &str, folder: &Path) -> engine::Result<Rootfs> {
        let failed = |words: String| Trouble::new("CreateContainerError", words);
        let (shared, folder) = (Arc::clone(&self.shared), folder.to_owned());
        let name = reference.to_owned();
        let layers = match host::is(reference) {
            true => None,
            false => {
                let id = self.find(reference).ok_or_else(|| failed(format!("no such image: {reference}")))?;
                Some(shared.shelf.read(|index| index.images.get(&id).map(|image| image.layers.clone())))
            }
        };
        let flat = match layers.iter().flatten().flatten().next_back() {
            Some(top) => Some(self.shared.locks.lock(&format!("flat {top}")).await),
            None => None,
        };
        let planned = blocking(move || {
            let _flat = flat;
            let plan = match &layers {
                None => shared.host(&folder),
                Some(layers) => shared.plan(layers.as_deref().unwrap_or_default(), &folder),
            };
            plan.map_err(|error| Fault::internal(error.to_string()))
        });
        planned.await.map_err(|fault| {
            failed(format!("cannot make the root file system of image {name}: {}", fault.message))
        })
    }

    /// The ID of the image that a user means.
    pub fn find(&self, reference: &str) -> Option<String> {
        if host::is(reference) {
            return Some(host::id());
        }
        self.shared.shelf.read(|index| index.find(reference))
    }

    /// Config and names of an image as the engine hands them out.
    fn describe(&self, id: &str, reference: &str) -> engine::Result<Image> {
        let gone = || Trouble::new("ErrImagePull", format!("image {reference} has just been removed"));
        let config = self.shared.shelf.config(id).ok_or_else(gone)?;
        let facts = read_config(&config, &[]).map_err(|error| Trouble::new("ErrImagePull", error.message))?;
        let digests = self.shared.shelf.read(|index| index.images.get(id).map(|image| image.digests.clone()));
        let name = Reference::parse(reference).map(|reference| reference.name()).unwrap_or_default();
        let digests = digests.ok_or_else(gone)?;
        let own = digests.iter().find(|digest| digest.split('@').next() == Some(name.as_str()));
        let digest_reference = own.or(digests.first()).cloned().unwrap_or_else(|| id.to_owned());
        Ok(image(facts, id, digest_reference))
    }
}

fn image(facts: ImageFacts, id: &str, digest_reference: String) -> Image {
    let working_dir = match facts.working_dir.as_str() {
        "" => "/".to_owned(),
        set => set.to_owned(),
    };
    Image {
        id: id.to_owned(),
        digest_reference,
        entrypoint: facts.entrypoint,
        command: facts.cmd,
        env: facts.env,
        working_dir,
        user: facts.user,
        stop_signal: Some(facts.stop_signal).filter(|signal| !signal.is_empty()),
    }
}

impl Shared {
    fn host(&self, folder: &Path) -> io::Result<Rootfs> {
        let data = self.store.folder().parent().unwrap_or(Path::new("/"));
        match &self.how {
            How::Overlay { .. } => host::rootfs(Path::new("/"), folder, data),
            How::Copy(why) => Err(io::Error::other(host::refusal(why, data))),
        }
    }

    fn plan(&self, layers: &[String], folder: &Path) -> io::Result<Rootfs> {
        let files: Vec<PathBuf> = layers.iter().rev().map(|chain| self.store.layer_files(chain)).collect();
        let flat = || {
            let top = layers.last().map(|chain| self.store.layer(chain)).unwrap_or_default();
            let flat = top.join("flat");
            if !flat.is_dir() {
                let made = self.store.temporary();
                for layer in files.iter().rev() {
                    merge::apply(layer, &made.path, merge::By::Link)?;
                }
                std::fs::rename(&made.path, &flat)?;
            }
            Ok(flat)
        };
        plan::rootfs(&files, folder, &self.how, &flat)
    }
}

/// One lock for each name: who comes second waits, and finds the work done.
#[derive(Default)]
struct Locks(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Locks {
    async fn lock(&self, name: &str) -> OwnedMutexGuard<()> {
        self.named(name).lock_owned().await
    }

    fn named(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock();
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(name).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        locks.insert(name.to_owned(), Arc::downgrade(&lock));
        lock
    }

    /// The same on a thread that may block.
    fn lock_blocking(&self, name: &str) -> OwnedMutexGuard<()> {
        self.named(name).blocking_lock_owned()
    }
}

/// Runs what blocks on a thread that may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> d2k_common::fault::Result<T> + Send + 'static,
) -> d2k_common::fault::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(ended) => ended,
        Err(error) => Err(Fault::new(Kind::Internal, format!("work on images was cut off: {error}"))),
    }
}
