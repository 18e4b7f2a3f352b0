//! `docker update`: limits and restart policy. The running Pod is resized in place where the
//! cluster allows it; the next start takes the rest.

use bollard_stubs::models::HostConfig;
use serde_json::{Value, json};

use super::Daemon;
use crate::fault::{Fault, Result};
use crate::translate::{fields, keys, resources, validate};

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
        let mut raw = record.raw.clone();
        let sent =
            changes.as_object().ok_or_else(|| Fault::invalid("invalid JSON: an object is expected"))?;
        let host = raw.as_object_mut().map(|body| body.entry("HostConfig").or_insert_with(|| json!({})));
        let host = host.and_then(Value::as_object_mut);
        let host = host.ok_or_else(|| Fault::internal("the container's create request cannot be read"))?;
        for (key, value) in sent.iter().filter(|(_, value)| is_set(value)) {
            host.insert(key.clone(), value.clone());
        }
        let mut warnings = fields::check(&json!({"HostConfig": changes}))?;
        let body = validate::body(&raw)?;
        validate::request(&body, &record.image)?;
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

/// The CLI sends every field, unset ones as zero, empty or null.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => map.get("Name").map_or(!map.is_empty(), |name| name.as_str() != Some("")),
    }
}
