//! Parts of volumes (`subPath`). Containers write into the volume meanwhile and before, so nothing of a
//! part's path can be believed: every name is looked up and made below the opened volume, by the kernel's
//! own rule that nothing may lead out (`openat2`, `RESOLVE_BENEATH`), and the folder or file that was opened
//! is mounted in the helper's own folder, where `libcontainer` finds it by a path that nobody else changes.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};
use serde::{Deserialize, Serialize};

/// How often a path is looked up again that was renamed meanwhile; the kernel cannot tell then whether
/// `..` has led out.
const MOST_TRIES: usize = 128;

/// A part of a volume that a container is to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Folder of the volume.
    pub volume: PathBuf,
    /// Relative path of the part; folders that are missing are made.
    pub sub: PathBuf,
    /// Where the helper mounts it, below a folder of its own.
    pub at: PathBuf,
}

/// Opens each part and mounts it at its place.
///
/// # Errors
/// The part and the reason why it cannot be had.
pub fn hold(parts: &[Part]) -> Result<(), String> {
    parts.iter().try_for_each(|part| {
        let opened = open(&part.volume, &part.sub)?;
        mount(&opened, &part.at).map_err(|error| format!("subPath {}: {error}", part.sub.display()))
    })
}

/// Undoes `hold`. A container that has started keeps its own mounts of the parts.
pub fn release(parts: &[Part]) {
    for part in parts {
        let _ = unmount(&part.at, UnmountFlags::DETACH);
        let _ = std::fs::remove_file(&part.at).or_else(|_| std::fs::remove_dir(&part.at));
    }
    if let Some(folder) = parts.first().and_then(|part| part.at.parent()) {
        let _ = std::fs::remove_dir(folder);
    }
}

fn mount(opened: &OwnedFd, at: &Path) -> std::io::Result<()> {
    if let Some(folder) = at.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match FileType::from_raw_mode(rustix::fs::fstat(opened)?.st_mode) {
        FileType::Directory => std::fs::create_dir(at)?,
        _ => drop(File::create(at)?),
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(opened, "", flags)?;
    Ok(move_mount(&tree, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Opens a part of a volume; folders that are missing get the mode of the volume, as with a kubelet.
fn open(volume: &Path, sub: &Path) -> Result<OwnedFd, String> {
    let wrong = |error: Errno| match error {
        Errno::XDEV => format!("subPath {} leads out of the volume", sub.display()),
        error => format!("subPath {}: {error}", sub.display()),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, volume, flags, Mode::empty())
        .map_err(|error| format!("the volume {} cannot be opened: {error}", volume.display()))?;
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&root).map_err(wrong)?.st_mode & 0o7777);
    let (mut so_far, mut opened) = (PathBuf::new(), None);
    for component in sub.components() {
        let Component::Normal(name) = component else { return Err(wrong(Errno::XDEV)) };
        so_far.push(name);
        let above = opened.as_ref().unwrap_or(&root);
        let next = match below(&root, &so_far) {
            Err(Errno::NOENT) => {
                make(above, Path::new(name), mode).and_then(|()| below(&root, &so_far)).map_err(wrong)?
            }
            found => found.map_err(wrong)?,
        };
        opened = Some(next);
    }
    Ok(opened.unwrap_or(root))
}

fn below(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let look = || rustix::fs::openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve);
    let renamed = |found: &Result<OwnedFd, Errno>| matches!(found, Err(Errno::AGAIN));
    (0..MOST_TRIES).map(|_| look()).find(|found| !renamed(found)).unwrap_or(Err(Errno::AGAIN))
}

fn make(above: impl AsFd, name: &Path, mode: Mode) -> Result<(), Errno> {
    match rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o700)) {
        // Somebody else was faster, or it is a link to nowhere, which the next look tells.
        Err(Errno::EXIST) => return Ok(()),
        made => made?,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(&above, name, flags, Mode::empty())?;
    rustix::fs::fchmod(&folder, mode)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

    use std::fs;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// A volume, and a folder beside it that nothing may get into.
    fn folders(test: &str) -> (PathBuf, PathBuf, PathBuf) {
        let base = std::env::temp_dir().join(format!("d2k-subpath-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        let (volume, outside) = (base.join("volume"), base.join("outside"));
        fs::create_dir_all(&volume).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::set_permissions(&volume, fs::Permissions::from_mode(0o2777)).unwrap();
        (base.canonicalize().unwrap(), volume.canonicalize().unwrap(), outside.canonicalize().unwrap())
    }

    fn path_of(opened: &OwnedFd) -> PathBuf {
        fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd())).unwrap()
    }

    #[test]
    fn missing_folders_are_made_with_the_mode_of_the_volume() {
        let (base, volume, _) = folders("made");
        let opened = open(&volume, Path::new("a/b")).unwrap();
        assert_eq!(path_of(&opened), volume.join("a/b"));
        for folder in ["a", "a/b"] {
            assert_eq!(fs::metadata(volume.join(folder)).unwrap().permissions().mode() & 0o7777, 0o2777);
        }
        fs::write(volume.join("a/file"), "").unwrap();
        assert_eq!(path_of(&open(&volume, Path::new("a/file")).unwrap()), volume.join("a/file"));
        fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn a_link_may_lead_elsewhere_in_the_volume_and_not_out_of_it() {
        let (base, volume, outside) = folders("links");
        fs::create_dir(volume.join("inner")).unwrap();
        symlink("inner", volume.join("near")).unwrap();
        symlink("../volume/../outside", volume.join("up")).unwrap();
        symlink(&outside, volume.join("far")).unwrap();
        symlink("nowhere", volume.join("dangling")).unwrap();
        assert_eq!(path_of(&open(&volume, Path::new("near/new")).unwrap()), volume.join("inner/new"));
        for sub in ["far", "far/new", "up", "up/new"] {
            let refused = open(&volume, Path::new(sub)).unwrap_err();
            assert_eq!(refused, format!("subPath {sub} leads out of the volume"));
        }
        assert!(open(&volume, Path::new("dangling/new")).is_err());
        assert!(open(&volume, Path::new("../outside")).is_err());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn a_folder_that_becomes_a_link_meanwhile_leads_nowhere() {
        let (base, volume, outside) = folders("race");
        fs::create_dir(volume.join("a")).unwrap();
        symlink(&outside, volume.join("b")).unwrap();
        let stop = AtomicBool::new(false);
        let (mut inside, mut refused) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (a, b) = (volume.join("a"), volume.join("b"));
                while !stop.load(Ordering::Relaxed) {
                    rustix::fs::renameat_with(CWD, &a, CWD, &b, rustix::fs::RenameFlags::EXCHANGE).unwrap();
                }
            });
            for turn in 0..20_000 {
                match open(&volume, Path::new(&format!("a/{turn}"))) {
                    Ok(opened) => {
                        assert!(path_of(&opened).starts_with(&volume), "{}", path_of(&opened).display());
                        inside += 1;
                    }
                    Err(_) => refused += 1,
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        assert!(inside > 0 && refused > 0, "both are to be met: {inside} inside, {refused} refused");
        fs::remove_dir_all(base).unwrap();
    }
}
