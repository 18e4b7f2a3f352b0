//! Port bindings of a create request: which container ports are published, and where.

use bollard_stubs::models::ContainerCreateBody;

use super::record::Record;
use super::request;
use d2k_common::fault::{Fault, Result};

/// The host side of a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// This port.
    Port(u16),
    /// Any free port.
    Any,
    /// Any free port of a range.
    Range(u16, u16),
}

/// A container port to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Port of the container.
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Where.
    pub host: Host,
}

/// The bindings of a request, in the order of their ports. A host IP has no Kubernetes equivalent:
/// it is ignored with a warning.
///
/// # Errors
/// 400 for a port that is none.
pub fn read(body: &ContainerCreateBody, warnings: &mut Vec<String>) -> Result<Vec<Binding>> {
    let Some(map) = body.host_config.as_ref().and_then(|h| h.port_bindings.as_ref()) else {
        return Ok(Vec::new());
    };
    let mut all = Vec::new();
    for (spec, bindings) in map {
        let containers = request::ports(spec)?;
        for binding in bindings.iter().flatten() {
            let ip = binding.host_ip.as_deref().unwrap_or_default();
            if !matches!(ip, "" | "0.0.0.0" | "::") {
                warnings.push(format!(
                    "host IP {ip} of port {spec} is ignored: a Kubernetes Service has no interface to bind to"
                ));
            }
            let host = host_port(binding.host_port.as_deref().unwrap_or_default())?;
            for (container_port, protocol) in &containers {
                all.push(Binding { container_port: *container_port, protocol: protocol.clone(), host });
            }
        }
    }
    all.sort_by(|a, b| (a.container_port, &a.protocol).cmp(&(b.container_port, &b.protocol)));
    warnings.sort();
    warnings.dedup();
    Ok(all)
}

fn host_port(text: &str) -> Result<Host> {
    let wrong = || Fault::invalid(format!("invalid port specification: \"{text}\""));
    let number = |text: &str| text.trim().parse::<u16>().map_err(|_| wrong());
    match text.split_once('-') {
        _ if text.is_empty() || text == "0" => Ok(Host::Any),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            if first == 0 || last < first { Err(wrong()) } else { Ok(Host::Range(first, last)) }
        }
        None => number(text).map(Host::Port),
    }
}

/// Ports that the request or the image exposes, published ones included.
pub fn exposed(record: &Record) -> Vec<(u16, String)> {
    let request = record.body.exposed_ports.iter().flatten();
    let image = record.image.exposed_ports.iter();
    let mut all: Vec<(u16, String)> =
        request.chain(image).filter_map(|spec| request::ports(spec).ok()).flatten().collect();
    all.extend(record.ports.iter().map(|p| (p.container_port, p.protocol.clone())));
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bindings(map: serde_json::Value) -> (Result<Vec<Binding>>, Vec<String>) {
        let body = serde_json::from_value(json!({"HostConfig": {"PortBindings": map}})).unwrap();
        let mut warnings = Vec::new();
        (read(&body, &mut warnings), warnings)
    }

    #[test]
    fn a_host_ip_is_ignored_with_a_warning() {
        let (all, warnings) = bindings(json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}));
        assert_eq!(all.unwrap()[0].host, Host::Port(8080));
        assert!(warnings[0].contains("127.0.0.1"));
    }

    #[test]
    fn no_port_means_any_and_a_range_means_one_of_it() {
        let (all, _) = bindings(json!({"80/tcp": [{"HostPort": ""}], "53/udp": [{"HostPort": "8000-8010"}]}));
        let all = all.unwrap();
        assert_eq!((all[0].host, all[1].host), (Host::Range(8000, 8010), Host::Any));
    }

    #[test]
    fn a_port_out_of_range_is_refused() {
        assert!(bindings(json!({"80/tcp": [{"HostPort": "70000"}]})).0.is_err());
        assert!(bindings(json!({"99999/tcp": [{"HostPort": "80"}]})).0.is_err());
    }
}
