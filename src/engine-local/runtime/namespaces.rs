//! New namespaces for the calling thread, kept by mounts, so that no process is needed for them to live.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use rustix::io::Errno;
use rustix::mount::mount_bind;

/// Why a Pod has no namespaces.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// They could not be made.
    #[error("its namespaces cannot be made: {0}")]
    Make(#[source] nix::errno::Errno),
    /// The file that one is mounted on.
    #[error("{0}: {1}")]
    File(PathBuf, #[source] io::Error),
    /// The mount that one lives by.
    #[error("{0} cannot be kept: {1}")]
    Keep(PathBuf, #[source] Errno),
    /// The file of the network namespace could not be opened.
    #[error(transparent)]
    Open(io::Error),
}

/// Puts the calling thread into new namespaces and keeps them; the network's file.
pub fn enter(folder: &Path, own_network: bool) -> Result<File, NamespaceError> {
    let mut flags = CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC;
    let mut names = vec!["uts", "ipc"];
    if own_network {
        flags |= CloneFlags::CLONE_NEWNET;
        names.push("net");
    }
    unshare(flags).map_err(NamespaceError::Make)?;
    let own = Path::new("/proc/thread-self/ns");
    names.iter().try_for_each(|name| keep(&own.join(name), &folder.join(name)))?;
    File::open(own.join("net")).map_err(NamespaceError::Open)
}

/// A namespace lives as long as it is mounted somewhere.
pub fn keep(namespace: &Path, at: &Path) -> Result<(), NamespaceError> {
    File::create(at).map_err(|error| NamespaceError::File(at.to_owned(), error))?;
    mount_bind(namespace, at).map_err(|error| NamespaceError::Keep(namespace.to_owned(), error))
}
