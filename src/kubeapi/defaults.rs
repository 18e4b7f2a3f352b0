//! The values that the API server fills in (`zz_generated.defaults` of each API group, told in the
//! API reference field by field), before an object is validated and stored.

pub mod daemon_set;
mod pod;
mod stateful_set;
mod workload;

use serde_json::{Map, Value, json};

use super::kinds::Kind;
use super::meta;

/// Fills in what a request left out.
pub fn fill(kind: &Kind, object: &mut Value) {
    match kind.name {
        "Pod" => pod::fill(object, ""),
        "Deployment" => workload::deployment(object),
        "ReplicaSet" => workload::replica_set(object),
        "StatefulSet" => stateful_set::fill(object),
        "DaemonSet" => daemon_set::fill(object),
        "CronJob" => workload::cron_job(object),
        "Job" => workload::job(object),
        "Service" => service(object),
        "PersistentVolumeClaim" => claim(object),
        "PersistentVolume" => volume(object),
        "Secret" => secret(object),
        "Namespace" => namespace(object),
        "StorageClass" => {
            let map = meta::map(object);
            put(map, "reclaimPolicy", || "Delete".into());
            put(map, "volumeBindingMode", || "Immediate".into());
        }
        "EndpointSlice" => ports(object, "ports"),
        "Endpoints" => {
            for subset in list(object, "subsets") {
                ports(subset, "ports");
            }
        }
        _ => {}
    }
}

/// Takes out what only a feature knows that this version of Kubernetes has switched off.
pub fn disable(kind: &Kind, object: &mut Value) {
    if kind.name == "Lease"
        && let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
    {
        spec.retain(|field, _| !matches!(field.as_str(), "strategy" | "preferredHolder"));
    }
    let spec = match kind.name {
        "Pod" => object.get_mut("spec"),
        "CronJob" => object.pointer_mut("/spec/jobTemplate/spec/template/spec"),
        _ => object.pointer_mut("/spec/template/spec"),
    };
    let Some(spec) = spec.filter(|spec| spec.is_object()) else { return };
    meta::map(spec).remove("hostnameOverride");
    for source in list(spec, "volumes").flat_map(|volume| {
        volume.pointer_mut("/projected/sources").and_then(Value::as_array_mut).into_iter().flatten()
    }) {
        meta::map(source)
            .retain(|field, _| !matches!(field.as_str(), "clusterTrustBundle" | "podCertificate"));
    }
    for field in ["containers", "initContainers"] {
        for container in list(spec, field) {
            // Rules of restarts of single containers are one; sidecars restart always.
            let always = meta::string(container, &["restartPolicy"]) == "Always" && field == "initContainers";
            let map = meta::map(container);
            map.remove("restartPolicyRules");
            if !always {
                map.remove("restartPolicy");
            }
            for from in list(container, "env").filter_map(|variable| variable.get_mut("valueFrom")) {
                meta::map(from).remove("fileKeyRef");
            }
        }
    }
}

/// Sets a field that is not there.
pub(crate) fn put(map: &mut Map<String, Value>, field: &str, value: impl FnOnce() -> Value) {
    if map.get(field).is_none_or(Value::is_null) {
        map.insert(field.to_owned(), value());
    }
}

/// The objects of a list in a field.
pub(crate) fn list<'a>(object: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> {
    object.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten()
}

fn ports(object: &mut Value, field: &str) {
    for port in list(object, field) {
        put(meta::map(port), "protocol", || "TCP".into());
    }
}

fn service(object: &mut Value) {
    meta::child(meta::child(object, "status"), "loadBalancer");
    let spec = meta::child(object, "spec");
    ports(spec, "ports");
    let map = meta::map(spec);
    put(map, "type", || "ClusterIP".into());
    put(map, "sessionAffinity", || "None".into());
    if map.get("type").and_then(Value::as_str) != Some("ExternalName") {
        put(map, "internalTrafficPolicy", || "Cluster".into());
        put(map, "ipFamilyPolicy", || "SingleStack".into());
        put(map, "ipFamilies", || json!(["IPv4"]));
    }
    let kind = map.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    if kind == "LoadBalancer" || kind == "NodePort" {
        put(map, "externalTrafficPolicy", || "Cluster".into());
    }
    if kind == "LoadBalancer" {
        put(map, "allocateLoadBalancerNodePorts", || true.into());
    }
    if map.get("sessionAffinity").and_then(Value::as_str) == Some("ClientIP") {
        put(map, "sessionAffinityConfig", || json!({"clientIP": {"timeoutSeconds": 10800}}));
    }
    if let Some(address) = map.get("clusterIP").filter(|a| a.as_str().is_some_and(|a| !a.is_empty())).cloned()
    {
        put(map, "clusterIPs", || json!([address]));
    }
    for port in list(spec, "ports") {
        let number = port.get("port").cloned().unwrap_or(Value::Null);
        let map = meta::map(port);
        // Nought is what its decoder makes of a target that nobody has said.
        map.retain(|field, value| {
            field != "targetPort" || !(value.as_i64() == Some(0) || value.as_str() == Some(""))
        });
        put(map, "targetPort", || number);
    }
}

fn claim(object: &mut Value) {
    let map = meta::map(meta::child(object, "spec"));
    put(map, "volumeMode", || "Filesystem".into());
    let status = meta::map(meta::child(object, "status"));
    put(status, "phase", || "Pending".into());
}

fn volume(object: &mut Value) {
    let map = meta::map(meta::child(object, "spec"));
    put(map, "volumeMode", || "Filesystem".into());
    put(map, "persistentVolumeReclaimPolicy", || "Retain".into());
    let status = meta::map(meta::child(object, "status"));
    put(status, "phase", || "Pending".into());
}

fn secret(object: &mut Value) {
    let map = meta::map(object);
    put(map, "type", || "Opaque".into());
    // What is written in clear text is kept encoded only.
    if let Some(Value::Object(texts)) = map.remove("stringData") {
        let data = meta::map(map.entry("data").or_insert_with(|| json!({})));
        for (key, text) in texts {
            let bytes = text.as_str().unwrap_or_default().as_bytes();
            data.insert(
                key,
                base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes).into(),
            );
        }
    }
}

fn namespace(object: &mut Value) {
    let name = meta::name(object).to_owned();
    let labels = meta::child(meta::child(object, "metadata"), "labels");
    meta::map(labels).insert("kubernetes.io/metadata.name".into(), name.into());
    put(meta::map(meta::child(object, "spec")), "finalizers", || json!(["kubernetes"]));
    put(meta::map(meta::child(object, "status")), "phase", || "Active".into());
}
