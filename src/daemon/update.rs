//! `docker update`: limits and restart policy. The running Pod is resized in place where the
//! cluster allows it; the next start takes the rest.

use bollard_stubs::models::HostConfig;
use serde_json::{Value, json};

use super::Daemon;
use d2k_common::fault::Result;
use d2k_translate::record::Record;
use d2k_translate::update::{self, Updated};
use d2k_translate::{fields, keys, request, resources, validate};

impl Daemon {
    /// Changes a container; returns warnings.
    ///
    /// # Errors
    /// 400 for values that cannot be, 404 for an unknown container.
    pub async fn update(&self, key: &str, changes: &Value) -> Result<Vec<String>> {
        let id = self.container(key)?.record.id.clone();
        let _lock = self.locks.container(&id).await;
        let container = self.container(&id)?;
        self.require_own(&container, "updated")?;
        let record = &container.record;
        let Updated { raw, changed, mut warnings } = update::apply(&record.raw, changes)?;
        warnings.extend(fields::check(&json!({"HostConfig": changed}))?);
        let body = request::body(&raw)?;
        validate::request(&body, &record.image)?;
        let after = Record { body: body.clone(), raw: raw.clone(), ..(**record).clone() };
        warnings.extend(self.judge(&self.policies.current(), &after).await?);
        self.annotate(&container, &json!({keys::REQUEST: raw.to_string()})).await?;
        if let Some(pod) = container.running_pod() {
            let host = body.host_config.unwrap_or_default();
            warnings.extend(self.resize_running(&pod, &container.container_name(), &host).await);
        } else {
            self.renew_created_job(&id).await?;
        }
        self.tell(record, "updated", []);
        Ok(warnings)
    }

    async fn resize_running(&self, pod: &str, container: &str, host: &HostConfig) -> Vec<String> {
        let mut warnings = Vec::new();
        let resources = resources::requirements(host, &mut warnings);
        let Ok(Ok(resources)) = resources.map(serde_json::to_value) else {
            return warnings;
        };
        if resources.as_object().is_none_or(serde_json::Map::is_empty) {
            return warnings;
        }
        let patch = json!({"spec": {"containers": [{"name": container, "resources": resources}]}});
        if let Err(fault) = self.cluster.resize_pod(pod, &patch).await {
            warnings.push(format!("the new limits take effect at the next start: {fault}"));
        }
        warnings
    }
}
