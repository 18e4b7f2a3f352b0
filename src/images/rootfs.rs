//! The root file system of a container as the images side plans it and the runtime side mounts it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A folder that becomes a container's root once its overlays are mounted into it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rootfs {
    /// The folder: empty where an overlay covers it whole, the files themselves where layers were copied.
    pub root: PathBuf,
    /// What is mounted into it, in this order. None where layers were copied.
    pub overlays: Vec<Overlay>,
}

/// One overlay mount (Documentation/filesystems/overlayfs of the Linux kernel).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// Where, relative to the root; empty for the root itself.
    pub at: PathBuf,
    /// What is below, the topmost layer first.
    pub lower: Vec<PathBuf>,
    /// What the container has changed.
    pub upper: PathBuf,
    /// The kernel's own, on the file system of `upper`.
    pub work: PathBuf,
}
