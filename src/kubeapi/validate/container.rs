//! Checks of containers: ports, variables, mounts, resources, probes and hooks.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::values::{choice, natural};
use super::{names, port_number, protocol};
use crate::meta;
use crate::status::Cause;
use d2k_quantity::thousandths;

/// What every container has in common.
pub fn check(container: &Value, volumes: &BTreeSet<String>, path: &str, causes: &mut Vec<Cause>) {
    names::label(meta::name_of(container), format!("{path}.name"), causes);
    if meta::string(container, &["image"]).is_empty() {
        causes.push(Cause::required(format!("{path}.image"), ""));
    }
    let policy = meta::at(container, &["terminationMessagePolicy"]);
    let known = ["File", "FallbackToLogsOnError"];
    choice(policy, format!("{path}.terminationMessagePolicy"), &known, causes);
    ports(meta::items(container, &["ports"]), &format!("{path}.ports"), causes);
    for (at, variable) in meta::items(container, &["env"]).iter().enumerate() {
        self::variable(variable, &format!("{path}.env[{at}]"), causes);
    }
    sources(meta::items(container, &["envFrom"]), &format!("{path}.envFrom"), causes);
    mounts(container, volumes, &format!("{path}.volumeMounts"), causes);
    let policy = meta::at(container, &["imagePullPolicy"]);
    choice(policy, format!("{path}.imagePullPolicy"), &["Always", "IfNotPresent", "Never"], causes);
    resources(meta::at(container, &["resources"]), &format!("{path}.resources"), causes);
    security(meta::at(container, &["securityContext"]), &format!("{path}.securityContext"), causes);
}

/// A template may have spaces around the name of an image, a Pod not.
pub fn images(pod: &Value, needed: bool, causes: &mut Vec<Cause>) {
    for field in ["containers", "initContainers"] {
        for (at, one) in meta::items(pod, &["spec", field]).iter().enumerate() {
            let (image, path) = (meta::string(one, &["image"]), format!("spec.{field}[{at}].image"));
            if needed && image.is_empty() {
                causes.push(Cause::required(path, ""));
            } else if image.trim() != image {
                let words = "must not have leading or trailing whitespace";
                causes.push(Cause::invalid(path, &image.into(), words));
            }
        }
    }
}

fn ports(list: &[Value], path: &str, causes: &mut Vec<Cause>) {
    let mut taken = BTreeSet::new();
    for (at, port) in list.iter().enumerate() {
        let here = format!("{path}[{at}]");
        let name = meta::name_of(port);
        if let Some(words) = names::bad_port(name).filter(|_| !name.is_empty()) {
            causes.push(Cause::invalid(format!("{here}.name"), &name.into(), words));
        } else if !name.is_empty() && !taken.insert(name) {
            causes.push(Cause::duplicate(format!("{here}.name"), &name.into()));
        }
        port_number(port, "containerPort", &here, causes);
        if meta::number(port, &["hostPort"]).is_some_and(|host| host != 0) {
            port_number(port, "hostPort", &here, causes);
        }
        protocol(port, &here, causes);
    }
}

fn variable(variable: &Value, path: &str, causes: &mut Vec<Cause>) {
    let name = meta::name_of(variable);
    if name.is_empty() {
        causes.push(Cause::required(format!("{path}.name"), ""));
    } else if name.contains('=') || !name.chars().all(|c| c.is_ascii_graphic() || c == ' ') {
        let words = "a valid environment variable name must consist only of printable ASCII characters other than '='";
        causes.push(Cause::invalid(format!("{path}.name"), &name.into(), words));
    }
    let from = meta::at(variable, &["valueFrom"]);
    if from.is_null() {
        return;
    }
    let here = format!("{path}.valueFrom");
    let known = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
    let given: Vec<&str> = known.into_iter().filter(|kind| from.get(kind).is_some()).collect();
    for kind in &given {
        let (reference, here) = (meta::at(from, &[kind]), format!("{here}.{kind}"));
        match *kind {
            "fieldRef" => {
                field_path(meta::string(reference, &["fieldPath"]), format!("{here}.fieldPath"), causes)
            }
            "configMapKeyRef" | "secretKeyRef" => {
                let name = meta::name_of(reference);
                if let Some(words) = names::bad_subdomain(name) {
                    causes.push(Cause::invalid(format!("{here}.name"), &name.into(), &words));
                }
                if meta::string(reference, &["key"]).is_empty() {
                    causes.push(Cause::required(format!("{here}.key"), ""));
                }
            }
            _ => {}
        }
    }
    let words = match (given.len(), meta::string(variable, &["value"])) {
        (0, _) => "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
        (_, value) if !value.is_empty() => "may not be specified when `value` is not empty",
        (1, _) => return,
        _ => "may not have more than one field specified at a time",
    };
    causes.push(Cause::invalid(here, &"".into(), words));
}

/// Fields of a Pod that a variable can have.
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

fn field_path(path: &str, here: String, causes: &mut Vec<Cause>) {
    let keyed = ["metadata.labels['", "metadata.annotations['"].iter().any(|start| path.starts_with(start));
    if path.is_empty() {
        causes.push(Cause::required(here, ""));
    } else if matches!(path, "spec.restartPolicy" | "spec.schedulerName" | "status.phase") {
        causes.push(Cause::unsupported(here, &path.into(), &FIELDS));
    } else if !keyed && !FIELDS.contains(&path) {
        let words = format!("error converting fieldPath: field label not supported: {path}");
        causes.push(Cause::invalid(here, &path.into(), &words));
    }
}

fn sources(list: &[Value], path: &str, causes: &mut Vec<Cause>) {
    for (at, from) in list.iter().enumerate() {
        let given: Vec<&str> =
            ["configMapRef", "secretRef"].into_iter().filter(|kind| from.get(kind).is_some()).collect();
        for kind in &given {
            if meta::string(from, &[kind, "name"]).is_empty() {
                causes.push(Cause::required(format!("{path}[{at}].{kind}.name"), ""));
            }
        }
        let words = match given.len() {
            0 => "must specify one of: `configMapRef` or `secretRef`",
            1 => continue,
            _ => "may not have more than one field specified at a time",
        };
        causes.push(Cause::invalid(path, &"".into(), words));
    }
}

fn mounts(container: &Value, volumes: &BTreeSet<String>, path: &str, causes: &mut Vec<Cause>) {
    let list = meta::items(container, &["volumeMounts"]);
    let privileged = meta::at(container, &["securityContext", "privileged"]).as_bool() == Some(true);
    let mut targets = BTreeSet::new();
    for (at, mount) in list.iter().enumerate() {
        let here = format!("{path}[{at}]");
        let (name, target) = (meta::name_of(mount), meta::string(mount, &["mountPath"]));
        if name.is_empty() {
            causes.push(Cause::required(format!("{here}.name"), ""));
        }
        if !volumes.contains(name) {
            causes.push(Cause::not_found(format!("{here}.name"), &name.into()));
        }
        if target.is_empty() {
            causes.push(Cause::required(format!("{here}.mountPath"), ""));
        }
        if !targets.insert(target) {
            causes.push(Cause::invalid(format!("{here}.mountPath"), &target.into(), "must be unique"));
        }
        for field in ["subPath", "subPathExpr"] {
            let below = meta::string(mount, &[field]);
            if below.starts_with('/') {
                causes.push(Cause::invalid(
                    format!("{path}.{field}"),
                    &below.into(),
                    "must be a relative path",
                ));
            }
            if below.split('/').any(|part| part == "..") {
                causes.push(Cause::invalid(
                    format!("{path}.{field}"),
                    &below.into(),
                    "must not contain '..'",
                ));
            }
        }
        propagation(mount, privileged, path, causes);
    }
}

/// How a mount follows those of the machine, and how it is below where it can only be read. The paths of the
/// causes name no element of the list there.
fn propagation(mount: &Value, privileged: bool, path: &str, causes: &mut Vec<Cause>) {
    let (flow, here) = (meta::at(mount, &["mountPropagation"]), format!("{path}.mountPropagation"));
    let known = ["Bidirectional", "HostToContainer", "None"];
    if flow.as_str().is_some_and(|flow| !known.contains(&flow)) {
        causes.push(Cause::unsupported(here.clone(), flow, &known));
    }
    if flow == "Bidirectional" && !privileged {
        let words = "Bidirectional mount propagation is available only to privileged containers";
        causes.push(Cause::forbidden(here, words));
    }
    let (below, here) = (meta::at(mount, &["recursiveReadOnly"]), format!("{path}.recursiveReadOnly"));
    let known = ["Disabled", "Enabled", "IfPossible"];
    if below.as_str().is_some_and(|below| !known.contains(&below)) {
        causes.push(Cause::unsupported(here.clone(), below, &known));
    }
    if !matches!(below.as_str(), Some("Enabled" | "IfPossible")) {
        return;
    }
    if meta::at(mount, &["readOnly"]).as_bool() != Some(true) {
        causes.push(Cause::forbidden(here.clone(), "may only be specified when readOnly is true"));
    }
    if !flow.is_null() && flow != "None" {
        let words = "may only be specified when mountPropagation is None or not specified";
        causes.push(Cause::forbidden(here, words));
    }
}

fn resources(resources: &Value, path: &str, causes: &mut Vec<Cause>) {
    for list in ["limits", "requests"] {
        for (name, amount) in meta::at(resources, &[list]).as_object().into_iter().flatten() {
            let here = format!("{path}.{list}[{name}]");
            let standard = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage");
            if !standard && !name.contains('/') && !name.starts_with("hugepages-") {
                for words in [
                    "must be a standard resource type or fully qualified",
                    "must be a standard resource for containers",
                ] {
                    causes.push(Cause::invalid(here.clone(), &name.as_str().into(), words));
                }
            }
            let value = amount.as_str().and_then(thousandths).unwrap_or(0);
            if value < 0 {
                causes.push(Cause::invalid(here, amount, "must be greater than or equal to 0"));
            }
            let limit = meta::string(resources, &["limits", name]);
            if list == "requests" && thousandths(limit).is_some_and(|most| value > most) {
                let words = format!("must be less than or equal to {name} limit of {limit}");
                causes.push(Cause::invalid(format!("{path}.requests"), amount, &words));
            }
        }
    }
}

/// The number of a user or a group.
pub fn identity(context: &Value, field: &str, path: &str, causes: &mut Vec<Cause>) {
    let number = meta::number(context, &[field]);
    if let Some(number) = number.filter(|number| !(0..=2_147_483_647).contains(number)) {
        let words = "must be between 0 and 2147483647, inclusive";
        causes.push(Cause::invalid(format!("{path}.{field}"), &number.into(), words));
    }
}

fn security(context: &Value, path: &str, causes: &mut Vec<Cause>) {
    for field in ["runAsUser", "runAsGroup"] {
        identity(context, field, path, causes);
    }
    let flag = |field: &str| meta::at(context, &[field]).as_bool();
    if flag("allowPrivilegeEscalation") == Some(false) && flag("privileged") == Some(true) {
        let words = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        causes.push(Cause {
            message: format!("Invalid value: {}: {words}", shown(context)),
            ..Cause::invalid(path, &Value::Null, words)
        });
    }
}

/// A security context as Kubernetes prints it: all fields, in the order of its type.
fn shown(context: &Value) -> String {
    const ALL: [&str; 12] = [
        "capabilities",
        "privileged",
        "seLinuxOptions",
        "windowsOptions",
        "runAsUser",
        "runAsGroup",
        "runAsNonRoot",
        "readOnlyRootFilesystem",
        "allowPrivilegeEscalation",
        "procMount",
        "seccompProfile",
        "appArmorProfile",
    ];
    let fields = ALL.map(|field| {
        let name = match field {
            "seLinuxOptions" => "SELinuxOptions".to_owned(),
            other => {
                let (first, rest) = other.split_at(1);
                format!("{}{rest}", first.to_uppercase())
            }
        };
        format!("{}:{}", json!(name), meta::at(context, &[field]))
    });
    format!("{{{}}}", fields.join(","))
}

/// Hooks and probes.
pub fn hooks(container: &Value, path: &str, causes: &mut Vec<Cause>) {
    for hook in ["postStart", "preStop"] {
        let handler = meta::at(container, &["lifecycle", hook]);
        if !handler.is_null() {
            self::handler(handler, &format!("{path}.lifecycle.{hook}"), causes);
        }
    }
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let (probe, here) = (meta::at(container, &[field]), format!("{path}.{field}"));
        if probe.is_null() {
            continue;
        }
        handler(probe, &here, causes);
        for number in
            ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
        {
            natural(probe, number, &here, causes);
        }
        let successes = meta::number(probe, &["successThreshold"]).unwrap_or(0);
        if field != "readinessProbe" && successes != 1 {
            causes.push(Cause::invalid(format!("{here}.successThreshold"), &successes.into(), "must be 1"));
        }
    }
}

fn handler(handler: &Value, path: &str, causes: &mut Vec<Cause>) {
    let known = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"];
    let given: Vec<&str> = known.into_iter().filter(|kind| handler.get(kind).is_some()).collect();
    let Some((first, others)) = given.split_first() else {
        return causes.push(Cause::required(path, "must specify a handler type"));
    };
    let (action, here) = (meta::at(handler, &[first]), format!("{path}.{first}"));
    match *first {
        "exec" if meta::items(action, &["command"]).is_empty() => {
            causes.push(Cause::required(format!("{here}.command"), ""));
        }
        "httpGet" => {
            if meta::string(action, &["path"]).is_empty() {
                causes.push(Cause::required(format!("{here}.path"), ""));
            }
            names::port(meta::at(action, &["port"]), format!("{here}.port"), causes);
            let scheme = meta::at(action, &["scheme"]);
            if !matches!(scheme.as_str(), Some("HTTP" | "HTTPS")) {
                causes.push(Cause::unsupported(format!("{here}.scheme"), scheme, &["HTTP", "HTTPS"]));
            }
        }
        "tcpSocket" | "grpc" => names::port(meta::at(action, &["port"]), format!("{here}.port"), causes),
        _ => {}
    }
    for other in others {
        causes.push(Cause::forbidden(format!("{path}.{other}"), "may not specify more than 1 handler type"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_follows_and_is_read_only_below_as_kubernetes_allows_it() {
        let said = |mount: Value, privileged: bool| {
            let mut causes = Vec::new();
            propagation(&mount, privileged, "m", &mut causes);
            let all = causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message));
            all.collect::<Vec<_>>()
        };
        let none = Vec::<String>::new();
        assert_eq!(said(json!({}), false), none);
        assert_eq!(said(json!({"mountPropagation": "Bidirectional"}), true), none);
        assert_eq!(said(json!({"readOnly": true, "recursiveReadOnly": "Enabled"}), false), none);
        assert_eq!(said(json!({"recursiveReadOnly": "Disabled"}), false), none);
        assert_eq!(
            said(json!({"mountPropagation": "Bidirectional"}), false),
            [
                "m.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers"
            ]
        );
        assert_eq!(
            said(json!({"mountPropagation": "HostToContainer", "recursiveReadOnly": "IfPossible"}), false),
            [
                "m.recursiveReadOnly: Forbidden: may only be specified when readOnly is true",
                "m.recursiveReadOnly: Forbidden: may only be specified when mountPropagation is None or not specified"
            ]
        );
        let wrong = said(json!({"mountPropagation": "", "recursiveReadOnly": "Nope"}), false);
        assert_eq!(
            wrong,
            [
                "m.mountPropagation: Unsupported value: \"\": supported values: \"Bidirectional\", \"HostToContainer\", \"None\"",
                "m.recursiveReadOnly: Unsupported value: \"Nope\": supported values: \"Disabled\", \"Enabled\", \"IfPossible\""
            ]
        );
    }
}
