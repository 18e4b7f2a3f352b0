//! The folder of the images: blobs by digest, unpacked layers by chain ID, and temporary things that
//! become one of these by a rename when they are whole. What a killed process left is in `tmp/` only.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use d2k_common::fault::{Fault, Result};
use d2k_registry::Verifier;

/// How much is written at a time.
const CHUNK: usize = 128 << 10;

/// The folder and what is in it.
pub(super) struct Store {
    folder: PathBuf,
    next: AtomicU64,
}

/// What is known of an unpacked layer, beside its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LayerRecord {
    /// Digest of the layer as a plain archive.
    pub(super) diff_id: String,
    /// The blob that it was unpacked from.
    pub(super) blob: String,
    /// Sum of the sizes of its files.
    pub(super) size: u64,
}

/// Something in the making; gone when dropped unless it has been kept.
pub(super) struct Temporary {
    pub(super) path: PathBuf,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

impl Store {
    /// Opens the folder, makes what is missing and removes what was never finished.
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        for part in ["blobs/sha256", "blobs/sha512", "layers", "tmp"] {
            fs::create_dir_all(folder.join(part))?;
        }
        // Whoever reads images needs no account on this machine, and layers have setuid files.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        for left in fs::read_dir(folder.join("tmp"))?.flatten() {
            remove(&left.path());
        }
        Ok(Self { folder, next: AtomicU64::new(0) })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn blob(&self, digest: &str) -> PathBuf {
        self.folder.join("blobs").join(digest.replacen(':', "/", 1))
    }

    /// The folder of a layer: its files are in `fs`, what is known of it in `layer.json`.
    pub(super) fn layer(&self, chain: &str) -> PathBuf {
        self.folder.join("layers").join(chain.split(':').next_back().unwrap_or_default())
    }

    pub(super) fn layer_files(&self, chain: &str) -> PathBuf {
        self.layer(chain).join("fs")
    }

    /// What is known of a layer, if it is here.
    pub(super) fn layer_record(&self, chain: &str) -> Option<LayerRecord> {
        let bytes = fs::read(self.layer(chain).join("layer.json")).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// A name below `tmp/` that nobody else has.
    pub(super) fn temporary(&self) -> Temporary {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Temporary { path: self.folder.join("tmp").join(number.to_string()) }
    }

    /// Writes a blob from `reader`; it is there when this returns, verified and on the disk.
    pub(super) fn write_blob(&self, digest: &str, mut reader: impl Read) -> Result<()> {
        let mut verifier = Verifier::new(digest)?;
        let temporary = self.temporary();
        let path = &temporary.path;
        let mut file = File::create(path).map_err(failed("write", path))?;
        let mut buffer = vec![0; CHUNK];
        loop {
            let length = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Fault::internal(format!("blob {digest}: {error}"))),
            };
            let bytes = buffer.get(..length).unwrap_or_default();
            verifier.update(bytes);
            file.write_all(bytes).map_err(failed("write blob", path))?;
        }
        verifier.finish()?;
        file.sync_all().map_err(failed("write blob", path))?;
        self.keep_blob(digest, path)
    }

    /// Makes a verified file a blob.
    pub(super) fn keep_blob(&self, digest: &str, path: &Path) -> Result<()> {
        let blob = self.blob(digest);
        fs::rename(path, &blob).map_err(failed("keep blob", &blob))?;
        sync_parent(&blob)
    }

    /// Makes a folder with the files of a layer in its `fs` that layer.
    pub(super) fn keep_layer(&self, chain: &str, made: &Path, record: &LayerRecord) -> Result<()> {
        let note = made.join("layer.json");
        let bytes = serde_json::to_vec(record).map_err(|error| Fault::internal(error.to_string()))?;
        fs::write(&note, bytes).map_err(failed("write", &note))?;
        let layer = self.layer(chain);
        fs::rename(made, &layer).map_err(failed("keep layer", &layer))
    }

    /// Puts everything that was written on the disk: layers are too many files to be synced singly.
    pub(super) fn sync(&self) -> Result<()> {
        let folder = File::open(&self.folder).map_err(failed("open", &self.folder))?;
        rustix::fs::syncfs(&folder).map_err(|error| failed("write", &self.folder)(error.into()))
    }

    /// Replaces a small file as a whole.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let temporary = self.temporary();
        let path = &temporary.path;
        let mut file = File::create(path).map_err(failed("write", path))?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("write", path))?;
        let wanted = self.folder.join(name);
        fs::rename(path, &wanted).map_err(failed("write", &wanted))?;
        sync_parent(&wanted)
    }

    /// The names of all blobs or layers that are here, as digests.
    pub(super) fn stored(&self) -> (Vec<String>, Vec<String>) {
        let names = |part: &str, algorithm: &str| -> Vec<String> {
            let entries = fs::read_dir(self.folder.join(part)).into_iter().flatten().flatten();
            entries.map(|entry| format!("{algorithm}:{}", entry.file_name().to_string_lossy())).collect()
        };
        let blobs = [names("blobs/sha256", "sha256"), names("blobs/sha512", "sha512")].concat();
        (blobs, names("layers", "sha256"))
    }

    /// Takes a blob or a layer away at once; its bytes go with what is returned.
    pub(super) fn take_away(&self, path: &Path) -> Option<Temporary> {
        let temporary = self.temporary();
        fs::rename(path, &temporary.path).ok().map(|()| temporary)
    }
}

fn sync_parent(path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(failed("write", parent))
}

/// Words for an operation on a file of the store.
pub(super) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Fault {
    let path = path.display().to_string();
    move |error| {
        let hint = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "; free space on that disk, or remove images with `docker image prune -a`"
            }
            _ => "",
        };
        Fault::internal(format!("cannot {what} {path}: {error}{hint}"))
    }
}

/// Removes a file or a folder with all that is in it, also folders that their owner may not write.
pub(super) fn remove(path: &Path) {
    let Ok(status) = fs::symlink_metadata(path) else { return };
    if !status.is_dir() {
        let _ = fs::remove_file(path);
        return;
    }
    if fs::remove_dir_all(path).is_ok() {
        return;
    }
    open_up(path);
    if let Err(error) = fs::remove_dir_all(path) {
        tracing::warn!("cannot remove {}: {error}", path.display());
    }
}

/// Gives the owner every right on every folder below `path`.
fn open_up(path: &Path) {
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}
