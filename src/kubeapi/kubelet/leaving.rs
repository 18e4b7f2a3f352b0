//! How a Pod that ends leaves its Services: where other Pods take over, it gets no signal before nothing new is sent to it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};

use super::Kubelet;
use crate::kinds;
use crate::meta::{self, at, items, string};
use d2k_engine::Engine;

/// Longest time until the slices say that a Pod ends.
const TOLD: Duration = Duration::from_secs(1);
/// For requests that have just begun, and for the network to follow the slices.
const REQUESTS: Duration = Duration::from_millis(500);

impl<E: Engine> Kubelet<E> {
    /// Waits until Services have other endpoints than a Pod that is to end. Returns at once where nothing would take over.
    pub(super) async fn leave_services(&self, pod: &Value) {
        let last = Instant::now() + TOLD;
        let mut bell = self.api.store.bell(&[&kinds::ENDPOINT_SLICE]);
        loop {
            bell.hush();
            match place(pod, &self.api.list(&kinds::ENDPOINT_SLICE, meta::namespace(pod)).items) {
                Place::Alone => return,
                Place::Left => break,
                Place::Served => {}
            }
            if !timeout_at(last, bell.rings()).await.unwrap_or(false) {
                break;
            }
        }
        sleep(REQUESTS).await;
    }
}

/// What the slices of a namespace have of a Pod.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// It is no endpoint, or there is no other one that is ready.
    Alone,
    /// It still counts as an endpoint like the others.
    Served,
    /// All slices that have it say that it ends.
    Left,
}

fn place(pod: &Value, slices: &[Arc<Value>]) -> Place {
    let mut place = Place::Alone;
    // Clients of a headless Service find its Pods by name: nothing stands between that could send them elsewhere.
    let headless =
        |slice: &Value| at(slice, &["metadata", "labels", "service.kubernetes.io/headless"]).is_string();
    for slice in slices.iter().filter(|slice| !headless(slice)) {
        let endpoints = items(slice, &["endpoints"]);
        let is_this = |endpoint: &&Value| string(endpoint, &["targetRef", "uid"]) == meta::uid(pod);
        let Some(own) = endpoints.iter().find(is_this) else { continue };
        let mut others = endpoints.iter().filter(|endpoint| !is_this(endpoint));
        if !others.any(|endpoint| at(endpoint, &["conditions", "ready"]).as_bool() == Some(true)) {
            continue;
        }
        if at(own, &["conditions", "terminating"]).as_bool() != Some(true) {
            return Place::Served;
        }
        place = Place::Left;
    }
    place
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slice(endpoints: &[(&str, bool, bool)]) -> Arc<Value> {
        let endpoint = |(uid, ready, terminating): &(&str, bool, bool)| json!({"targetRef": {"uid": uid}, "conditions": {"ready": ready, "terminating": terminating}});
        Arc::new(json!({"endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>()}))
    }

    #[test]
    fn a_pod_is_waited_for_where_another_one_takes_over() {
        let pod = json!({"metadata": {"uid": "own"}});
        let place = |slices: &[Arc<Value>]| super::place(&pod, slices);
        assert_eq!(place(&[]), Place::Alone);
        assert_eq!(place(&[slice(&[("own", true, false)])]), Place::Alone);
        assert_eq!(place(&[slice(&[("own", true, false), ("other", false, false)])]), Place::Alone);
        let served = slice(&[("own", true, false), ("other", true, false)]);
        let left = slice(&[("own", false, true), ("other", true, false)]);
        assert_eq!(place(std::slice::from_ref(&served)), Place::Served);
        assert_eq!(place(std::slice::from_ref(&left)), Place::Left);
        assert_eq!(place(&[left, served]), Place::Served);
    }
}
