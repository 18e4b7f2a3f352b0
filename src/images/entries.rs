//! What an archive may put into a layer's folder: folders, files, links, devices and marks. Each
//! takes the place of what was there, as a later entry of an archive does.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;
use tar::EntryType;

use super::marks;
use super::tree::{FOLDER, Place, Stamp, Tree, changed_at, invalid, set_owner};

/// What an archive says of one entry besides its name and content.
#[derive(Debug, Clone)]
pub(super) struct Meta {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) changed: Timespec,
    pub(super) attributes: Vec<(String, Vec<u8>)>,
}

impl Tree {
    /// A folder. One that is there already stays, and gets the mode, owner and time.
    pub(super) fn folder(&mut self, place: &Place, meta: &Meta) -> io::Result<()> {
        let here = &place.folder.fd;
        let fd = match &place.name {
            None => rustix::fs::openat(&**here, ".", FOLDER, Mode::empty())?,
            Some(name) => match rustix::fs::openat(&**here, name, FOLDER, Mode::empty()) {
                Ok(fd) => fd,
                Err(_) => {
                    let was_gone = rustix::fs::statat(&**here, name, AtFlags::SYMLINK_NOFOLLOW)
                        .is_ok_and(|status| marks::is_gone(&status));
                    self.clear(place, name)?;
                    rustix::fs::mkdirat(&**here, name, Mode::from_raw_mode(0o700))?;
                    let fd = rustix::fs::openat(&**here, name, FOLDER, Mode::empty())?;
                    if was_gone {
                        self.marks.set_opaque(&fd)?;
                    }
                    fd
                }
            },
        };
        set_owner(&fd, OsStr::new("."), meta.uid, meta.gid)?;
        set_attributes(&fd, &meta.attributes)?;
        self.folders.insert(place.path(), Stamp { mode: meta.mode, changed: Some(meta.changed) });
        Ok(())
    }

    /// A file; returns its size.
    pub(super) fn file(&mut self, place: &Place, meta: &Meta, content: &mut impl Read) -> io::Result<u64> {
        let name = named(place)?;
        self.clear(place, name)?;
        let mut file = File::from(create(&place.folder.fd, name)?);
        let size = io::copy(content, &mut file)?;
        finish(&file, name, &place.folder.fd, meta)?;
        Ok(size)
    }

    /// A symbolic link: what it says is nobody's business before someone follows it.
    pub(super) fn link(&mut self, place: &Place, meta: &Meta, target: &[u8]) -> io::Result<()> {
        let name = named(place)?;
        self.clear(place, name)?;
        let here = &place.folder.fd;
        rustix::fs::symlinkat(OsStr::from_bytes(target), &**here, name)?;
        set_owner(&**here, name, meta.uid, meta.gid)?;
        set_times(here, name, meta.changed)
    }

    /// One more name of a file of this layer. Of a file of a layer below a copy is made: that is what
    /// overlayfs would do when the link was made.
    pub(super) fn hard_link(&mut self, place: &Place, target: &[u8]) -> io::Result<()> {
        let name = named(place)?.to_owned();
        let source = self.place(target)?;
        let source_name = named(&source)?;
        if source.path() == place.path() {
            return Ok(());
        }
        match rustix::fs::statat(&*source.folder.fd, source_name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(status) if FileType::from_raw_mode(status.st_mode) == FileType::Directory => {
                Err(invalid("it is a hard link to a folder"))
            }
            Ok(_) => {
                self.clear(place, &name)?;
                let (from, to) = (&*source.folder.fd, &*place.folder.fd);
                Ok(rustix::fs::linkat(from, source_name, to, &name, AtFlags::empty())?)
            }
            Err(Errno::NOENT) => self.copy_up(place, &name, &source),
            Err(error) => Err(error.into()),
        }
    }

    fn copy_up(&mut self, place: &Place, name: &OsStr, source: &Place) -> io::Result<()> {
        let path: Vec<OsString> = source.folder.path.iter().chain(&source.name).cloned().collect();
        let shown = || source.path().display().to_string();
        let (folder, source_name, status) = self
            .below(&path)
            .ok_or_else(|| invalid(format!("its link leads to {}, which is not there", shown())))?;
        let meta = Meta {
            mode: status.st_mode & 0o7777,
            uid: status.st_uid,
            gid: status.st_gid,
            changed: changed_at(&status),
            attributes: Vec::new(),
        };
        match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut from = File::from(rustix::fs::openat(&folder, &source_name, flags, Mode::empty())?);
                self.file(place, &meta, &mut from).map(drop)
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&folder, &source_name, Vec::new())?;
                self.link(place, &meta, &target.into_bytes())
            }
            _ => Err(invalid(format!("{} is a hard link to {}, which is no file", name.display(), shown()))),
        }
    }

    /// A named pipe or a device. Only root can make devices; nobody else's image lacks them.
    pub(super) fn device(
        &mut self,
        place: &Place,
        meta: &Meta,
        kind: EntryType,
        device: u64,
    ) -> io::Result<()> {
        let name = named(place)?;
        self.clear(place, name)?;
        let (kind, device) = match kind {
            EntryType::Char => (FileType::CharacterDevice, device),
            EntryType::Block => (FileType::BlockDevice, device),
            _ => (FileType::Fifo, 0),
        };
        if kind == FileType::CharacterDevice && device == 0 {
            return Err(invalid("it is the device 0/0, which no image can have"));
        }
        let here = &place.folder.fd;
        match rustix::fs::mknodat(&**here, name, kind, Mode::from_raw_mode(0o600), device) {
            Err(Errno::PERM) if kind != FileType::Fifo => {
                tracing::debug!("{} is left out: only root makes devices", place.path().display());
                return Ok(());
            }
            made => made?,
        }
        set_owner(&**here, name, meta.uid, meta.gid)?;
        rustix::fs::chmodat(&**here, name, Mode::from_raw_mode(meta.mode), AtFlags::empty())?;
        set_times(here, name, meta.changed)
    }

    /// What the layers below have under `name` is gone. What this layer itself has there is not.
    pub(super) fn gone(&mut self, place: &Place, name: &OsString) -> io::Result<()> {
        let here = &place.folder.fd;
        match rustix::fs::statat(&**here, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(status) if FileType::from_raw_mode(status.st_mode) == FileType::Directory => {
                let folder = rustix::fs::openat(&**here, name, FOLDER, Mode::empty())?;
                self.marks.set_opaque(&folder)
            }
            Ok(_) => Ok(()),
            Err(Errno::NOENT) => self.marks.set_gone(here, name),
            Err(error) => Err(error.into()),
        }
    }

    /// Sets the modes and times of all folders, the inner ones first.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.forget();
        for (path, stamp) in std::mem::take(&mut self.folders).into_iter().rev() {
            let parts: Vec<OsString> = path.iter().map(OsStr::to_owned).collect();
            let folder = match self.open(&parts) {
                Ok(folder) => folder,
                // Something else has taken its place since.
                Err(_) => continue,
            };
            if let Some(changed) = stamp.changed {
                rustix::fs::futimens(&*folder, &times(changed))?;
            }
            rustix::fs::fchmod(&*folder, Mode::from_raw_mode(stamp.mode))?;
        }
        Ok(())
    }

    /// Removes what has the name, with all that is in it.
    fn clear(&mut self, place: &Place, name: &OsStr) -> io::Result<()> {
        match rustix::fs::unlinkat(&*place.folder.fd, name, AtFlags::empty()) {
            Ok(()) => self.forget(),
            Err(Errno::NOENT) => {}
            Err(Errno::ISDIR | Errno::PERM) => {
                self.forget();
                remove_folder(&place.folder.fd, name)?;
                let gone =
                    place.folder.path.iter().map(OsString::as_os_str).chain([name]).collect::<PathBuf>();
                forget_below(&mut self.folders, &gone);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

fn forget_below(folders: &mut BTreeMap<PathBuf, Stamp>, gone: &Path) {
    folders.retain(|path, _| !path.starts_with(gone));
}

fn named(place: &Place) -> io::Result<&OsStr> {
    place.name.as_deref().ok_or_else(|| invalid("the root of an image can only be a folder"))
}

pub(super) fn create(folder: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o600))?)
}

/// The order matters: a new owner takes setuid bits and capabilities away.
fn finish(file: &File, name: &OsStr, folder: &OwnedFd, meta: &Meta) -> io::Result<()> {
    set_owner(folder, name, meta.uid, meta.gid)?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(meta.mode))?;
    set_attributes(file, &meta.attributes)?;
    Ok(rustix::fs::futimens(file, &times(meta.changed))?)
}

/// Attributes that the disk or the rights of this process do not allow are left out.
fn set_attributes(file: impl AsFd, attributes: &[(String, Vec<u8>)]) -> io::Result<()> {
    for (name, value) in attributes {
        match rustix::fs::fsetxattr(&file, name.as_str(), value, XattrFlags::empty()) {
            Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS | Errno::INVAL) => {
                tracing::debug!("the attribute {name} is left out");
            }
            set => set?,
        }
    }
    Ok(())
}

fn times(changed: Timespec) -> Timestamps {
    Timestamps { last_access: changed, last_modification: changed }
}

fn set_times(folder: &OwnedFd, name: &OsStr, changed: Timespec) -> io::Result<()> {
    Ok(rustix::fs::utimensat(folder, name, &times(changed), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Removes a folder without following anything; its depth is bounded where folders are made.
fn remove_folder(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let folder = rustix::fs::openat(parent, name, FOLDER, Mode::empty())?;
    for entry in rustix::fs::Dir::read_from(&folder)? {
        let entry = entry?;
        let inner = OsStr::from_bytes(entry.file_name().to_bytes());
        if inner == "." || inner == ".." {
            continue;
        }
        match rustix::fs::unlinkat(&folder, inner, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => remove_folder(&folder, inner)?,
            ended => ended?,
        }
    }
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}
