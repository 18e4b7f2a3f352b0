//! A layer in the making, below one folder that nothing written through it can leave: every path is
//! walked name by name, links are followed by hand and end at the folder, as in a chroot.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::marks::{self, Marks};

/// Links on the way to one file, as many as the kernel follows.
const MOST_LINKS: usize = 40;
/// Folders in one another: removing them again holds each of them open.
const DEEPEST: usize = 400;
/// The kernel's limit for one path.
const LONGEST: usize = 4095;

pub(super) const FOLDER: OFlags =
    OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The folder of a layer that is written.
pub(super) struct Tree {
    root: Arc<OwnedFd>,
    below: Below,
    pub(super) marks: Marks,
    /// Modes and times of folders, set when nothing is written into them any more.
    pub(super) folders: BTreeMap<PathBuf, Stamp>,
    /// The folder that was walked to last: archives list folder by folder.
    last: Option<(Vec<OsString>, Folder)>,
}

/// Mode and time of change of a folder.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    pub(super) mode: u32,
    pub(super) changed: Option<rustix::fs::Timespec>,
}

/// An open folder and its path without links, from the root on.
#[derive(Clone)]
pub(super) struct Folder {
    pub(super) fd: Arc<OwnedFd>,
    pub(super) path: Vec<OsString>,
}

/// A name in a folder. No name is the root itself.
pub(super) struct Place {
    pub(super) folder: Folder,
    pub(super) name: Option<OsString>,
}

impl Place {
    pub(super) fn path(&self) -> PathBuf {
        self.folder.path.iter().chain(&self.name).collect()
    }
}

enum Step {
    Folder(OwnedFd),
    Link(Vec<u8>),
}

impl Tree {
    /// A tree in the empty folder `root`, over the folders of the layers `below`, topmost first.
    pub(super) fn new(root: &Path, below: &[PathBuf], marks: Marks) -> io::Result<Self> {
        let open = |path: &Path| rustix::fs::open(path, FOLDER, Mode::empty());
        let below = below.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
        let root = open(root)?;
        let mode =
            below.first().map(rustix::fs::fstat).transpose()?.map_or(0o755, |status| status.st_mode & 0o7777);
        let folders = BTreeMap::from([(PathBuf::new(), Stamp { mode, changed: None })]);
        Ok(Self { root: Arc::new(root), below: Below(below), marks, folders, last: None })
    }

    /// Where `name` of an archive is; the folders on the way are made.
    pub(super) fn place(&mut self, name: &[u8]) -> io::Result<Place> {
        let mut parts = clean(name)?;
        let name = parts.pop();
        let folder = match &self.last {
            Some((known, folder)) if *known == parts => folder.clone(),
            _ => {
                let folder = self.walk(&parts)?;
                self.last = Some((parts, folder.clone()));
                folder
            }
        };
        Ok(Place { folder, name })
    }

    /// Forgets the folder that was walked to last, because something on its way may be another now.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// What the layers below show at a path without links.
    pub(super) fn below(&self, path: &[OsString]) -> Option<(OwnedFd, OsString, Stat)> {
        self.below.find(path)
    }

    /// Opens a folder of this layer by its path without links, if it is there.
    pub(super) fn open(&self, path: &[OsString]) -> io::Result<Arc<OwnedFd>> {
        let mut here = Arc::clone(&self.root);
        for part in path {
            here = Arc::new(rustix::fs::openat(&*here, part, FOLDER, Mode::empty())?);
        }
        Ok(here)
    }

    fn walk(&mut self, parts: &[OsString]) -> io::Result<Folder> {
        let mut pending: VecDeque<OsString> = parts.iter().cloned().collect();
        let mut here = Folder { fd: Arc::clone(&self.root), path: Vec::new() };
        let mut links = 0;
        while let Some(part) = pending.pop_front() {
            if part == ".." {
                here.path.pop();
                here.fd = self.open(&here.path)?;
                continue;
            }
            match self.step(&here, &part)? {
                Step::Folder(fd) => {
                    here.path.push(part);
                    here.fd = Arc::new(fd);
                    let length: usize = here.path.iter().map(|part| part.len() + 1).sum();
                    if here.path.len() > DEEPEST || length > LONGEST {
                        return Err(invalid("folders are too deep in one another"));
                    }
                }
                Step::Link(target) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(invalid("links lead in a circle"));
                    }
                    if target.starts_with(b"/") {
                        here = Folder { fd: Arc::clone(&self.root), path: Vec::new() };
                    }
                    for part in split(&target).rev() {
                        pending.push_front(part.to_owned());
                    }
                }
            }
        }
        Ok(here)
    }

    fn step(&mut self, here: &Folder, part: &OsStr) -> io::Result<Step> {
        match rustix::fs::openat(&*here.fd, part, FOLDER, Mode::empty()) {
            Ok(fd) => Ok(Step::Folder(fd)),
            Err(Errno::NOENT) => self.implied(here, part),
            Err(Errno::NOTDIR | Errno::LOOP) => match rustix::fs::readlinkat(&*here.fd, part, Vec::new()) {
                Ok(target) => Ok(Step::Link(target.into_bytes())),
                Err(Errno::INVAL) => self.instead(here, part).map(Step::Folder),
                Err(error) => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// A folder that the archive does not list is the one of the layers below, else a plain one.
    fn implied(&mut self, here: &Folder, part: &OsStr) -> io::Result<Step> {
        let mut path = here.path.clone();
        path.push(part.to_owned());
        let (mut mode, mut changed, mut owner) = (0o755, None, None);
        if let Some((folder, name, status)) = self.below(&path) {
            match FileType::from_raw_mode(status.st_mode) {
                FileType::Symlink => {
                    let target = rustix::fs::readlinkat(&folder, &name, Vec::new())?;
                    return Ok(Step::Link(target.into_bytes()));
                }
                FileType::Directory => {
                    mode = status.st_mode & 0o7777;
                    changed = Some(changed_at(&status));
                    owner = Some((status.st_uid, status.st_gid));
                }
                _ => {}
            }
        }
        rustix::fs::mkdirat(&*here.fd, part, Mode::from_raw_mode(0o700))?;
        if let Some((uid, gid)) = owner {
            set_owner(&*here.fd, part, uid, gid)?;
        }
        self.folders.insert(path.iter().collect(), Stamp { mode, changed });
        Ok(Step::Folder(rustix::fs::openat(&*here.fd, part, FOLDER, Mode::empty())?))
    }

    /// A folder where this very layer has removed something of the layers below.
    fn instead(&mut self, here: &Folder, part: &OsStr) -> io::Result<OwnedFd> {
        let status = rustix::fs::statat(&*here.fd, part, AtFlags::SYMLINK_NOFOLLOW)?;
        if !marks::is_gone(&status) {
            return Err(invalid(format!("{} is not a folder", part.to_string_lossy())));
        }
        rustix::fs::unlinkat(&*here.fd, part, AtFlags::empty())?;
        rustix::fs::mkdirat(&*here.fd, part, Mode::from_raw_mode(0o700))?;
        let fd = rustix::fs::openat(&*here.fd, part, FOLDER, Mode::empty())?;
        self.marks.set_opaque(&fd)?;
        let path = here.path.iter().map(OsString::as_os_str).chain([part]).collect();
        self.folders.insert(path, Stamp { mode: 0o755, changed: None });
        Ok(fd)
    }
}

/// The layers below the one that is written, topmost first.
struct Below(Vec<OwnedFd>);

impl Below {
    /// The folder and name of what shows at a path, with its status.
    fn find(&self, path: &[OsString]) -> Option<(OwnedFd, OsString, Stat)> {
        let (name, folders) = path.split_last()?;
        for layer in &self.0 {
            match look(layer, folders, name) {
                Look::Here(folder, status) => return Some((folder, name.clone(), *status)),
                Look::Hidden => return None,
                Look::Further => {}
            }
        }
        None
    }
}

enum Look {
    Here(OwnedFd, Box<Stat>),
    /// This layer says that there is nothing.
    Hidden,
    /// This layer says nothing.
    Further,
}

fn look(layer: &OwnedFd, folders: &[OsString], name: &OsStr) -> Look {
    let Ok(mut here) = rustix::fs::openat(layer, ".", FOLDER, Mode::empty()) else { return Look::Further };
    let mut opaque = false;
    let absent = |opaque: bool| if opaque { Look::Hidden } else { Look::Further };
    for part in folders {
        opaque |= marks::is_opaque(&here);
        here = match rustix::fs::openat(&here, part, FOLDER, Mode::empty()) {
            Ok(next) => next,
            Err(Errno::NOENT) if marked_gone(&here, part) => return Look::Hidden,
            Err(Errno::NOENT) => return absent(opaque),
            // A file, a link or a mark hides what the layers below it have there.
            Err(_) => return Look::Hidden,
        };
    }
    opaque |= marks::is_opaque(&here);
    match rustix::fs::statat(&here, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(status) if marks::is_gone(&status) => Look::Hidden,
        Ok(status) => Look::Here(here, Box::new(status)),
        Err(_) if marked_gone(&here, name) => Look::Hidden,
        Err(_) => absent(opaque),
    }
}

fn marked_gone(folder: &OwnedFd, name: &OsStr) -> bool {
    let mut marked = marks::PREFIX.to_vec();
    marked.extend_from_slice(name.as_bytes());
    rustix::fs::statat(folder, OsString::from_vec(marked), AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// The parts of a name of an archive; one that leads out of it is refused.
fn clean(name: &[u8]) -> io::Result<Vec<OsString>> {
    if name.len() > LONGEST {
        return Err(invalid("its name is too long"));
    }
    let mut parts: Vec<OsString> = Vec::new();
    for part in split(name) {
        if part != ".." {
            parts.push(part.to_owned());
        } else if parts.pop().is_none() {
            return Err(invalid("its name leads out of the image"));
        }
    }
    Ok(parts)
}

fn split(path: &[u8]) -> impl DoubleEndedIterator<Item = &OsStr> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").map(OsStr::from_bytes)
}

/// Gives a name to its owner. Only root can, and nobody else is expected to; the root of a user
/// namespace can only for the users that it knows.
pub(super) fn set_owner(folder: impl AsFd, name: &OsStr, uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    match rustix::fs::chownat(folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::INVAL) => Ok(()),
        Err(Errno::PERM) if !rustix::process::geteuid().is_root() => Ok(()),
        ended => Ok(ended?),
    }
}

/// When something was changed.
pub(super) fn changed_at(status: &Stat) -> rustix::fs::Timespec {
    rustix::fs::Timespec { tv_sec: status.st_mtime, tv_nsec: status.st_mtime_nsec.try_into().unwrap_or(0) }
}

pub(super) fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why.into())
}
