//! Whether the settings are good, and what they mean.

use core::net::IpAddr;

use d2k_guest::{Rule, Settings};

use crate::api::ServiceKind;

const KINDS: &str = "LoadBalancer, NodePort, ClusterIP or none";

type Problems = Vec<(String, String)>;

pub fn check(settings: &Settings) -> Problems {
    let mut problems = Vec::new();
    values("", settings, &mut problems);
    service_type("publish-all-type", "", settings, &mut problems);
    for rule in Rule::all(settings) {
        let path = rule.setting("");
        values(&path, &rule.settings, &mut problems);
        let ports = ["port", "container-port"];
        for (name, value) in ports.iter().filter_map(|name| Some((name, rule.settings.get(name)?))) {
            if range(value).is_none() {
                let words = format!("\"{value}\" is no port such as 443, and no range such as 8000-8999");
                problems.push((format!("{path}{name}"), words));
            }
        }
        if ["label", "port", "container-port"].iter().all(|name| rule.settings.get(name).is_none()) {
            problems.push((format!("{path}label"), "a rule needs a label or a port to fit".into()));
        }
    }
    problems
}

/// What can be written for all and in each rule.
fn values(path: &str, settings: &Settings, problems: &mut Problems) {
    service_type("service-type", path, settings, problems);
    let traffic = settings.get("external-traffic-policy");
    if let Some(value) = traffic.filter(|value| !matches!(*value, "Cluster" | "Local")) {
        let words = format!("\"{value}\" is neither Cluster nor Local");
        problems.push((format!("{path}external-traffic-policy"), words));
    }
    for (at, network) in settings.list("source-ranges").iter().enumerate() {
        if !is_network(network) {
            let words = format!("\"{network}\" is no network such as 10.0.0.0/8");
            problems.push((format!("{path}source-ranges.{at}"), words));
        }
    }
    for (name, _) in settings.below("annotations") {
        key("annotations", path, &name, problems);
    }
    for (name, value) in settings.below("labels") {
        key("labels", path, &name, problems);
        if !value.is_empty() && !is_name(&value) {
            let words = format!("\"{value}\" is no value of a label: at most 63 letters, digits, -, _ and .");
            problems.push((format!("{path}labels.{name}"), words));
        }
    }
}

fn service_type(setting: &str, path: &str, settings: &Settings, problems: &mut Problems) {
    if let Some(value) = settings.get(setting).filter(|value| kind(value).is_none()) {
        problems.push((format!("{path}{setting}"), format!("\"{value}\" is no type of Service: {KINDS}")));
    }
}

fn key(map: &str, path: &str, key: &str, problems: &mut Problems) {
    let (domain, name) = key.split_once('/').unwrap_or(("a", key));
    let legal = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let label = |part: &str| !part.is_empty() && part.bytes().all(legal);
    if !is_name(name) || domain.len() > 253 || !domain.split('.').all(label) {
        let words = format!("\"{key}\" is no key such as team or example.com/team");
        problems.push((format!("{path}{map}.{key}"), words));
    }
}

/// As the names of keys and the values of labels are in Kubernetes.
fn is_name(text: &str) -> bool {
    let ends = [text.bytes().next(), text.bytes().last()];
    let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    text.len() <= 63
        && text.bytes().all(legal)
        && ends.iter().all(|c| c.is_some_and(|c| c.is_ascii_alphanumeric()))
}

fn is_network(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let Ok(bits) = bits.parse::<u8>() else { return false };
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => bits <= 32,
        Ok(IpAddr::V6(_)) => bits <= 128,
        Err(_) => false,
    }
}

/// A type of Service as operators write it; `none` is `Some(None)`.
pub fn kind(text: &str) -> Option<Option<ServiceKind>> {
    Some(match text {
        "LoadBalancer" => Some(ServiceKind::LoadBalancer),
        "NodePort" => Some(ServiceKind::NodePort),
        "ClusterIP" => Some(ServiceKind::ClusterIp),
        "none" => None,
        _ => return None,
    })
}

/// The first and the last port.
pub fn range(text: &str) -> Option<(u16, u16)> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (from.parse().ok()?, to.parse().ok()?);
    (from > 0 && from <= to).then_some((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(settings: &[(&str, &str)]) -> Vec<String> {
        check(&Settings::of(settings)).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn wrong_values_are_named() {
        assert_eq!(wrong(&[("service-type", "Loadbalancer")]), ["service-type"]);
        assert_eq!(wrong(&[("publish-all-type", "Ingress")]), ["publish-all-type"]);
        assert_eq!(wrong(&[("external-traffic-policy", "local")]), ["external-traffic-policy"]);
        assert_eq!(wrong(&[("rules.0.port", "0-80")]), ["rules.0.port"]);
        assert_eq!(wrong(&[("rules.0.container-port", "http")]), ["rules.0.container-port"]);
        assert_eq!(wrong(&[("rules.0.service-type", "ClusterIP")]), ["rules.0.label"]);
        assert_eq!(
            wrong(&[("rules.0.port", "90-80"), ("rules.0.labels.a b", "c")]),
            ["rules.0.labels.a b", "rules.0.port"]
        );
    }

    #[test]
    fn networks_are_of_both_families() {
        assert_eq!(wrong(&[("source-ranges.0", "10.0.0.0/8"), ("source-ranges.1", "fd00::/8")]), [""; 0]);
        for network in ["10.0.0.0", "10.0.0.0/33", "10.0.0/8", "fd00::/129", "example.com/8", "/8"] {
            assert_eq!(wrong(&[("source-ranges.0", network)]), ["source-ranges.0"], "{network}");
        }
    }

    #[test]
    fn keys_and_labels_are_those_of_kubernetes() {
        let good = [
            ("annotations.example.com/pool", "any text at all"),
            ("labels.team", "web"),
            ("labels.empty", ""),
        ];
        assert_eq!(wrong(&good), [""; 0]);
        assert_eq!(wrong(&[("annotations.Example.com/pool", "a")]), ["annotations.Example.com/pool"]);
        assert_eq!(wrong(&[("annotations.a/b/c", "a")]), ["annotations.a/b/c"]);
        assert_eq!(wrong(&[("labels.team", "a team")]), ["labels.team"]);
    }
}
