//! Checks of Services.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{labels, names, protocol};
use crate::meta;
use crate::status::Cause;

/// Kinds of Services.
const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

/// What is wrong with a Service.
pub fn check(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = meta::at(object, &["spec"]);
    let (kind, list) = (meta::string(spec, &["type"]), meta::items(spec, &["ports"]));
    let headless = meta::string(spec, &["clusterIP"]) == "None";
    if list.is_empty() && !headless && kind != "ExternalName" {
        causes.push(Cause::required("spec.ports", ""));
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let words = format!("may not be set to 'None' for {kind} services");
            causes.push(Cause::invalid("spec.clusterIPs[0]", &"None".into(), &words));
        }
        "ExternalName" => external(spec, causes),
        _ => {}
    }
    ports(list, causes);
    labels(meta::at(spec, &["selector"]), "spec.selector", causes);
    let affinity = meta::at(spec, &["sessionAffinity"]);
    if !matches!(affinity.as_str(), Some("ClientIP" | "None")) {
        causes.push(Cause::unsupported("spec.sessionAffinity", affinity, &["ClientIP", "None"]));
    }
    addresses(spec, old, causes);
    let known = TYPES.contains(&kind);
    if !known {
        causes.push(Cause::unsupported("spec.type", meta::at(spec, &["type"]), &TYPES));
    }
    if kind == "ClusterIP" {
        for (at, _) in list.iter().enumerate().filter(|(_, port)| node_port(port) != 0) {
            let words = "may not be used when `type` is 'ClusterIP'";
            causes.push(Cause::forbidden(format!("spec.ports[{at}].nodePort"), words));
        }
    }
    twice(list, causes);
    if kind != "LoadBalancer" && !meta::at(spec, &["allocateLoadBalancerNodePorts"]).is_null() {
        let words = "may only be used when `type` is 'LoadBalancer'";
        causes.push(Cause::forbidden("spec.allocateLoadBalancerNodePorts", words));
    }
    let policy = meta::at(spec, &["externalTrafficPolicy"]);
    if !policy.is_null() && known && !matches!(kind, "LoadBalancer" | "NodePort") {
        let words = "may only be set for externally-accessible services";
        causes.push(Cause::invalid("spec.externalTrafficPolicy", policy, words));
    }
}

fn node_port(port: &Value) -> i64 {
    meta::number(port, &["nodePort"]).unwrap_or(0)
}

fn external(spec: &Value, causes: &mut Vec<Cause>) {
    for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if !meta::at(spec, &[field]).is_null() {
            causes
                .push(Cause::forbidden(format!("spec.{field}"), "may not be set for ExternalName services"));
        }
    }
    let name = meta::string(spec, &["externalName"]);
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        causes.push(Cause::required("spec.externalName", ""));
    } else if let Some(words) = names::bad_subdomain(name) {
        causes.push(Cause::invalid("spec.externalName", &name.into(), &words));
    }
}

/// There is IPv4 only. Kubernetes says so when it gives out addresses, which one without a selector does not need.
fn families(spec: &Value, causes: &mut Vec<Cause>) {
    let free = meta::string(spec, &["clusterIP"]) == "None"
        && meta::at(spec, &["selector"]).as_object().is_none_or(serde_json::Map::is_empty);
    for (at, family) in meta::items(spec, &["ipFamilies"]).iter().enumerate() {
        let here = format!("spec.ipFamilies[{at}]");
        match family.as_str() {
            Some("IPv4") => {}
            Some("IPv6") if free => {}
            Some("IPv6") => causes.push(Cause::invalid(here, family, "not configured on this cluster")),
            _ => causes.push(Cause::unsupported(here, family, &["IPv4", "IPv6"])),
        }
    }
    let policy = meta::at(spec, &["ipFamilyPolicy"]);
    match policy.as_str() {
        None | Some("SingleStack" | "PreferDualStack") => {}
        Some("RequireDualStack") if free => {}
        Some("RequireDualStack") => {
            let words = "this cluster is not configured for dual-stack services";
            causes.push(Cause::invalid("spec.ipFamilyPolicy", policy, words));
        }
        Some(_) => {
            let known = ["PreferDualStack", "RequireDualStack", "SingleStack"];
            causes.push(Cause::unsupported("spec.ipFamilyPolicy", policy, &known));
        }
    }
}

fn ports(list: &[Value], causes: &mut Vec<Cause>) {
    let mut taken = BTreeSet::new();
    for (at, port) in list.iter().enumerate() {
        let here = format!("spec.ports[{at}]");
        let name = meta::name_of(port);
        if list.len() > 1 || !name.is_empty() {
            names::label(name, format!("{here}.name"), causes);
        }
        if !name.is_empty() && !taken.insert(name) {
            causes.push(Cause::duplicate(format!("{here}.name"), &name.into()));
        }
        let number = meta::at(port, &["port"]).as_i64().unwrap_or(0);
        names::port(&number.into(), format!("{here}.port"), causes);
        protocol(port, &here, causes);
        names::port(meta::at(port, &["targetPort"]), format!("{here}.targetPort"), causes);
    }
}

fn addresses(spec: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    if meta::string(spec, &["type"]) == "ExternalName" {
        return;
    }
    families(spec, causes);
    for (at, address) in meta::items(spec, &["clusterIPs"]).iter().enumerate() {
        if address.as_str() != Some("None") {
            names::address(address, format!("spec.clusterIPs[{at}]"), causes);
        }
    }
    let before = old.map(|old| meta::string(old, &["spec", "clusterIP"])).unwrap_or_default();
    if !before.is_empty() && before != meta::string(spec, &["clusterIP"]) {
        let words = "may not change once set";
        causes.push(Cause::invalid("spec.clusterIPs[0]", meta::at(spec, &["clusterIPs"]), words));
    }
}

/// Ports, and ports of the nodes, that are there twice.
fn twice(list: &[Value], causes: &mut Vec<Cause>) {
    let text = |port: &Value| meta::string(port, &["protocol"]).to_owned();
    let mut nodes = BTreeSet::new();
    for (at, port) in list.iter().enumerate().filter(|(_, port)| node_port(port) != 0) {
        if !nodes.insert((text(port), node_port(port))) {
            causes.push(Cause::duplicate(format!("spec.ports[{at}].nodePort"), &node_port(port).into()));
        }
    }
    let mut seen = BTreeSet::new();
    for (at, port) in list.iter().enumerate() {
        let number = meta::number(port, &["port"]).unwrap_or(0);
        if !seen.insert((text(port), number)) {
            let shown = format!(
                "{{\"Name\":\"\",\"Protocol\":{:?},\"AppProtocol\":null,\"Port\":{number},\"TargetPort\":0,\"NodePort\":0}}",
                text(port)
            );
            let cause = Cause::duplicate(format!("spec.ports[{at}]"), &Value::Null);
            causes.push(Cause { message: format!("Duplicate value: {shown}"), ..cause });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wrong(spec: Value) -> Vec<String> {
        let mut causes = Vec::new();
        families(&spec, &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn addresses_are_of_ipv4() {
        assert!(wrong(json!({"ipFamilies": ["IPv4"], "ipFamilyPolicy": "PreferDualStack"})).is_empty());
        assert_eq!(
            wrong(json!({"ipFamilies": ["IPv6"], "ipFamilyPolicy": "RequireDualStack"})),
            [
                "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
            ]
        );
        let no_selector =
            json!({"clusterIP": "None", "ipFamilies": ["IPv6"], "ipFamilyPolicy": "RequireDualStack"});
        assert!(wrong(no_selector).is_empty());
        assert_eq!(wrong(json!({"ipFamilies": ["IPv5"], "ipFamilyPolicy": "Some"})).len(), 2);
    }
}
