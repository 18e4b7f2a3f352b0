//! The host ports of containers: ports of the machine that lead to one Pod.

use std::net::{IpAddr, SocketAddr};

use super::objects::{ContainerPort, Pod};
use super::services::{Owner, Target, protocol};

/// The host ports of the Pods that run, the oldest Pod first: where each is on the machine, and where
/// it leads. `address` is for those whose `hostIP` is no loopback address.
pub(super) fn host_ports(pods: &[Pod], address: Option<IpAddr>) -> Vec<(SocketAddr, Target)> {
    let Some(address) = address else { return Vec::new() };
    let mut pods: Vec<&Pod> = pods.iter().filter(|pod| runs(pod)).collect();
    pods.sort_by_key(|pod| (pod.metadata.creation_timestamp.clone(), pod.metadata.name.clone()));
    let mut found = Vec::new();
    for pod in pods {
        let Some(at) = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()?.parse().ok()) else {
            continue;
        };
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        for port in containers.flat_map(|container| container.ports.iter().flatten()) {
            // Another address than a loopback one would open the machine to its network.
            let own = port.host_ip.as_deref().and_then(|address| address.parse().ok());
            let own = own.filter(IpAddr::is_loopback);
            let listener = listener(pod, port, at);
            found.extend(listener.map(|(host, to)| (SocketAddr::new(own.unwrap_or(address), host), to)));
        }
    }
    found
}

fn runs(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let of_the_machine = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
    phase == Some("Running") && !of_the_machine
}

fn listener(pod: &Pod, port: &ContainerPort, at: IpAddr) -> Option<(u16, Target)> {
    let host = port.host_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)?;
    let endpoint = SocketAddr::new(at, u16::try_from(port.container_port).ok()?);
    let of = Owner {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        port: host,
        protocol: protocol(port.protocol.as_deref())?,
    };
    Some((host, Target { of, endpoints: vec![endpoint], affinity: None }))
}
