//! A container's network settings as Docker shows them: addresses of the Pod, memberships,
//! published ports. Clients parse the addresses: each is a legal IP or empty.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::bindings;
use super::container::Container;
use super::network::member_names;
use super::record::Membership;

/// The ID of a container's endpoint in a network: derived, since nothing depends on it.
pub fn endpoint_id(container: &str, network: &str) -> String {
    hex::encode(Sha256::digest(format!("endpoint {container} {network}")))
}

/// `NetworkSettings.Ports`: what is published while the container runs, exposed ports as null.
pub fn ports(container: &Container, running: bool) -> Value {
    let mut ports = Map::new();
    if !running {
        return Value::Object(ports);
    }
    for (port, protocol) in bindings::exposed(&container.record) {
        ports.insert(format!("{port}/{protocol}"), Value::Null);
    }
    for port in &container.record.ports {
        let key = format!("{}/{}", port.container_port, port.protocol);
        let entry = ports.entry(key).or_insert(Value::Null);
        if entry.is_null() {
            *entry = json!([]);
        }
        if let Some(list) = entry.as_array_mut() {
            list.push(json!({"HostIp": "0.0.0.0", "HostPort": port.host_port.to_string()}));
        }
    }
    Value::Object(ports)
}

/// `Ports` of a line of `docker ps`.
pub fn port_summary(container: &Container, running: bool) -> Value {
    if !running {
        return json!([]);
    }
    let published = &container.record.ports;
    let mut all: Vec<Value> = bindings::exposed(&container.record)
        .into_iter()
        .filter(|(port, protocol)| {
            !published.iter().any(|p| p.container_port == *port && p.protocol == *protocol)
        })
        .map(|(port, protocol)| json!({"PrivatePort": port, "Type": protocol}))
        .collect();
    all.extend(published.iter().map(|port| {
        json!({
            "IP": "0.0.0.0",
            "PrivatePort": port.container_port,
            "PublicPort": port.host_port,
            "Type": port.protocol,
        })
    }));
    json!(all)
}

/// Which names of an endpoint are shown as its aliases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aliases {
    /// None: a list leaves them out.
    None,
    /// Those that were asked for.
    Asked,
    /// Those, the short ID and the host name: API versions below 1.45.
    All,
}

/// `NetworkSettings.Networks`. `ids` gives the ID of a network by its name.
pub fn networks(
    container: &Container,
    running: bool,
    ids: &BTreeMap<String, String>,
    aliases: Aliases,
) -> Value {
    let mut all = Map::new();
    let ip = container.ip().filter(|_| running).unwrap_or_default();
    for (name, membership) in &container.record.networks {
        all.insert(name.clone(), endpoint(container, name, membership, &ip, ids, aliases));
    }
    Value::Object(all)
}

fn endpoint(
    container: &Container,
    name: &str,
    membership: &Membership,
    ip: &str,
    ids: &BTreeMap<String, String>,
    aliases: Aliases,
) -> Value {
    let record = &container.record;
    let (v4, v6) = if ip.contains(':') { ("", ip) } else { (ip, "") };
    let id = ids.get(name).unwrap_or(&membership.network_id);
    let short = record.id.get(..12).unwrap_or_default();
    let host = record.body.hostname.as_deref().unwrap_or_default();
    let user_defined = !super::network::is_predefined(name);
    let also = if user_defined && aliases == Aliases::All { vec![short, host] } else { Vec::new() };
    let mut shown = membership.aliases.clone();
    for name in also.into_iter().filter(|name| !name.is_empty()) {
        if !shown.iter().any(|alias| alias == name) {
            shown.push(name.to_owned());
        }
    }
    shown.retain(|_| aliases != Aliases::None);
    let names =
        [record.name.as_str(), short, host].into_iter().chain(membership.aliases.iter().map(String::as_str));
    let echoed = |key: &str| membership.settings.get(key).cloned().unwrap_or(Value::Null);
    json!({
        "IPAMConfig": echoed("IPAMConfig"),
        "Links": echoed("Links"),
        "Aliases": if shown.is_empty() { Value::Null } else { json!(shown) },
        "MacAddress": membership.settings.get("MacAddress").and_then(Value::as_str).unwrap_or_default(),
        "DriverOpts": echoed("DriverOpts"),
        "GwPriority": 0,
        "NetworkID": id,
        "EndpointID": if ip.is_empty() { String::new() } else { endpoint_id(&record.id, name) },
        "Gateway": gateway(v4),
        "IPAddress": v4,
        "IPPrefixLen": if v4.is_empty() { 0 } else { 32 },
        "IPv6Gateway": "",
        "GlobalIPv6Address": v6,
        "GlobalIPv6PrefixLen": if v6.is_empty() { 0 } else { 128 },
        "DNSNames": if user_defined { json!(member_names(names)) } else { Value::Null },
    })
}

/// Kubernetes tells no gateway of a Pod; clients only read whether there is one. The first address
/// of the Pod's /24 is what most networks use.
fn gateway(ip: &str) -> String {
    ip.rsplit_once('.').map(|(net, _)| format!("{net}.1")).unwrap_or_default()
}
