//! How the lists of Kubernetes' objects are merged: by keys, as sets, or as a whole (`listType`,
//! `listMapKey` and `patchMergeKey` of the API's OpenAPI specification, for the kinds served here).

use serde_json::{Map, Value};

/// How a list is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListType {
    /// As one value.
    Atomic,
    /// Its items are values, each there once.
    Set,
    /// Its items are objects with keys; the second is the one key of strategic merge patches.
    Map(&'static [&'static str], &'static str),
}

/// How the list in a field is merged.
pub fn list_type(kind: &str, field: &str) -> ListType {
    match field {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "volumes"
        | "env"
        | "imagePullSecrets"
        | "resourceClaims"
        | "secrets" => ListType::Map(&["name"], "name"),
        "volumeMounts" => ListType::Map(&["mountPath"], "mountPath"),
        "volumeDevices" => ListType::Map(&["devicePath"], "devicePath"),
        "hostAliases" | "podIPs" | "hostIPs" => ListType::Map(&["ip"], "ip"),
        "conditions" => ListType::Map(&["type"], "type"),
        "ownerReferences" => ListType::Map(&["uid"], "uid"),
        "topologySpreadConstraints" => ListType::Map(&["topologyKey", "whenUnsatisfiable"], "topologyKey"),
        "finalizers" => ListType::Set,
        "ports" => match kind {
            "Service" => ListType::Map(&["port", "protocol"], "port"),
            "EndpointSlice" | "Endpoints" => ListType::Atomic,
            _ => ListType::Map(&["containerPort", "protocol"], "containerPort"),
        },
        _ => ListType::Atomic,
    }
}

/// Whether a field's object is merged as one value.
pub fn is_atomic(field: &str) -> bool {
    matches!(
        field,
        "selector"
            | "nodeSelector"
            | "fieldRef"
            | "secretKeyRef"
            | "configMapKeyRef"
            | "resourceFieldRef"
            | "scopeSelector"
            | "allocatedResources"
    )
}

/// The keys of an item, with the defaults of those that may be left out.
pub fn keys_of(item: &Value, keys: &[&str]) -> Map<String, Value> {
    keys.iter()
        .filter_map(|key| {
            let value = item.get(key).cloned().or_else(|| (*key == "protocol").then(|| "TCP".into()));
            Some(((*key).to_owned(), value?))
        })
        .collect()
}
