//! Layers put together in one folder, for machines where overlayfs cannot be used (copies), and for
//! images of more layers than one mount can name (hard links).

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

use super::marks;
use super::store::remove;
use super::tree::set_owner;

/// How files get from a layer into the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// Copies, which share their blocks where the disk can do that.
    Copy,
    /// More names of the same files, which nobody may write then.
    Link,
}

/// Files with several names: where the first of them is, by device and number.
type Names = HashMap<(u64, u64), PathBuf>;

/// Puts a layer over what is in the folder `into` already.
pub(super) fn apply(layer: &Path, into: &Path, by: By) -> io::Result<()> {
    fs::create_dir_all(into)?;
    folder(layer, into, by, &mut Names::new())?;
    like(&fs::symlink_metadata(layer)?, layer, into)
}

fn folder(from: &Path, into: &Path, by: By, names: &mut Names) -> io::Result<()> {
    if marks::is_opaque(File::open(from)?) {
        for hidden in fs::read_dir(into)? {
            remove(&hidden?.path());
        }
    }
    let entries = fs::read_dir(from)?.collect::<io::Result<Vec<_>>>()?;
    // What is removed goes first: a layer may have something new of the same name.
    for entry in &entries {
        let name = entry.file_name();
        match name.as_bytes().strip_prefix(marks::PREFIX) {
            Some(gone) if !gone.starts_with(marks::PREFIX) => remove(&into.join(OsStr::from_bytes(gone))),
            _ => {}
        }
    }
    for entry in entries {
        let (name, status) = (entry.file_name(), entry.metadata()?);
        if name.as_bytes().starts_with(marks::PREFIX) {
            continue;
        }
        let (source, target) = (entry.path(), into.join(&name));
        if marks::is_gone_entry(&status) {
            remove(&target);
        } else if status.is_dir() {
            if !fs::symlink_metadata(&target).is_ok_and(|there| there.is_dir()) {
                remove(&target);
                fs::create_dir(&target)?;
            }
            // Modes come last: they may forbid what is still to be done.
            folder(&source, &target, by, names)?;
            like(&status, &source, &target)?;
        } else {
            remove(&target);
            other(&source, &target, &status, by, names)?;
        }
    }
    Ok(())
}

fn other(source: &Path, target: &Path, status: &Metadata, by: By, names: &mut Names) -> io::Result<()> {
    if by == By::Link {
        return fs::hard_link(source, target);
    }
    if status.nlink() > 1 {
        let key = (status.dev(), status.ino());
        // The first name may be gone again: a later layer can have replaced it.
        if names.get(&key).is_some_and(|first| fs::hard_link(first, target).is_ok()) {
            return Ok(());
        }
        names.insert(key, target.to_owned());
    }
    let kind = status.file_type();
    if kind.is_symlink() {
        symlink(fs::read_link(source)?, target)?;
    } else if kind.is_file() {
        copy(source, target)?;
    } else if kind.is_fifo() || kind.is_char_device() || kind.is_block_device() {
        let kind = FileType::from_raw_mode(status.mode());
        rustix::fs::mknodat(CWD, target, kind, Mode::from_raw_mode(0o600), status.rdev())?;
    } else {
        return Ok(());
    }
    like(status, source, target)
}

/// Copies a file's content, by sharing its blocks where the disk can do that.
pub(super) fn copy(source: &Path, target: &Path) -> io::Result<()> {
    let mut from = File::open(source)?;
    let mut into = File::options().write(true).create_new(true).open(target)?;
    if rustix::fs::ioctl_ficlone(&into, &from).is_ok() {
        return Ok(());
    }
    io::copy(&mut from, &mut into).map(drop)
}

/// Gives `target` the owner, mode, attributes and time of `source`.
pub(super) fn like(status: &Metadata, source: &Path, target: &Path) -> io::Result<()> {
    own_like(status, target)?;
    if !status.is_symlink() {
        fs::set_permissions(target, fs::Permissions::from_mode(status.mode() & 0o7777))?;
        attributes_like(source, target);
    }
    let changed = Timespec { tv_sec: status.mtime(), tv_nsec: status.mtime_nsec() };
    let times = Timestamps { last_access: changed, last_modification: changed };
    Ok(rustix::fs::utimensat(CWD, target, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Gives `target` the owner and group, if this process can.
pub(super) fn own_like(status: &Metadata, target: &Path) -> io::Result<()> {
    set_owner(CWD, target.as_os_str(), status.uid(), status.gid())
}

/// What the disk or the rights of this process do not allow is left out, as when unpacking.
fn attributes_like(source: &Path, target: &Path) {
    let mut names = vec![0; 64 << 10];
    let Ok(length) = rustix::fs::llistxattr(source, names.as_mut_slice()) else { return };
    let mut value = vec![0; 64 << 10];
    for name in names.get(..length).unwrap_or_default().split(|byte| *byte == 0) {
        if name.is_empty() || marks::is_reserved(name) {
            continue;
        }
        if let Ok(length) = rustix::fs::lgetxattr(source, name, value.as_mut_slice()) {
            let value = value.get(..length).unwrap_or_default();
            let _ = rustix::fs::lsetxattr(target, name, value, XattrFlags::empty());
        }
    }
}
