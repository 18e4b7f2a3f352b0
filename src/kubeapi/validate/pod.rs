//! Checks of Pods and Pod templates.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{port_number, protocol};
use crate::kubeapi::meta;
use crate::kubeapi::status::Cause;

/// What is wrong with a Pod's `spec`.
pub fn spec(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    let volumes: BTreeSet<&str> = names(meta::items(spec, &["volumes"]), &format!("{path}.volumes"), causes);
    if meta::items(spec, &["containers"]).is_empty() {
        causes.push(Cause::required(format!("{path}.containers"), ""));
    }
    for field in ["initContainers", "containers"] {
        let list = meta::items(spec, &[field]);
        names(list, &format!("{path}.{field}"), causes);
        for (at, one) in list.iter().enumerate() {
            container(one, &volumes, &format!("{path}.{field}[{at}]"), causes);
        }
    }
    let policy = meta::at(spec, &["restartPolicy"]);
    if !matches!(policy.as_str(), Some("Always" | "OnFailure" | "Never")) {
        causes.push(Cause::unsupported(
            format!("{path}.restartPolicy"),
            policy,
            &["Always", "Never", "OnFailure"],
        ));
    }
    let policy = meta::at(spec, &["dnsPolicy"]);
    if !matches!(policy.as_str(), Some("ClusterFirst" | "ClusterFirstWithHostNet" | "Default" | "None")) {
        let known = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
        causes.push(Cause::unsupported(format!("{path}.dnsPolicy"), policy, &known));
    }
    if let Some(grace) = meta::number(spec, &["terminationGracePeriodSeconds"]).filter(|grace| *grace < 0) {
        let words = "must be greater than or equal to 0";
        causes.push(Cause::invalid(format!("{path}.terminationGracePeriodSeconds"), &grace.into(), words));
    }
}

fn names<'a>(list: &'a [Value], path: &str, causes: &mut Vec<Cause>) -> BTreeSet<&'a str> {
    let mut all = BTreeSet::new();
    for (at, item) in list.iter().enumerate() {
        let name = meta::string(item, &["name"]);
        let here = format!("{path}[{at}].name");
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() {
            causes.push(Cause::required(here, ""));
        } else if name.len() > 63 || !name.chars().all(legal) || name.starts_with('-') || name.ends_with('-')
        {
            let words = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
            causes.push(Cause::invalid(here, &name.into(), words));
        } else if !all.insert(name) {
            causes.push(Cause::duplicate(here, &name.into()));
        }
    }
    all
}

fn container(container: &Value, volumes: &BTreeSet<&str>, path: &str, causes: &mut Vec<Cause>) {
    if meta::string(container, &["image"]).is_empty() {
        causes.push(Cause::required(format!("{path}.image"), ""));
    }
    let policy = meta::at(container, &["imagePullPolicy"]);
    if !matches!(policy.as_str(), Some("Always" | "IfNotPresent" | "Never")) {
        let known = ["Always", "IfNotPresent", "Never"];
        causes.push(Cause::unsupported(format!("{path}.imagePullPolicy"), policy, &known));
    }
    for (at, port) in meta::items(container, &["ports"]).iter().enumerate() {
        let here = format!("{path}.ports[{at}]");
        port_number(port, "containerPort", &here, causes);
        protocol(port, &here, causes);
    }
    for (at, variable) in meta::items(container, &["env"]).iter().enumerate() {
        if meta::string(variable, &["name"]).is_empty() {
            causes.push(Cause::required(format!("{path}.env[{at}].name"), ""));
        }
    }
    let mut targets = BTreeSet::new();
    for (at, mount) in meta::items(container, &["volumeMounts"]).iter().enumerate() {
        let here = format!("{path}.volumeMounts[{at}]");
        let (name, target) = (meta::string(mount, &["name"]), meta::string(mount, &["mountPath"]));
        if !volumes.contains(name) {
            causes.push(Cause {
                field: format!("{here}.name"),
                reason: "FieldValueNotFound",
                message: format!("Not found: {name:?}"),
            });
        }
        if target.is_empty() {
            causes.push(Cause::required(format!("{here}.mountPath"), ""));
        } else if !targets.insert(target) {
            causes.push(Cause::invalid(format!("{here}.mountPath"), &target.into(), "must be unique"));
        }
    }
    resources(meta::at(container, &["resources"]), &format!("{path}.resources"), causes);
}

fn resources(resources: &Value, path: &str, causes: &mut Vec<Cause>) {
    for list in ["limits", "requests"] {
        for (name, amount) in meta::at(resources, &[list]).as_object().into_iter().flatten() {
            let text = amount.as_str().unwrap_or_default();
            match crate::kubeapi::quantity::thousandths(text) {
                None => causes.push(Cause::invalid(
                    format!("{path}.{list}[{name}]"),
                    amount,
                    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
                )),
                Some(value) if value < 0 => {
                    let words = "must be greater than or equal to 0";
                    causes.push(Cause::invalid(format!("{path}.{list}[{name}]"), amount, words));
                }
                Some(value) if list == "requests" => {
                    let limit = meta::string(resources, &["limits", name]);
                    let limit = crate::kubeapi::quantity::thousandths(limit);
                    if limit.is_some_and(|limit| value > limit) {
                        let words = format!("must be less than or equal to {name} limit");
                        causes.push(Cause::invalid(format!("{path}.{list}"), amount, &words));
                    }
                }
                Some(_) => {}
            }
        }
    }
}

/// Containers can be put beside those of a Pod that runs; those that are there stay as they are.
pub fn ephemeral(object: &Value, old: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let path = "spec.ephemeralContainers";
    let list = meta::items(object, &["spec", "ephemeralContainers"]);
    let mut taken = BTreeSet::new();
    for field in ["initContainers", "containers"] {
        taken.extend(meta::items(object, &["spec", field]).iter().map(|c| meta::string(c, &["name"])));
    }
    let volumes =
        meta::items(object, &["spec", "volumes"]).iter().map(|v| meta::string(v, &["name"])).collect();
    names(list, path, &mut causes);
    for (at, one) in list.iter().enumerate() {
        let name = meta::string(one, &["name"]);
        container(one, &volumes, &format!("{path}[{at}]"), &mut causes);
        if taken.contains(name) {
            causes.push(Cause::duplicate(format!("{path}[{at}].name"), &name.into()));
        }
    }
    for known in meta::items(old, &["spec", "ephemeralContainers"]) {
        let name = meta::string(known, &["name"]);
        let now = list.iter().find(|one| meta::string(one, &["name"]) == name);
        if now != Some(known) {
            let (reason, what) = ("FieldValueForbidden", if now.is_some() { "changed" } else { "removed" });
            let message = format!("Forbidden: existing ephemeral containers {name:?} may not be {what}\n");
            causes.push(Cause { field: path.into(), reason, message });
        }
    }
    causes
}

/// A Pod's `spec` stays, but for a few fields.
pub fn update(object: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let strip = |pod: &Value| {
        let mut spec = meta::at(pod, &["spec"]).clone();
        for field in ["initContainers", "containers"] {
            for container in crate::kubeapi::defaults::list(&mut spec, field) {
                meta::map(container).remove("image");
            }
        }
        let map = meta::map(&mut spec);
        for field in
            ["activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations", "schedulingGates"]
        {
            map.remove(field);
        }
        // Set once, by the scheduler.
        if meta::string(old, &["spec", "nodeName"]).is_empty() {
            map.remove("nodeName");
        }
        spec
    };
    if strip(object) != strip(old) {
        causes.push(Cause {
            field: "spec".into(),
            reason: "FieldValueForbidden",
            message: "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)".into(),
        });
    }
    let both = |object: &Value| meta::items(object, &["spec", "containers"]).len();
    if both(object) == 0 {
        causes.push(Cause::required("spec.containers", ""));
    }
}
