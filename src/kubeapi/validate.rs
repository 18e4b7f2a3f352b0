//! What the API server refuses: names, fields that must be there, values that cannot be, and changes
//! of what is immutable. Words and reasons are those of Kubernetes (422 `Invalid`).

pub mod pod;

use serde_json::Value;

use super::kinds::Kind;
use super::meta;
use super::selectors::label_selector_matches;
use super::status::Cause;

/// Everything that is wrong with an object; `old` is what it replaces.
pub fn check(kind: &Kind, object: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = metadata(kind, object);
    match kind.name {
        "Pod" => match old {
            Some(old) => pod::update(object, old, &mut causes),
            None => pod::spec(meta::at(object, &["spec"]), "spec", &mut causes),
        },
        "Deployment" | "ReplicaSet" => workload(kind, object, old, &mut causes),
        "Job" => job(object, old, &mut causes),
        "Service" => service(object, old, &mut causes),
        "PersistentVolumeClaim" => claim(object, old, &mut causes),
        "ConfigMap" | "Secret" => data(kind, object, old, &mut causes),
        _ => {}
    }
    causes
}

fn metadata(kind: &Kind, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let name = meta::name(object);
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else if let Some(words) = bad_name(kind, name) {
        causes.push(Cause::invalid("metadata.name", &name.into(), &words));
    }
    owners(object, &mut causes);
    for (at, finalizer) in meta::items(object, &["metadata", "finalizers"]).iter().enumerate() {
        let name = finalizer.as_str().unwrap_or_default();
        if !name.contains('/') && !matches!(name, "orphan" | "foregroundDeletion" | "kubernetes") {
            let words = "name is neither a standard finalizer name nor is it fully qualified";
            causes.push(Cause::invalid(format!("metadata.finalizers[{at}]"), finalizer, words));
        }
    }
    labels(meta::at(object, &["metadata", "labels"]), "metadata.labels", &mut causes);
    for key in meta::at(object, &["metadata", "annotations"]).as_object().into_iter().flatten() {
        if let Some(words) = bad_key(key.0) {
            causes.push(Cause::invalid("metadata.annotations", &key.0.as_str().into(), words));
        }
    }
    causes
}

fn owners(object: &Value, causes: &mut Vec<Cause>) {
    for owner in meta::items(object, &["metadata", "ownerReferences"]) {
        for (field, words) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "must not be empty"),
            ("name", "must not be empty"),
            ("uid", "must not be empty"),
        ] {
            if meta::string(owner, &[field]).is_empty() {
                causes.push(Cause::invalid(format!("metadata.ownerReferences.{field}"), &"".into(), words));
            }
        }
    }
}

/// RFC 1123 subdomains, and labels where a name becomes one of DNS.
fn bad_name(kind: &Kind, name: &str) -> Option<String> {
    let label = matches!(kind.name, "Namespace" | "Service");
    let limit = if label { 63 } else { 253 };
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || (!label && c == '.');
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let starts = if kind.name == "Service" {
        name.starts_with(|c: char| c.is_ascii_lowercase())
    } else {
        end(name.chars().next())
    };
    if name.len() > limit {
        return Some(format!("must be no more than {limit} characters"));
    }
    let parts = name.split('.').all(|part| end(part.chars().next()) && end(part.chars().last()));
    if name.chars().all(legal) && starts && parts {
        return None;
    }
    Some(match (kind.name, label) {
        ("Service", _) => "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')".into(),
        (_, true) => "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')".into(),
        _ => "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')".into(),
    })
}

fn bad_key(key: &str) -> Option<&'static str> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let words = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    if prefix.is_some_and(|p| p.is_empty() || p.len() > 253)
        || name.is_empty()
        || name.len() > 63
        || !is_value(name)
    {
        return Some(words);
    }
    None
}

/// Whether a text is legal as a label's value (an empty one is, too).
fn is_value(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let end = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    text.len() <= 63 && text.chars().all(inner) && end(text.chars().next()) && end(text.chars().last())
}

fn labels(labels: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        if let Some(words) = bad_key(key) {
            causes.push(Cause::invalid(path, &key.as_str().into(), words));
        }
        if !is_value(value.as_str().unwrap_or_default()) {
            causes.push(Cause::invalid(path, value, "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"));
        }
    }
}

fn immutable(object: &Value, old: Option<&Value>, path: &[&str], causes: &mut Vec<Cause>) {
    let (new, before) = (meta::at(object, path), old.map(|old| meta::at(old, path)));
    if before.is_some_and(|before| before != new) {
        causes.push(Cause::invalid(path.join("."), new, "field is immutable"));
    }
}

fn workload(kind: &Kind, object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    if let Some(count) = meta::number(object, &["spec", "replicas"]).filter(|count| *count < 0) {
        let words = "must be greater than or equal to 0";
        causes.push(Cause::invalid("spec.replicas", &count.into(), words));
    }
    let selector = meta::at(object, &["spec", "selector"]);
    let template = meta::at(object, &["spec", "template"]);
    if selector.as_object().is_none_or(serde_json::Map::is_empty) {
        causes.push(Cause::required("spec.selector", ""));
    } else if !label_selector_matches(selector, meta::at(template, &["metadata", "labels"])) {
        let value = meta::at(template, &["metadata", "labels"]);
        causes.push(Cause::invalid(
            "spec.template.metadata.labels",
            value,
            "`selector` does not match template `labels`",
        ));
    }
    labels(meta::at(template, &["metadata", "labels"]), "spec.template.labels", causes);
    immutable(object, old, &["spec", "selector"], causes);
    pod::spec(meta::at(template, &["spec"]), "spec.template.spec", causes);
    let policy = meta::at(template, &["spec", "restartPolicy"]);
    if policy.as_str() != Some("Always") {
        causes.push(Cause::unsupported("spec.template.spec.restartPolicy", policy, &["Always"]));
    }
    let strategy = meta::at(object, &["spec", "strategy"]);
    if kind.name == "Deployment"
        && meta::string(strategy, &["type"]) == "Recreate"
        && strategy.get("rollingUpdate").is_some()
    {
        causes.push(Cause {
            field: "spec.strategy.rollingUpdate".into(),
            reason: "FieldValueForbidden",
            message: "Forbidden: may not be specified when strategy `type` is 'Recreate'".into(),
        });
    }
}

fn job(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    for field in
        ["parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"]
    {
        if let Some(count) = meta::number(object, &["spec", field]).filter(|count| *count < 0) {
            let words = "must be greater than or equal to 0";
            causes.push(Cause::invalid(format!("spec.{field}"), &count.into(), words));
        }
    }
    let mode = meta::at(object, &["spec", "completionMode"]);
    if mode.as_str() != Some("NonIndexed") {
        causes.push(Cause::unsupported("spec.completionMode", mode, &["NonIndexed"]));
    }
    let policy = meta::at(object, &["spec", "template", "spec", "restartPolicy"]);
    if !matches!(policy.as_str(), Some("Never" | "OnFailure")) {
        let known = ["OnFailure", "Never"];
        let cause = Cause::unsupported("spec.template.spec.restartPolicy", policy, &known);
        causes.push(Cause {
            reason: "FieldValueRequired",
            message: "Required value: valid values: \"OnFailure\", \"Never\"".into(),
            ..cause
        });
    }
    pod::spec(meta::at(object, &["spec", "template", "spec"]), "spec.template.spec", causes);
    for field in ["selector", "completionMode"] {
        immutable(object, old, &["spec", field], causes);
    }
    let suspended = |o: &Value| meta::at(o, &["spec", "suspend"]).as_bool() == Some(true);
    let started = |o: &Value| !meta::at(o, &["status", "startTime"]).is_null();
    if old.is_some_and(|old| !suspended(old) || started(old)) {
        immutable(object, old, &["spec", "template"], causes);
        immutable(object, old, &["spec", "completions"], causes);
    }
}

fn service(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = meta::at(object, &["spec"]);
    let (kind, ports) = (meta::string(spec, &["type"]), meta::items(spec, &["ports"]));
    if !matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName") {
        let known = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
        causes.push(Cause::unsupported("spec.type", meta::at(spec, &["type"]), &known));
    }
    if ports.is_empty() && kind != "ExternalName" && meta::string(spec, &["clusterIP"]) != "None" {
        causes.push(Cause::required("spec.ports", ""));
    }
    for (at, port) in ports.iter().enumerate() {
        let here = format!("spec.ports[{at}]");
        port_number(port, "port", &here, causes);
        if ports.len() > 1 && meta::string(port, &["name"]).is_empty() {
            causes.push(Cause::required(format!("{here}.name"), ""));
        }
        protocol(port, &here, causes);
        let same = |other: &&Value| ["port", "protocol"].iter().all(|f| other.get(*f) == port.get(*f));
        if ports.iter().take(at).any(|other| same(&other)) {
            let value = serde_json::json!({"port": port.get("port"), "protocol": port.get("protocol")});
            causes.push(Cause::duplicate(here, &value));
        }
    }
    let before = old.map(|old| meta::string(old, &["spec", "clusterIP"])).unwrap_or_default();
    if !before.is_empty() && kind != "ExternalName" && before != meta::string(spec, &["clusterIP"]) {
        let words = "may not change once set";
        causes.push(Cause::invalid("spec.clusterIPs[0]", meta::at(spec, &["clusterIPs"]), words));
    }
}

pub(super) fn port_number(port: &Value, field: &str, path: &str, causes: &mut Vec<Cause>) {
    match meta::number(port, &[field]) {
        None | Some(0) => causes.push(Cause::required(format!("{path}.{field}"), "")),
        Some(1..=65535) => {}
        Some(number) => {
            let words = "must be between 1 and 65535, inclusive";
            causes.push(Cause::invalid(format!("{path}.{field}"), &number.into(), words));
        }
    }
}

pub(super) fn protocol(port: &Value, path: &str, causes: &mut Vec<Cause>) {
    if !matches!(meta::string(port, &["protocol"]), "TCP" | "UDP" | "SCTP") {
        let value = meta::at(port, &["protocol"]);
        causes.push(Cause::unsupported(format!("{path}.protocol"), value, &["SCTP", "TCP", "UDP"]));
    }
}

fn claim(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let modes = meta::items(object, &["spec", "accessModes"]);
    if modes.is_empty() {
        causes.push(Cause::required("spec.accessModes", "at least 1 access mode is required"));
    }
    let known = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
    for mode in modes.iter().filter(|mode| !known.iter().any(|k| mode.as_str() == Some(k))) {
        causes.push(Cause::unsupported("spec.accessModes", mode, &known));
    }
    if meta::at(object, &["spec", "resources", "requests", "storage"]).is_null() {
        causes.push(Cause::required("spec.resources[storage]", ""));
    }
    for field in ["accessModes", "storageClassName", "selector", "volumeMode"] {
        let before = old.map(|old| meta::at(old, &["spec", field]));
        if before.is_some_and(|before| !before.is_null() && before != meta::at(object, &["spec", field])) {
            causes.push(Cause {
                field: "spec".into(),
                reason: "FieldValueForbidden",
                message: "Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims".into(),
            });
            break;
        }
    }
}

fn data(kind: &Kind, object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let mut size = 0;
    for field in ["data", "binaryData"] {
        for (key, value) in meta::at(object, &[field]).as_object().into_iter().flatten() {
            let text = value.as_str().unwrap_or_default();
            size +=
                if field == "binaryData" || kind.name == "Secret" { text.len() / 4 * 3 } else { text.len() };
            let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if key.is_empty()
                || key.len() > 253
                || !key.chars().all(legal)
                || key == "."
                || key.starts_with("..")
            {
                let words = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
                causes.push(Cause::invalid(format!("{field}[{key}]"), &key.as_str().into(), words));
            }
        }
    }
    if size > 1024 * 1024 {
        let words = "must have at most 1048576 bytes";
        causes.push(Cause {
            field: String::new(),
            reason: "FieldValueTooLong",
            message: format!("Too long: {words}"),
        });
    }
    if old.is_some_and(|old| meta::at(old, &["immutable"]).as_bool() == Some(true)) {
        for field in ["data", "binaryData", "immutable"] {
            if old.is_some_and(|old| meta::at(old, &[field]) != meta::at(object, &[field])) {
                causes.push(Cause {
                    field: field.into(),
                    reason: "FieldValueForbidden",
                    message: "Forbidden: field is immutable when `immutable` is set".into(),
                });
            }
        }
    }
    if kind.name == "Secret" {
        let needed: &[&str] = match meta::string(object, &["type"]) {
            "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
            "kubernetes.io/dockercfg" => &[".dockercfg"],
            "kubernetes.io/tls" => &["tls.crt", "tls.key"],
            _ => &[],
        };
        for key in needed.iter().filter(|key| meta::at(object, &["data", key]).is_null()) {
            causes.push(Cause::required(format!("data[{key}]"), ""));
        }
        immutable(object, old, &["type"], causes);
    }
}
