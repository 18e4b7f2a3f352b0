//! Objects of which only the metadata is wanted: whether they are there, and what they are called.

use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use super::{Cluster, fault};
use d2k_common::fault::Result;

impl Cluster {
    /// Whether an object of a kind without cache is there.
    ///
    /// # Errors
    /// The cluster's words.
    pub async fn exists<K>(&self, name: &str) -> Result<bool>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        let api: Api<K> = self.api();
        let found = api.get_metadata_opt(name).await;
        Ok(found.map_err(|e| fault(&format!("read {} {name}", K::kind(&())), &e))?.is_some())
    }

    /// The names of the objects of a kind without cache that have these labels.
    ///
    /// # Errors
    /// The cluster's words.
    pub async fn names<K>(&self, labels: &str) -> Result<Vec<String>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        let params = kube::api::ListParams::default().labels(labels);
        let list = self.api::<K>().list_metadata(&params).await;
        let list = list.map_err(|e| fault(&format!("list {}s", K::kind(&())), &e))?;
        Ok(list.items.into_iter().filter_map(|object| object.metadata.name).collect())
    }
}
