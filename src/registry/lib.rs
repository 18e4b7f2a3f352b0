//! Images as their registries describe them: names, credentials, manifests, configs, pulls.
//! The only code that talks to registries; it knows neither the HTTP front nor Kubernetes.

pub mod auth;
pub mod blobs;
mod config;
pub mod error;
mod glob;
mod image;
mod layer;
mod login;
pub mod pull;
pub mod reference;
mod repository;
pub mod settings;
mod tokens;
mod transport;
mod wire;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use auth::Credentials;
pub use blobs::{Remote, Verifier};
pub use error::{RegistryError, RegistryErrorKind};
pub use layer::Layer;
pub use login::LoginAnswer;
pub use pull::PullItem;
pub use reference::Reference;
pub use settings::{Platform, RegistrySettings};

use d2k_common::fault::Result;
use transport::Transport;

/// A reader of registries. Cheap to clone; holds connections, never credentials.
#[derive(Debug, Clone)]
pub struct Registry {
    transport: Arc<Transport>,
    platform: Platform,
}

impl Registry {
    /// A reader with these settings; refuses malformed ones.
    pub fn new(settings: &RegistrySettings) -> Result<Self> {
        let transport = Arc::new(Transport::new(settings)?);
        Ok(Self { transport, platform: settings.platform.clone() })
    }

    /// The same reader for another platform, as `--platform` asks.
    pub fn for_platform(&self, platform: Platform) -> Self {
        Self { transport: Arc::clone(&self.transport), platform }
    }
}
