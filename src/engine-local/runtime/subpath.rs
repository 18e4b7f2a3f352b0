//! Parts of volumes (`subPath`). Containers write into the volume meanwhile and before, so nothing of a
//! part's path can be believed: links are read here, one by one, and every name is looked up and made below the
//! opened volume by the kernel's own rule that nothing leads out and no link is followed (`openat2`). What has
//! been opened by that rule is what is mounted, so it does not matter what a name becomes afterwards.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, readlinkat};
use rustix::io::Errno;

/// How often a path is looked up again that has changed meanwhile.
const MOST_TRIES: usize = 128;
/// How many links a path may lead through, as the kernel has it.
const MOST_LINKS: usize = 40;
/// Of missing folders that are made in a path of the machine.
const MODE: u32 = 0o755;

/// Why a part of a volume cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubpathError {
    /// It is not in the volume.
    #[error("subPath {0} leads out of the volume")]
    Outside(PathBuf),
    /// The volume itself cannot be had.
    #[error("the volume {0} cannot be opened: {1}")]
    Volume(PathBuf, #[source] Errno),
    /// The kernel refuses a step on the way to it.
    #[error("subPath {0}: {1}")]
    Part(PathBuf, #[source] Errno),
}

/// Opens a part of a volume. A link may lead anywhere in the volume, by a relative or an absolute path. `host`
/// tells a path of the machine, where missing folders are made as Docker makes them, and where a link's
/// way may go round outside; else they get the volume's mode, and no name outside is looked at.
///
/// # Errors
/// The part and why it cannot be had.
pub fn open(volume: &Path, sub: &Path, host: bool) -> Result<OwnedFd, SubpathError> {
    let wrong = |error: Errno| match error {
        Errno::XDEV => SubpathError::Outside(sub.to_owned()),
        error => SubpathError::Part(sub.to_owned(), error),
    };
    if !sub.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(wrong(Errno::XDEV));
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, volume, flags, Mode::empty())
        .map_err(|error| SubpathError::Volume(volume.to_owned(), error))?;
    let mode = if host { MODE } else { rustix::fs::fstat(&root).map_err(wrong)?.st_mode & 0o7777 };
    // The kernel's name for it has no links, whatever is in the volume's path.
    let real = readlinkat(CWD, format!("/proc/self/fd/{}", root.as_raw_fd()), Vec::new()).map_err(wrong)?;
    let real = PathBuf::from(OsString::from_vec(real.into_bytes()));
    let walk = Walk { root, real, mode: Mode::from_raw_mode(mode), outside: host };
    let changed = |found: &Result<OwnedFd, Errno>| matches!(found, Err(Errno::AGAIN | Errno::LOOP));
    let mut tries = (0..MOST_TRIES).map(|_| walk.to(sub));
    tries.find(|found| !changed(found)).unwrap_or(Err(Errno::LOOP)).map_err(wrong)
}

/// The way from a volume to a part of it.
struct Walk {
    root: OwnedFd,
    /// Path of the volume, without links.
    real: PathBuf,
    mode: Mode,
    /// Whether names outside may be looked at.
    outside: bool,
}

impl Walk {
    fn to(&self, sub: &Path) -> Result<OwnedFd, Errno> {
        // Names to come, the next one last, and whether the caller has said it: what a link says is not made.
        let mut ahead = Vec::new();
        let add = |ahead: &mut Vec<(OsString, bool)>, path: &Path, said| {
            let names = path.components().rev().filter(|part| !matches!(part, Component::RootDir));
            ahead.extend(names.map(|part| (part.as_os_str().to_owned(), said)));
        };
        add(&mut ahead, sub, true);
        let (mut at, mut links) = (self.real.clone(), 0);
        while let Some((name, said)) = ahead.pop() {
            if name == "." {
                continue;
            }
            if name == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&name);
            let Some(link) = self.link(&next, said)? else {
                at = next;
                continue;
            };
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno::LOOP);
            }
            if link.is_absolute() {
                at = PathBuf::from("/");
            }
            add(&mut ahead, &link, false);
        }
        let found = self.below(at.strip_prefix(&self.real).map_err(|_| Errno::XDEV)?)?;
        if is_link(&found)? { Err(Errno::AGAIN) } else { Ok(found) }
    }

    /// Where a path leads on to, if it is a link; what is missing in the volume is made, where it may be.
    fn link(&self, path: &Path, make: bool) -> Result<Option<PathBuf>, Errno> {
        // The way to the volume has no links.
        if self.real.starts_with(path) {
            return Ok(None);
        }
        let Ok(inside) = path.strip_prefix(&self.real) else {
            if !self.outside {
                return Err(Errno::XDEV);
            }
            return match readlinkat(CWD, path, Vec::new()) {
                Ok(link) => Ok(Some(OsString::from_vec(link.into_bytes()).into())),
                Err(Errno::INVAL) => Ok(None),
                Err(_) => Err(Errno::XDEV),
            };
        };
        let found = match self.below(inside) {
            Err(Errno::NOENT) if make => self.make(inside).and_then(|()| self.below(inside)),
            found => found,
        }?;
        if !is_link(&found)? {
            return Ok(None);
        }
        let link = readlinkat(&found, "", Vec::new())?;
        Ok(Some(OsString::from_vec(link.into_bytes()).into()))
    }

    /// Opens what is in the volume without following a link: a link is opened itself.
    fn below(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve)
    }

    fn make(&self, path: &Path) -> Result<(), Errno> {
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::NOENT) };
        let above = self.below(above)?;
        match rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o700)) {
            // Somebody else was faster; the next look tells what it is.
            Err(Errno::EXIST) => return Ok(()),
            made => made?,
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(&above, name, flags, Mode::empty())?;
        rustix::fs::fchmod(&folder, self.mode)
    }
}

fn is_link(opened: &OwnedFd) -> Result<bool, Errno> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(opened)?.st_mode) == FileType::Symlink)
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
        let opened = open(&volume, Path::new("a/b"), false).unwrap();
        assert_eq!(path_of(&opened), volume.join("a/b"));
        for folder in ["a", "a/b"] {
            assert_eq!(fs::metadata(volume.join(folder)).unwrap().permissions().mode() & 0o7777, 0o2777);
        }
        fs::write(volume.join("a/file"), "").unwrap();
        assert_eq!(path_of(&open(&volume, Path::new("a/file"), false).unwrap()), volume.join("a/file"));
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
        assert_eq!(path_of(&open(&volume, Path::new("near/new"), false).unwrap()), volume.join("inner/new"));
        for (sub, host) in
            ["far", "far/new", "up", "up/new"].into_iter().flat_map(|sub| [(sub, true), (sub, false)])
        {
            let refused = open(&volume, Path::new(sub), host).unwrap_err();
            assert_eq!(refused.to_string(), format!("subPath {sub} leads out of the volume"));
        }
        assert!(open(&volume, Path::new("dangling/new"), false).is_err());
        assert!(open(&volume, Path::new("../outside"), false).is_err());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn a_link_may_be_absolute_or_go_round_outside_if_it_comes_back() {
        let (base, volume, outside) = folders("round");
        fs::create_dir(volume.join("inner")).unwrap();
        symlink(volume.join("inner"), volume.join("absolute")).unwrap();
        symlink("../volume/inner", volume.join("round")).unwrap();
        symlink(&volume, outside.join("alias")).unwrap();
        symlink(outside.join("alias/inner"), volume.join("by-alias")).unwrap();
        symlink("loop", volume.join("loop")).unwrap();
        symlink("inner", volume.join("near")).unwrap();
        symlink("near/../absolute/./", volume.join("chain")).unwrap();
        for host in [true, false] {
            for sub in ["absolute", "round", "near", "chain"] {
                assert_eq!(
                    path_of(&open(&volume, Path::new(sub), host).unwrap()),
                    volume.join("inner"),
                    "{sub}"
                );
            }
            for sub in ["loop", "loop/new"] {
                let refused = open(&volume, Path::new(sub), host).unwrap_err().to_string();
                assert!(refused.contains("symbolic links"), "{refused}");
            }
        }
        // Another way to the volume leads through what is outside, which only the machine's owner may have looked at.
        let found = open(&outside.join("alias"), Path::new("by-alias"), true).unwrap();
        assert_eq!(path_of(&found), volume.join("inner"));
        let refused = open(&volume, Path::new("by-alias"), false).unwrap_err();
        assert_eq!(refused, SubpathError::Outside("by-alias".into()));
        let made = open(&volume, Path::new("absolute/made"), true).unwrap();
        assert_eq!(path_of(&made), volume.join("inner/made"));
        let mode = fs::metadata(volume.join("inner/made")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
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
                match open(&volume, Path::new(&format!("a/{turn}")), false) {
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
