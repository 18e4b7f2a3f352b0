//! Endpoints and EndpointSlices of Services with a selector, and the address of a LoadBalancer.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Context, Controller, Key, key_of, owners};
use crate::changes::Change;
use crate::conditions;
use crate::kinds::{self, Kind};
use crate::meta;
use crate::verbs::{DeleteOptions, Target};

/// Who makes the slices.
const MANAGED: &str = "endpointslice.kubernetes.io/managed-by";

/// The controller.
pub struct Endpoints;

impl Controller for Endpoints {
    const KINDS: &'static [&'static Kind] = &[&kinds::SERVICE, &kinds::POD];

    fn key(&self, context: &Context, kind: &Kind, change: &Change) -> Vec<Key> {
        if kind.name == "Service" {
            return vec![key_of(&change.object)];
        }
        let services = context.api.list(&kinds::SERVICE, meta::namespace(&change.object)).items;
        let before = change.previous.as_deref();
        let all = services
            .iter()
            .filter(|s| selects(s, &change.object) || before.is_some_and(|pod| selects(s, pod)));
        all.map(|service| key_of(service)).collect()
    }

    fn reconcile(&self, context: &Context, key: &Key) -> Option<Duration> {
        let of = &kinds::SERVICE;
        let Ok(service) = context.api.get(of, &key.0, &key.1) else {
            remove(context, &kinds::ENDPOINTS, &key.0, &key.1);
            return None;
        };
        balance(context, &service);
        if meta::at(&service, &["spec", "selector"]).as_object().is_none_or(serde_json::Map::is_empty) {
            return None;
        }
        let pods = context.api.list(&kinds::POD, &key.0).items;
        let mut pods: Vec<Arc<Value>> = pods.into_iter().filter(|pod| selects(&service, pod)).collect();
        pods.retain(|pod| !conditions::is_over(pod) && !meta::string(pod, &["status", "podIP"]).is_empty());
        write_slice(context, &service, &pods);
        write_endpoints(context, &service, &pods);
        None
    }
}

fn selects(service: &Value, pod: &Value) -> bool {
    let Some(wanted) = meta::at(service, &["spec", "selector"]).as_object().filter(|s| !s.is_empty()) else {
        return false;
    };
    let labels = meta::at(pod, &["metadata", "labels"]);
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// The local machine is the balancer.
fn balance(context: &Context, service: &Value) {
    let wanted = meta::string(service, &["spec", "type"]) == "LoadBalancer";
    let target = Target::own(&kinds::SERVICE, meta::namespace(service), meta::name(service)).of("status");
    let has = !meta::items(service, &["status", "loadBalancer", "ingress"]).is_empty();
    if wanted != has && !meta::deleting(service) {
        let _ = context.api.modify(&target, |service| {
            let ingress = if wanted {
                json!({"ingress": [{"ip": context.address, "ipMode": "VIP"}]})
            } else {
                json!({})
            };
            meta::map(meta::child(service, "status")).insert("loadBalancer".into(), ingress);
        });
    }
}

/// The ports of a Service at a Pod: names of target ports are the Pod's own.
fn ports(service: &Value, pod: Option<&Value>) -> Vec<Value> {
    let named = |name: &str| {
        let containers = pod.map(|pod| meta::items(pod, &["spec", "containers"])).unwrap_or_default();
        let mut all = containers.iter().flat_map(|c| meta::items(c, &["ports"]));
        all.find(|port| meta::string(port, &["name"]) == name)
            .and_then(|port| meta::number(port, &["containerPort"]))
    };
    let all = meta::items(service, &["spec", "ports"]).iter();
    all.filter_map(|port| {
        let number = match port.get("targetPort") {
            Some(Value::String(name)) => name.parse().ok().or_else(|| named(name))?,
            Some(number) => number.as_i64().filter(|n| *n > 0).or_else(|| meta::number(port, &["port"]))?,
            None => meta::number(port, &["port"])?,
        };
        let mut made = json!({
            "name": meta::string(port, &["name"]), "port": number, "protocol": meta::string(port, &["protocol"]),
        });
        if let Some(application) = port.get("appProtocol") {
            meta::map(&mut made).insert("appProtocol".into(), application.clone());
        }
        Some(made)
    })
    .collect()
}

fn endpoint(context: &Context, service: &Value, pod: &Value) -> Value {
    let deleting = meta::deleting(pod);
    let published = meta::at(service, &["spec", "publishNotReadyAddresses"]).as_bool() == Some(true);
    let ready = conditions::is_ready(pod);
    let mut made = json!({
        "addresses": [meta::string(pod, &["status", "podIP"])],
        "conditions": {"ready": published || (ready && !deleting), "serving": ready, "terminating": deleting},
        "nodeName": context.node,
        "targetRef": {"kind": "Pod", "namespace": meta::namespace(pod), "name": meta::name(pod), "uid": meta::uid(pod)},
    });
    name_host(&mut made, service, pod);
    made
}

/// Gives an address the name of a Pod that has one below the Service's.
fn name_host(address: &mut Value, service: &Value, pod: &Value) {
    let hostname = meta::string(pod, &["spec", "hostname"]);
    if !hostname.is_empty() && meta::string(pod, &["spec", "subdomain"]) == meta::name(service) {
        meta::map(address).insert("hostname".into(), hostname.into());
    }
}

/// The labels of what is made of a Service: the Service's own, who made it, and of which Service it is.
fn labels(service: &Value, managed: &str, by: &str, of: Option<&str>) -> Value {
    let mut labels = meta::at(service, &["metadata", "labels"]).as_object().cloned().unwrap_or_default();
    labels.insert(managed.to_owned(), by.into());
    if let Some(of) = of {
        labels.insert(of.to_owned(), meta::name(service).into());
    }
    if meta::string(service, &["spec", "clusterIP"]) == "None" {
        labels.insert("service.kubernetes.io/headless".to_owned(), "".into());
    }
    labels.into()
}

fn write_slice(context: &Context, service: &Value, pods: &[Arc<Value>]) {
    let of = &kinds::ENDPOINT_SLICE;
    let namespace = meta::namespace(service);
    let endpoints: Vec<Value> = pods.iter().map(|pod| endpoint(context, service, pod)).collect();
    let ports = ports(service, pods.first().map(|pod| &**pod));
    let slices = context.api.list(of, namespace).items;
    let mine = slices.iter().find(|slice| {
        meta::controller(slice).is_some_and(|c| meta::string(c, &["uid"]) == meta::uid(service))
            && meta::string(slice, &["metadata", "labels", MANAGED]) == "endpointslice-controller.k8s.io"
    });
    let labels =
        labels(service, MANAGED, "endpointslice-controller.k8s.io", Some("kubernetes.io/service-name"));
    if let Some(slice) = mine {
        let _ = context.api.modify(&Target::own(of, namespace, meta::name(slice)), |slice| {
            meta::map(slice).insert("endpoints".into(), json!(endpoints));
            meta::map(slice).insert("ports".into(), json!(ports));
            meta::set(slice, "labels", labels);
        });
        return;
    }
    let slice = json!({
        "metadata": {
            "generateName": format!("{}-", meta::name(service)),
            "labels": labels,
            "ownerReferences": [owners::reference(&kinds::SERVICE, service)],
        },
        "addressType": "IPv4", "endpoints": endpoints, "ports": ports,
    });
    let _ = context.api.create(&Target::own(of, namespace, ""), slice);
}

fn write_endpoints(context: &Context, service: &Value, pods: &[Arc<Value>]) {
    let of = &kinds::ENDPOINTS;
    let (namespace, name) = (meta::namespace(service), meta::name(service));
    let address = |pod: &Arc<Value>| {
        let mut made = json!({
            "ip": meta::string(pod, &["status", "podIP"]), "nodeName": context.node,
            "targetRef": {"kind": "Pod", "namespace": namespace, "name": meta::name(pod), "uid": meta::uid(pod)},
        });
        name_host(&mut made, service, pod);
        made
    };
    let (ready, other): (Vec<_>, Vec<_>) =
        pods.iter().filter(|p| !meta::deleting(p)).partition(|p| conditions::is_ready(p));
    let mut subset = json!({"ports": ports(service, pods.first().map(|pod| &**pod))});
    for (field, pods) in [("addresses", ready), ("notReadyAddresses", other)] {
        if !pods.is_empty() {
            meta::map(&mut subset).insert(field.into(), pods.into_iter().map(address).collect());
        }
    }
    let subsets = if subset.get("addresses").is_some() || subset.get("notReadyAddresses").is_some() {
        vec![subset]
    } else {
        Vec::new()
    };
    let labels = labels(service, "endpoints.kubernetes.io/managed-by", "endpoint-controller", None);
    if context.api.get(of, namespace, name).is_ok() {
        let _ = context.api.modify(&Target::own(of, namespace, name), |object| {
            meta::map(object).insert("subsets".into(), json!(subsets));
            meta::set(object, "labels", labels);
        });
    } else {
        let object = json!({"metadata": {"name": name, "labels": labels}, "subsets": subsets});
        let _ = context.api.create(&Target::own(of, namespace, ""), object);
    }
}

fn remove(context: &Context, kind: &'static Kind, namespace: &str, name: &str) {
    let _ = context.api.delete(&Target::own(kind, namespace, name), &DeleteOptions::default());
}
