//! Figures of `metrics.k8s.io`: what containers have used between two looks at their cgroups.

use std::time::Duration;

use serde_json::{Value, json};

use super::Kubelet;
use super::running::Running;
use super::state::Phase;
use crate::kinds;
use crate::meta::{self, items, string};
use d2k_common::usage_names::{PROCESSES, RECEIVED, SENT};
use d2k_engine::{Engine, Usage};

/// Between the two looks.
const WINDOW: Duration = Duration::from_millis(200);

impl<E: Engine> Kubelet<E> {
    /// The figures of one Pod or of all.
    pub(super) async fn pod_metrics(&self, namespace: &str, name: &str) -> Vec<Value> {
        let mut pods = self.api.list(&kinds::POD, namespace).items;
        pods.retain(|pod| name.is_empty() || meta::name(pod) == name);
        let running: Vec<_> = pods
            .iter()
            .filter_map(|pod| self.running(meta::namespace(pod), meta::name(pod)).ok())
            .map(|(pod, running)| (pod.clone(), self.ids(&pod, &running)))
            .filter(|(_, ids)| !ids.is_empty())
            .collect();
        let first = futures::future::join_all(running.iter().map(|(_, ids)| self.look(ids))).await;
        tokio::time::sleep(WINDOW).await;
        let second = futures::future::join_all(running.iter().map(|(_, ids)| self.look(ids))).await;
        let time = meta::now();
        running
            .iter()
            .zip(first.iter().zip(&second))
            .map(|((pod, ids), (before, after))| {
                let containers: Vec<Value> =
                    ids.iter().zip(before.iter().zip(after)).map(|((name, _), (b, a))| usage(name, *b, *a)).collect();
                json!({
                    "kind": "PodMetrics", "apiVersion": "metrics.k8s.io/v1beta1",
                    "metadata": {
                        "name": meta::name(pod), "namespace": meta::namespace(pod), "creationTimestamp": time,
                        "labels": meta::at(pod, &["metadata", "labels"]),
                    },
                    "timestamp": time, "window": format!("{}ms", WINDOW.as_millis()), "containers": containers,
                })
            })
            .collect()
    }

    /// The figures of the Node: those of all Pods together.
    pub(super) async fn node_metrics(&self, name: &str) -> Vec<Value> {
        if !name.is_empty() && name != self.options.node {
            return Vec::new();
        }
        let pods = self.pod_metrics("", "").await;
        let sum = |field: &str| -> i128 {
            let all = pods.iter().flat_map(|pod| items(pod, &["containers"]));
            let thousandths = all.filter_map(|c| d2k_quantity::thousandths(string(c, &["usage", field])));
            thousandths.sum()
        };
        let time = meta::now();
        vec![json!({
            "kind": "NodeMetrics", "apiVersion": "metrics.k8s.io/v1beta1",
            "metadata": {"name": self.options.node, "creationTimestamp": time}, "timestamp": time,
            "window": format!("{}ms", WINDOW.as_millis()),
            "usage": {"cpu": format!("{}m", sum("cpu")), "memory": format!("{}Ki", sum("memory") / 1000 / 1024)},
        })]
    }

    fn ids(&self, pod: &Value, running: &Running) -> Vec<(String, String)> {
        let names = items(pod, &["spec", "containers"]).iter().map(|c| string(c, &["name"]).to_owned());
        names
            .filter_map(|name| {
                let state = running.state(&name);
                matches!(state.phase, Phase::Running { .. }).then_some((name, state.id))
            })
            .collect()
    }

    async fn look(&self, ids: &[(String, String)]) -> Vec<Usage> {
        let all = ids.iter().map(|(_, id)| async { self.engine.usage(id).await.unwrap_or_default() });
        futures::future::join_all(all).await
    }
}

fn usage(name: &str, before: Usage, after: Usage) -> Value {
    let window = u64::try_from(WINDOW.as_nanos()).unwrap_or(1).max(1);
    let nanos = after.cpu_nanos.saturating_sub(before.cpu_nanos).saturating_mul(1_000_000_000) / window;
    // The rest is d2k's own: Kubernetes has these in the kubelet's summary only.
    json!({"name": name, "usage": {
        "cpu": format!("{nanos}n"), "memory": format!("{}Ki", after.memory / 1024),
        (PROCESSES): after.processes.to_string(), (RECEIVED): after.received.to_string(), (SENT): after.sent.to_string(),
    }})
}
