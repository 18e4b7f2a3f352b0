//! CPU and memory of Pods from `metrics.k8s.io`, where the cluster has it and the Role grants it.

use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};

use super::{Cluster, fault};
use d2k_common::fault::Result;
use d2k_common::usage_names::{PROCESSES, RECEIVED, SENT};

/// What a Pod's containers use, as the metrics server saw it last.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    /// Quantity of CPU cores, e.g. `12345678n`, one a container.
    pub cpu: Vec<String>,
    /// Quantity of working-set memory, e.g. `1024Ki`, one a container.
    pub memory: Vec<String>,
    /// Processes of each container, where the cluster tells.
    pub processes: Vec<String>,
    /// Bytes that the Pod has received, told for each container of it, where the cluster tells.
    pub received: Vec<String>,
    /// The same of what it has sent.
    pub sent: Vec<String>,
}

impl Cluster {
    fn metrics_api(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("metrics.k8s.io", "v1beta1", "PodMetrics");
        let resource = ApiResource::from_gvk_with_plural(&kind, "pods");
        Api::namespaced_with(self.inner.client.clone(), &self.inner.namespace, &resource)
    }

    /// Whether the metrics API answers here.
    pub async fn has_metrics(&self) -> bool {
        self.metrics_api().list(&kube::api::ListParams::default().limit(1)).await.is_ok()
    }

    /// The usage of one Pod; `None` while the metrics server has not seen it.
    ///
    /// # Errors
    /// The cluster's words where the API is missing or forbidden.
    pub async fn usage(&self, pod: &str) -> Result<Option<Usage>> {
        let found = self
            .metrics_api()
            .get_opt(pod)
            .await
            .map_err(|e| fault(&format!("read the metrics of Pod {pod}"), &e))?;
        Ok(found.map(|metrics| {
            let containers = metrics.data.get("containers").and_then(|c| c.as_array()).cloned();
            let read = |key: &str| -> Vec<String> {
                containers
                    .iter()
                    .flatten()
                    .filter_map(|c| c.get("usage")?.get(key)?.as_str().map(str::to_owned))
                    .collect()
            };
            Usage {
                cpu: read("cpu"),
                memory: read("memory"),
                processes: read(PROCESSES),
                received: read(RECEIVED),
                sent: read(SENT),
            }
        }))
    }
}
