//! What a new Pod gets from the account that it runs as and from the class of its priority, and why it may
//! be refused for them (the admission plugins `ServiceAccount` and `Priority`).

use serde_json::{Value, json};

use super::kinds::{POD, SERVICE_ACCOUNT};
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
/// 403 where its account or its class is not there.
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
    Ok(())
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
