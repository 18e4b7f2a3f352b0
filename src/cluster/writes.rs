//! Writes. Each returns when the cache holds its result, so that a read that follows sees it.

use std::sync::Arc;
use std::time::Duration;

use either::Either;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Cached, Cluster, Entry, fault};
use d2k_common::fault::{Kind, Result};

/// How long a write waits for the watch to show it. The watch is normally 1 to 3 ms behind.
const CACHE_LAG: Duration = Duration::from_secs(5);

/// The name under which d2k's server-side applies own their fields.
const MANAGER: &str = "d2k";

impl Cluster {
    /// Creates an object. The client tries again where a proxy answers 503 or 504, and the first try
    /// may have succeeded: an object of the same container that was not there before is that one.
    ///
    /// # Errors
    /// `Conflict` if the name is taken; the cluster's words otherwise.
    pub async fn create<K: Cached>(&self, object: &K) -> Result<Arc<Entry<K>>> {
        let name = object.meta().name.clone().unwrap_or_default();
        let before = self.cache::<K>().get(&name).and_then(|entry| entry.object.meta().uid.clone());
        let refused = match self.create_uncached(object).await {
            Ok(made) => return Ok(self.settle(made).await),
            Err(refused) => refused,
        };
        if refused.kind == Kind::Conflict
            && let Some(group) = object.group()
            && let Ok(Some(found)) = self.find::<K>(&name).await
            && found.group() == Some(group)
            && found.meta().uid != before
            && found.meta().deletion_timestamp.is_none()
        {
            return Ok(self.settle(found).await);
        }
        Err(refused)
    }

    /// An object of a kind that d2k may list but not get, as the cluster has it now.
    async fn find<K: Cached>(&self, name: &str) -> Result<Option<K>> {
        let only = ListParams::default().fields(&format!("metadata.name={name}"));
        let list = self.api::<K>().list(&only).await;
        let list = list.map_err(|e| fault(&format!("read {} {name}", K::kind(&())), &e))?;
        Ok(list.items.into_iter().next())
    }

    /// Changes an object by a JSON merge patch (RFC 7386).
    ///
    /// # Errors
    /// `NotFound` if it is gone; the cluster's words otherwise.
    pub async fn patch<K: Cached>(&self, name: &str, patch: &Value) -> Result<Arc<Entry<K>>> {
        let api: Api<K> = self.api();
        let params = PatchParams { field_manager: Some(MANAGER.into()), ..Default::default() };
        let made = api
            .patch(name, &params, &Patch::Merge(patch))
            .await
            .map_err(|e| fault(&format!("change {} {name}", K::kind(&())), &e))?;
        Ok(self.settle(made).await)
    }

    /// Replaces an object; its `resourceVersion` must be the one that was read.
    ///
    /// # Errors
    /// `Conflict` if somebody else wrote it meanwhile.
    pub async fn replace<K: Cached>(&self, name: &str, object: &K) -> Result<Arc<Entry<K>>> {
        let api: Api<K> = self.api();
        let params = PostParams { field_manager: Some(MANAGER.into()), ..Default::default() };
        let made = api
            .replace(name, &params, object)
            .await
            .map_err(|e| fault(&format!("replace {} {name}", K::kind(&())), &e))?;
        Ok(self.settle(made).await)
    }

    /// Deletes an object and waits until it is gone; an object that is not there is no error.
    /// Dependents go in the background. `grace` in seconds, for Pods; it can only shorten the
    /// grace period of a deletion that has begun.
    ///
    /// # Errors
    /// The cluster's words.
    pub async fn delete<K: Cached>(&self, name: &str, grace: Option<u32>) -> Result<()> {
        self.begin_delete::<K>(name, grace).await?;
        let limit = CACHE_LAG + Duration::from_secs(u64::from(grace.unwrap_or(0)));
        self.gone::<K>(name, limit).await;
        Ok(())
    }

    /// Deletes an object and returns at once.
    ///
    /// # Errors
    /// The cluster's words.
    pub async fn begin_delete<K: Cached>(&self, name: &str, grace: Option<u32>) -> Result<()> {
        let api: Api<K> = self.api();
        delete(&api, name, grace).await
    }

    async fn gone<K: Cached>(&self, name: &str, limit: Duration) {
        let uid = self.cache::<K>().get(name).and_then(|e| e.object.meta().uid.clone());
        self.wait(limit, || {
            let now = self.cache::<K>().get(name).and_then(|e| e.object.meta().uid.clone());
            (now.is_none() || now != uid).then_some(())
        })
        .await;
    }

    /// Creates or changes an object of a kind without cache by server-side apply.
    ///
    /// # Errors
    /// The cluster's words.
    pub async fn apply<K>(&self, object: &K) -> Result<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + Serialize,
    {
        let name = object.meta().name.clone().unwrap_or_default();
        let api: Api<K> = self.api();
        api.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object))
            .await
            .map_err(|e| fault(&named("apply", object), &e))
    }

    /// Creates an object without waiting for a cache to show it.
    ///
    /// # Errors
    /// `Conflict` if the name is taken; the cluster's words otherwise.
    pub async fn create_uncached<K>(&self, object: &K) -> Result<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + Serialize,
    {
        let params = PostParams { field_manager: Some(MANAGER.into()), ..Default::default() };
        let made = self.api::<K>().create(&params, object).await;
        made.map_err(|e| fault(&named("create", object), &e))
    }

    /// Changes an object by a JSON merge patch without waiting for a cache to show it.
    ///
    /// # Errors
    /// `NotFound` if it is gone; `Conflict` if the patch names a `resourceVersion` that it has no more.
    pub async fn patch_uncached<K>(&self, name: &str, patch: &Value) -> Result<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        let params = PatchParams { field_manager: Some(MANAGER.into()), ..Default::default() };
        let made = self.api::<K>().patch(name, &params, &Patch::Merge(patch)).await;
        made.map_err(|e| fault(&format!("change {} {name}", K::kind(&())), &e))
    }

    /// Deletes an object as it was read; one that is gone, or is another or changed one by now, stays
    /// as it is and is no error.
    ///
    /// # Errors
    /// The cluster's words.
    pub async fn delete_exactly<K>(&self, object: &K) -> Result<()>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        let name = object.meta().name.clone().unwrap_or_default();
        let exactly = Preconditions {
            uid: object.meta().uid.clone(),
            resource_version: object.meta().resource_version.clone(),
        };
        let params = DeleteParams { preconditions: Some(exactly), ..DeleteParams::default() };
        match self.api::<K>().delete(&name, &params).await {
            Ok(_) => Ok(()),
            Err(error) => {
                let fault = fault(&named("delete", object), &error);
                if matches!(fault.kind, Kind::NotFound | Kind::Conflict) { Ok(()) } else { Err(fault) }
            }
        }
    }

    /// Reads an object of a kind without cache.
    ///
    /// # Errors
    /// The cluster's words; an object that is not there is `None`.
    pub async fn read<K>(&self, name: &str) -> Result<Option<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        let api: Api<K> = self.api();
        api.get_opt(name).await.map_err(|e| fault(&format!("read {} {name}", K::kind(&())), &e))
    }

    /// Lists objects of a kind without cache by their labels.
    ///
    /// # Errors
    /// The cluster's words.
    pub async fn list<K>(&self, labels: &str) -> Result<Vec<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        let params = ListParams::default().labels(labels);
        let list = self.api::<K>().list(&params).await;
        Ok(list.map_err(|e| fault(&format!("list {}s", K::kind(&())), &e))?.items)
    }

    /// Deletes an object of a kind without cache; an object that is not there is no error.
    ///
    /// # Errors
    /// The cluster's words.
    pub async fn delete_uncached<K>(&self, name: &str) -> Result<()>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        delete(&self.api::<K>(), name, None).await
    }

    /// Changes the resources of a running Pod in place (KEP-1287, `pods/resize`).
    ///
    /// # Errors
    /// The cluster's words, also where the subresource is not granted.
    pub async fn resize_pod(&self, name: &str, patch: &Value) -> Result<()> {
        let api: Api<k8s_openapi::api::core::v1::Pod> = self.api();
        api.patch_resize(name, &PatchParams::default(), &Patch::Strategic(patch))
            .await
            .map(|_| ())
            .map_err(|e| fault(&format!("resize Pod {name}"), &e))
    }

    /// The Events that the cluster still keeps of this namespace (about an hour).
    ///
    /// # Errors
    /// The cluster's words.
    pub async fn events(&self) -> Result<Vec<k8s_openapi::api::core::v1::Event>> {
        let api: Api<k8s_openapi::api::core::v1::Event> = self.api();
        let list = api.list(&Default::default()).await.map_err(|e| fault("list Events", &e))?;
        Ok(list.items)
    }

    async fn settle<K: Cached>(&self, mut made: K) -> Arc<Entry<K>> {
        made.meta_mut().managed_fields = None;
        let meta = made.meta().clone();
        let name = meta.name.clone().unwrap_or_default();
        let seen = self
            .wait(CACHE_LAG, || {
                let cache = self.cache::<K>();
                cache.holds(&meta).then(|| cache.get(&name)).flatten()
            })
            .await;
        seen.unwrap_or_else(|| Arc::new(Entry::new(made)))
    }
}

async fn delete<K>(api: &Api<K>, name: &str, grace: Option<u32>) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let params = DeleteParams {
        grace_period_seconds: grace,
        propagation_policy: Some(PropagationPolicy::Background),
        ..Default::default()
    };
    match api.delete(name, &params).await {
        Ok(Either::Left(_) | Either::Right(_)) => Ok(()),
        Err(error) => {
            let fault = fault(&format!("delete {} {name}", K::kind(&())), &error);
            if fault.kind == Kind::NotFound { Ok(()) } else { Err(fault) }
        }
    }
}

fn named<K: Resource<DynamicType = ()>>(verb: &str, object: &K) -> String {
    format!("{verb} {} {}", K::kind(&()), object.meta().name.as_deref().unwrap_or_default())
}
