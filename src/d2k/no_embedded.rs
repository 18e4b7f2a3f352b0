//! Stands in for `embedded` on systems other than Linux, which have no containers of their own: `--embedded` is refused
//! before anything else, so no value of [`Prepared`] or [`Embedded`] exists.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use d2k_cluster::Reach;
use d2k_daemon::local_images::LocalImages;
use d2k_registry::Registry;

const NEEDS_LINUX: &str = "--embedded runs containers on this machine and needs Linux: use a cluster (--kubeconfig), or run d2k in a Linux VM";

/// The preparation of a cluster: there is none.
pub enum Prepared {}

/// A cluster in this process: there is none.
pub enum Embedded {}

/// The features of this machine for containers.
pub struct Facts {
    /// Overlayfs can be mounted.
    pub overlay: bool,
    /// Containers may use the machine's network.
    pub host_network: bool,
    /// The reason why device rules cannot be set.
    pub no_device_rules: Option<String>,
}

/// A command with a cluster of its own.
#[derive(Debug, Clone)]
pub struct Job {
    /// Program and arguments.
    pub words: Vec<String>,
    /// Folder to be removed at the end.
    pub folder: Option<PathBuf>,
}

impl Job {
    /// Refuses to make one.
    ///
    /// # Errors
    /// Always: it needs Linux.
    pub fn new(_words: Vec<String>, _given: Option<&Path>) -> Result<Self, String> {
        Err(NEEDS_LINUX.to_owned())
    }
}

/// The engine's helper is never started.
pub fn run_as_helper() -> Option<ExitCode> {
    None
}

/// Limits of open files are left as they are.
pub fn raise_open_files() {}

/// Refuses the settings.
///
/// # Errors
/// Always: it needs Linux.
pub fn check(_settings: &Settings) -> Result<(), String> {
    Err(NEEDS_LINUX.to_owned())
}

/// There is no data folder.
///
/// # Errors
/// Always: it needs Linux.
pub fn data_dir(_settings: &Settings) -> Result<PathBuf, String> {
    Err(NEEDS_LINUX.to_owned())
}

/// Prepares nothing.
///
/// # Errors
/// Always: it needs Linux.
pub fn prepare(_data: &Path) -> Result<Prepared, String> {
    Err(NEEDS_LINUX.to_owned())
}

/// Makes no folder.
///
/// # Errors
/// Always: it needs Linux.
pub fn temporary_folder() -> Result<PathBuf, String> {
    Err(NEEDS_LINUX.to_owned())
}

/// Finds no facts.
///
/// # Errors
/// Always: it needs Linux.
pub fn facts(_folder: &Path) -> Result<Facts, String> {
    Err(NEEDS_LINUX.to_owned())
}

/// Starts nothing.
///
/// # Errors
/// None: it is never called.
pub async fn start(
    prepared: Prepared,
    _registry: Registry,
    _namespace: &str,
    _stopping: CancellationToken,
) -> Result<Embedded, String> {
    match prepared {}
}

impl Embedded {
    /// Waits until all has ended.
    pub async fn ended(&self) {
        match *self {}
    }

    /// A kubeconfig for it.
    pub fn kubeconfig(&self) -> &Path {
        match *self {}
    }

    /// Cancelled when the engine has gone.
    pub fn gone(&self) -> CancellationToken {
        match *self {}
    }

    /// A listener at the Pods' gateway.
    ///
    /// # Errors
    /// None: it is never called.
    pub async fn docker_listener(&self, _port: u16) -> Result<TcpListener, String> {
        match *self {}
    }

    /// The images.
    pub fn images(&self) -> LocalImages {
        match *self {}
    }

    /// The features that this machine lacks.
    pub fn warnings(&self) -> Vec<String> {
        match *self {}
    }

    /// The way to Pods.
    pub fn reach(&self) -> Arc<dyn Reach> {
        match *self {}
    }
}

/// A container's `DOCKER_HOST`; no container asks for it.
pub fn docker_host(_port: u16) -> String {
    String::new()
}

/// Runs no command.
pub async fn run_command(_words: &[String], _docker_host: &str, _kubeconfig: &Path) -> u8 {
    127
}
