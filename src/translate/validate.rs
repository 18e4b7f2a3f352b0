//! Docker's own checks of a create request, with Docker's words: what dockerd refuses is refused
//! here before anything is made, so that clients see the errors they know.

use std::net::IpAddr;

use bollard_stubs::models::{ContainerCreateBody, HealthConfig, HostConfig, RestartPolicyNameEnum};
use serde_json::Value;

use super::request::{Link, argv, capability, extra_host, port_range, ports, wrong_port};
use d2k_common::signal;

use super::bounds;
use d2k_common::fault::{Fault, Result};
use d2k_common::image::ImageFacts;

mod limits;

/// The shortest time a health check may be given.
const SHORTEST_HEALTH_TIME: i64 = 1_000_000;

/// Docker's capabilities, without `CAP_`.
const CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "SYSLOG",
    "WAKE_ALARM",
];

/// Docker's rule for container names.
pub fn name(name: &str) -> Result<()> {
    bounds::name("container", name)?;
    let bare = name.strip_prefix('/').unwrap_or(name);
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if bare.len() >= 2 && bare.starts_with(|c: char| c.is_ascii_alphanumeric()) && bare.chars().all(legal) {
        return Ok(());
    }
    Err(Fault::invalid(format!(
        "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    )))
}

/// All checks of a create request that need no cluster.
pub fn request(body: &ContainerCreateBody, image: &ImageFacts) -> Result<()> {
    if body.image.as_deref().unwrap_or_default().is_empty() {
        return Err(Fault::invalid(
            "no image specified: every container on Kubernetes runs an image, name one in Image",
        ));
    }
    command(body, image)?;
    working_dir(body)?;
    if let Some(stop) = body.stop_signal.as_deref().filter(|stop| !stop.is_empty()) {
        signal::number(stop)?;
    }
    environment(body)?;
    body.healthcheck.as_ref().map_or(Ok(()), health)?;
    for port in body.exposed_ports.iter().flatten() {
        ports(port)?;
    }
    let host = body.host_config.clone().unwrap_or_default();
    restart(&host)?;
    log_driver(&host)?;
    hosts(&host)?;
    bindings(&host)?;
    links(&host)?;
    capabilities("CapAdd", &host.cap_add)?;
    capabilities("CapDrop", &host.cap_drop)?;
    if host.annotations.iter().flatten().any(|(key, _)| key.is_empty()) {
        return Err(Fault::invalid(
            "invalid Annotations: the empty string is not permitted as an annotation key",
        ));
    }
    limits::check(&host)
}

fn links(host: &HostConfig) -> Result<()> {
    for link in host.links.iter().flatten() {
        Link::parse(link)?;
    }
    let mode = host.network_mode.as_deref().unwrap_or_default();
    if mode == "host" && host.links.iter().flatten().next().is_some() {
        return Err(Fault::invalid(
            "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
        ));
    }
    Ok(())
}

fn command(body: &ContainerCreateBody, image: &ImageFacts) -> Result<()> {
    let (entrypoint, cmd) = argv(body, image);
    // Where no registry answered, the image's command is not known and may well be there; an
    // entrypoint that the request takes away is not.
    let may_be_there = image.synthesised && body.entrypoint.is_none();
    if entrypoint.is_empty() && cmd.is_empty() && !may_be_there {
        return Err(Fault::invalid("no command specified"));
    }
    Ok(())
}

/// The log drivers that Docker has; here all of them are the kubelet's log.
const LOG_DRIVERS: [&str; 11] = [
    "json-file",
    "local",
    "none",
    "syslog",
    "journald",
    "gelf",
    "fluentd",
    "awslogs",
    "splunk",
    "gcplogs",
    "etwlogs",
];

fn log_driver(host: &HostConfig) -> Result<()> {
    let driver = host.log_config.as_ref().and_then(|log| log.typ.as_deref()).unwrap_or_default();
    if driver.is_empty() || LOG_DRIVERS.contains(&driver) {
        return Ok(());
    }
    Err(Fault::invalid(format!("error looking up logging plugin {driver}: plugin \"{driver}\" not found")))
}

fn working_dir(body: &ContainerCreateBody) -> Result<()> {
    match body.working_dir.as_deref() {
        None | Some("") => Ok(()),
        Some(dir) if dir.starts_with('/') => Ok(()),
        Some(dir) => Err(Fault::invalid(format!(
            "the working directory '{dir}' is invalid, it needs to be an absolute path"
        ))),
    }
}

fn environment(body: &ContainerCreateBody) -> Result<()> {
    match body.env.iter().flatten().find(|entry| entry.is_empty() || entry.starts_with('=')) {
        Some(entry) => Err(Fault::invalid(format!("invalid environment variable: {entry}"))),
        None => Ok(()),
    }
}

fn health(check: &HealthConfig) -> Result<()> {
    let times = [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ];
    for (field, time) in times {
        if time.is_some_and(|time| time != 0 && time < SHORTEST_HEALTH_TIME) {
            return Err(Fault::invalid(format!("{field} in Healthcheck cannot be less than 1ms")));
        }
    }
    if check.retries.is_some_and(|retries| retries < 0) {
        return Err(Fault::invalid("Retries in Healthcheck cannot be negative"));
    }
    Ok(())
}

fn restart(host: &HostConfig) -> Result<()> {
    let policy = host.restart_policy.clone().unwrap_or_default();
    let name = policy.name.unwrap_or(RestartPolicyNameEnum::EMPTY);
    let count = policy.maximum_retry_count.unwrap_or_default();
    let none = matches!(name, RestartPolicyNameEnum::EMPTY | RestartPolicyNameEnum::NO);
    if host.auto_remove == Some(true) && !none {
        return Err(Fault::invalid("can't create 'AutoRemove' container with restart policy"));
    }
    match name {
        RestartPolicyNameEnum::EMPTY => Ok(()),
        RestartPolicyNameEnum::ON_FAILURE if count < 0 => {
            Err(Fault::invalid("invalid restart policy: maximum retry count cannot be negative"))
        }
        RestartPolicyNameEnum::ON_FAILURE => Ok(()),
        _ if count != 0 => {
            let negative = if count < 0 { " and cannot be negative" } else { "" };
            Err(Fault::invalid(format!(
                "invalid restart policy: maximum retry count can only be used with 'on-failure'{negative}"
            )))
        }
        _ => Ok(()),
    }
}

fn hosts(host: &HostConfig) -> Result<()> {
    for entry in host.extra_hosts.iter().flatten() {
        extra_host(entry)?;
    }
    match host.dns.iter().flatten().find(|server| server.parse::<IpAddr>().is_err()) {
        Some(server) => {
            Err(Fault::invalid(format!("bad nameserver address: {server:?} is not an IP address")))
        }
        None => Ok(()),
    }
}

fn bindings(host: &HostConfig) -> Result<()> {
    for (port, bindings) in host.port_bindings.iter().flatten() {
        ports(port)?;
        for binding in bindings.iter().flatten() {
            let published = binding.host_port.as_deref().unwrap_or_default();
            if !published.is_empty() {
                port_range(published).ok_or_else(|| wrong_port(published))?;
            }
            let address = binding.host_ip.as_deref().unwrap_or_default();
            if !address.is_empty() && address.parse::<IpAddr>().is_err() {
                return Err(Fault::invalid(format!("invalid host IP address: {address:?}")));
            }
        }
    }
    Ok(())
}

fn capabilities(field: &str, list: &Option<Vec<String>>) -> Result<()> {
    for given in list.iter().flatten() {
        let known = capability(given);
        if known != "ALL" && !CAPABILITIES.contains(&known.as_str()) {
            return Err(Fault::invalid(format!("invalid {field}: unknown capability: \"CAP_{known}\"")));
        }
    }
    Ok(())
}

/// Whether a JSON value says nothing: null, false, zero, empty text, list or object.
pub(super) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_pattern() {
        for good in ["web", "/web", "My_App.1-a", "0x"] {
            assert!(name(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "_web", "we b", "wéb", "a/b", "-x"] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
