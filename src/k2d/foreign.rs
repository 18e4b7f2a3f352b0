//! Containers that people run on the engine themselves, as Pods of the namespace `default`. Such a Pod is one whose container
//! was there already: the kubelet takes it over as it does after a restart of k2d, and never makes another one.

use std::sync::Arc;

use d2k_kubeapi::kinds;
use d2k_kubeapi::verbs::{Api, DeleteOptions, Target};
use serde_json::{Map, Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::engine::client::Error;
use crate::engine::{Docker, at, flag, labels, texts};

/// The annotation that has the engine's ID of the container.
const CONTAINER: &str = "k2d.io/container-id";
/// What begins the annotations of labels that Kubernetes does not allow as labels.
const LABELS: &str = "docker.com";
/// Where these Pods are.
const NAMESPACE: &str = "default";
/// Seconds that Docker gives a container to end, if it says nothing else.
const GRACE: i64 = 10;

/// Shows the containers of other people.
pub struct Foreign {
    engine: Docker,
    node: String,
}

impl Foreign {
    /// For this engine and Node.
    pub fn new(engine: Docker, node: String) -> Self {
        Self { engine, node }
    }

    /// Makes all containers that are there known to the engine as those of Pods, before the kubelet asks.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn adopt(&self) -> Result<(), Error> {
        for inspected in self.engine.containers().await? {
            self.adopt_one(&inspected);
        }
        Ok(())
    }

    fn adopt_one(&self, inspected: &Value) -> Option<Value> {
        let (labels, id) = (at(inspected, &["Config", "Labels"]), string(inspected, &["Id"]));
        let never_ran = string(inspected, &["State", "Status"]) == "created";
        if labels::is_ours(labels) || self.engine.is_itself(id) || never_ran {
            return None;
        }
        let pod = pod(inspected, &self.node);
        let name = string(&pod, &["metadata", "name"]);
        self.engine.adopt(string(&pod, &["metadata", "uid"]), name, inspected, NAMESPACE, name);
        Some(pod)
    }

    /// Removes the Pods of containers that have gone while k2d was away, before the kubelet sees them.
    pub fn purge(&self, api: &Arc<Api>) {
        for pod in api.list(&kinds::POD, NAMESPACE).items {
            if is_shown(&pod) && !self.engine.has_adopted(string(&pod, &["metadata", "uid"])) {
                let target = Target::own(&kinds::POD, NAMESPACE, string(&pod, &["metadata", "name"]));
                let now = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
                let _ = api.delete(&target, &now);
            }
        }
    }

    /// Shows what comes and goes until `stopping` is cancelled.
    pub async fn follow(self, api: Arc<Api>, stopping: CancellationToken) {
        let mut news = self.engine.news();
        let work = async {
            self.show_all(&api).await;
            loop {
                match news.recv().await {
                    Ok(one) if one.id.is_empty() => self.show_all(&api).await,
                    Ok(one) if matches!(one.action.as_str(), "start" | "rename") => {
                        self.show(&api, &one.id).await
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => self.show_all(&api).await,
                    Err(RecvError::Closed) => return,
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = stopping.cancelled() => {}
        }
    }

    async fn show_all(&self, api: &Api) {
        match self.engine.containers().await {
            Ok(all) => all.iter().for_each(|inspected| self.show_one(api, inspected)),
            // The next connection to the engine shows them.
            Err(error) => tracing::warn!(%error, "the engine's containers cannot be listed"),
        }
    }

    async fn show(&self, api: &Api, id: &str) {
        match self.engine.container(id).await {
            Ok(Some(inspected)) => self.show_one(api, &inspected),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, id, "a container cannot be inspected"),
        }
    }

    fn show_one(&self, api: &Api, inspected: &Value) {
        let known = |uid: &str| {
            api.list(&kinds::POD, NAMESPACE).items.iter().any(|pod| string(pod, &["metadata", "uid"]) == uid)
        };
        if known(&uid(string(inspected, &["Id"]))) {
            return;
        }
        let Some(mut pod) = self.adopt_one(inspected) else { return };
        let name = string(&pod, &["metadata", "name"]).to_owned();
        let create = |pod: Value| api.create(&Target::own(&kinds::POD, NAMESPACE, ""), pod);
        let mut made = create(pod.clone());
        if made.as_ref().is_err_and(|status| status.code == 409) {
            let id: String = string(inspected, &["Id"]).chars().take(6).collect();
            if let Some(slot) = pod.pointer_mut("/metadata/name") {
                *slot = format!("{name}-{id}").into();
            }
            made = create(pod);
        }
        if let Err(status) = made {
            tracing::warn!(name, error = status.message, "a container cannot be shown as a Pod");
        }
    }
}

/// Whether a Pod shows a container that k2d has not made.
pub fn is_shown(pod: &Value) -> bool {
    !string(pod, &["metadata", "annotations", CONTAINER]).is_empty()
}

fn string<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    at(value, path).as_str().unwrap_or_default()
}

/// The UID of the Pod of a container: the same at every start of k2d.
fn uid(id: &str) -> String {
    let part = |from, to| id.get(from..to).unwrap_or_default();
    format!("{}-{}-4{}-8{}-{}", part(0, 8), part(8, 12), part(12, 15), part(15, 18), part(18, 30))
}

/// A name that a Pod may have.
fn legal_name(name: &str) -> String {
    let legal =
        name.to_lowercase().replace(|letter: char| !letter.is_ascii_alphanumeric() && letter != '.', "-");
    let mut legal: String = legal.trim_matches(['-', '.']).replace("..", ".");
    legal.truncate(63);
    let legal = legal.replace('.', "-").trim_end_matches('-').to_owned();
    if legal.is_empty() { "container".to_owned() } else { legal }
}

/// The Pod that shows a container.
fn pod(inspected: &Value, node: &str) -> Value {
    let id = string(inspected, &["Id"]);
    let name = legal_name(string(inspected, &["Name"]).trim_start_matches('/'));
    let (labels, mut annotations) = sorted(at(inspected, &["Config", "Labels"]));
    annotations.insert(CONTAINER.to_owned(), id.into());
    let env: Vec<Value> = texts(inspected, &["Config", "Env"])
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    let grace = at(inspected, &["Config", "StopTimeout"]).as_i64().unwrap_or(GRACE);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "uid": uid(id), "labels": labels, "annotations": annotations},
        "spec": {
            "nodeName": node, "restartPolicy": "Always", "terminationGracePeriodSeconds": grace,
            "automountServiceAccountToken": false, "enableServiceLinks": false, "dnsPolicy": "Default",
            "hostNetwork": string(inspected, &["HostConfig", "NetworkMode"]) == "host",
            "containers": [{
                "name": name, "image": string(inspected, &["Config", "Image"]), "imagePullPolicy": "IfNotPresent",
                "command": texts(inspected, &["Config", "Entrypoint"]), "args": texts(inspected, &["Config", "Cmd"]),
                "env": env, "ports": ports(inspected), "tty": flag(inspected, &["Config", "Tty"]),
                "stdin": flag(inspected, &["Config", "OpenStdin"]),
            }],
        },
    })
}

/// The ports that the container publishes, or has by its image.
fn ports(inspected: &Value) -> Vec<Value> {
    let bound = at(inspected, &["HostConfig", "PortBindings"]);
    let exposed = at(inspected, &["Config", "ExposedPorts"]).as_object().into_iter().flatten();
    let mut names: Vec<&String> = exposed.map(|(port, _)| port).collect();
    names.extend(bound.as_object().into_iter().flatten().map(|(port, _)| port));
    names.sort();
    names.dedup();
    let made = names.into_iter().filter_map(|port| {
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let number: u16 = number.parse().ok()?;
        let mut made = json!({"containerPort": number, "protocol": protocol.to_uppercase()});
        let outside = at(bound, &[port]).get(0).map_or("", |one| string(one, &["HostPort"]));
        if let (Ok(outside), Some(map)) = (outside.parse::<u16>(), made.as_object_mut())
            && outside > 0
        {
            map.insert("hostPort".into(), outside.into());
        }
        Some(made)
    });
    made.collect()
}

/// Labels that Kubernetes allows, and the others as annotations.
fn sorted(labels: &Value) -> (Map<String, Value>, Map<String, Value>) {
    let (mut good, mut other) = (Map::new(), Map::new());
    for (key, value) in labels.as_object().into_iter().flatten() {
        let text = value.as_str().unwrap_or_default();
        if is_key(key) && is_value(text) {
            good.insert(key.clone(), value.clone());
        } else {
            let name =
                key.replace(|letter: char| !letter.is_ascii_alphanumeric() && !"-_.".contains(letter), "-");
            let name: String = name.trim_matches(['-', '_', '.']).chars().take(63).collect();
            other.insert(format!("{LABELS}/{name}"), value.clone());
        }
    }
    (good, other)
}

fn is_key(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').unwrap_or(("k2d.io", key));
    let is_domain = prefix.split('.').all(|part| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    });
    is_domain && !name.is_empty() && is_value(name)
}

/// A label's value (Kubernetes, "Labels and Selectors", syntax).
fn is_value(value: &str) -> bool {
    let ends = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    value.len() <= 63
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && ends(value.as_bytes().first())
        && ends(value.as_bytes().last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_become_legal() {
        for (name, wanted) in [("plc", "plc"), ("My_App.1", "my-app-1"), ("__", "container")] {
            assert_eq!(legal_name(name), wanted);
        }
        let (good, other) =
            sorted(&json!({"app": "x", "com.docker.compose.config-hash": "ab", "note": "a b", "x/": "1"}));
        assert_eq!(Value::Object(good), json!({"app": "x", "com.docker.compose.config-hash": "ab"}));
        assert_eq!(Value::Object(other), json!({"docker.com/note": "a b", "docker.com/x": "1"}));
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(uid(&id), "01234567-89ab-4cde-8f01-23456789abcd");
    }

    #[test]
    fn ports_are_those_that_are_published_and_exposed() {
        let inspected = json!({
            "Config": {"ExposedPorts": {"502/tcp": {}, "53/udp": {}}},
            "HostConfig": {"PortBindings": {"502/tcp": [{"HostPort": "1502"}]}},
        });
        let wanted = json!([
            {"containerPort": 502, "protocol": "TCP", "hostPort": 1502}, {"containerPort": 53, "protocol": "UDP"},
        ]);
        assert_eq!(Value::Array(ports(&inspected)), wanted);
    }
}
