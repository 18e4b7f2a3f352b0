//! The Service that makes a container's ports reachable from outside the cluster.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::keys::{self, role};
use super::record::{PublishedPort, Record};

/// What a policy decided about a Service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// `LoadBalancer`, `NodePort` or `ClusterIP`.
    pub kind: String,
    /// Labels besides d2k's own.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// `loadBalancerClass`.
    pub load_balancer_class: Option<String>,
    /// `loadBalancerSourceRanges`, CIDR.
    pub source_ranges: Vec<String>,
    /// `Cluster` or `Local`.
    pub external_traffic_policy: Option<String>,
}

/// The Service for the ports of a container.
/// A NodePort Service gets no port numbers: Kubernetes allocates them.
pub fn service(record: &Record, name: &str, ports: &[PublishedPort], plan: Plan) -> Service {
    let mut labels = plan.labels;
    labels.extend(record.labels(role::PORTS));
    let selector = BTreeMap::from([(keys::CONTAINER.to_owned(), record.short().to_owned())]);
    let ports = ports
        .iter()
        .map(|port| ServicePort {
            name: Some(format!(
                "{}-{}",
                port.protocol,
                if port.host_port == 0 { port.container_port } else { port.host_port }
            )),
            protocol: Some(port.protocol.to_uppercase()),
            port: i32::from(if port.host_port == 0 { port.container_port } else { port.host_port }),
            target_port: Some(IntOrString::Int(i32::from(port.container_port))),
            ..ServicePort::default()
        })
        .collect();
    Service {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels),
            annotations: Some(plan.annotations),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            type_: Some(plan.kind),
            load_balancer_class: plan.load_balancer_class,
            load_balancer_source_ranges: Some(plan.source_ranges).filter(|ranges| !ranges.is_empty()),
            external_traffic_policy: plan.external_traffic_policy,
            selector: Some(selector),
            ports: Some(ports),
            // A container that has just been started is reachable at once, as with Docker.
            publish_not_ready_addresses: Some(true),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// The ports of a NodePort Service as Kubernetes allocated them.
pub fn node_ports(service: &Service) -> Vec<PublishedPort> {
    let ports = service.spec.as_ref().and_then(|s| s.ports.as_ref());
    ports
        .into_iter()
        .flatten()
        .filter_map(|port| {
            let Some(IntOrString::Int(target)) = port.target_port else {
                return None;
            };
            Some(PublishedPort {
                container_port: u16::try_from(target).ok()?,
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()).to_lowercase(),
                host_port: u16::try_from(port.node_port?).ok()?,
            })
        })
        .collect()
}
