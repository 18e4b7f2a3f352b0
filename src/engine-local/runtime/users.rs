//! Who a container runs as: names looked up in its own `/etc/passwd` and `/etc/group`, and its working
//! directory made, all without following a link of the image out of its root.

use std::fs::File;
use std::io::{Read, Take};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// No list of users is longer.
const LONGEST_LIST: u64 = 8 << 20;

/// A user by number, with all that the image says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// More groups.
    pub groups: Vec<u32>,
    /// Home folder.
    pub home: String,
}

/// A folder in a root that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// The root itself.
    #[error("{0} cannot be opened: {1}")]
    Open(PathBuf, #[source] Errno),
    /// The way to a folder in it.
    #[error("{0}: {1}")]
    Walk(PathBuf, #[source] Errno),
    /// The folder, or one above it.
    #[error("{0} cannot be made: {1}")]
    Make(PathBuf, #[source] Errno),
}

/// A name that the image does not know, in the words of other runtimes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Of a user.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    User(String),
    /// Of a group.
    #[error("unable to find group {0}: no matching entries in group file")]
    Group(String),
}

/// A folder that is the root of all that is looked up in it.
pub struct Root(OwnedFd);

impl Root {
    /// Opens the folder.
    pub fn open(folder: &Path) -> Result<Self, RootError> {
        rustix::fs::openat(CWD, folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map(Self)
            .map_err(|error| RootError::Open(folder.to_owned(), error))
    }

    fn at(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        rustix::fs::openat2(
            self.0.as_fd(),
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT,
        )
    }

    fn read(&self, path: &str) -> String {
        let mut text = Vec::new();
        if let Ok(file) = self.at(Path::new(path), OFlags::RDONLY | OFlags::NONBLOCK) {
            let mut limited: Take<File> = File::from(file).take(LONGEST_LIST);
            let _ = limited.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Whether there is a folder, if there is something.
    pub fn is_folder(&self, path: &Path) -> Option<bool> {
        let found = rustix::fs::fstat(self.at(path, OFlags::PATH).ok()?).ok()?;
        Some(FileType::from_raw_mode(found.st_mode) == FileType::Directory)
    }

    /// Makes a folder and those above it, owned by root as an image's working directory is.
    pub fn make_folders(&self, path: &Path) -> Result<(), RootError> {
        let mut so_far = PathBuf::new();
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let above = so_far.clone();
            so_far.push(name);
            match self.at(&so_far, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(_) => continue,
                Err(Errno::NOENT) => {}
                Err(error) => return Err(RootError::Walk(path.to_owned(), error)),
            }
            let parent = self
                .at(&above, OFlags::PATH | OFlags::DIRECTORY)
                .map_err(|error| RootError::Walk(path.to_owned(), error))?;
            match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(RootError::Make(path.to_owned(), error)),
            }
        }
        Ok(())
    }

    /// Finds out who `user[:group]` is.
    pub fn identity(&self, user: &str, more: &[u32]) -> Result<Identity, IdentityError> {
        let (user, group) = user.split_once(':').unwrap_or((user, ""));
        let user = if user.is_empty() { "0" } else { user };
        let users = self.read("etc/passwd");
        let groups = self.read("etc/group");
        let number: Option<u32> = user.parse().ok();
        let entry = users.lines().map(fields).find(|entry| match number {
            Some(number) => value(entry, 2) == Some(number),
            None => entry.first() == Some(&user),
        });
        let uid = number
            .or_else(|| value(entry.as_ref()?, 2))
            .ok_or_else(|| IdentityError::User(user.to_owned()))?;
        let gid = if group.is_empty() {
            entry.as_ref().and_then(|entry| value(entry, 3)).unwrap_or(0)
        } else {
            group
                .parse()
                .ok()
                .or_else(|| value(&groups.lines().map(fields).find(|e| e.first() == Some(&group))?, 2))
                .ok_or_else(|| IdentityError::Group(group.to_owned()))?
        };
        let name = entry.as_ref().and_then(|entry| entry.first().copied());
        let mut all: Vec<u32> = groups
            .lines()
            .map(fields)
            .filter(|e| e.get(3).is_some_and(|members| members.split(',').any(|member| Some(member) == name)))
            .filter_map(|e| value(&e, 2))
            .chain(more.iter().copied())
            .collect();
        all.sort_unstable();
        all.dedup();
        let home = entry.as_ref().and_then(|entry| entry.get(5)).filter(|home| !home.is_empty());
        Ok(Identity { uid, gid, groups: all, home: home.map_or("/", |home| home).to_owned() })
    }
}

fn fields(line: &str) -> Vec<&str> {
    line.trim().split(':').collect()
}

fn value(entry: &[&str], at: usize) -> Option<u32> {
    entry.get(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

    use super::*;

    fn image(test: &str) -> (PathBuf, Root) {
        let folder = std::env::temp_dir().join(format!("d2k-{test}-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("etc")).unwrap();
        std::fs::write(
            folder.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102::/srv/web:/bin/false\n",
        )
        .unwrap();
        std::fs::write(folder.join("etc/group"), "root:x:0:\nweb:x:102:\nlogs:x:7:web,mail\n").unwrap();
        let root = Root::open(&folder).unwrap();
        (folder, root)
    }

    #[test]
    fn names_and_numbers_are_looked_up_in_the_image() {
        let (folder, root) = image("names");
        let web = Identity { uid: 101, gid: 102, groups: vec![7, 2000], home: "/srv/web".into() };
        assert_eq!(root.identity("web", &[2000]), Ok(web.clone()));
        assert_eq!(root.identity("101", &[2000]), Ok(web));
        assert_eq!(root.identity("", &[]).unwrap().home, "/root");
        let stranger = Identity { uid: 1234, gid: 0, groups: vec![], home: "/".into() };
        assert_eq!(root.identity("1234", &[]), Ok(stranger));
        assert_eq!(root.identity("web:logs", &[]).unwrap().gid, 7);
        let refused = |user: &str| root.identity(user, &[]).unwrap_err().to_string();
        assert!(refused("nobody").contains("unable to find user nobody"));
        assert!(refused("web:none").contains("unable to find group none"));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn folders_are_made_inside_the_root_only() {
        let (folder, root) = image("folders");
        let _ = std::os::unix::fs::symlink("/", folder.join("out"));
        root.make_folders(Path::new("/out/d2k-inside/work")).unwrap();
        assert!(folder.join("d2k-inside/work").is_dir());
        assert!(!Path::new("/d2k-inside").exists());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
