//! The Node object: what this machine is and has.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::discovery;
use crate::kinds::{self, PODS};
use crate::meta;
use crate::verbs::{Api, Target};
use d2k_engine::NodeFacts;

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
    let condition = |name: &str, status: &str, reason: &str, message: &str| {
        json!({
            "type": name, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": meta::now(), "lastTransitionTime": meta::now(),
        })
    };
    let status = json!({
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
    if api.get(of, "", name).is_err() {
        let node = json!({"metadata": {"name": name, "labels": labels}, "spec": {}, "status": status});
        if let Err(error) = api.create(&Target::own(of, "", ""), node) {
            tracing::error!(error = error.message, "the Node cannot be registered");
        }
        return;
    }
    let put = |node: &mut Value| {
        meta::map(node).insert("status".into(), status);
    };
    let _ = api.modify(&Target::own(of, "", name).of("status"), put);
}
