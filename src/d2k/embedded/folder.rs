//! The folder of an embedded cluster is private: its journal holds every Secret, and below it is what
//! containers write as root, set-user-ID programs among it, which no other user of the machine may run.
//! One mode at its top keeps all of that, so files below it can have the modes that containers need.

use std::fs::{self, DirBuilder, File, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};

/// Owner only.
const PRIVATE: u32 = 0o700;
/// Group and others, in a mode.
const OTHERS: u32 = 0o077;
/// The sticky bit and the right of everybody to write: `/tmp` and its like.
const EVERYBODY_WRITES: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// Its lock file, by which a folder of an earlier start is known, too.
const LOCK: &str = "lock";

/// How many names are tried for a temporary folder.
const MOST_TRIES: usize = 64;

/// Makes the folder, or tightens it where it is there already; its path without links.
///
/// # Errors
/// One line on why it cannot be used: links on the way that another user has made or could have made,
/// another owner, or a folder that is shared with other users for a reason.
pub(super) fn private(folder: &Path) -> Result<PathBuf, String> {
    let wrong = |words: String| {
        format!("the folder {} cannot be used: {words}; choose another one (D2K_DATA_DIR)", folder.display())
    };
    let failed = |error: std::io::Error| wrong(error.to_string());
    let whole = std::path::absolute(folder).map_err(failed)?;
    links_are_ours(&whole).map_err(wrong)?;
    DirBuilder::new().recursive(true).mode(PRIVATE).create(&whole).map_err(failed)?;
    let path = whole.canonicalize().map_err(failed)?;
    // The same open folder is checked and changed, whatever is at that path later.
    let flags = (OFlags::DIRECTORY | OFlags::NOFOLLOW).bits();
    let flags = i32::try_from(flags).map_err(|error| wrong(error.to_string()))?;
    let opened = fs::OpenOptions::new().read(true).custom_flags(flags).open(&path).map_err(failed)?;
    let status = opened.metadata().map_err(failed)?;
    let own = rustix::process::geteuid().as_raw();
    if status.uid() != own {
        return Err(wrong(format!("it belongs to the user {}, and d2k runs as {own}", status.uid())));
    }
    if status.mode() & OTHERS != 0 {
        if is_shared(&path, &status).map_err(failed)? {
            return Err(wrong("other users can use it, and there are other files in it".into()));
        }
        opened.set_permissions(fs::Permissions::from_mode(PRIVATE)).map_err(failed)?;
    }
    Ok(path)
}

/// A link on the way leads where its maker wants, so it must be ours or root's.
fn links_are_ours(path: &Path) -> Result<(), String> {
    let own = rustix::process::geteuid().as_raw();
    for step in path.ancestors() {
        let Ok(status) = step.symlink_metadata() else { continue };
        if !status.is_symlink() {
            continue;
        }
        let above = step.parent().and_then(|above| above.metadata().ok());
        if above.is_some_and(|above| above.mode() & EVERYBODY_WRITES != 0) {
            return Err(format!("{} is a link in a folder that everybody can write to", step.display()));
        }
        if status.uid() != own && status.uid() != 0 {
            return Err(format!("the link {} belongs to the user {}", step.display(), status.uid()));
        }
    }
    Ok(())
}

/// Whether a folder that other users can enter has another purpose, so that it must not be closed to them.
fn is_shared(path: &Path, status: &Metadata) -> std::io::Result<bool> {
    if status.mode() & STICKY != 0 {
        return Ok(true);
    }
    if path.join(LOCK).is_file() {
        return Ok(false);
    }
    // A file system of its own has this folder from the beginning.
    let mut entries = fs::read_dir(path)?.flatten();
    Ok(entries.any(|entry| entry.file_name() != "lost+found"))
}

/// One daemon at a time has a folder; the kernel gives it back when the daemon is killed.
///
/// # Errors
/// One line: another daemon has it.
pub(super) fn lock(folder: &Path) -> Result<File, String> {
    let path = folder.join(LOCK);
    let file = File::options().create(true).append(true).mode(0o600).open(&path);
    let file = file.map_err(|error| format!("{} cannot be opened: {error}", path.display()))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        format!("another d2k uses the folder {}; end it, or choose another folder", folder.display())
    })?;
    Ok(file)
}

/// Makes a folder of its own below the folder for temporary files, whose name nobody can guess and which
/// was not there before.
///
/// # Errors
/// One line where none can be made.
pub(super) fn temporary() -> Result<PathBuf, String> {
    for _ in 0..MOST_TRIES {
        let name = format!("d2k-{}-{:016x}", std::process::id(), rand::random::<u64>());
        let folder = std::env::temp_dir().join(name);
        match DirBuilder::new().mode(PRIVATE).create(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(format!("{}: {error}; choose a folder (D2K_DATA_DIR)", folder.display()));
            }
        }
    }
    Err(format!(
        "no new folder can be made in {}; choose a folder (D2K_DATA_DIR)",
        std::env::temp_dir().display()
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    /// A private folder of one test, gone when it is dropped.
    struct Base(PathBuf);

    impl Base {
        fn new() -> Self {
            Self(temporary().unwrap())
        }

        fn make(&self, name: &str, mode: u32) -> PathBuf {
            let folder = self.0.join(name);
            fs::create_dir(&folder).unwrap();
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
            folder
        }
    }

    impl Drop for Base {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_folder_has_one_daemon_at_a_time() {
        let base = Base::new();
        let first = lock(&base.0).unwrap();
        let refused = lock(&base.0).unwrap_err();
        assert!(refused.contains("another d2k uses the folder"), "{refused}");
        drop(first);
        lock(&base.0).unwrap();
    }

    #[test]
    fn a_new_folder_is_private_and_so_are_those_above_it() {
        let base = Base::new();
        assert_eq!(mode(&base.0), 0o700);
        let folder = private(&base.0.join("a/b")).unwrap();
        assert_eq!((mode(&folder), mode(&base.0.join("a"))), (0o700, 0o700));
    }

    #[test]
    fn a_folder_that_is_there_is_tightened() {
        let base = Base::new();
        let (empty, earlier) = (base.make("empty", 0o777), base.make("earlier", 0o755));
        fs::write(earlier.join(LOCK), "").unwrap();
        fs::write(earlier.join("journal"), "").unwrap();
        let mounted = base.make("mounted", 0o755);
        fs::create_dir(mounted.join("lost+found")).unwrap();
        for folder in [empty, earlier, mounted] {
            private(&folder).unwrap();
            assert_eq!(mode(&folder), 0o700, "{}", folder.display());
        }
        // A folder that is private already may hold anything.
        let own = base.make("own", 0o700);
        fs::write(own.join("file"), "").unwrap();
        private(&own).unwrap();
    }

    #[test]
    fn a_folder_with_another_purpose_is_left_alone() {
        let base = Base::new();
        let (busy, sticky) = (base.make("busy", 0o755), base.make("sticky", 0o1777));
        fs::write(busy.join("file"), "").unwrap();
        for (folder, before) in [(busy, 0o755), (sticky, 0o1777)] {
            let refused = private(&folder).unwrap_err();
            assert!(refused.contains("there are other files in it"), "{refused}");
            assert_eq!(mode(&folder), before);
        }
    }

    #[test]
    fn links_of_others_are_not_followed() {
        let base = Base::new();
        let (target, shared) = (base.make("target", 0o700), base.make("shared", 0o1777));
        symlink(&target, base.0.join("own")).unwrap();
        assert_eq!(private(&base.0.join("own")).unwrap(), target.canonicalize().unwrap());
        symlink(&target, shared.join("link")).unwrap();
        for path in [shared.join("link"), shared.join("link/below")] {
            let refused = private(&path).unwrap_err();
            assert!(refused.contains("is a link in a folder that everybody can write to"), "{refused}");
        }
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_of_another_user_is_refused() {
        let base = Base::new();
        let theirs = base.make("theirs", 0o700);
        // Only root can give a folder away.
        if chown(&theirs, Some(65534), None).is_err() {
            return;
        }
        let refused = private(&theirs).unwrap_err();
        assert!(refused.contains("belongs to the user 65534"), "{refused}");
        let link = base.0.join("link");
        symlink(base.make("target", 0o700), &link).unwrap();
        std::os::unix::fs::lchown(&link, Some(65534), None).unwrap();
        assert!(private(&link).unwrap_err().contains("belongs to the user 65534"));
    }

    #[test]
    fn temporary_folders_are_private_and_never_the_same() {
        let (one, other) = (Base::new(), Base::new());
        assert_ne!(one.0, other.0);
        assert_eq!((mode(&one.0), mode(&other.0)), (0o700, 0o700));
    }
}
