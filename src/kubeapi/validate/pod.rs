//! Checks of Pods and Pod templates, in the order in which Kubernetes makes them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::values::choice;
use super::{container, names, volume};
use crate::label_syntax;
use crate::meta;
use crate::status::Cause;

/// What is wrong with a new Pod.
pub fn create(pod: &Value, causes: &mut Vec<Cause>) {
    spec(meta::at(pod, &["spec"]), "spec", causes);
    container::images(pod, false, causes);
    if !meta::items(pod, &["spec", "ephemeralContainers"]).is_empty() {
        causes.push(Cause::forbidden("spec.ephemeralContainers", "cannot be set on create"));
    }
}

/// What is wrong with a template.
pub fn template(template: &Value, path: &str, causes: &mut Vec<Cause>) {
    super::labels(meta::at(template, &["metadata", "labels"]), &format!("{path}.labels"), causes);
    spec(meta::at(template, &["spec"]), &format!("{path}.spec"), causes);
    if !meta::items(template, &["spec", "ephemeralContainers"]).is_empty() {
        let words = "ephemeral containers not allowed in pod template";
        causes.push(Cause::forbidden(format!("{path}.spec.ephemeralContainers"), words));
    }
}

/// What is wrong with a Pod's `spec`.
pub fn spec(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    let volumes = volume::all(meta::items(spec, &["volumes"]), &format!("{path}.volumes"), causes);
    containers(spec, &volumes, path, causes);
    host_ports(spec, path, causes);
    let chosen = |field: &str, known: &[&str], causes: &mut Vec<Cause>| {
        choice(meta::at(spec, &[field]), format!("{path}.{field}"), known, causes);
    };
    chosen("restartPolicy", &["Always", "OnFailure", "Never"], causes);
    chosen("dnsPolicy", &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], causes);
    super::labels(meta::at(spec, &["nodeSelector"]), &format!("{path}.nodeSelector"), causes);
    security(spec, &format!("{path}.securityContext"), causes);
    dns(spec, &format!("{path}.dnsConfig"), causes);
    for (field, check) in [
        ("serviceAccountName", names::bad_subdomain as fn(&str) -> Option<String>),
        ("nodeName", names::bad_subdomain),
    ] {
        named(spec, field, path, check, causes);
    }
    if let Some(value) = meta::number(spec, &["activeDeadlineSeconds"]).filter(|n| !(1..=MOST).contains(n)) {
        let words = "must be between 1 and 2147483647, inclusive";
        causes.push(Cause::invalid(format!("{path}.activeDeadlineSeconds"), &value.into(), words));
    }
    named(spec, "hostname", path, names::bad_label, causes);
    named(spec, "subdomain", path, names::bad_label, causes);
    tolerations(meta::items(spec, &["tolerations"]), &format!("{path}.tolerations"), causes);
    aliases(meta::items(spec, &["hostAliases"]), &format!("{path}.hostAliases"), causes);
}

/// The largest whole number of most fields.
const MOST: i64 = 2_147_483_647;

fn named(spec: &Value, field: &str, path: &str, check: fn(&str) -> Option<String>, causes: &mut Vec<Cause>) {
    let name = meta::string(spec, &[field]);
    if let Some(words) = check(name).filter(|_| !name.is_empty()) {
        causes.push(Cause::invalid(format!("{path}.{field}"), &name.into(), &words));
    }
}

fn containers(spec: &Value, volumes: &BTreeSet<String>, path: &str, causes: &mut Vec<Cause>) {
    let list = meta::items(spec, &["containers"]);
    if list.is_empty() {
        causes.push(Cause::required(format!("{path}.containers"), ""));
    }
    let mut taken = BTreeSet::new();
    for (at, one) in list.iter().enumerate() {
        let here = format!("{path}.containers[{at}]");
        container::check(one, volumes, &here, causes);
        if !taken.insert(meta::name_of(one)) {
            causes.push(Cause::duplicate(format!("{here}.name"), meta::at(one, &["name"])));
        }
        container::hooks(one, &here, causes);
    }
    for (at, one) in meta::items(spec, &["initContainers"]).iter().enumerate() {
        let here = format!("{path}.initContainers[{at}]");
        container::check(one, volumes, &here, causes);
        let policy = meta::at(one, &["restartPolicy"]);
        let always = policy.as_str() == Some("Always");
        if !policy.is_null() && !always {
            causes.push(Cause::unsupported(format!("{here}.restartPolicy"), policy, &["Always"]));
        }
        if !taken.insert(meta::name_of(one)) {
            causes.push(Cause::duplicate(format!("{here}.name"), meta::at(one, &["name"])));
        }
        if always {
            container::hooks(one, &here, causes);
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if !meta::at(one, &[field]).is_null() {
                let words = "may not be set for init containers without restartPolicy=Always";
                causes.push(Cause::forbidden(format!("{here}.{field}"), words));
            }
        }
    }
    for (at, one) in meta::items(spec, &["ephemeralContainers"]).iter().enumerate() {
        let here = format!("{path}.ephemeralContainers[{at}]");
        container::check(one, volumes, &here, causes);
        if !taken.insert(meta::name_of(one)) {
            causes.push(Cause::duplicate(format!("{here}.name"), meta::at(one, &["name"])));
        }
    }
}

/// In the host's network a port is the same on both sides.
fn host_ports(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    if meta::at(spec, &["hostNetwork"]).as_bool() != Some(true) {
        return;
    }
    for (at, one) in meta::items(spec, &["containers"]).iter().enumerate() {
        for (number, port) in meta::items(one, &["ports"]).iter().enumerate() {
            let host = meta::number(port, &["hostPort"]).unwrap_or(0);
            if Some(host) != meta::number(port, &["containerPort"]) {
                let here = format!("{path}.containers[{at}].ports[{number}].hostPort");
                let words = "must match `containerPort` when `hostNetwork` is true";
                causes.push(Cause::invalid(here, &host.into(), words));
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
        taken.extend(meta::items(object, &["spec", field]).iter().map(meta::name_of));
    }
    let volumes = meta::items(object, &["spec", "volumes"]);
    let volumes = volumes.iter().map(|volume| meta::name_of(volume).to_owned()).collect();
    for (at, one) in list.iter().enumerate() {
        let here = format!("{path}[{at}]");
        container::check(one, &volumes, &here, &mut causes);
        if !taken.insert(meta::name_of(one)) {
            causes.push(Cause::duplicate(format!("{here}.name"), meta::at(one, &["name"])));
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

fn security(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    let context = meta::at(spec, &["securityContext"]);
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        container::identity(context, field, path, causes);
    }
    for (at, sysctl) in meta::items(context, &["sysctls"]).iter().enumerate() {
        let (name, here) = (meta::string(sysctl, &["name"]), format!("{path}.sysctls[{at}].name"));
        let part = |part: &str| {
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            part.starts_with(legal)
                && part.ends_with(legal)
                && part.chars().all(|c| legal(c) || "-_".contains(c))
        };
        if name.is_empty() {
            causes.push(Cause::required(here, ""));
        } else if name.len() > 253 || !name.split(['.', '/']).all(part) {
            let words = "must have at most 253 characters and match regex \
                         ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            causes.push(Cause::invalid(here, &name.into(), words));
        }
    }
}

fn dns(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    let config = meta::at(spec, &["dnsConfig"]);
    let servers = meta::items(config, &["nameservers"]);
    if meta::string(spec, &["dnsPolicy"]) == "None" {
        if config.is_null() {
            let words = "must provide `dnsConfig` when `dnsPolicy` is None";
            return causes.push(Cause::required(path, words));
        }
        if servers.is_empty() {
            let words = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            return causes.push(Cause::required(format!("{path}.nameservers"), words));
        }
    }
    for (at, server) in servers.iter().enumerate() {
        names::address(server, format!("{path}.nameservers[{at}]"), causes);
    }
    for (at, search) in meta::items(config, &["searches"]).iter().enumerate() {
        let text = search.as_str().unwrap_or_default();
        let domain = text.strip_suffix('.').unwrap_or(text);
        if text != "."
            && let Some(words) = names::bad_search(domain)
        {
            causes.push(Cause::invalid(format!("{path}.searches[{at}]"), &domain.into(), &words));
        }
    }
}

fn tolerations(list: &[Value], path: &str, causes: &mut Vec<Cause>) {
    for (at, one) in list.iter().enumerate() {
        let here = |field: &str| format!("{path}[{at}].{field}");
        let text = |field: &str| meta::string(one, &[field]);
        let value = |field: &str| meta::at(one, &[field]);
        if let Some(words) = label_syntax::bad_key(text("key")).filter(|_| !text("key").is_empty()) {
            causes.push(Cause::invalid(here("key"), value("key"), &words));
        }
        if text("key").is_empty() && text("operator") != "Exists" {
            let words =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            causes.push(Cause::invalid(here("operator"), &text("operator").into(), words));
        }
        if !value("tolerationSeconds").is_null() && text("effect") != "NoExecute" {
            let words = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            causes.push(Cause::invalid(here("effect"), &text("effect").into(), words));
        }
        match text("operator") {
            "Equal" | "" if !label_syntax::is_value(text("value")) => {
                causes.push(Cause::invalid(here("operator"), value("value"), label_syntax::VALUE));
            }
            "Exists" if !text("value").is_empty() => {
                let words = "value must be empty when `operator` is 'Exists'";
                causes.push(Cause::invalid(here("operator"), value("value"), words));
            }
            "Equal" | "" | "Exists" => {}
            _ => causes.push(Cause::unsupported(here("operator"), value("operator"), &["Equal", "Exists"])),
        }
        if !matches!(text("effect"), "" | "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
            let known = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
            causes.push(Cause::unsupported(here("effect"), value("effect"), &known));
        }
    }
}

fn aliases(list: &[Value], path: &str, causes: &mut Vec<Cause>) {
    for (at, alias) in list.iter().enumerate() {
        names::address(meta::at(alias, &["ip"]), format!("{path}[{at}].ip"), causes);
        for (number, name) in meta::items(alias, &["hostnames"]).iter().enumerate() {
            if let Some(words) = names::bad_subdomain(name.as_str().unwrap_or_default()) {
                causes.push(Cause::invalid(format!("{path}[{at}].hostnames[{number}]"), name, &words));
            }
        }
    }
}

/// The fields that an update of a Pod may change.
const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// A Pod's `spec` stays, but for a few fields.
pub fn update(object: &Value, old: &Value, causes: &mut Vec<Cause>) {
    spec(meta::at(object, &["spec"]), "spec", causes);
    container::images(object, false, causes);
    for field in ["containers", "initContainers"] {
        let (new, before) = (meta::items(object, &["spec", field]), meta::items(old, &["spec", field]));
        if new.len() != before.len() {
            let words = "pod updates may not add or remove containers";
            return causes.push(Cause::forbidden(format!("spec.{field}"), words));
        }
    }
    container::images(object, true, causes);
    let strip = |pod: &Value| {
        let mut spec = meta::at(pod, &["spec"]).clone();
        for field in ["initContainers", "containers"] {
            for container in crate::defaults::list(&mut spec, field) {
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
        let words = format!("pod updates may not change fields other than {UPDATABLE}");
        causes.push(Cause::forbidden("spec", &words));
    }
}
