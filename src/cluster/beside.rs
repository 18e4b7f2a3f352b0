//! Objects of any kind that a policy wants beside one of d2k's: an Ingress, for instance. They are
//! owned by it, so they go with it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{GroupVersionKind, TypeMeta};
use kube::{Api, discovery};
use serde_json::Value;

use super::{Cached, Cluster, fault};
use d2k_common::fault::{Fault, Result};

impl Cluster {
    /// Writes an object into the namespace, owned by `owner`.
    ///
    /// # Errors
    /// 500 if it has no kind or name; the cluster's words, also where d2k has no right to the kind.
    pub async fn apply_beside<K: Cached>(&self, owner: &K, object: Value) -> Result<()> {
        let mut object: DynamicObject = serde_json::from_value(object)
            .map_err(|e| Fault::internal(format!("an object of a policy is none of Kubernetes: {e}")))?;
        let types =
            object.types.clone().unwrap_or(TypeMeta { api_version: String::new(), kind: String::new() });
        let Some(name) = object.metadata.name.clone().filter(|_| !types.kind.is_empty()) else {
            return Err(Fault::internal("an object of a policy has no kind or no metadata.name"));
        };
        let what = format!("apply {} {name}", types.kind);
        let gvk = GroupVersionKind::try_from(&types).map_err(|e| Fault::internal(format!("{what}: {e}")))?;
        let (resource, _) =
            discovery::pinned_kind(&self.inner.client, &gvk).await.map_err(|e| fault(&what, &e))?;
        let meta = owner.meta();
        object.metadata.owner_references = Some(vec![OwnerReference {
            api_version: K::api_version(&()).into_owned(),
            kind: K::kind(&()).into_owned(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            ..OwnerReference::default()
        }]);
        object.metadata.namespace = Some(self.namespace().to_owned());
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.inner.client.clone(), self.namespace(), &resource);
        api.patch(&name, &PatchParams::apply("d2k").force(), &Patch::Apply(&object))
            .await
            .map(|_| ())
            .map_err(|e| fault(&what, &e))
    }
}
