//! Replacing a Job by a new one of the same name. Between the end of the old one and the beginning
//! of the new one the container is nowhere but in a ConfigMap, from which the next d2k finishes
//! what one that was killed has begun.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Daemon;
use d2k_common::fault::{Fault, Kind, Result};
use d2k_policy::bindings::types::Container;
use d2k_policy::set::Set;
use d2k_translate::keys::{self, role};
use d2k_translate::record::Record;

/// The key within the ConfigMap.
const KEY: &str = "job.json";

/// The name of the ConfigMap that keeps the Job of a container, by the container's ID.
pub(crate) fn kept_name(id: &str) -> String {
    format!("d2k-job-{}", id.get(..32).unwrap_or(id))
}

fn name(record: &Record) -> String {
    kept_name(&record.id)
}

impl Daemon {
    /// Replaces the Job of a container.
    ///
    /// # Errors
    /// The cluster's words.
    pub(crate) async fn replace_job(
        &self,
        set: &Set,
        record: &Record,
        job: Job,
        asked: &Container,
    ) -> Result<()> {
        let text =
            serde_json::to_string(&job).map_err(|e| Fault::internal(format!("a Job is no JSON: {e}")))?;
        let kept = ConfigMap {
            metadata: ObjectMeta {
                name: Some(name(record)),
                labels: Some(record.labels(role::REPLACING)),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(KEY.to_owned(), text)])),
            ..ConfigMap::default()
        };
        self.cluster.apply(&kept).await?;
        self.runs.begin_replace(&record.id);
        self.cluster.delete::<Job>(&record.object, None).await?;
        self.create_shaped(set, job, Some(asked), &mut Vec::new()).await?;
        self.cluster.delete_uncached::<ConfigMap>(&name(record)).await
    }

    /// Finishes what a d2k that was killed in the middle of `replace_job` has begun.
    pub(crate) async fn finish_replacing(&self) {
        let left = self.cluster.list::<ConfigMap>(&format!("{}={}", keys::ROLE, role::REPLACING)).await;
        for kept in left.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot look for Jobs that an earlier d2k was replacing");
            Vec::new()
        }) {
            let name = kept.metadata.name.clone().unwrap_or_default();
            if let Err(error) = self.finish(&kept).await {
                tracing::warn!(%error, "a Job that an earlier d2k was replacing could not be made: ConfigMap {name} has it");
            }
        }
    }

    async fn finish(&self, kept: &ConfigMap) -> Result<()> {
        let text = kept.data.as_ref().and_then(|data| data.get(KEY)).map_or("", String::as_str);
        let job: Job = serde_json::from_str(text).map_err(|e| Fault::internal(e.to_string()))?;
        match self.cluster.create(&job).await {
            Ok(_) => tracing::info!("made the Job anew that an earlier d2k was replacing"),
            // It came so far, or had not begun.
            Err(fault) if fault.kind == Kind::Conflict => {}
            Err(fault) => return Err(fault),
        }
        self.cluster.delete_uncached::<ConfigMap>(kept.metadata.name.as_deref().unwrap_or_default()).await
    }
}
