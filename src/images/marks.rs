//! How a layer on the disk says that something of the layers below is gone: as overlayfs reads it
//! (a device 0/0, an attribute), or where the machine refuses that, as archives write it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, XattrFlags};

/// Before the name of what is gone, in archives.
pub(super) const PREFIX: &[u8] = b".wh.";
/// In a folder of which nothing below shows, in archives.
pub(super) const OPAQUE: &[u8] = b".wh..wh..opq";

const TRUSTED: &str = "trusted.overlay.opaque";
const USER: &str = "user.overlay.opaque";

/// The kind of marks that the disk and this process's rights allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marks {
    /// As overlayfs reads them.
    Trusted,
    /// As overlayfs reads them with the option `userxattr`.
    User,
    /// As archives have them: layers are then copied.
    Files,
}

impl Marks {
    /// Tries them out in `folder`, which is empty and stays so.
    pub(super) fn probe(folder: &Path) -> io::Result<Self> {
        let folder =
            rustix::fs::open(folder, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        if make_device(&folder, OsStr::new("probe")).is_err() {
            return Ok(Self::Files);
        }
        rustix::fs::unlinkat(&folder, "probe", AtFlags::empty())?;
        for (name, marks) in [(TRUSTED, Self::Trusted), (USER, Self::User)] {
            if rustix::fs::fsetxattr(&folder, name, b"y", XattrFlags::empty()).is_ok() {
                rustix::fs::fremovexattr(&folder, name)?;
                return Ok(marks);
            }
        }
        Ok(Self::Files)
    }

    /// Marks a folder: nothing of the layers below shows in it.
    pub(super) fn set_opaque(self, folder: &OwnedFd) -> io::Result<()> {
        let name = match self {
            Self::Trusted => TRUSTED,
            Self::User => USER,
            Self::Files => return make_file(folder, OsStr::from_bytes(OPAQUE)),
        };
        Ok(rustix::fs::fsetxattr(folder, name, b"y", XattrFlags::empty())?)
    }

    /// Marks a name in a folder: what the layers below have under it is gone.
    pub(super) fn set_gone(self, folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
        match self {
            Self::Trusted | Self::User => make_device(folder, name),
            Self::Files => {
                let mut marked = OsString::from(OsStr::from_bytes(PREFIX));
                marked.push(name);
                make_file(folder, &marked)
            }
        }
    }
}

/// Whether an attribute is the overlay's own, which no archive may set.
pub(super) fn is_reserved(attribute: &[u8]) -> bool {
    attribute.starts_with(b"trusted.overlay.") || attribute.starts_with(b"user.overlay.")
}

/// Whether this is a mark of something that is gone.
pub(super) fn is_gone(status: &Stat) -> bool {
    FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice && status.st_rdev == 0
}

/// The same of what the standard library tells.
pub(super) fn is_gone_entry(status: &std::fs::Metadata) -> bool {
    status.file_type().is_char_device() && status.rdev() == 0
}

/// Whether a folder hides what the layers below have in it.
pub(super) fn is_opaque(folder: impl AsFd) -> bool {
    let mut value = [0; 4];
    let set = |name: &str, value: &mut [u8; 4]| {
        matches!(rustix::fs::fgetxattr(&folder, name, value.as_mut_slice()), Ok(1)) && value.starts_with(b"y")
    };
    set(TRUSTED, &mut value)
        || set(USER, &mut value)
        || rustix::fs::statat(&folder, OsStr::from_bytes(OPAQUE), AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

fn make_device(folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
    Ok(rustix::fs::mknodat(folder, name, FileType::CharacterDevice, Mode::empty(), 0)?)
}

fn make_file(folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::empty())?;
    Ok(())
}
