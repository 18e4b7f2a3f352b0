//! The Node object: what this machine is and has.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::discovery;
use crate::kinds::{self, PODS};
use crate::meta;
use crate::verbs::{Api, Target};
use d2k_engine::NodeFacts;

/// The namespace of the Leases of Nodes (Kubernetes' `NamespaceNodeLease`).
pub const LEASES: &str = "kube-node-lease";

/// Creates or renews the Node.
pub fn register(api: &Api, name: &str, address: IpAddr, facts: &NodeFacts) {
    let of = &kinds::NODE;
    let labels = json!({
        "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": facts.architecture,
        "beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": facts.architecture,
        "node-role.kubernetes.io/control-plane": "",
    });
    let resources = json!({
        "cpu": facts.cpus.to_string(), "memory": format!("{}Ki", facts.memory / 1024), "pods": PODS.to_string(),
        "ephemeral-storage": format!("{}Ki", facts.storage / 1024),
    });
    let version = discovery::version();
    let version = meta::string(&version, &["gitVersion"]).to_owned();
    let before = api.get(of, "", name).ok();
    let condition = |name: &str, status: &str, reason: &str, message: &str| {
        let since = before.as_deref().and_then(|node| since(node, name, status)).unwrap_or_else(meta::now);
        json!({
            "type": name, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": meta::now(), "lastTransitionTime": since,
        })
    };
    let mut status = json!({
        "capacity": resources, "allocatable": resources,
        "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
        ],
        "nodeInfo": {
            "architecture": facts.architecture, "operatingSystem": "linux", "kernelVersion": facts.kernel,
            "osImage": facts.os_image, "containerRuntimeVersion": facts.runtime, "kubeletVersion": version,
            "kubeProxyVersion": "", "bootID": facts.boot_id, "machineID": facts.machine_id, "systemUUID": facts.machine_id,
        },
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
    });
    let Some(before) = before else {
        let node = json!({"metadata": {"name": name, "labels": labels}, "spec": {}, "status": status});
        if let Err(error) = api.create(&Target::own(of, "", ""), node) {
            tracing::error!(error = error.message, "the Node cannot be registered");
        }
        return;
    };
    // Until they are listed, those of the last time hold.
    if let Some(images) = before.pointer("/status/images") {
        meta::map(&mut status).insert("images".into(), images.clone());
    }
    let put = |node: &mut Value| {
        meta::map(node).insert("status".into(), status);
    };
    let _ = api.modify(&Target::own(of, "", name).of("status"), put);
}

/// Makes the Lease that tells who is the Node, if it is not there. It has no time: nobody has to notice that the only Node is away,
/// and a device at rest writes nothing.
pub fn hold_lease(api: &Api, name: &str) {
    let of = &kinds::LEASE;
    if api.get(of, LEASES, name).is_err() {
        let lease = json!({"metadata": {"name": name}, "spec": {"holderIdentity": name}});
        if let Err(error) = api.create(&Target::own(of, LEASES, ""), lease) {
            tracing::error!(error = error.message, "the Lease of the Node cannot be made");
        }
    }
}

/// Since when a condition has this status, as the Node says that was there before.
fn since(node: &Value, condition: &str, status: &str) -> Option<String> {
    let conditions = node.pointer("/status/conditions")?.as_array()?;
    let is_same =
        |one: &&Value| meta::string(one, &["type"]) == condition && meta::string(one, &["status"]) == status;
    let found = conditions.iter().find(is_same)?;
    Some(meta::string(found, &["lastTransitionTime"]).to_owned()).filter(|since| !since.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_holds_since_it_changed_and_not_since_the_last_start() {
        let node = json!({"status": {"conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2025-01-02T03:04:05Z"},
            {"type": "DiskPressure", "status": "True", "lastTransitionTime": "2025-01-02T03:04:05Z"},
        ]}});
        assert_eq!(since(&node, "Ready", "True").as_deref(), Some("2025-01-02T03:04:05Z"));
        assert_eq!(since(&node, "DiskPressure", "False"), None);
        assert_eq!(since(&json!({}), "Ready", "True"), None);
    }
}
