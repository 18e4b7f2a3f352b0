//! A folder that nobody else can write into, held open: who owns it and who may write is checked
//! once, on what is held, so that another folder put in its place later is never read.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, Stat, fstat, open, openat, renameat, unlinkat};

use super::files::{read_at_most, regular};

/// The folder.
#[derive(Debug)]
pub(super) struct Private(OwnedFd);

impl Private {
    /// Opens a folder, which is made if it is not there.
    ///
    /// # Errors
    /// It cannot be made or opened, belongs to another user, or others may write into it.
    pub fn open(path: &Path) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let folder = open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        mine(&fstat(&folder)?)?;
        Ok(Self(folder))
    }

    /// The content of a file of this user that nobody else can write; links are not followed.
    ///
    /// # Errors
    /// It is not there, is not so, or has more than `largest` bytes.
    pub fn read(&self, name: &str, largest: usize) -> io::Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let file = File::from(openat(&self.0, name, flags, Mode::empty())?);
        let stat = fstat(&file)?;
        regular(stat.st_mode)?;
        mine(&stat)?;
        read_at_most(file, largest)
    }

    /// Writes a file aside and moves it, so that a reader never sees half of it.
    ///
    /// # Errors
    /// The system's error; nothing is left then.
    pub fn write(&self, name: &str, parts: &[&[u8]]) -> io::Result<()> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let aside = format!("{name}.{}-{}.part", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let written = self.write_new(&aside, parts);
        let moved = written.and_then(|()| Ok(renameat(&self.0, &aside, &self.0, name)?));
        if moved.is_err() {
            let _ = unlinkat(&self.0, &aside, AtFlags::empty());
        }
        moved
    }

    fn write_new(&self, name: &str, parts: &[&[u8]]) -> io::Result<()> {
        // An earlier process of this number may have left it.
        let _ = unlinkat(&self.0, name, AtFlags::empty());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut file = File::from(openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?);
        parts.iter().try_for_each(|part| file.write_all(part))
    }
}

fn mine(stat: &Stat) -> io::Result<()> {
    let refused = |words| Err(io::Error::new(io::ErrorKind::PermissionDenied, words));
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return refused("it belongs to another user");
    }
    if stat.st_mode & 0o022 != 0 {
        return refused("others may write into it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::PathBuf;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("d2k-private-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_was_written_is_read_again_and_nothing_is_left_aside() {
        let folder = Folder::new("written");
        let private = Private::open(&folder.0).unwrap();
        private.write("a", &[b"one", b"two"]).unwrap();
        assert_eq!(private.read("a", 6).unwrap(), b"onetwo");
        assert!(private.read("a", 5).is_err());
        assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_into_which_others_write_is_refused() {
        let folder = Folder::new("open");
        std::fs::set_permissions(&folder.0, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Private::open(&folder.0).is_err());
    }

    #[test]
    fn links_and_files_that_others_can_write_are_not_read() {
        let folder = Folder::new("links");
        let private = Private::open(&folder.0).unwrap();
        private.write("a", &[b"good"]).unwrap();
        symlink("a", folder.0.join("link")).unwrap();
        assert!(private.read("link", 99).is_err());
        std::fs::set_permissions(folder.0.join("a"), std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(private.read("a", 99).is_err());
    }

    #[test]
    fn another_folder_in_its_place_is_not_read() {
        let folder = Folder::new("place");
        let private = Private::open(&folder.0).unwrap();
        private.write("a", &[b"good"]).unwrap();
        let moved = folder.0.with_extension("moved");
        std::fs::rename(&folder.0, &moved).unwrap();
        std::fs::create_dir(&folder.0).unwrap();
        std::fs::write(folder.0.join("a"), "bad").unwrap();
        assert_eq!(private.read("a", 99).unwrap(), b"good");
        std::fs::remove_dir_all(&moved).unwrap();
    }
}
