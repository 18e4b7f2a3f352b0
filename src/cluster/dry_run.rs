//! Asks the cluster whether it would let a Pod in, without making one.

use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::PostParams;

use super::{Cluster, fault};
use d2k_common::fault::{Kind, Result};

impl Cluster {
    /// Whether admission (Pod Security, webhooks) lets a Pod of this template in, by a dry run. A full
    /// quota says nothing about the Pod itself, and a d2k that may not create Pods cannot ask: both count
    /// as yes, and the start tells the rest.
    ///
    /// # Errors
    /// `Forbidden` or `Invalid` with the cluster's words.
    pub async fn admits(&self, template: &PodTemplateSpec, name: &str) -> Result<()> {
        let metadata = template.metadata.clone().unwrap_or_default();
        let generate_name = Some(format!("{name}-"));
        let metadata = ObjectMeta { generate_name, ..metadata };
        let pod = Pod { metadata, spec: template.spec.clone(), status: None };
        let api: Api<Pod> = self.api();
        let params = PostParams { dry_run: true, ..PostParams::default() };
        let Err(error) = api.create(&params, &pod).await else { return Ok(()) };
        let refused = fault(&format!("run a Pod of {name}"), &error);
        let other = ["exceeded quota", "cannot create resource \"pods\""];
        match refused.kind {
            Kind::Forbidden | Kind::Invalid if !other.iter().any(|words| refused.message.contains(words)) => {
                Err(refused)
            }
            _ => {
                tracing::debug!(name, error = %refused, "no dry run tells whether the Pod would be let in");
                Ok(())
            }
        }
    }
}
