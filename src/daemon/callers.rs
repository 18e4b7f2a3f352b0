//! Which addresses may call the Docker API. A container has it only if it asked for the Docker socket, as with
//! dockerd; d2k checks that itself, since many clusters do not enforce a NetworkPolicy.
//!
//! d2k knows the address of every Pod of its namespace. The kubelet reports the address of a Pod up to a second
//! after its processes have begun, so a call from an unknown address waits while a Pod is about to get one. An
//! address that has turned out to be nobody's in the namespace is remembered as long as it calls: while it is
//! in use, no new Pod can get it.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

use super::Daemon;
use d2k_cluster::Entry;
use d2k_common::fault::{Fault, Result};
use d2k_translate::keys;

/// How long a call from an unknown address waits for the address of a Pod that starts. A kubelet reports within
/// about a second; a Pod whose image is still pulled has no address for longer, and no process either.
const ADDRESS_TIME: Duration = Duration::from_secs(5);
/// How long an address counts as outside after its last call.
const OUTSIDE_TIME: Duration = Duration::from_secs(60);
/// Addresses that are remembered as outside.
const OUTSIDE_MAX: usize = 4096;

/// Addresses that are not those of Pods of the namespace, with the time of their last call.
#[derive(Default)]
pub(crate) struct Outside(Mutex<HashMap<IpAddr, Instant>>);

impl Outside {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<IpAddr, Instant>) -> T) -> T {
        act(&mut self.0.lock())
    }

    /// Whether an address was outside a moment ago; then it is for another while.
    fn has(&self, address: IpAddr) -> bool {
        self.with(|all| match all.get_mut(&address).filter(|called| called.elapsed() < OUTSIDE_TIME) {
            Some(called) => {
                *called = Instant::now();
                true
            }
            None => false,
        })
    }

    fn add(&self, address: IpAddr) {
        self.with(|all| {
            if all.len() >= OUTSIDE_MAX {
                all.retain(|_, called| called.elapsed() < OUTSIDE_TIME);
            }
            // One that is not remembered waits again: slower, not less safe.
            if all.len() < OUTSIDE_MAX {
                all.insert(address, Instant::now());
            }
        });
    }
}

impl Daemon {
    /// Whether an address may call. `pods_only`: the way on which it came is that of the namespace's Pods alone.
    ///
    /// # Errors
    /// 403 that says what the owner of the Pod can do.
    pub async fn admit(&self, from: IpAddr, pods_only: bool) -> Result<()> {
        if pods_only {
            let found = self.cluster.wait(ADDRESS_TIME, || self.pod_at(from)).await;
            return found.unwrap_or_else(|| Err(Fault::forbidden(format!("no Pod has the address {from}"))));
        }
        if from.is_loopback() {
            return Ok(());
        }
        if let Some(verdict) = self.pod_at(from) {
            return verdict;
        }
        if self.outside.has(from) {
            return Ok(());
        }
        let starting = self.pods_without_address();
        let known = || {
            let verdict = self.pod_at(from);
            verdict.or_else(|| starting.is_disjoint(&self.pods_without_address()).then_some(Ok(())))
        };
        match self.cluster.wait(ADDRESS_TIME, known).await {
            Some(Err(refused)) => Err(refused),
            Some(Ok(())) if self.pod_at(from).is_some() => Ok(()),
            _ => {
                self.outside.add(from);
                Ok(())
            }
        }
    }

    /// The verdict on the Pods that have an address now; `None` if no Pod has it.
    fn pod_at(&self, address: IpAddr) -> Option<Result<()>> {
        let pods = self.cluster.cache::<Pod>().all();
        let mut at = pods.iter().filter(|pod| has_own_network(pod) && addresses(pod).any(|ip| ip == address));
        let first = at.next()?;
        // An address that was just given on may be on two Pods for a moment.
        Some(std::iter::once(first).chain(at).try_for_each(|pod| may_call(&pod.object)))
    }

    /// UIDs of the Pods that have a node and no address yet.
    fn pods_without_address(&self) -> BTreeSet<String> {
        let pods = self.cluster.cache::<Pod>().all();
        let starts = |pod: &&std::sync::Arc<Entry<Pod>>| {
            let placed = pod.object.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
            placed && has_own_network(pod) && addresses(pod).next().is_none()
        };
        pods.iter().filter(starts).filter_map(|pod| pod.object.metadata.uid.clone()).collect()
    }
}

/// Whether a Pod has processes, or is about to, with an address of its own. One with the node's network cannot be
/// told from the node by its address.
fn has_own_network(pod: &Entry<Pod>) -> bool {
    let ended = pod.object.status.as_ref().and_then(|status| status.phase.as_deref());
    let on_host = pod.object.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false);
    !on_host && !matches!(ended, Some("Succeeded" | "Failed"))
}

fn addresses(pod: &Entry<Pod>) -> impl Iterator<Item = IpAddr> {
    let status = pod.object.status.as_ref();
    let all =
        status.and_then(|status| status.pod_ips.as_ref()).into_iter().flatten().map(|ip| ip.ip.as_str());
    let one = status.and_then(|status| status.pod_ip.as_deref());
    all.chain(one).filter_map(|ip| ip.parse::<IpAddr>().ok()).map(|ip| ip.to_canonical())
}

fn may_call(pod: &Pod) -> Result<()> {
    let labels = pod.metadata.labels.as_ref();
    let label = |key: &str| labels.and_then(|labels| labels.get(key)).map(String::as_str);
    if label(keys::DOCKER) == Some("true") {
        return Ok(());
    }
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let own = label(keys::ROLE) == Some(keys::role::CONTAINER);
    let instead = if own {
        "run the container with -v /var/run/docker.sock:/var/run/docker.sock if it needs it".to_owned()
    } else {
        format!("label the Pod {}: \"true\" if it needs it", keys::DOCKER)
    };
    Err(Fault::forbidden(format!(
        "the Pod {name} may not use the Docker API, which gives all rights: {instead}"
    )))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(labels: serde_json::Value, spec: serde_json::Value, status: serde_json::Value) -> Entry<Pod> {
        let metadata = json!({"name": "web", "labels": labels});
        Entry::new(
            serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap(),
        )
    }

    fn spec(host: bool) -> serde_json::Value {
        json!({"containers": [], "hostNetwork": host})
    }

    #[test]
    fn only_a_pod_that_asked_for_the_socket_may_call() {
        let judge =
            |labels| may_call(&pod(labels, spec(false), json!({})).object).map_err(|fault| fault.message);
        assert_eq!(judge(json!({"d2k.io/role": "container", "d2k.io/docker": "true"})), Ok(()));
        assert_eq!(judge(json!({"d2k.io/docker": "true"})), Ok(()));
        let own = judge(json!({"d2k.io/role": "container"})).unwrap_err();
        assert!(own.contains("-v /var/run/docker.sock"), "{own}");
        let other = judge(json!({"app": "db", "d2k.io/docker": "yes"})).unwrap_err();
        assert!(other.contains("label the Pod d2k.io/docker"), "{other}");
    }

    #[test]
    fn a_pod_counts_by_all_of_its_addresses_while_it_has_processes_of_its_own() {
        let both = pod(
            json!({}),
            spec(false),
            json!({"podIP": "10.0.0.7", "podIPs": [{"ip": "10.0.0.7"}, {"ip": "fd00::7"}]}),
        );
        let found: BTreeSet<IpAddr> = addresses(&both).collect();
        assert_eq!(found, ["10.0.0.7", "fd00::7"].map(|ip| ip.parse().unwrap()).into());
        assert!(has_own_network(&both));
        assert!(!has_own_network(&pod(json!({}), spec(true), json!({}))));
        assert!(!has_own_network(&pod(json!({}), spec(false), json!({"phase": "Succeeded"}))));
    }

    #[test]
    fn the_addresses_outside_are_bounded() {
        let outside = Outside::default();
        for number in 0..10_000_u32 {
            outside.add(IpAddr::from(number.to_be_bytes()));
        }
        assert_eq!(outside.with(|all| all.len()), OUTSIDE_MAX);
        assert!(outside.has(IpAddr::from([0, 0, 0, 1])) && !outside.has(IpAddr::from([9, 9, 9, 9])));
    }
}
