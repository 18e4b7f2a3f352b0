//! `--annotation` as annotations of the Pod, where their keys are legal ones.

use std::collections::BTreeMap;

use bollard_stubs::models::HostConfig;

use super::filled;

/// The annotations of the request, and d2k's own on top of them.
pub(super) fn of_pod(
    host: &HostConfig,
    own: &BTreeMap<String, String>,
    warnings: &mut Vec<String>,
) -> Option<BTreeMap<String, String>> {
    let asked: BTreeMap<_, _> = host.annotations.clone().unwrap_or_default().into_iter().collect();
    let mut all = BTreeMap::new();
    for (key, value) in asked {
        if legal(&key) {
            all.insert(key, value);
        } else {
            warnings.push(format!(
                "HostConfig.Annotations: {key:?} is not a legal Kubernetes annotation and is left out"
            ));
        }
    }
    all.extend(own.clone());
    filled(&all)
}

/// `name` or `domain/name`; names under `d2k.io/` are d2k's own.
fn legal(key: &str) -> bool {
    let (domain, name) = key.split_once('/').map_or((None, key), |(domain, name)| (Some(domain), name));
    let alphanumeric = |c: char| c.is_ascii_alphanumeric();
    let name_ok = (1..=63).contains(&name.len())
        && name.starts_with(alphanumeric)
        && name.ends_with(alphanumeric)
        && name.chars().all(|c| alphanumeric(c) || matches!(c, '-' | '_' | '.'));
    let domain_ok = |domain: &str| domain != "d2k.io" && super::hosts::is_dns_name(domain);
    name_ok && domain.is_none_or(domain_ok)
}
