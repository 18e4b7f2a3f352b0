//! Defaults of Pods and Pod templates.

use serde_json::{Value, json};

use super::{list, put};
use crate::meta;
use crate::tokens::LIFETIME;

/// Fills in a Pod, or the Pod template of a workload; `restart` is the policy where none is said.
pub fn fill(object: &mut Value, restart: &str) {
    let template = !restart.is_empty();
    let spec = meta::child(object, "spec");
    let host_network = meta::at(spec, &["hostNetwork"]).as_bool() == Some(true);
    for field in ["initContainers", "containers", "ephemeralContainers"] {
        for container in list(spec, field) {
            self::container(container, host_network);
            // Not in a template: there it would be what its writer has said.
            if let Some(resources) = container.get_mut("resources").filter(|_| !template) {
                requests(resources);
            }
        }
    }
    for volume in list(spec, "volumes") {
        self::volume(volume);
    }
    let map = meta::map(spec);
    put(map, "restartPolicy", || if template { restart } else { "Always" }.into());
    put(map, "dnsPolicy", || "ClusterFirst".into());
    put(map, "terminationGracePeriodSeconds", || 30.into());
    put(map, "securityContext", || json!({}));
    put(map, "schedulerName", || "default-scheduler".into());
    if let Some(account) = map.get("serviceAccountName").cloned() {
        put(map, "serviceAccount", || account);
    }
    if !template {
        put(map, "enableServiceLinks", || true.into());
        put(map, "serviceAccountName", || "default".into());
        put(map, "serviceAccount", || "default".into());
        put(map, "priority", || 0.into());
        put(map, "preemptionPolicy", || "PreemptLowerPriority".into());
        put(map, "tolerations", || {
            let for_a_while = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
            json!([
                for_a_while("node.kubernetes.io/not-ready"),
                for_a_while("node.kubernetes.io/unreachable")
            ])
        });
        let quality = quality_of_service(object);
        let status = meta::map(meta::child(object, "status"));
        put(status, "phase", || "Pending".into());
        put(status, "qosClass", || quality.into());
    }
}

fn container(container: &mut Value, host_network: bool) {
    for port in list(container, "ports") {
        let number = port.get("containerPort").cloned().unwrap_or(Value::Null);
        let map = meta::map(port);
        put(map, "protocol", || "TCP".into());
        if host_network {
            put(map, "hostPort", || number);
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe) {
            self::probe(probe);
        }
    }
    for hook in ["/lifecycle/postStart", "/lifecycle/preStop"] {
        if let Some(hook) = container.pointer_mut(hook) {
            handler(hook);
        }
    }
    for variable in list(container, "env") {
        if let Some(reference) = variable.pointer_mut("/valueFrom/fieldRef") {
            put(meta::map(reference), "apiVersion", || "v1".into());
        }
    }
    let policy = pull_policy(meta::string(container, &["image"]));
    let map = meta::map(container);
    put(map, "terminationMessagePath", || "/dev/termination-log".into());
    put(map, "terminationMessagePolicy", || "File".into());
    put(map, "imagePullPolicy", || policy.into());
    put(map, "resources", || json!({}));
}

/// `Always` for the tag `latest`, said or not.
fn pull_policy(image: &str) -> &'static str {
    let name = image.rsplit('/').next().unwrap_or(image);
    let latest = !image.contains('@') && (!name.contains(':') || name.ends_with(":latest"));
    if latest { "Always" } else { "IfNotPresent" }
}

/// A limit without a request is the request.
fn requests(resources: &mut Value) {
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { return };
    let requests = meta::map(meta::child(resources, "requests"));
    for (name, limit) in limits {
        requests.entry(name).or_insert(limit);
    }
}

/// What a probe or a hook asks.
fn handler(handler: &mut Value) {
    if let Some(get) = handler.get_mut("httpGet") {
        put(meta::map(get), "path", || "/".into());
        put(meta::map(get), "scheme", || "HTTP".into());
    }
}

fn probe(probe: &mut Value) {
    handler(probe);
    let map = meta::map(probe);
    for (field, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        put(map, field, || value.into());
    }
}

fn volume(volume: &mut Value) {
    for field in ["configMap", "secret", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(field) {
            put(meta::map(source), "defaultMode", || 420.into());
        }
    }
    if let Some(projected) = volume.get_mut("projected") {
        for token in list(projected, "sources").filter_map(|part| part.get_mut("serviceAccountToken")) {
            put(meta::map(token), "expirationSeconds", || LIFETIME.into());
        }
    }
    let bare = volume.as_object().is_some_and(|map| map.len() == 1);
    if bare {
        meta::map(volume).insert("emptyDir".into(), json!({}));
    }
}

/// `Guaranteed`, `Burstable` or `BestEffort`.
fn quality_of_service(pod: &Value) -> &'static str {
    let containers = || meta::items(pod, &["spec", "containers"]).iter();
    let has = |c: &Value, list: &str, name: &str| !meta::at(c, &["resources", list, name]).is_null();
    let any =
        containers().any(|c| ["limits", "requests"].iter().any(|l| has(c, l, "cpu") || has(c, l, "memory")));
    let all = containers().all(|c| {
        ["cpu", "memory"].iter().all(|name| {
            has(c, "limits", name)
                && meta::at(c, &["resources", "limits", name])
                    == meta::at(c, &["resources", "requests", name])
        })
    });
    match (any, all) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_asks_as_a_probe_does() {
        let get = json!({"httpGet": {"port": 80}});
        let mut pod =
            json!({"spec": {"containers": [{"lifecycle": {"preStop": get}, "livenessProbe": get}]}});
        fill(&mut pod, "");
        let filled = json!({"port": 80, "path": "/", "scheme": "HTTP"});
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["lifecycle"]["preStop"]["httpGet"], filled);
        assert_eq!(container["livenessProbe"]["httpGet"], filled);
    }

    #[test]
    fn the_tag_latest_is_always_pulled() {
        for image in ["busybox", "localhost:5000/busybox", "busybox:latest"] {
            assert_eq!(pull_policy(image), "Always", "{image}");
        }
        for image in ["busybox:1", "localhost:5000/a:1", "a@sha256:0"] {
            assert_eq!(pull_policy(image), "IfNotPresent", "{image}");
        }
    }
}
