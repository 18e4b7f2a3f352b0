//! Which listeners the Services want, and where what comes in there goes: a pure function from
//! Services and EndpointSlices.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::names::{by_service, cluster_addresses, is_ready, key, still_serves};
use super::objects::{Endpoint, EndpointSlice, Service, ServicePort};

/// The default of `sessionAffinityConfig.clientIP.timeoutSeconds`.
const AFFINITY: u64 = 10_800;

/// Transport protocol. SCTP is not offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if *self == Self::Tcp { "TCP" } else { "UDP" })
    }
}

/// Where a listener is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// In the network of the Pods, at a ClusterIP.
    Cluster,
    /// In the network of the machine, at a node port.
    Node,
    /// In the network of the machine, at the port of a LoadBalancer Service.
    LoadBalancer,
    /// In the network of the machine, at the host port of a container.
    Host,
}

/// A socket that a Service wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// In which network.
    pub side: Side,
    /// Address and port.
    pub at: SocketAddr,
    /// Protocol.
    pub protocol: Protocol,
}

/// Where what arrives at a socket goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Whose it is, for messages.
    pub of: Owner,
    /// The addresses that are ready; if none is, those that end and still serve.
    pub endpoints: Vec<SocketAddr>,
    /// For how long a client stays with the endpoint that it had (`sessionAffinity: ClientIP`).
    pub affinity: Option<Duration>,
}

/// One port of one Service, or of one Pod where the side is `Host`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Namespace of the Service or Pod.
    pub namespace: String,
    /// Name of the Service or Pod.
    pub name: String,
    /// The Service's `port`, or the container's `hostPort`.
    pub port: u16,
    /// Its `protocol`.
    pub protocol: Protocol,
}

/// A port that a Service asked for and did not get.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Whose it is.
    pub of: Owner,
    /// Which of its sockets.
    pub side: Side,
    /// The address and port that were asked for.
    pub at: SocketAddr,
    /// What failed and what to do.
    pub message: String,
}

/// What is wanted, and what cannot be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The listeners.
    pub listeners: BTreeMap<Place, Target>,
    /// Ports that another Service has already.
    pub problems: Vec<Problem>,
}

/// The addresses of the machine at which ports of Services are opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineSide {
    /// For node ports; `None` opens none.
    pub node_ports: Option<IpAddr>,
    /// For the ports of LoadBalancer Services; `None` opens none.
    pub load_balancer: Option<IpAddr>,
    /// For host ports of containers that name no `hostIP`; `None` opens none at all.
    pub host_ports: Option<IpAddr>,
}

/// The listeners that these Services want. A ClusterIP without a ready endpoint has none, so that a
/// connection is refused as in any cluster; a port of the machine is held all the same, for nobody
/// else to take it.
pub fn wanted(services: &[Service], slices: &[EndpointSlice], machine: MachineSide) -> Wanted {
    let mut wanted = Wanted::default();
    let of_service = by_service(slices);
    let mut services: Vec<&Service> = services.iter().collect();
    // The older of two Services keeps a port that both want.
    services.sort_by_key(|service| (service.metadata.creation_timestamp.clone(), key(service)));
    for service in services {
        let Some(spec) = service.spec.as_ref() else { continue };
        let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
        if kind == "ExternalName" {
            continue;
        }
        for port in spec.ports.iter().flatten() {
            let slices = of_service.get(&key(service)).map_or(&[][..], Vec::as_slice);
            let Some(target) = target(service, port, slices) else { continue };
            let number = target.of.port;
            if !target.endpoints.is_empty() {
                for address in cluster_addresses(service).into_iter().filter(IpAddr::is_ipv4) {
                    wanted.add(Side::Cluster, SocketAddr::new(address, number), &target);
                }
            }
            let node_port = port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
            if let (Some(address), Some(port)) = (machine.node_ports, node_port) {
                wanted.add(Side::Node, SocketAddr::new(address, port), &target);
            }
            if let (Some(address), "LoadBalancer") = (machine.load_balancer, kind) {
                wanted.add(Side::LoadBalancer, SocketAddr::new(address, number), &target);
            }
        }
    }
    wanted
}

impl Wanted {
    /// Adds a listener, or the problem that another one has its place.
    pub(super) fn add(&mut self, side: Side, at: SocketAddr, target: &Target) {
        let place = Place { side, at, protocol: target.of.protocol };
        let same_network = |other: &Side| (*other == Side::Cluster) == (side == Side::Cluster);
        let clash = [Side::Cluster, Side::Node, Side::LoadBalancer, Side::Host]
            .into_iter()
            .filter(same_network)
            .find_map(|side| self.listeners.get(&Place { side, ..place }));
        let Some(holder) = clash else {
            self.listeners.insert(place, target.clone());
            return;
        };
        let Owner { namespace, name, .. } = &holder.of;
        let message = format!(
            "port {}/{} of {} is taken by {namespace}/{name}: choose another port",
            at.port(),
            place.protocol,
            at.ip()
        );
        self.problems.push(Problem { of: target.of.clone(), side, at, message });
    }
}

fn target(service: &Service, port: &ServicePort, slices: &[&EndpointSlice]) -> Option<Target> {
    let (namespace, name) = key(service);
    let protocol = protocol(port.protocol.as_deref())?;
    let number = u16::try_from(port.port).ok().filter(|port| *port > 0)?;
    let spec = service.spec.as_ref()?;
    let unready = spec.publish_not_ready_addresses == Some(true);
    let mut endpoints = addresses(port, protocol, slices, |endpoint| unready || is_ready(endpoint));
    if endpoints.is_empty() {
        endpoints = addresses(port, protocol, slices, still_serves);
    }
    endpoints.sort_unstable();
    endpoints.dedup();
    let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
        let seconds = config.and_then(|config| config.timeout_seconds).and_then(|s| u64::try_from(s).ok());
        Duration::from_secs(seconds.unwrap_or(AFFINITY))
    });
    let of = Owner { namespace: namespace.into(), name: name.into(), port: number, protocol };
    Some(Target { of, endpoints, affinity })
}

/// Where the endpoints that `fit` take connections for a port of their Service.
fn addresses(
    port: &ServicePort,
    protocol: Protocol,
    slices: &[&EndpointSlice],
    fit: impl Fn(&Endpoint) -> bool,
) -> Vec<SocketAddr> {
    let mut all = Vec::new();
    for slice in slices {
        let same =
            |name: &Option<String>| name.as_deref().unwrap_or("") == port.name.as_deref().unwrap_or("");
        let numbers = slice.ports.iter().flatten().filter(|of_slice| {
            same(&of_slice.name) && self::protocol(of_slice.protocol.as_deref()) == Some(protocol)
        });
        for number in numbers.filter_map(|port| u16::try_from(port.port?).ok()) {
            let fitting = slice.endpoints.iter().filter(|endpoint| fit(endpoint));
            let addresses =
                fitting.filter_map(|endpoint| endpoint.addresses.first()?.parse::<Ipv4Addr>().ok());
            all.extend(addresses.map(|address| SocketAddr::from((address, number))));
        }
    }
    all
}

pub(super) fn protocol(name: Option<&str>) -> Option<Protocol> {
    match name.unwrap_or("TCP") {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        _ => None,
    }
}
