//! What a new Pod gets from the account that it runs as and from the class of its priority, and why it may
//! be refused for them (the admission plugins `ServiceAccount`, `Priority` and `RuntimeClass`). Besides, as few Pods wait for a
//! Node as one can take at once, so that a workload of thousands of millions of replicas does not fill the memory.

use serde_json::{Value, json};

use super::conditions::is_over;
use super::kinds::{NODE, POD, PODS, SERVICE_ACCOUNT};
use super::meta;
use super::status::{Result, Status};
use super::store::Store;

/// Where a Pod finds who it is.
const FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How long a token of a Pod is good for, in seconds.
const EXPIRES: i64 = 3607;

/// Completes a Pod that is to be made.
///
/// # Errors
/// 403 where its account or its class is not there, or too many Pods wait already.
pub fn admit(store: &Store, namespace: &str, pod: &mut Value) -> Result<()> {
    let name = meta::name(pod).to_owned();
    let refused = |words: String| Err(Status::forbidden(&POD, &name, &words));
    let spec = meta::map(meta::child(pod, "spec"));
    let account = match spec.get("serviceAccountName").and_then(Value::as_str) {
        None | Some("") => spec.get("serviceAccount").and_then(Value::as_str).unwrap_or("default"),
        Some(account) => account,
    };
    let account = if account.is_empty() { "default" } else { account }.to_owned();
    for field in ["serviceAccountName", "serviceAccount"] {
        spec.insert(field.into(), account.as_str().into());
    }
    let found = store.get(&SERVICE_ACCOUNT, namespace, &account);
    let Some(found) = found else {
        return refused(format!(
            "error looking up service account {namespace}/{account}: serviceaccount {account:?} not found"
        ));
    };
    if let Some(secrets) = found.get("imagePullSecrets") {
        spec.entry("imagePullSecrets").or_insert_with(|| secrets.clone());
    }
    let mounts = |object: &Value| object.get("automountServiceAccountToken").and_then(Value::as_bool);
    if mounts(meta::at(pod, &["spec"])).or_else(|| mounts(&found)).unwrap_or(true) {
        mount(meta::child(pod, "spec"));
    }
    let spec = meta::map(meta::child(pod, "spec"));
    let priority = match spec.get("priorityClassName").and_then(Value::as_str).unwrap_or_default() {
        "" => 0,
        "system-cluster-critical" => 2_000_000_000,
        "system-node-critical" => 2_000_001_000,
        class => return refused(format!("no PriorityClass with name {class} was found")),
    };
    spec.insert("priority".into(), priority.into());
    if let Some(class) = spec.get("runtimeClassName").and_then(Value::as_str) {
        return refused(format!("pod rejected: RuntimeClass {class:?} not found"));
    }
    if spec.get("overhead").and_then(Value::as_object).is_some_and(|overhead| !overhead.is_empty()) {
        let words = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
        return refused(words.to_owned());
    }
    wait(store, pod)
}

/// Lets a Pod wait for a Node, if there is still room.
fn wait(store: &Store, pod: &Value) -> Result<()> {
    let waits = |pod: &Value| meta::string(pod, &["spec", "nodeName"]).is_empty() && !is_over(pod);
    let most: usize = places(store);
    if !waits(pod) || store.count(&POD, waits) < most {
        return Ok(());
    }
    // One reason for all Pods of a template is one Event.
    let name = match meta::text(pod, "generateName") {
        "" => meta::name(pod),
        prefix => prefix,
    };
    let words = format!("{most} Pods wait for a Node already, as many as it takes");
    Err(Status::forbidden(&POD, name, &words))
}

/// How many Pods the Nodes take.
fn places(store: &Store) -> usize {
    let nodes = store.list(&NODE, "").items;
    let all = nodes.iter().map(|node| meta::string(node, &["status", "allocatable", "pods"]));
    let known: Vec<usize> = all.filter_map(|pods| usize::try_from(d2k_quantity::units(pods)?).ok()).collect();
    if known.is_empty() { PODS } else { known.into_iter().fold(0, usize::saturating_add) }
}

/// Mounts the token in every container that has nothing there.
fn mount(spec: &mut Value) {
    let volume = format!("kube-api-access-{}", meta::suffix(5));
    let mut used = false;
    for field in ["initContainers", "containers"] {
        for container in super::defaults::list(spec, field) {
            let there = meta::items(container, &["volumeMounts"]);
            if there.iter().any(|mount| meta::string(mount, &["mountPath"]) == FOLDER) {
                continue;
            }
            used = true;
            let one = json!({"name": volume, "readOnly": true, "mountPath": FOLDER});
            push(container, "volumeMounts", one);
        }
    }
    if used {
        let sources = json!([
            {"serviceAccountToken": {"expirationSeconds": EXPIRES, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
            ]}},
        ]);
        let made = json!({"name": volume, "projected": {"sources": sources, "defaultMode": 420}});
        push(spec, "volumes", made);
    }
}

fn push(object: &mut Value, field: &str, item: Value) {
    let slot = meta::map(object).entry(field).or_insert(Value::Null);
    match slot {
        Value::Array(items) => items.push(item),
        other => *other = Value::Array(vec![item]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing::context;

    #[test]
    fn a_pod_is_refused_for_a_runtime_that_is_not_there() {
        let context = context();
        for (field, value, words) in [
            ("runtimeClassName", json!("kata"), "pod rejected: RuntimeClass \"kata\" not found"),
            (
                "overhead",
                json!({"cpu": "1"}),
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            ),
        ] {
            let mut pod = json!({"metadata": {"name": "p"}, "spec": {field: value}});
            let status = admit(&context.api.store, "default", &mut pod).unwrap_err();
            assert_eq!((status.code, status.message), (403, format!("pods \"p\" is forbidden: {words}")));
        }
    }
}
