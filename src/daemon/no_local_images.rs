//! Stands in for `local_images` where no embedded cluster can run, on systems other than Linux: there are no images on
//! this machine, so no value of [`LocalImages`] exists, and nothing here that takes one is ever called.

use std::sync::Arc;

use futures::stream::Empty;
use serde_json::Value;
use tokio::io::AsyncRead;

use super::Daemon;
use super::images::{Image, needs_local_images};
use d2k_common::fault::Result;
use d2k_registry::{Credentials, Platform, Reference};

/// The images of this machine: there are none.
#[derive(Clone)]
pub enum LocalImages {}

impl LocalImages {
    /// All of them.
    pub(crate) fn all(&self) -> Vec<Image> {
        match *self {}
    }

    /// How the layers of an image become the root of a container, for `docker info`.
    pub fn layers(&self) -> String {
        match *self {}
    }

    /// The image that a client means.
    pub(crate) fn get(&self, _key: &str) -> Result<Image> {
        match *self {}
    }
}

impl Daemon {
    pub(crate) async fn pull_here(
        self: &Arc<Self>,
        local: LocalImages,
        _reference: Reference,
        _meant: &Reference,
        _credentials: Option<Credentials>,
        _platform: Option<Platform>,
    ) -> Result<Empty<Value>> {
        match local {}
    }

    /// `docker load`.
    ///
    /// # Errors
    /// Always: it needs images on this machine.
    pub async fn load_images(&self, _archive: impl AsyncRead + Send + Unpin) -> Result<Vec<Value>> {
        match *self.local.as_ref().ok_or_else(|| needs_local_images("load"))? {}
    }

    /// `docker import`.
    ///
    /// # Errors
    /// Always: it needs images on this machine.
    pub async fn import_image(
        &self,
        _archive: impl AsyncRead + Send + Unpin,
        _reference: Option<Reference>,
        _changes: Vec<String>,
        _message: String,
    ) -> Result<String> {
        match *self.local.as_ref().ok_or_else(|| needs_local_images("import"))? {}
    }

    /// `docker save`.
    ///
    /// # Errors
    /// Always: it needs images on this machine.
    pub fn save_images(&self, _names: &[String]) -> Result<Empty<std::io::Result<bytes::Bytes>>> {
        match *self.local.as_ref().ok_or_else(|| needs_local_images("save"))? {}
    }

    pub(crate) async fn tag_here(&self, local: &LocalImages, _key: &str, _target: &Reference) -> Result<()> {
        match *local {}
    }

    pub(crate) async fn remove_here(
        &self,
        local: &LocalImages,
        _key: &str,
        _force: bool,
    ) -> Result<(Vec<String>, Option<String>)> {
        match *local {}
    }

    /// Removes images of this machine that nothing uses: `None`, since there are none.
    ///
    /// # Errors
    /// None.
    pub async fn prune_local_images(&self, _all: bool) -> Result<Option<(Vec<Value>, u64)>> {
        Ok(None)
    }
}
