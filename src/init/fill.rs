//! An empty volume gets the files that the image has where it is mounted, with their owners and modes, as
//! Docker does it. Runs in a container before the real one, with the volume mounted elsewhere.

use std::collections::HashMap;
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag};
use nix::unistd::geteuid;

use crate::arguments::Arguments;
use crate::execute::Failure;
use crate::{files, run};

/// What a new file system has in its root.
const NOT_OURS: &str = "lost+found";

/// `fill FOLDER VOLUME…`: copies each folder of the image into the volume behind it, if that is empty.
pub fn fill(mut arguments: Arguments) -> u8 {
    // Modes are the image's.
    let _ = nix::sys::stat::umask(Mode::empty());
    while let (Some(folder), Some(volume)) = (arguments.raw(), arguments.raw()) {
        if let Err(error) = fill_one(Path::new(&folder), Path::new(&volume)) {
            // A user who may not read the one or write to the other still gets the volume.
            if error.kind() == io::ErrorKind::PermissionDenied && !geteuid().is_root() {
                continue;
            }
            let words = format!(
                "the image's files at {} cannot be copied into the volume: {error}",
                folder.display()
            );
            return run::tell(&Failure::not_permitted(words));
        }
    }
    0
}

fn fill_one(folder: &Path, volume: &Path) -> io::Result<()> {
    let Ok(about) = fs::metadata(folder) else { return Ok(()) };
    if !about.is_dir() || fs::read_dir(volume)?.flatten().any(|entry| entry.file_name() != NOT_OURS) {
        return Ok(());
    }
    Copier::default().folder(folder, volume)?;
    settle(volume, &about);
    Ok(())
}

#[derive(Default)]
struct Copier {
    /// Files with several names, by device and inode, and where the first of them was copied to.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Copier {
    fn folder(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        for entry in fs::read_dir(from)? {
            self.entry(&entry?, to)?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &DirEntry, to: &Path) -> io::Result<()> {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let about = entry.metadata()?;
        let kind = about.file_type();
        if kind.is_dir() {
            fs::create_dir(&to)?;
            self.folder(&from, &to)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&from)?, &to)?;
        } else if kind.is_file() {
            let name = (about.dev(), about.ino());
            if let Some(first) = self.links.get(&name) {
                return fs::hard_link(first, &to);
            }
            fs::copy(&from, &to)?;
            if about.nlink() > 1 {
                self.links.insert(name, to.clone());
            }
        } else {
            let mode = Mode::from_bits_truncate(about.mode());
            let made =
                nix::sys::stat::mknod(&to, SFlag::from_bits_truncate(about.mode()), mode, about.rdev());
            if made.is_err() {
                // A device that may not be made: the image's own is of no use either.
                return Ok(());
            }
        }
        settle(&to, &about);
        Ok(())
    }
}

/// Owner, mode and time, as far as they may be set.
fn settle(path: &Path, about: &Metadata) {
    files::give(path, about.uid(), about.gid());
    if !about.file_type().is_symlink() {
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(about.mode() & 0o7777));
    }
    files::date(path, about.mtime());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test may end by panic")]
    use super::*;

    /// A folder of this test, with an image's folder and an empty volume.
    fn folders(test: &str) -> (PathBuf, PathBuf) {
        let root = std::env::temp_dir().join(format!("d2k-fill-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let (image, volume) = (root.join("image"), root.join("volume"));
        fs::create_dir_all(image.join("sub")).unwrap();
        fs::create_dir_all(volume.join(NOT_OURS)).unwrap();
        (image, volume)
    }

    #[test]
    fn files_links_and_modes_arrive_as_they_are() {
        let (image, volume) = folders("kinds");
        fs::write(image.join("sub/file"), "text").unwrap();
        fs::set_permissions(image.join("sub/file"), fs::Permissions::from_mode(0o4750)).unwrap();
        fs::hard_link(image.join("sub/file"), image.join("sub/second")).unwrap();
        symlink("nowhere", image.join("link")).unwrap();
        nix::unistd::mkfifo(&image.join("pipe"), Mode::S_IRUSR).unwrap();
        fs::set_permissions(&image, fs::Permissions::from_mode(0o1777)).unwrap();
        fill_one(&image, &volume).unwrap();
        let file = fs::metadata(volume.join("sub/file")).unwrap();
        assert_eq!(file.mode() & 0o7777, 0o4750);
        assert_eq!(file.mtime(), fs::metadata(image.join("sub/file")).unwrap().mtime());
        assert_eq!(file.ino(), fs::metadata(volume.join("sub/second")).unwrap().ino());
        assert_eq!(fs::read_link(volume.join("link")).unwrap(), Path::new("nowhere"));
        assert_eq!(fs::metadata(volume.join("pipe")).unwrap().mode() & 0o777, 0o400);
        assert_eq!(fs::metadata(&volume).unwrap().mode() & 0o7777, 0o1777);
    }

    #[test]
    fn what_is_not_empty_or_has_no_counterpart_stays() {
        let (image, volume) = folders("stays");
        fs::write(image.join("file"), "the image's").unwrap();
        fill_one(&image.join("nowhere"), &volume).unwrap();
        fill_one(&image.join("file"), &volume).unwrap();
        assert_eq!(fs::read_dir(&volume).unwrap().count(), 1);
        fs::write(volume.join("own"), "kept").unwrap();
        fill_one(&image, &volume).unwrap();
        assert!(!volume.join("file").exists());
        assert!(fill_one(&image, &volume.join("gone")).is_err());
    }
}
