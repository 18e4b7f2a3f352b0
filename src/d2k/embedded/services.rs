//! What the network and the images have to know of the cluster's objects: names and addresses of
//! Services, and the images of Pods.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use d2k_kubeapi::kinds::{self, Kind};
use d2k_kubeapi::verbs::Api;
use d2k_network::Network;
use d2k_network::objects::{EndpointSlice, Pod, Service};
use d2k_translate::keys;

/// Follows the objects until `stopping` is cancelled.
pub fn follow(api: Arc<Api>, network: Arc<Network>, stopping: CancellationToken) {
    tokio::spawn(async move {
        tokio::select! {
            () = work(&api, &network) => {}
            () = stopping.cancelled() => {}
        }
    });
}

async fn work(api: &Api, network: &Network) {
    let kinds = [&kinds::SERVICE, &kinds::ENDPOINT_SLICE, &kinds::POD];
    let mut bell = api.store.bell(&kinds);
    let mut seen = [0; 3];
    loop {
        bell.hush();
        let mut news = [false; 3];
        for ((kind, seen), news) in kinds.iter().zip(&mut seen).zip(&mut news) {
            match api.store.since(kind, *seen) {
                Ok((changes, version)) => {
                    *news = !changes.is_empty() || *seen == 0;
                    *seen = version;
                }
                Err(_) => {
                    *news = true;
                    *seen = api.store.version();
                }
            }
        }
        if news.iter().take(2).any(|n| *n) {
            let services: Vec<Service> =
                all::<Service>(api, &kinds::SERVICE).into_iter().map(published).collect();
            let slices: Vec<EndpointSlice> = all(api, &kinds::ENDPOINT_SLICE);
            network.update(&services, &slices);
        }
        if news.last() == Some(&true) {
            network.update_host_ports(&all::<Pod>(api, &kinds::POD));
        }
        if !bell.rings().await {
            return;
        }
    }
}

/// The IDs of the images that Pods have.
pub fn images_of_pods(api: &Api) -> Vec<String> {
    let pods = all::<k8s_openapi::api::core::v1::Pod>(api, &kinds::POD);
    let statuses = pods.iter().filter_map(|pod| pod.status.as_ref());
    let lists = statuses.flat_map(|status| [&status.container_statuses, &status.init_container_statuses]);
    lists.flatten().flatten().map(|status| status.image_id.clone()).collect()
}

fn all<T: DeserializeOwned>(api: &Api, kind: &Kind) -> Vec<T> {
    let objects = api.list(kind, "").items;
    objects.iter().filter_map(|object| T::deserialize(&**object).ok()).collect()
}

/// The ports of d2k's own Services are opened by d2k, where they can be refused in Docker's words.
fn published(mut service: Service) -> Service {
    let own = service.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(keys::ROLE));
    if let Some(spec) = service.spec.as_mut().filter(|spec| own && spec.cluster_ip.as_deref() != Some("None"))
    {
        spec.type_ = Some("ClusterIP".into());
        for port in spec.ports.iter_mut().flatten() {
            port.node_port = None;
        }
    }
    service
}
