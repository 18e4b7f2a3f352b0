//! A create request from JSON to its type, forgiving where Docker is (a command given as one string)
//! and with Docker's words where the generated types would answer with their own.

use bollard_stubs::models::ContainerCreateBody;
use serde_json::Value;

use d2k_common::fault::{Fault, Result};

/// The typed create request; the raw one stays what inspect echoes.
pub fn body(raw: &Value) -> Result<ContainerCreateBody> {
    if raw.as_object().is_none_or(serde_json::Map::is_empty) {
        return Err(Fault::invalid("Config cannot be empty in order to create a container"));
    }
    let mut value = raw.clone();
    for field in ["Cmd", "Entrypoint", "Shell"] {
        wrap_string(&mut value, field);
    }
    if let Some(number) = value.get("StopSignal").and_then(Value::as_i64) {
        set(&mut value, "StopSignal", Value::String(number.to_string()));
    }
    if let Some(host) = value.get("HostConfig") {
        enums(host)?;
    }
    if let Some(host) = value.get_mut("HostConfig") {
        forgive(host);
    }
    serde_json::from_value(value).map_err(|error| Fault::invalid(format!("invalid JSON: {error}")))
}

fn set(value: &mut Value, field: &str, new: Value) {
    if let Some(place) = value.get_mut(field) {
        *place = new;
    }
}

/// Docker takes a command as one string too, and means a list of one word.
fn wrap_string(value: &mut Value, field: &str) {
    if let Some(Value::String(text)) = value.get(field) {
        let list = Value::Array(vec![Value::String(text.clone())]);
        set(value, field, list);
    }
}

/// Where dockerd reads signed numbers or free text, the generated types are narrower.
fn forgive(host: &mut Value) {
    let negative = |value: &Value| value.as_i64().is_some_and(|number| number < 0);
    let console = host.get("ConsoleSize").and_then(Value::as_array);
    if console.is_some_and(|sizes| sizes.iter().any(negative)) {
        set(host, "ConsoleSize", Value::Null);
    }
}

/// Checks the fields whose type is a closed list of words.
fn enums(host: &Value) -> Result<()> {
    let text = |pointer: &str| host.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let policy = text("/RestartPolicy/Name");
    if !matches!(policy, "" | "no" | "always" | "on-failure" | "unless-stopped") {
        return Err(Fault::invalid(format!(
            "invalid restart policy: unknown policy '{policy}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )));
    }
    let isolation = text("/Isolation");
    if !matches!(isolation, "" | "default") {
        return Err(Fault::invalid(format!("invalid isolation '{isolation}' on linux")));
    }
    let cgroupns = text("/CgroupnsMode");
    if !matches!(cgroupns, "" | "private" | "host") {
        return Err(Fault::invalid(format!("invalid cgroup namespace mode: {cgroupns}")));
    }
    for mount in host.get("Mounts").and_then(Value::as_array).into_iter().flatten() {
        let kind = mount.get("Type").and_then(Value::as_str).unwrap_or_default();
        if !matches!(kind, "bind" | "volume" | "tmpfs" | "image" | "npipe" | "cluster") {
            return Err(Fault::invalid(format!(
                "invalid mount config for type {kind:?}: mount type unknown"
            )));
        }
        let propagation =
            mount.pointer("/BindOptions/Propagation").and_then(Value::as_str).unwrap_or_default();
        if !matches!(propagation, "" | "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave") {
            return Err(Fault::invalid(format!(
                "invalid mount config for type {kind:?}: invalid propagation mode: {propagation}"
            )));
        }
    }
    Ok(())
}
