//! What every API server warns of in Pods and templates of Pods, in its own words and order.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::find::Found;
use crate::meta::{self, at, items, number, string};

/// Labels of Nodes that have another name now.
const OLD_LABELS: [(&str, &str); 8] = [
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];
/// Annotations that are fields now.
const OLD_ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];
/// Volumes of old, by the name of their field and as the words have it.
const OLD_VOLUMES: [(&str, &str, &str); 9] = [
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];
/// Annotation with the seccomp profile of a Pod, and the beginning of that of a container.
const SECCOMP: [&str; 2] =
    ["seccomp.security.alpha.kubernetes.io/pod", "container.seccomp.security.alpha.kubernetes.io/"];
/// Ports of one number that are compared with another: more of them would tell nothing more.
const COMPARED: usize = 16;
/// Beginning of the annotation with the AppArmor profile of a container.
const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// The warnings about a template at a path, or about a Pod, whose path is empty.
pub fn of(pod: &Value, path: &str) -> Vec<String> {
    let dot = if path.is_empty() { "" } else { "." };
    let metadata = format!("{path}{dot}metadata");
    let spec = Found { path: format!("{path}{dot}spec"), value: at(pod, &["spec"]), of: pod };
    let mut all = Vec::new();
    nodes(&spec, &mut all);
    annotations(pod, &metadata, &mut all);
    volumes(&spec, &mut all);
    duplicates(&spec, &mut all);
    profile(pod, at(pod, &["spec", "securityContext"]), SECCOMP[0], &metadata, &mut all);
    for container in spec.clone().find("containers[*]") {
        let key = format!("{}{}", SECCOMP[1], meta::name_of(container.value));
        profile(pod, at(container.value, &["securityContext"]), &key, &metadata, &mut all);
        if !path.is_empty() {
            apparmor(pod, container.value, &metadata, &mut all);
        }
        all.extend(fractions(container.value, &container.path, &["memory", "ephemeral-storage"]));
        variables(&container, &mut all);
    }
    ports(&spec, &mut all);
    let terms = [
        "affinity.podAffinity|podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[*]",
        "affinity.podAffinity|podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[*].podAffinityTerm",
    ];
    terms.iter().for_each(|pattern| selectors(&spec, pattern, &mut all));
    all
}

fn old_label(name: &str) -> Option<&'static str> {
    OLD_LABELS.iter().find(|(old, _)| *old == name).map(|(_, words)| *words)
}

/// About what chooses a Node.
fn nodes(spec: &Found<'_>, all: &mut Vec<String>) {
    for name in at(spec.value, &["nodeSelector"]).as_object().into_iter().flat_map(|map| map.keys()) {
        all.extend(old_label(name).map(|words| format!("{}.nodeSelector[{name}]: {words}", spec.path)));
    }
    for pattern in [
        "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[*].matchExpressions[*].key",
        "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[*].preference.matchExpressions[*].key",
        "topologySpreadConstraints[*].topologyKey",
    ] {
        for found in spec.clone().find(pattern) {
            let name = found.value.as_str().unwrap_or_default();
            all.extend(old_label(name).map(|words| format!("{}: {name} is {words}", found.path)));
        }
    }
    selectors(spec, "topologySpreadConstraints[*]", all);
}

/// About terms that choose no Pod.
fn selectors(spec: &Found<'_>, pattern: &str, all: &mut Vec<String>) {
    let terms = spec.clone().find(pattern).into_iter();
    let empty = terms.filter(|term| at(term.value, &["labelSelector"]).is_null());
    all.extend(
        empty.map(|term| {
            format!("{}.labelSelector: a null labelSelector results in matching no pod", term.path)
        }),
    );
}

fn has_annotation(pod: &Value, key: &str) -> bool {
    !at(pod, &["metadata", "annotations", key]).is_null()
}

fn annotations(pod: &Value, metadata: &str, all: &mut Vec<String>) {
    let old = OLD_ANNOTATIONS.iter().filter(|(key, _)| has_annotation(pod, key));
    all.extend(old.map(|(key, words)| format!("{metadata}.annotations[{key}]: {words}")));
}

fn profile(pod: &Value, context: &Value, key: &str, metadata: &str, all: &mut Vec<String>) {
    if at(context, &["seccompProfile"]).is_null() && has_annotation(pod, key) {
        all.push(format!(
            "{metadata}.annotations[{key}]: non-functional in v1.27+; use the \"seccompProfile\" field instead"
        ));
    }
}

fn apparmor(pod: &Value, container: &Value, metadata: &str, all: &mut Vec<String>) {
    let key = format!("{APPARMOR}{}", meta::name_of(container));
    let field = |of: &Value| !at(of, &["securityContext", "appArmorProfile"]).is_null();
    if has_annotation(pod, &key) && !field(container) && !field(at(pod, &["spec"])) {
        all.push(format!(
            "{metadata}.annotations[{key}]: deprecated since v1.30; use the \"appArmorProfile\" field instead"
        ));
    }
}

fn volumes(spec: &Found<'_>, all: &mut Vec<String>) {
    for volume in spec.clone().find("volumes[*]") {
        for (field, shown, words) in OLD_VOLUMES {
            if volume.value.get(field).is_some() {
                all.push(format!("{}.{shown}: {words}", volume.path));
            }
        }
        all.extend(
            volume
                .clone()
                .find("ephemeral.volumeClaimTemplate.spec")
                .into_iter()
                .flat_map(|claim| fractions(claim.value, &claim.path, &["storage"])),
        );
        let sources = items(volume.value, &["projected", "sources"]);
        if sources.iter().any(|source| source.as_object().is_some_and(serde_json::Map::is_empty)) {
            let name = meta::name_of(volume.value);
            all.push(format!("volume {name:?} (Projected) has no sources provided"));
        }
    }
}

/// About names of hosts and Secrets that are there twice.
fn duplicates(spec: &Found<'_>, all: &mut Vec<String>) {
    for (list, field, word) in [("hostAliases", "ip", "ip"), ("imagePullSecrets", "name", "name")] {
        let mut seen = BTreeSet::new();
        for one in spec.clone().find(&format!("{list}[*]")) {
            let value = string(one.value, &[field]);
            if !seen.insert(value) {
                all.push(format!("{}.{field}: duplicate {word} {value:?}", one.path));
            }
        }
    }
    for secret in spec.clone().find("imagePullSecrets[*]") {
        if meta::name_of(secret.value).is_empty() {
            all.push(format!("{}.name: invalid empty name \"\"", secret.path));
        }
    }
}

/// About variables that are there twice, where the second does not build on the first.
fn variables(container: &Found<'_>, all: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for variable in container.clone().find("env[*]") {
        let name = meta::name_of(variable.value);
        if seen.insert(name) {
            continue;
        }
        let (value, reference) = (string(variable.value, &["value"]), format!("$({name})"));
        let builds = value.contains(&reference) && value != reference;
        if !builds || !at(variable.value, &["valueFrom"]).is_null() {
            all.push(format!(
                "{}: hides previous definition of {name:?}, which may be dropped when using apply",
                variable.path
            ));
        }
    }
}

/// About ports of a Pod that are there twice, and names of ports.
fn ports(spec: &Found<'_>, all: &mut Vec<String>) {
    let ports = spec.clone().find("containers[*].ports[*]");
    let mut seen: BTreeMap<(i64, &str), Vec<&Found<'_>>> = BTreeMap::new();
    for port in &ports {
        let host = |port: &Found<'_>| number(port.value, &["hostPort"]).unwrap_or(0);
        let address = |port: &Found<'_>| string(port.value, &["hostIP"]).to_owned();
        if !address(port).is_empty() && host(port) == 0 {
            all.push(format!("{}: hostIP set without hostPort: {}", port.path, shown(port.value)));
        }
        let key = (number(port.value, &["containerPort"]).unwrap_or(0), string(port.value, &["protocol"]));
        let others = seen.entry(key).or_default();
        for other in others.iter() {
            let (mine, theirs) = (address(port), address(other));
            let word = if mine == theirs && host(port) == host(other) {
                "duplicate"
            } else if host(port) == 0 || host(other) == 0 {
                "overlapping"
            } else if host(port) == host(other) && mine.is_empty() != theirs.is_empty() {
                "dangerously ambiguous"
            } else {
                continue;
            };
            all.push(format!("{}: {word} port definition with {}", port.path, other.path));
        }
        if others.len() < COMPARED {
            others.push(port);
        }
    }
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    for port in &ports {
        let name = meta::name_of(port.value);
        match names.get(name) {
            _ if name.is_empty() => {}
            Some(other) => all.push(format!(
                "{}: duplicate port name {name:?} with {other}, services and probes that select ports by name will use {other}",
                port.path
            )),
            None => drop(names.insert(name, &port.path)),
        }
    }
}

/// A port as Go prints it.
fn shown(port: &Value) -> String {
    let count = |field: &str| number(port, &[field]).unwrap_or(0);
    let text = |field: &str| string(port, &[field]);
    format!(
        "{{Name:{} HostPort:{} ContainerPort:{} Protocol:{} HostIP:{}}}",
        text("name"),
        count("hostPort"),
        count("containerPort"),
        text("protocol"),
        text("hostIP")
    )
}

/// About resources that are not a whole number of bytes.
pub fn fractions(of: &Value, path: &str, names: &[&str]) -> Vec<String> {
    let mut all = Vec::new();
    for name in names {
        let lists: &[&str] =
            if *name == "storage" { &["requests", "limits"] } else { &["limits", "requests"] };
        for list in lists {
            let amount = string(of, &["resources", list, name]);
            if d2k_quantity::thousandths(amount).is_some_and(|thousandths| thousandths % 1000 != 0) {
                all.push(format!(
                    "{path}.resources.{list}[{name}]: fractional byte value {amount:?} is invalid, must be an integer"
                ));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(spec: Value) -> Vec<String> {
        of(&json!({"spec": spec}), "spec.template")
    }

    #[test]
    fn a_variable_may_be_given_again_where_it_builds_on_the_first() {
        let env = json!([
            {"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}, {"name": "A", "value": "3"},
            {"name": "A", "value": "$(A)"}, {"name": "A", "valueFrom": {"fieldRef": {}}},
        ]);
        let words = told(json!({"initContainers": [{"env": env}]}));
        let path = "spec.template.spec.initContainers[0].env";
        let hides = "hides previous definition of \"A\", which may be dropped when using apply";
        assert_eq!(words, [2, 3, 4].map(|at| format!("{path}[{at}]: {hides}")));
    }

    #[test]
    fn ports_that_are_there_twice_are_told_across_containers() {
        let port = |port: i64, host: i64, address: &str| json!({"containerPort": port, "protocol": "TCP", "hostPort": host, "hostIP": address, "name": "web"});
        let words = told(json!({"containers": [
            {"ports": [port(80, 0, ""), port(80, 8080, "")]}, {"ports": [port(80, 8080, ""), port(80, 8080, "::1")]},
        ]}));
        let [a, b, c, d] = [(0, 0), (0, 1), (1, 0), (1, 1)]
            .map(|(container, port)| format!("spec.template.spec.containers[{container}].ports[{port}]"));
        let name = |port: &str| {
            format!(
                "{port}: duplicate port name \"web\" with {a}, services and probes that select ports by name will use {a}"
            )
        };
        assert_eq!(
            words,
            [
                format!("{b}: overlapping port definition with {a}"),
                format!("{c}: overlapping port definition with {a}"),
                format!("{c}: duplicate port definition with {b}"),
                format!("{d}: overlapping port definition with {a}"),
                format!("{d}: dangerously ambiguous port definition with {b}"),
                format!("{d}: dangerously ambiguous port definition with {c}"),
                name(&b),
                name(&c),
                name(&d),
            ]
        );
        let lonely = json!({"containers": [{"ports": [port(80, 0, "10.0.0.1")]}]});
        assert_eq!(
            told(lonely),
            [format!(
                "{a}: hostIP set without hostPort: {{Name:web HostPort:0 ContainerPort:80 Protocol:TCP HostIP:10.0.0.1}}"
            )]
        );
    }

    #[test]
    fn what_is_old_or_means_nothing_is_told() {
        let pod = json!({
            "metadata": {"annotations": {
                "scheduler.alpha.kubernetes.io/critical-pod": "", "seccomp.security.alpha.kubernetes.io/pod": "x",
                "container.apparmor.security.beta.kubernetes.io/c": "x",
            }},
            "spec": {
                "nodeSelector": {"beta.kubernetes.io/os": "linux"}, "terminationGracePeriodSeconds": -1,
                "topologySpreadConstraints": [{"topologyKey": "failure-domain.beta.kubernetes.io/zone"}],
                "volumes": [{"name": "v", "storageos": {}}, {"name": "w", "projected": {"sources": [{}]}}],
                "hostAliases": [{"ip": "1.2.3.4"}, {"ip": "1.2.3.4"}], "imagePullSecrets": [{"name": ""}],
                "containers": [{"name": "c", "resources": {"limits": {"memory": "100m"}}}],
                "affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": {}}]}},
            },
        });
        let none = "a null labelSelector results in matching no pod";
        let wanted = [
            "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead".to_owned(),
            "spec.topologySpreadConstraints[0].topologyKey: failure-domain.beta.kubernetes.io/zone is deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead".to_owned(),
            format!("spec.topologySpreadConstraints[0].labelSelector: {none}"),
            "metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the \"priorityClassName\" field instead".to_owned(),
            "spec.volumes[0].storageOS: deprecated in v1.22, non-functional in v1.25+".to_owned(),
            "volume \"w\" (Projected) has no sources provided".to_owned(),
            "spec.hostAliases[1].ip: duplicate ip \"1.2.3.4\"".to_owned(),
            "spec.imagePullSecrets[0].name: invalid empty name \"\"".to_owned(),
            "metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: non-functional in v1.27+; use the \"seccompProfile\" field instead".to_owned(),
            "spec.containers[0].resources.limits[memory]: fractional byte value \"100m\" is invalid, must be an integer".to_owned(),
            format!("spec.affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.labelSelector: {none}"),
        ];
        assert_eq!(of(&pod, ""), wanted);
        let key = "spec.template.metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]";
        let words = format!("{key}: deprecated since v1.30; use the \"appArmorProfile\" field instead");
        assert!(of(&pod, "spec.template").contains(&words));
    }

    #[test]
    fn a_usual_pod_is_no_news() {
        let container =
            json!({"name": "c", "image": "i", "ports": [{"containerPort": 80, "protocol": "TCP"}]});
        assert!(told(json!({"containers": [container], "terminationGracePeriodSeconds": 30})).is_empty());
    }
}
