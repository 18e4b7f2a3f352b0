//! What the network has to know of the cluster's objects: a table for `k2d net`, which serves the Pods, and the ports of the
//! machine, which this process serves itself.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use d2k_kubeapi::kinds::{self, Kind};
use d2k_kubeapi::verbs::Api;
use d2k_network::objects::{EndpointSlice, Pod, Service};
use d2k_network::{MachineSide, Network, Options};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::foreign;
use crate::net::{Own, TABLE, Table};

/// Starts to serve the ports of the machine, and to write the table into a folder.
///
/// # Errors
/// One line on what could not be started.
pub async fn start(api: Arc<Api>, folder: PathBuf, stopping: CancellationToken) -> Result<(), String> {
    let any = Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let options = Options {
        dns: Vec::new(),
        cluster: false,
        published: MachineSide { node_ports: any, load_balancer: any, host_ports: any },
        ..Options::default()
    };
    let network = Network::start(Arc::new(Own), options, stopping.clone()).await;
    let network = network.map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        tokio::select! {
            () = follow(&api, &network, &folder) => {}
            () = stopping.cancelled() => {}
        }
    });
    Ok(())
}

async fn follow(api: &Api, network: &Network, folder: &Path) {
    let kinds = [&kinds::SERVICE, &kinds::ENDPOINT_SLICE, &kinds::POD];
    let mut bell = api.store.bell(&kinds);
    let mut written = String::new();
    loop {
        bell.hush();
        let services: Vec<Service> = typed(api, &kinds::SERVICE);
        let slices: Vec<EndpointSlice> = typed(api, &kinds::ENDPOINT_SLICE);
        network.update(&services, &slices);
        // The engine itself serves the ports of containers that k2d has not made.
        let pods = api.list(&kinds::POD, "").items;
        let own = pods.iter().filter(|pod| !foreign::is_shown(pod));
        let own: Vec<Pod> = own.filter_map(|pod| Pod::deserialize(&**pod).ok()).collect();
        network.update_host_ports(&own);
        let text = table(api);
        if text != written {
            match write(folder, &text) {
                Ok(()) => written = text,
                Err(error) => {
                    tracing::warn!(folder = %folder.display(), %error, "the table of Services cannot be written")
                }
            }
        }
        if !bell.rings().await {
            return;
        }
    }
}

fn typed<T: DeserializeOwned>(api: &Api, kind: &Kind) -> Vec<T> {
    let objects = api.list(kind, "").items;
    objects.iter().filter_map(|object| T::deserialize(&**object).ok()).collect()
}

/// The table as text: only what is served, so that it changes only with that.
fn table(api: &Api) -> String {
    let cut = |kind: &Kind, fields: &[&str]| -> Vec<Value> {
        api.list(kind, "").items.iter().map(|object| part(object, fields)).collect()
    };
    let table = Table {
        services: cut(&kinds::SERVICE, &["spec"]),
        slices: cut(&kinds::ENDPOINT_SLICE, &["endpoints", "ports", "addressType"]),
    };
    // Objects have no keys but strings, so this cannot fail.
    serde_json::to_string(&table).unwrap_or_default()
}

fn part(object: &Value, fields: &[&str]) -> Value {
    let metadata = |field: &str| object.pointer(&format!("/metadata/{field}")).cloned().unwrap_or_default();
    let mut part = json!({"metadata": {
        "name": metadata("name"), "namespace": metadata("namespace"), "labels": metadata("labels"),
        "creationTimestamp": metadata("creationTimestamp"),
    }});
    for field in fields {
        if let (Some(value), Some(map)) = (object.get(field), part.as_object_mut()) {
            map.insert((*field).to_owned(), value.clone());
        }
    }
    part
}

/// Puts a new file in the place of the old one, so that a reader sees one of them whole.
fn write(folder: &Path, text: &str) -> std::io::Result<()> {
    let temporary = folder.join("table.new");
    std::fs::write(&temporary, text)?;
    std::fs::rename(temporary, folder.join(TABLE))
}
