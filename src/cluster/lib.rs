//! The only holder of a Kubernetes client: watch caches for reads, writes that are answered
//! when the cache holds them, and the streams of Pods. Knows nothing of Docker.

mod beside;
mod cache;
mod caches;
mod connect;
mod dry_run;
mod errors;
pub mod examine;
mod metadata;
mod metrics;
mod ports;
mod replica_sets;
mod streams;
mod watches;
mod writes;

pub use cache::{Cache, Entry};
pub use caches::{Cached, Change, Object};
pub use connect::{ConnectError, Connection, connect};
pub use errors::fault;
pub use metrics::Usage;
pub use ports::{Reach, Stream};
pub use streams::{LogQuery, Process, ProcessStatus, Resizer, TerminalSize, Wanted};

use std::sync::Arc;

/// One namespace of a Kubernetes cluster. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub client: kube::Client,
    pub namespace: String,
    pub server: String,
    pub version: String,
    pub caches: caches::Caches,
    pub watches: watches::Watches,
    pub reach: Option<Arc<dyn Reach>>,
}

impl Cluster {
    /// The namespace that everything happens in.
    pub fn namespace(&self) -> &str {
        &self.inner.namespace
    }

    /// URL of the API server.
    pub fn server(&self) -> &str {
        &self.inner.server
    }

    /// `gitVersion` of the API server, as it was when d2k connected.
    pub fn version(&self) -> &str {
        &self.inner.version
    }

    /// Why what is read here may be old: the watches have been broken for some seconds.
    pub fn trouble(&self) -> Option<String> {
        let (kind, seconds) = self.inner.watches.broken()?;
        Some(format!(
            "the API server {} has not been reached for {seconds} s (watch of {kind})",
            self.server()
        ))
    }

    pub(crate) fn api<K>(&self) -> kube::Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        kube::Api::namespaced(self.inner.client.clone(), &self.inner.namespace)
    }
}
