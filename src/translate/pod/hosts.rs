//! Names as a container sees them: its own host name, `/etc/hosts` and `/etc/resolv.conf`.

use std::collections::{BTreeMap, BTreeSet};

use bollard_stubs::models::HostConfig;
use k8s_openapi::api::core::v1::{HostAlias, PodDNSConfig, PodDNSConfigOption, PodSpec};

use crate::network::is_dns_label;
use crate::record::Record;
use crate::request::extra_host;
use d2k_common::fault::Result;

/// Kubernetes takes no more servers than the C library reads.
const MAX_NAMESERVERS: usize = 3;

pub(super) fn apply(
    record: &Record,
    network_searches: &[String],
    spec: &mut PodSpec,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let host = record.host();
    let host_network = spec.host_network == Some(true);
    let asked = record.body.hostname.as_deref().unwrap_or_default();
    if !host_network {
        spec.hostname = Some(hostname(asked, &record.id, warnings));
    }
    spec.host_aliases = aliases(&host, warnings)?;
    warnings.extend(unresolved(record));
    dns(&host, network_searches, host_network, spec, warnings);
    Ok(())
}

/// Aliases that the cluster's DNS cannot hold.
fn unresolved(record: &Record) -> Vec<String> {
    let aliases = record.networks.values().flat_map(|membership| &membership.aliases);
    let odd: BTreeSet<&String> = aliases.filter(|alias| !is_dns_label(&alias.to_ascii_lowercase())).collect();
    odd.into_iter()
        .map(|alias| {
            format!(
                "the alias {alias:?} does not resolve: a name on a network is one DNS label here, of letters, digits and hyphens, without dots and underscores"
            )
        })
        .collect()
}

/// The host name: as asked for where Kubernetes can have it so, Docker's default (the short ID) if none was.
fn hostname(asked: &str, id: &str, warnings: &mut Vec<String>) -> String {
    if asked.is_empty() {
        return id.chars().take(12).collect();
    }
    let first = asked.split('.').next().unwrap_or_default();
    let legal: String = first
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(63)
        .collect();
    let legal = legal.trim_matches('-').to_owned();
    let name = if legal.is_empty() { id.chars().take(12).collect() } else { legal };
    if name != asked {
        warnings.push(format!(
            "Hostname: {asked:?} becomes {name:?}, a Pod's host name is one lower-case DNS label of at most 63 characters"
        ));
    }
    name
}

/// Lower-case DNS labels joined by dots.
pub(super) fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// `--add-host name:address` as lines of `/etc/hosts`.
fn aliases(host: &HostConfig, warnings: &mut Vec<String>) -> Result<Option<Vec<HostAlias>>> {
    let mut by_address: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in host.extra_hosts.iter().flatten() {
        let (name, address) = extra_host(entry)?;
        if address == "host-gateway" {
            warnings.push(format!(
                "HostConfig.ExtraHosts: {name} is left out, a Pod has no gateway to the Docker host (host-gateway); give an address"
            ));
        } else if !is_dns_name(&name.to_ascii_lowercase()) {
            warnings.push(format!(
                "HostConfig.ExtraHosts: {name:?} is left out, Kubernetes takes DNS names only"
            ));
        } else {
            by_address.entry(address).or_default().push(name.to_ascii_lowercase());
        }
    }
    let lines: Vec<_> =
        by_address.into_iter().map(|(ip, names)| HostAlias { ip, hostnames: Some(names) }).collect();
    Ok((!lines.is_empty()).then_some(lines))
}

fn dns(
    host: &HostConfig,
    network_searches: &[String],
    host_network: bool,
    spec: &mut PodSpec,
    warnings: &mut Vec<String>,
) {
    let mut nameservers: Vec<String> = host.dns.clone().unwrap_or_default();
    if nameservers.len() > MAX_NAMESERVERS {
        warnings.push(format!(
            "HostConfig.Dns: only the first {MAX_NAMESERVERS} servers are used, Kubernetes takes no more"
        ));
        nameservers.truncate(MAX_NAMESERVERS);
    }
    // `.` means "no search domains" in Docker; there is no such word here.
    let asked = host.dns_search.iter().flatten().filter(|domain| domain.as_str() != ".");
    let searches: Vec<String> = network_searches.iter().chain(asked).cloned().collect();
    let options: Vec<PodDNSConfigOption> =
        host.dns_options.iter().flatten().map(|option| dns_option(option)).collect();
    if host_network {
        // Otherwise a Pod on the node's network asks the node's servers and finds no name of the cluster.
        spec.dns_policy = Some("ClusterFirstWithHostNet".to_owned());
    }
    if !nameservers.is_empty() && network_searches.is_empty() {
        spec.dns_policy = Some("None".to_owned());
    } else if !nameservers.is_empty() {
        nameservers.truncate(MAX_NAMESERVERS - 1);
        warnings.push(
            "HostConfig.Dns: the cluster's own server is asked first, because the names of the container's network are there; the given servers come after it"
                .to_owned(),
        );
    }
    let config = PodDNSConfig {
        nameservers: (!nameservers.is_empty()).then_some(nameservers),
        searches: (!searches.is_empty()).then_some(searches),
        options: (!options.is_empty()).then_some(options),
    };
    spec.dns_config = (config != PodDNSConfig::default()).then_some(config);
}

fn dns_option(option: &str) -> PodDNSConfigOption {
    match option.split_once(':') {
        Some((name, value)) => {
            PodDNSConfigOption { name: Some(name.to_owned()), value: Some(value.to_owned()) }
        }
        None => PodDNSConfigOption { name: Some(option.to_owned()), value: None },
    }
}
