//! The image `host`: this machine's own root file system, copy-on-write and never pulled. overlayfs
//! refuses to write below what it reads, so each folder of `/` is an overlay of its own, and the one
//! that the data directory is in is opened up one level deeper.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::rootfs::{Overlay, Rootfs};
use d2k_engine::Image;

use super::merge;
use super::plan::is_nameable;

/// Its name.
pub const NAME: &str = "host";
/// Its name in full.
pub(super) const REFERENCE: &str = "docker.io/library/host:latest";

/// Folders of `/` that are the machine's and not the system's; empty in a container, with these modes.
const VIRTUAL: &[(&str, u32)] = &[
    ("proc", 0o555),
    ("sys", 0o555),
    ("dev", 0o755),
    ("run", 0o755),
    ("tmp", 0o1777),
    ("mnt", 0o755),
    ("media", 0o755),
    ("lost+found", 0o700),
];
/// File systems that hold no files, or that overlayfs cannot read: proc, sysfs, cgroup2, cgroup,
/// autofs, FAT, debugfs, tracefs.
const UNFIT: &[i64] =
    &[0x9fa0, 0x6265_6572, 0x6367_7270, 0x0027_e0eb, 0x0187, 0x4d44, 0x6462_6720, 0x7472_6163];
/// Files that lie between folders are copied up to this size; larger ones are swap files and the like.
const LARGEST: u64 = 1 << 20;
/// A folder that is opened up and has more folders than this in it stays empty.
const MOST: usize = 100;

/// The image as its containers see it.
pub(super) fn image() -> Image {
    Image {
        id: id(),
        digest_reference: id(),
        command: vec!["/bin/sh".to_owned()],
        env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
        working_dir: "/".to_owned(),
        ..Image::default()
    }
}

/// The config that `inspect` shows.
pub(super) fn config() -> Vec<u8> {
    let image = image();
    let config = serde_json::json!({
        "os": "linux",
        "architecture": d2k_registry::Platform::default().architecture,
        "config": { "Cmd": image.command, "Env": image.env, "WorkingDir": "/" },
        "rootfs": { "type": "layers", "diff_ids": [] },
        "history": [{ "created_by": "d2k: the root file system of this machine, copy-on-write" }],
    });
    config.to_string().into_bytes()
}

/// Its ID, the same on every machine.
pub(super) fn id() -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(b"d2k: this machine's own root file system")))
}

/// Plans a root below `folder` over the folders of `system` (`/` but for tests). Neither `folder` nor
/// `data` is seen through it.
pub(super) fn rootfs(system: &Path, folder: &Path, data: &Path) -> io::Result<Rootfs> {
    let root = folder.join("merged");
    for part in ["merged", "upper", "work"] {
        fs::create_dir_all(folder.join(part))?;
    }
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755))?;
    let hidden = vec![fs::canonicalize(data)?, fs::canonicalize(folder)?];
    let mut plan = Plan { folder, system, hidden, overlays: Vec::new() };
    for (name, mode) in VIRTUAL {
        let path = root.join(name);
        if *name != "lost+found" {
            fs::create_dir_all(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode))?;
        }
    }
    plan.open_up(Path::new(""), &root)?;
    Ok(Rootfs { root, overlays: plan.overlays })
}

struct Plan<'a> {
    folder: &'a Path,
    system: &'a Path,
    hidden: Vec<PathBuf>,
    overlays: Vec<Overlay>,
}

impl Plan<'_> {
    /// Plans everything in the folder `at` of the system, whose place in the root is `into`.
    fn open_up(&mut self, at: &Path, into: &Path) -> io::Result<()> {
        let source = self.system.join(at);
        let device = fs::metadata(&source)?.dev();
        let entries: Vec<_> = fs::read_dir(&source)?.flatten().collect();
        let many = entries.len() > MOST;
        for entry in entries {
            let (path, name) = (at.join(entry.file_name()), entry.file_name());
            let top = at.as_os_str().is_empty();
            if top && VIRTUAL.iter().any(|(known, _)| name == *known) {
                continue;
            }
            let (Ok(status), target) = (entry.metadata(), into.join(&name)) else { continue };
            let planned = if status.is_symlink() {
                link(&entry.path(), &target, &status)
            } else if status.is_file() && status.len() <= LARGEST {
                file(&entry.path(), &target, &status)
            } else if status.is_dir() && (top || (!many && status.dev() == device)) {
                // Of a mount within an opened folder nothing is known; the top ones are the system's.
                self.folder(&path, &target, &status)
            } else {
                Ok(())
            };
            planned.map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", entry.path().display()))
            })?;
        }
        Ok(())
    }

    fn folder(&mut self, path: &Path, target: &Path, status: &Metadata) -> io::Result<()> {
        let source = self.system.join(path);
        let real = fs::canonicalize(&source)?;
        if self.hidden.contains(&real) {
            return Ok(());
        }
        fs::create_dir(target)?;
        like(status, target)?;
        if self.hidden.iter().any(|hidden| hidden.starts_with(&real)) {
            return self.open_up(path, target);
        }
        let unfit = rustix::fs::statfs(&source).map_or(true, |status| UNFIT.contains(&status.f_type));
        if unfit || !is_nameable(&source) || fs::read_dir(&source).is_err() {
            return Ok(());
        }
        let number = self.overlays.len().to_string();
        let (upper, work) = (self.folder.join("upper").join(&number), self.folder.join("work").join(&number));
        for part in [&upper, &work] {
            fs::create_dir(part)?;
        }
        like(status, &upper)?;
        self.overlays.push(Overlay { at: path.to_owned(), lower: vec![source], upper, work });
        Ok(())
    }
}

fn link(source: &Path, target: &Path, status: &Metadata) -> io::Result<()> {
    symlink(fs::read_link(source)?, target)?;
    merge::own_like(status, target)
}

/// Whoever is not root cannot read all that lies between folders, and does without it.
fn file(source: &Path, target: &Path, status: &Metadata) -> io::Result<()> {
    match merge::copy(source, target) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
        Ok(()) => merge::like(status, source, target),
    }
}

/// Owner and mode of a folder: an overlay's own folder looks as its upper one does.
fn like(status: &Metadata, target: &Path) -> io::Result<()> {
    merge::own_like(status, target)?;
    fs::set_permissions(target, fs::Permissions::from_mode(status.mode() & 0o7777))
}

/// Whether a reference means this image.
pub(super) fn is(reference: &str) -> bool {
    reference == NAME || reference == REFERENCE || reference == "host:latest" || reference == id()
}

/// What a machine that cannot mount overlays says.
pub(super) fn refusal(why: &str, data: &Path) -> String {
    format!(
        "the image \"{NAME}\" is this machine's own root file system and needs overlayfs: {why}; \
         put the data directory {} on ext4, xfs, btrfs or tmpfs",
        data.display()
    )
}
