//! The names of the cluster as a table, made from Services and EndpointSlices by a pure function
//! (Kubernetes' DNS specification, version 1.1). What a query is answered from, and nothing else.

use std::collections::HashMap;
use std::net::IpAddr;

use super::objects::{Endpoint, EndpointSlice, Service};

/// Which version of the DNS specification the records follow (its section 2.2).
const SPECIFICATION: &str = "1.1.0";

/// All names below the cluster's domain, and of addresses. Names are in lower case, without the last dot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    domain: String,
    known: HashMap<String, Entry>,
    reverse: HashMap<IpAddr, Vec<String>>,
}

/// What one name has. One without anything is there because a name below it is (RFC 8020).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// A and AAAA records.
    pub addresses: Vec<IpAddr>,
    /// SRV records.
    pub ports: Vec<NamedPort>,
    /// A CNAME record, of an ExternalName Service.
    pub alias: Option<String>,
    /// A TXT record.
    pub text: Option<String>,
}

/// One SRV record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPort {
    /// Port number.
    pub port: u16,
    /// The name that has the address.
    pub target: String,
}

impl Names {
    /// The cluster's domain, `cluster.local`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Whether a name is the cluster's domain or below it, so that nobody else is asked for it.
    pub fn owns(&self, name: &str) -> bool {
        name.strip_suffix(&self.domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    /// What a name has; `None` if there is no such name.
    pub fn find(&self, name: &str) -> Option<Entry> {
        self.known.get(name).cloned().or_else(|| self.pod(name))
    }

    /// The names of an address.
    pub fn of(&self, address: IpAddr) -> &[String] {
        self.reverse.get(&address).map_or(&[], Vec::as_slice)
    }

    /// `a-b-c-d.<namespace>.pod.<domain>` has the address that it spells, whether or not a Pod has it:
    /// certificates are made for such names before there is a Pod.
    fn pod(&self, name: &str) -> Option<Entry> {
        let inside = name.strip_suffix(&self.domain)?.strip_suffix('.')?;
        let inside = inside.strip_suffix("pod").filter(|rest| rest.is_empty() || rest.ends_with('.'))?;
        let mut labels = inside.trim_end_matches('.').rsplit('.').filter(|label| !label.is_empty());
        let (_namespace, address) = (labels.next(), labels.next());
        if labels.next().is_some() {
            return None;
        }
        let addresses = match address {
            Some(dashed) => vec![IpAddr::V4(dashed.replace('-', ".").parse().ok()?)],
            None => Vec::new(),
        };
        Some(Entry { addresses, ..Entry::default() })
    }

    fn entry(&mut self, name: &str) -> &mut Entry {
        let mut above = name;
        while let Some((_, parent)) = above.split_once('.').filter(|(_, parent)| self.owns(parent)) {
            self.known.entry(parent.to_owned()).or_default();
            above = parent;
        }
        self.known.entry(name.to_owned()).or_default()
    }

    fn add_address(&mut self, name: &str, address: IpAddr) {
        let entry = self.entry(name);
        if !entry.addresses.contains(&address) {
            entry.addresses.push(address);
        }
    }

    fn add_reverse(&mut self, address: IpAddr, name: &str) {
        let names = self.reverse.entry(address).or_default();
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }

    fn add_port(&mut self, service: &str, port: (&str, &str), number: i32, target: &str) {
        let (name, protocol) = port;
        let Some(number) = u16::try_from(number).ok().filter(|_| !name.is_empty()) else { return };
        let entry = self.entry(&format!("_{name}._{protocol}.{service}").to_lowercase());
        let record = NamedPort { port: number, target: target.to_owned() };
        if !entry.ports.contains(&record) {
            entry.ports.push(record);
        }
    }

    fn add_service(&mut self, service: &Service, name: &str) {
        let Some(spec) = &service.spec else { return };
        if spec.type_.as_deref() == Some("ExternalName") {
            let target = spec.external_name.as_deref().unwrap_or_default();
            self.entry(name).alias =
                Some(target.trim_end_matches('.').to_lowercase()).filter(|target| !target.is_empty());
            return;
        }
        self.entry(name);
        for address in cluster_addresses(service) {
            self.add_address(name, address);
            self.add_reverse(address, name);
            for port in spec.ports.iter().flatten() {
                let protocol = port.protocol.as_deref().unwrap_or("TCP");
                self.add_port(name, (port.name.as_deref().unwrap_or_default(), protocol), port.port, name);
            }
        }
    }

    fn add_endpoint(&mut self, service: &str, headless: bool, slice: &EndpointSlice, endpoint: &Endpoint) {
        let Some(address) = endpoint.addresses.first().and_then(|text| text.parse::<IpAddr>().ok()) else {
            return;
        };
        let host = endpoint.hostname.clone().unwrap_or_else(|| dashed(address));
        let own = format!("{host}.{service}").to_lowercase();
        self.add_address(&own, address);
        self.add_reverse(address, &own);
        if headless {
            self.add_address(service, address);
            for port in slice.ports.iter().flatten() {
                let protocol = port.protocol.as_deref().unwrap_or("TCP");
                let name = port.name.as_deref().unwrap_or_default();
                self.add_port(service, (name, protocol), port.port.unwrap_or_default(), &own);
            }
        }
    }
}

/// The table of all names that these objects give.
pub fn names(services: &[Service], slices: &[EndpointSlice], domain: &str) -> Names {
    let domain = domain.trim_matches('.').to_lowercase();
    let mut names = Names { domain: domain.clone(), ..Names::default() };
    names.entry(&format!("dns-version.{domain}")).text = Some(SPECIFICATION.to_owned());
    names.entry(&format!("svc.{domain}"));
    let of_service = by_service(slices);
    for service in services {
        let (namespace, name) = key(service);
        let full = format!("{name}.{namespace}.svc.{domain}").to_lowercase();
        names.add_service(service, &full);
        let headless = is_headless(service);
        let unready = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
        for slice in of_service.get(&(namespace, name)).into_iter().flatten() {
            for endpoint in slice.endpoints.iter().filter(|endpoint| unready || is_ready(endpoint)) {
                names.add_endpoint(&full, headless, slice, endpoint);
            }
        }
    }
    names
}

/// Namespace and name of a Service.
pub(super) fn key(service: &Service) -> (&str, &str) {
    let metadata = &service.metadata;
    (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

/// The slices of each Service, by namespace and name.
pub(super) fn by_service(slices: &[EndpointSlice]) -> HashMap<(&str, &str), Vec<&EndpointSlice>> {
    let mut of_service: HashMap<_, Vec<_>> = HashMap::new();
    for slice in slices {
        of_service.entry(service_of(slice)).or_default().push(slice);
    }
    of_service
}

fn service_of(slice: &EndpointSlice) -> (&str, &str) {
    let labels = slice.metadata.labels.as_ref();
    let name = labels.and_then(|labels| labels.get("kubernetes.io/service-name"));
    (slice.metadata.namespace.as_deref().unwrap_or_default(), name.map_or("", String::as_str))
}

/// Whether an endpoint takes connections; unknown counts as yes (the field's own documentation).
pub(super) fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

/// Whether an endpoint that ends still takes connections.
pub(super) fn still_serves(endpoint: &Endpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    conditions
        .is_some_and(|conditions| conditions.serving == Some(true) && conditions.terminating == Some(true))
}

/// The addresses of a Service's own; none for a headless one.
pub(super) fn cluster_addresses(service: &Service) -> Vec<IpAddr> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let several = spec.cluster_ips.iter().flatten();
    let mut addresses: Vec<IpAddr> = several.filter_map(|text| text.parse().ok()).collect();
    if let Some(one) = spec.cluster_ip.as_deref().and_then(|text| text.parse().ok())
        && !addresses.contains(&one)
    {
        addresses.push(one);
    }
    addresses
}

fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}
