//! Links: names by which one container knows others (`--link`, Compose's `links:`), whatever they are
//! called elsewhere. They are a network that only this container looks into, a headless Service in its
//! search path, and on Docker's default network the variables that tell of the other container.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::bindings;
use super::keys::role;
use super::network::{Member, endpoint_slice, headless_service};
use super::record::Record;
use super::request::Link;

/// Whether a link means this container.
pub fn means(link: &Link, record: &Record) -> bool {
    link.target == record.name || record.id.starts_with(&link.target)
}

/// The links of Docker's default network, whose containers find one another by them alone.
pub fn of_bridge(record: &Record) -> Vec<Link> {
    let links = record.host().links.unwrap_or_default();
    let links = links.iter().filter(|_| record.networks.contains_key("bridge"));
    links.filter_map(|text| Link::parse(text).ok()).collect()
}

/// All links of a container, each once.
pub fn of(record: &Record) -> Vec<Link> {
    let mut all = of_bridge(record);
    let settings = record.networks.values().filter_map(|membership| membership.settings.get("Links"));
    let texts = settings.filter_map(|links| links.as_array()).flatten().filter_map(|link| link.as_str());
    for link in texts.filter_map(|text| Link::parse(text).ok()) {
        if !all.contains(&link) {
            all.push(link);
        }
    }
    all
}

/// The name of the Service and the EndpointSlice of a container's links.
pub fn object_name(record: &Record) -> String {
    format!("d2k-links-{}", record.short())
}

fn metadata(record: &Record) -> ObjectMeta {
    ObjectMeta {
        name: Some(object_name(record)),
        labels: Some(record.labels(role::LINKS)),
        ..ObjectMeta::default()
    }
}

/// The headless Service that gives a container's links their domain.
pub fn service(record: &Record) -> Service {
    headless_service(metadata(record))
}

/// The EndpointSlice with the addresses of the linked containers.
pub fn endpoints(record: &Record, members: &[Member]) -> EndpointSlice {
    endpoint_slice(metadata(record), members)
}

/// The search domain under which the linked containers resolve; `None` without links.
pub fn domain(record: &Record, namespace: &str, cluster_domain: &str) -> Option<String> {
    let name = object_name(record);
    (!of(record).is_empty()).then(|| format!("{name}.{namespace}.svc.{cluster_domain}"))
}

/// The variables that tell a container of the default network of another one (Docker's "Legacy container
/// links", environment variables).
pub fn variables(link: &Link, own: &str, other: &Record, address: &str) -> Vec<(String, String)> {
    let prefix = link.alias.to_uppercase().replace('-', "_");
    let mut all = BTreeMap::from([(format!("{prefix}_NAME"), format!("/{own}/{}", link.alias))]);
    let mut ports = bindings::exposed(other);
    // The first one is the one that most clients look for: TCP, the lowest.
    ports.sort_by_key(|(port, protocol)| (protocol != "tcp", *port));
    for (at, (port, protocol)) in ports.iter().filter(|_| !address.is_empty()).enumerate() {
        let url = format!("{protocol}://{address}:{port}");
        if at == 0 {
            all.insert(format!("{prefix}_PORT"), url.clone());
        }
        let port_prefix = format!("{prefix}_PORT_{port}_{}", protocol.to_uppercase());
        all.insert(format!("{port_prefix}_ADDR"), address.to_owned());
        all.insert(format!("{port_prefix}_PORT"), port.to_string());
        all.insert(format!("{port_prefix}_PROTO"), protocol.clone());
        all.insert(port_prefix, url);
    }
    for entry in other.image.env.iter().chain(other.body.env.iter().flatten()) {
        match entry.split_once('=') {
            Some(("HOME" | "PATH", _)) | None => {}
            Some((name, value)) => {
                all.insert(format!("{prefix}_ENV_{name}"), value.to_owned());
            }
        }
    }
    all.into_iter().collect()
}
