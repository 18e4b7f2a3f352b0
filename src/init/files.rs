//! Files that were copied into the container before its start: put in their places, with their owners and
//! modes, before the first instruction of its process.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{FchownatFlags, Gid, Uid, fchownat};

use crate::execute::Failure;
use crate::protocol::{DIRECTORY, FILES, LINK, LIST};

/// Fields of an entry of the list.
const FIELDS: usize = 7;

/// Puts all files of the list in their places.
pub fn put_all() -> Result<(), Failure> {
    let folder = Path::new(FILES);
    let told = |path: &Path, error: io::Error| {
        Failure::not_permitted(format!("{} cannot be copied into the container: {error}", path.display()))
    };
    let list = fs::read(folder.join(LIST)).map_err(|error| told(folder, error))?;
    let fields: Vec<&[u8]> = list.split(|byte| *byte == 0).collect();
    for entry in fields.chunks_exact(FIELDS) {
        let Some(path) = entry.last().map(|path| Path::new(OsStr::from_bytes(path))) else { continue };
        put(folder, entry, path).map_err(|error| told(path, error))?;
    }
    Ok(())
}

fn put(folder: &Path, entry: &[&[u8]], path: &Path) -> io::Result<()> {
    let text =
        |at: usize| entry.get(at).and_then(|field| std::str::from_utf8(field).ok()).unwrap_or_default();
    let number = |at: usize| text(at).parse::<u32>().unwrap_or(0);
    let mode = u32::from_str_radix(text(1), 8).unwrap_or(0o644);
    let source = folder.join(text(5));
    if let Some(above) = path.parent() {
        fs::create_dir_all(above)?;
    }
    let is_folder = fs::symlink_metadata(path).map(|there| there.is_dir());
    match (text(0), is_folder) {
        (DIRECTORY, Ok(true)) => {}
        (DIRECTORY, Err(_)) => fs::create_dir(path)?,
        (_, Ok(true)) => return Err(io::ErrorKind::IsADirectory.into()),
        (kind, there) => {
            if there.is_ok() {
                fs::remove_file(path)?;
            }
            if kind == LINK {
                symlink(OsStr::from_bytes(&fs::read(source)?), path)?;
            } else {
                fs::copy(source, path)?;
            }
        }
    }
    give(path, number(3), number(4));
    if text(0) == LINK {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7777))?;
    date(path, text(2).parse().unwrap_or(0));
    Ok(())
}

/// Gives a file to an owner. Where that is not allowed, the file is there all the same.
pub fn give(path: &Path, user: u32, group: u32) {
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    let _ = fchownat(AT_FDCWD, path, Some(user), Some(group), FchownatFlags::AT_SYMLINK_NOFOLLOW);
}

/// Sets a file's times, in seconds since 1970.
pub fn date(path: &Path, seconds: i64) {
    let time = TimeSpec::new(seconds, 0);
    let _ = utimensat(AT_FDCWD, path, &time, &time, UtimensatFlags::NoFollowSymlink);
}
