//! `docker update` on a container's create request. An update changes limits and the restart policy and nothing
//! else: everything that decides about rights was judged when the container was created. The fields are those
//! that dockerd itself applies (moby, `container.UpdateContainer`); it takes the rest of its `Resources` from
//! clients, because they send all of them, and leaves it out.

use serde_json::{Map, Value, json};

use d2k_common::fault::{Fault, Result};

/// Fields of `HostConfig` that an update changes.
const CHANGED: &[&str] = &[
    "BlkioWeight",
    "CpuPeriod",
    "CpuQuota",
    "CpuRealtimePeriod",
    "CpuRealtimeRuntime",
    "CpuShares",
    "CpusetCpus",
    "CpusetMems",
    "KernelMemory",
    "KernelMemoryTCP",
    "Memory",
    "MemoryReservation",
    "MemorySwap",
    "NanoCpus",
    "PidsLimit",
    "RestartPolicy",
];
/// Fields of Docker's `UpdateConfig` that stay as they are.
const KEPT: &[&str] = &[
    "BlkioDeviceReadBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceWriteIOps",
    "BlkioWeightDevice",
    "CgroupParent",
    "CpuCount",
    "CpuPercent",
    "DeviceCgroupRules",
    "DeviceRequests",
    "Devices",
    "IOMaximumBandwidth",
    "IOMaximumIOps",
    "MemorySwappiness",
    "OomKillDisable",
    "Ulimits",
];

/// A changed create request.
#[derive(Debug)]
pub struct Updated {
    /// The whole request.
    pub raw: Value,
    /// The fields that changed, as `HostConfig` has them.
    pub changed: Value,
    /// Fields that an update cannot change.
    pub warnings: Vec<String>,
}

/// The create request `raw` after an update.
///
/// # Errors
/// 400 for a field that an update does not have.
pub fn apply(raw: &Value, changes: &Value) -> Result<Updated> {
    let sent = changes.as_object().ok_or_else(|| Fault::invalid("invalid JSON: an object is expected"))?;
    let (mut changed, mut warnings) = (Map::new(), Vec::new());
    for (key, value) in sent.iter().filter(|(_, value)| is_set(value)) {
        // Docker reads names of fields in any case.
        let among =
            |list: &[&'static str]| list.iter().find(|known| known.eq_ignore_ascii_case(key)).copied();
        if let Some(name) = among(CHANGED) {
            changed.insert(name.to_owned(), value.clone());
        } else if let Some(name) = among(KEPT) {
            warnings.push(format!("{name} is not changed: an update changes limits and the restart policy"));
        } else {
            return Err(Fault::invalid(format!(
                "{key} cannot be changed by an update, which changes limits and the restart policy: remove the \
                 container and create it anew"
            )));
        }
    }
    let mut raw = raw.clone();
    let host = raw.as_object_mut().map(|body| body.entry("HostConfig").or_insert_with(|| json!({})));
    let host = host.and_then(Value::as_object_mut);
    let host = host.ok_or_else(|| Fault::internal("the container's create request cannot be read"))?;
    host.extend(changed.clone());
    Ok(Updated { raw, changed: Value::Object(changed), warnings })
}

/// The CLI sends every field, unset ones as zero, empty or null.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => map.get("Name").map_or(!map.is_empty(), |name| name.as_str() != Some("")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn updated(changes: &Value) -> Result<Updated> {
        apply(&json!({"Image": "busybox", "HostConfig": {"Memory": 1, "CapAdd": ["CHOWN"]}}), changes)
    }

    #[test]
    fn limits_and_the_restart_policy_change_and_unset_fields_stay() {
        let changes = json!({
            "memory": 64, "NanoCpus": 5, "CpuShares": 0, "CpusetCpus": "", "Devices": null,
            "RestartPolicy": {"Name": "always"}
        });
        let updated = updated(&changes).unwrap();
        let host = json!({
            "Memory": 64, "NanoCpus": 5, "RestartPolicy": {"Name": "always"}, "CapAdd": ["CHOWN"]
        });
        assert_eq!(updated.raw, json!({"Image": "busybox", "HostConfig": host}));
        assert!(updated.warnings.is_empty());
        let none = json!({"RestartPolicy": {"Name": "", "MaximumRetryCount": 0}});
        assert_eq!(super::apply(&json!({}), &none).unwrap().changed, json!({}));
    }

    #[test]
    fn nothing_that_decides_about_rights_is_changed() {
        for changes in [
            json!({"Privileged": true}),
            json!({"privileged": true}),
            json!({"PidMode": "host"}),
            json!({"CapAdd": ["ALL"]}),
            json!({"Binds": ["/:/host"]}),
            json!({"VolumesFrom": ["a"]}),
            json!({"SecurityOpt": ["seccomp=unconfined"]}),
            json!({"HostConfig": {"Privileged": true}}),
            json!({"Image": "other"}),
        ] {
            let refused = updated(&changes).unwrap_err().message;
            assert!(refused.contains("cannot be changed by an update"), "{changes}: {refused}");
        }
        let devices = json!({"DeviceRequests": [{"Driver": "nvidia", "Count": -1}], "Devices": [{"PathOnHost": "/dev/sda"}]});
        let updated = updated(&devices).unwrap();
        assert_eq!((updated.changed, updated.warnings.len()), (json!({}), 2));
    }
}
