//! The last say of policies on the objects that d2k writes: patches, and more objects beside them.

use serde_json::Value;

use super::Daemon;
use d2k_cluster::Cached;
use d2k_common::fault::{Fault, Result};
use d2k_policy::bindings::manifest::exports::d2k::policy::manifest::Input;
use d2k_policy::bindings::types::Container;
use d2k_policy::set::Set;
use d2k_translate::{keys, patch};

/// An object as the policies have left it.
pub(crate) struct Shaped<K> {
    /// The object.
    pub object: K,
    /// More objects, to be written beside it.
    pub beside: Vec<Value>,
    /// For the user.
    pub warnings: Vec<String>,
}

impl Daemon {
    /// Lets every policy with the hook `manifest` shape an object.
    ///
    /// # Errors
    /// A refusal, a failed call, or a patch that may not be.
    pub(crate) fn shape<K: Cached>(
        &self,
        set: &Set,
        object: K,
        container: Option<&Container>,
    ) -> Result<Shaped<K>> {
        set.whole()?;
        let mut shaped = Shaped { object, beside: Vec::new(), warnings: Vec::new() };
        if !set.shapes() {
            return Ok(shaped);
        }
        let broken = |policy: &str, why: &dyn std::fmt::Display| {
            Fault::internal(format!("policy {policy} (manifest): {why}"))
        };
        let mut json = serde_json::to_value(&shaped.object)
            .map_err(|e| Fault::internal(format!("a {} is no JSON: {e}", K::kind(&()))))?;
        let mut decided = Vec::new();
        for policy in set.policies.iter().filter(|p| p.linked.hooks.manifest.is_some()) {
            let input = Input {
                object: json.to_string(),
                api_version: K::api_version(&()).into_owned(),
                kind: K::kind(&()).into_owned(),
                container: container.cloned(),
                extra: Vec::new(),
            };
            let Some(plan) = set.manifest(policy, &input)? else { continue };
            let name = policy.info.name.as_str();
            shaped.warnings.extend(plan.warnings);
            if !plan.patch.is_empty() {
                let change: Value = serde_json::from_str(&plan.patch)
                    .map_err(|e| broken(name, &format!("its patch is no JSON: {e}")))?;
                patch::allowed(&change).map_err(|error| broken(name, &error))?;
                patch::merge(&mut json, &change);
            }
            for object in plan.objects {
                let object = serde_json::from_str(&object)
                    .map_err(|e| broken(name, &format!("one of its objects is no JSON: {e}")))?;
                shaped.beside.push(object);
            }
            decided.push(policy.id());
        }
        if decided.is_empty() {
            return Ok(shaped);
        }
        shaped.object = serde_json::from_value(json)
            .map_err(|e| broken(&decided.join(", "), &format!("its patch makes no {}: {e}", K::kind(&()))))?;
        let notes = shaped.object.meta_mut().annotations.get_or_insert_default();
        notes.insert(keys::SHAPED.into(), decided.join(", "));
        Ok(shaped)
    }

    /// Creates an object as the policies want it, with what they want beside it.
    ///
    /// # Errors
    /// Those of `shape`; the cluster's words. Nothing is left if an object beside it fails.
    pub(crate) async fn create_shaped<K: Cached>(
        &self,
        set: &Set,
        object: K,
        container: Option<&Container>,
        warnings: &mut Vec<String>,
    ) -> Result<std::sync::Arc<d2k_cluster::Entry<K>>> {
        let shaped = self.shape(set, object, container)?;
        warnings.extend(shaped.warnings);
        let made = self.cluster.create(&shaped.object).await?;
        for object in shaped.beside {
            if let Err(fault) = self.cluster.apply_beside(&*made.object, object).await {
                let name = made.object.meta().name.clone().unwrap_or_default();
                if let Err(error) = self.cluster.delete::<K>(&name, None).await {
                    tracing::warn!(object = name, %error, "an object of a failed create was left behind");
                }
                return Err(fault);
            }
        }
        Ok(made)
    }
}
