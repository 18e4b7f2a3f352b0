//! Docker networks as Kubernetes objects. A network is a ConfigMap (what Docker knows), a headless
//! Service without selector and an EndpointSlice with one named endpoint a member and alias: a Pod
//! with the Service's domain among its search domains resolves the members by their bare names.

use std::collections::BTreeMap;

use bollard_stubs::models::NetworkCreateRequest;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::keys::{self, role};

/// Docker's own networks, which always exist.
pub const PREDEFINED: [&str; 3] = ["bridge", "host", "none"];

/// Whether a network is one of Docker's own.
pub fn is_predefined(name: &str) -> bool {
    PREDEFINED.contains(&name)
}

/// A Docker network as d2k remembers it.
#[derive(Debug, Clone)]
pub struct Network {
    /// 64 hex digits.
    pub id: String,
    /// Docker name.
    pub name: String,
    /// Name of the ConfigMap, the Service and the EndpointSlice; empty for a predefined network.
    pub object: String,
    /// When it was created.
    pub created: Timestamp,
    /// The create request, echoed by inspect.
    pub request: NetworkCreateRequest,
    /// Docker's driver: `bridge`, `host`, `null` or `overlay`.
    pub driver: String,
}

impl Network {
    /// One of Docker's own networks, with an ID that is the same in every d2k of a namespace.
    pub fn predefined(name: &str, namespace: &str) -> Self {
        let driver = if name == "none" { "null" } else { name };
        Self {
            id: hex::encode(Sha256::digest(format!("network {namespace}/{name}"))),
            name: name.to_owned(),
            object: String::new(),
            created: Timestamp::UNIX_EPOCH,
            request: NetworkCreateRequest::default(),
            driver: driver.to_owned(),
        }
    }

    /// Reads a network from its ConfigMap; `None` if the ConfigMap is none of ours.
    pub fn read(map: &ConfigMap) -> Option<Self> {
        let labels = map.metadata.labels.as_ref()?;
        if labels.get(keys::ROLE)? != role::NETWORK {
            return None;
        }
        let notes = map.metadata.annotations.as_ref()?;
        let request: NetworkCreateRequest = serde_json::from_str(notes.get(keys::REQUEST)?).ok()?;
        let driver = request.driver.clone().filter(|d| !d.is_empty()).unwrap_or_else(|| "bridge".into());
        Some(Self {
            id: notes.get(keys::ID)?.clone(),
            name: notes.get(keys::NAME)?.clone(),
            object: map.metadata.name.clone()?,
            created: notes.get(keys::CREATED)?.parse().ok()?,
            request,
            driver,
        })
    }

    fn metadata(&self) -> ObjectMeta {
        ObjectMeta {
            name: Some(self.object.clone()),
            labels: Some(BTreeMap::from([
                (keys::ROLE.into(), role::NETWORK.into()),
                ("app.kubernetes.io/managed-by".into(), "d2k".into()),
            ])),
            annotations: Some(BTreeMap::from([
                (keys::ID.into(), self.id.clone()),
                (keys::NAME.into(), self.name.clone()),
                (keys::CREATED.into(), self.created.to_string()),
            ])),
            ..ObjectMeta::default()
        }
    }

    /// The ConfigMap that remembers the network.
    pub fn config_map(&self) -> ConfigMap {
        let mut metadata = self.metadata();
        let request = serde_json::to_string(&self.request).unwrap_or_default();
        metadata.annotations.get_or_insert_default().insert(keys::REQUEST.into(), request);
        ConfigMap { metadata, ..ConfigMap::default() }
    }

    /// The headless Service that gives the network its domain.
    pub fn service(&self) -> Service {
        headless_service(self.metadata())
    }

    /// The EndpointSlice with the members' addresses under all their names.
    pub fn endpoints(&self, members: &[Member]) -> EndpointSlice {
        endpoint_slice(self.metadata(), members)
    }

    /// The search domain under which the members resolve.
    pub fn domain(&self, namespace: &str, cluster_domain: &str) -> String {
        format!("{}.{namespace}.svc.{cluster_domain}", self.object)
    }

    /// Docker's `Network` object, without members (they are added by the caller).
    pub fn inspect(&self, containers: Value) -> Value {
        let request = &self.request;
        let ipam = request.ipam.clone().unwrap_or_default();
        let mut config = serde_json::to_value(ipam.config.unwrap_or_default()).unwrap_or_default();
        if self.name == "bridge" {
            // Testcontainers reads the gateway of `bridge`. Kubernetes has no such address; an
            // address that no Pod network uses says so better than one that could be somebody's.
            config = json!([{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}]);
        }
        json!({
            "Name": self.name,
            "Id": self.id,
            "Created": super::time::docker(Some(self.created)),
            "Scope": request.scope.clone().filter(|s| !s.is_empty()).unwrap_or_else(|| "local".into()),
            "Driver": self.driver,
            "EnableIPv4": request.enable_ipv4.unwrap_or(true),
            "EnableIPv6": request.enable_ipv6.unwrap_or(false),
            "IPAM": {
                "Driver": ipam.driver.filter(|d| !d.is_empty()).unwrap_or_else(|| "default".into()),
                "Options": ipam.options,
                "Config": config,
            },
            "Internal": request.internal.unwrap_or(false),
            "Attachable": request.attachable.unwrap_or(false),
            "Ingress": request.ingress.unwrap_or(false),
            "ConfigFrom": {"Network": ""},
            "ConfigOnly": request.config_only.unwrap_or(false),
            "Containers": containers,
            "Options": request.options.clone().unwrap_or_default(),
            "Labels": request.labels.clone().unwrap_or_default(),
        })
    }
}

/// A Service that is a domain for names, with no address of its own.
pub(super) fn headless_service(metadata: ObjectMeta) -> Service {
    let spec = ServiceSpec { cluster_ip: Some("None".into()), ..ServiceSpec::default() };
    Service { metadata, spec: Some(spec), ..Service::default() }
}

/// The names in the domain of the Service of the same name.
pub(super) fn endpoint_slice(mut metadata: ObjectMeta, members: &[Member]) -> EndpointSlice {
    let service = metadata.name.clone().unwrap_or_default();
    let labels = metadata.labels.get_or_insert_default();
    labels.insert("kubernetes.io/service-name".into(), service);
    labels.insert("endpointslice.kubernetes.io/managed-by".into(), "d2k".into());
    let endpoints = members
        .iter()
        .flat_map(|member| {
            member.names.iter().map(|name| Endpoint {
                addresses: vec![member.address.clone()],
                hostname: Some(name.clone()),
                conditions: Some(EndpointConditions { ready: Some(true), ..Default::default() }),
                ..Endpoint::default()
            })
        })
        .collect();
    let family = if members.iter().any(|m| m.address.contains(':')) { "IPv6" } else { "IPv4" };
    EndpointSlice { address_type: family.into(), endpoints, metadata, ports: None }
}

/// A running member of a network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Address of its Pod.
    pub address: String,
    /// The DNS labels under which it resolves.
    pub names: Vec<String>,
}

/// The DNS labels of a member: container name, aliases, hostname, short ID. Names that are no DNS
/// labels are left out; a case difference resolves, since DNS ignores case.
pub fn member_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut labels: Vec<String> =
        names.into_iter().map(str::to_ascii_lowercase).filter(|name| is_dns_label(name)).collect();
    labels.sort();
    labels.dedup();
    labels
}

/// RFC 1123 label.
pub fn is_dns_label(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    !name.is_empty()
        && name.len() <= 63
        && name.chars().all(|c| legal(c) || c == '-')
        && name.starts_with(legal)
        && name.ends_with(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_dns_cannot_hold_are_left_out_and_the_rest_is_unique() {
        assert_eq!(member_names(["db", "My_DB", "DB", "demo-db-1", ""]), ["db", "demo-db-1"]);
    }

    #[test]
    fn a_network_survives_its_config_map() {
        let network = Network {
            id: "ab".repeat(32),
            name: "My Net".into(),
            object: "my-net-1".into(),
            created: Timestamp::UNIX_EPOCH,
            request: serde_json::from_value(json!({"Name": "My Net", "Labels": {"a/b": "C d"}})).unwrap(),
            driver: "bridge".into(),
        };
        let read = Network::read(&network.config_map()).unwrap();
        assert_eq!((read.id, read.name, read.request), (network.id, network.name, network.request));
    }
}
