//! `docker inspect` of a container, and its line in `docker ps`: what the client asked for, what the image adds, what the
//! cluster says. Written as JSON by hand, because clients tell null, empty and absent apart.

use std::collections::BTreeMap;

use d2k_common::masked_paths::{MASKED, READ_ONLY};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::container::Container;
use super::mounts::{MountKind, MountPlan};
use super::record::Record;
use super::request::argv;
use super::settings::Aliases;
use super::state::{Phase, State};
use super::time::docker as time;
use super::{bindings, links, settings};

/// What inspect needs beside the container.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Network name → ID.
    pub networks: BTreeMap<String, String>,
    /// Mounts of the container, and the Docker name of the volume of each.
    pub mounts: Vec<(MountPlan, String)>,
    /// `State.Health`, if the container has a health check.
    pub health: Option<Value>,
    /// IDs of running execs.
    pub execs: Vec<String>,
    /// Minor number of the client's API version, 1.x.
    pub api: u32,
    /// Node of the Pod and other facts of the cluster, shown as labels of the log path.
    pub namespace: String,
}

/// Which policies decided about the container: `ports: ports@1.0.0 sha256:…` and so on.
fn policies(record: &Record) -> String {
    let all: Vec<String> = record.decided.iter().map(|(hook, by)| format!("{hook}: {by}")).collect();
    let helper = record.helper.iter().map(|helper| format!("helper: {}", helper.because.join(", ")));
    all.into_iter().chain(helper).collect::<Vec<_>>().join(", ")
}

/// Docker's inspect answer.
pub fn inspect(container: &Container, context: &Context) -> Value {
    let record = &container.record;
    let state = container.state();
    let command = full_command(record);
    let (path, args) =
        command.split_first().map_or((String::new(), Vec::new()), |(p, a)| (p.clone(), a.to_vec()));
    json!({
        "Id": record.id,
        "Created": time(Some(record.created)),
        "Path": path,
        "Args": args,
        "State": state_json(container, &state, context),
        "Image": record.image.id,
        "ResolvConfPath": "",
        "HostnamePath": "",
        "HostsPath": "",
        "LogPath": "",
        "Name": format!("/{}", record.name),
        "RestartCount": state.run.restart_count,
        "Driver": "kubernetes",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": if context.execs.is_empty() { Value::Null } else { json!(context.execs) },
        "HostConfig": host_config(record, context.api),
        "GraphDriver": {"Name": "kubernetes", "Data": {
            "Namespace": context.namespace,
            "Kind": container.kind.as_str(),
            "Name": record.object,
            "Policies": policies(record),
            "Pod": container.pod().and_then(|p| p.metadata.name.clone()).unwrap_or_default(),
            "Node": container.pod().and_then(|p| p.spec.as_ref()?.node_name.clone()).unwrap_or_default(),
        }},
        "SizeRootFs": Value::Null,
        "Mounts": mounts(context),
        "Config": config(record),
        "NetworkSettings": network_settings(container, &state, context),
    })
}

fn state_json(container: &Container, state: &State, context: &Context) -> Value {
    let running = state.running();
    let trouble = state.trouble.as_ref().filter(|_| container.wanted > 0);
    let error = trouble.map_or_else(|| state.run.error.clone(), |t| format!("{}: {}", t.reason, t.message));
    let mut value = json!({
        "Status": if container.removing { "removing" } else { state.word() },
        "Running": running,
        "Paused": state.paused,
        "Restarting": state.phase == Phase::Restarting,
        "OOMKilled": state.run.oom_killed,
        "Dead": false,
        "Pid": i32::from(state.phase == Phase::Running),
        "ExitCode": state.run.exit_code,
        "Error": error,
        "StartedAt": time(state.run.started.filter(|_| !state.never_ran())),
        "FinishedAt": time(state.run.finished.filter(|_| !state.never_ran())),
    });
    if let (Some(health), Some(fields)) = (&context.health, value.as_object_mut()) {
        fields.insert("Health".into(), health.clone());
    }
    value
}

/// The request's `HostConfig` over Docker's defaults.
fn host_config(record: &Record, api: u32) -> Value {
    let mut value = default_host_config();
    if let (Some(fields), Some(sent)) =
        (value.as_object_mut(), record.raw.get("HostConfig").and_then(Value::as_object))
    {
        for (key, sent) in sent {
            let keep_default = sent.is_null() && fields.get(key).is_some_and(|v| !v.is_null());
            if !keep_default {
                fields.insert(key.clone(), sent.clone());
            }
        }
        // Go leaves these out where they are nothing.
        for optional in ["Annotations", "Init", "Mounts", "StorageOpt", "Sysctls", "Tmpfs"] {
            fields.retain(|key, value| key != optional || !value.is_null());
        }
        if fields.get("NetworkMode").and_then(Value::as_str).is_none_or(|m| m.is_empty() || m == "default") {
            fields.insert("NetworkMode".into(), json!("bridge"));
        }
        let links = links::of_bridge(record).into_iter();
        let links = links.map(|link| format!("/{}:/{}/{}", link.target, record.name, link.alias));
        let links: Vec<String> = links.collect();
        fields.insert("Links".into(), if links.is_empty() { Value::Null } else { json!(links) });
        let policy = fields.get("RestartPolicy").cloned().unwrap_or_default();
        let name = policy.get("Name").and_then(Value::as_str).filter(|name| !name.is_empty()).unwrap_or("no");
        let count = policy.get("MaximumRetryCount").and_then(Value::as_i64).unwrap_or(0);
        fields.insert("RestartPolicy".into(), json!({"Name": name, "MaximumRetryCount": count}));
        if let Some(log) = fields.get_mut("LogConfig").and_then(Value::as_object_mut)
            && log.get("Type").and_then(Value::as_str).is_none_or(str::is_empty)
        {
            log.insert("Type".into(), json!("json-file"));
        }
        if fields.get("ShmSize").and_then(Value::as_i64).is_none_or(|size| size == 0) {
            fields.insert("ShmSize".into(), json!(67_108_864));
        }
    }
    if let (true, Some(fields)) = (api < 42, value.as_object_mut()) {
        for old in ["KernelMemory", "KernelMemoryTCP"] {
            fields.entry(old).or_insert_with(|| json!(0));
        }
    }
    value
}

/// Entrypoint and command as Docker would run them.
fn full_command(record: &Record) -> Vec<String> {
    let (mut command, cmd) = argv(&record.body, &record.image);
    command.extend(cmd);
    command
}

/// A word of a command line as `docker ps` shows it: quoted where it has a blank.
fn shown(word: &str) -> String {
    if word.contains(' ') { format!("'{word}'") } else { word.to_owned() }
}

/// The image's environment, overridden and extended by the request's.
fn merged_env(record: &Record) -> Vec<String> {
    let asked = record.body.env.clone().unwrap_or_default();
    let key = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let overridden = |entry: &&String| asked.iter().any(|a| key(a) == key(entry));
    let mut env: Vec<String> = asked.clone();
    env.extend(record.image.env.iter().filter(|entry| !overridden(entry)).cloned());
    env
}

fn default_host_config() -> Value {
    json!({
        "Binds": null, "ContainerIDFile": "", "LogConfig": {"Type": "json-file", "Config": {}},
        "NetworkMode": "bridge", "PortBindings": null, "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "AutoRemove": false, "VolumeDriver": "", "VolumesFrom": null, "ConsoleSize": [0, 0], "CapAdd": null,
        "CapDrop": null, "CgroupnsMode": "private", "Dns": null, "DnsOptions": null, "DnsSearch": null,
        "ExtraHosts": null, "GroupAdd": null, "IpcMode": "private", "Cgroup": "", "Links": null,
        "OomScoreAdj": 0, "PidMode": "", "Privileged": false, "PublishAllPorts": false,
        "ReadonlyRootfs": false, "SecurityOpt": null, "UTSMode": "", "UsernsMode": "",
        "ShmSize": 67_108_864, "Runtime": "runc", "Isolation": "", "CpuShares": 0, "Memory": 0, "NanoCpus": 0,
        "CgroupParent": "", "BlkioWeight": 0, "BlkioWeightDevice": null, "BlkioDeviceReadBps": null,
        "BlkioDeviceWriteBps": null, "BlkioDeviceReadIOps": null, "BlkioDeviceWriteIOps": null, "CpuPeriod": 0,
        "CpuQuota": 0, "CpuRealtimePeriod": 0, "CpuRealtimeRuntime": 0, "CpusetCpus": "", "CpusetMems": "",
        "Devices": null, "DeviceCgroupRules": null, "DeviceRequests": null, "MemoryReservation": 0,
        "MemorySwap": 0, "MemorySwappiness": null, "OomKillDisable": false, "PidsLimit": null,
        "Ulimits": null, "CpuCount": 0, "CpuPercent": 0, "IOMaximumIOps": 0, "IOMaximumBandwidth": 0,
        "MaskedPaths": MASKED,
        "ReadonlyPaths": READ_ONLY,
    })
}

/// The request's `Config` with what the image adds, as Docker merges them.
fn config(record: &Record) -> Value {
    let body = &record.body;
    let flag = |value: Option<bool>| value.unwrap_or(false);
    let list = |values: &[String]| {
        if values.is_empty() { Value::Null } else { json!(values) }
    };
    let text = |asked: &Option<String>, image: &str| {
        asked.clone().filter(|a| !a.is_empty()).unwrap_or_else(|| image.to_owned())
    };
    let (entrypoint, cmd) = argv(body, &record.image);
    let exposed: Map<String, Value> = bindings::exposed(record)
        .into_iter()
        .map(|(port, protocol)| (format!("{port}/{protocol}"), json!({})))
        .collect();
    let volumes: Map<String, Value> = body
        .volumes
        .iter()
        .flatten()
        .chain(record.image.volumes.iter())
        .map(|path| (path.clone(), json!({})))
        .collect();
    let mut value = json!({
        "Hostname": text(&body.hostname, record.id.get(..12).unwrap_or_default()),
        "Domainname": text(&body.domainname, ""),
        "User": text(&body.user, &record.image.user),
        "AttachStdin": flag(body.attach_stdin),
        "AttachStdout": flag(body.attach_stdout),
        "AttachStderr": flag(body.attach_stderr),
        "Tty": flag(body.tty),
        "OpenStdin": flag(body.open_stdin),
        "StdinOnce": flag(body.stdin_once),
        "Env": merged_env(record),
        "Cmd": list(&cmd),
        "Image": body.image,
        "Volumes": if volumes.is_empty() { Value::Null } else { Value::Object(volumes) },
        "WorkingDir": text(&body.working_dir, &record.image.working_dir),
        "Entrypoint": list(&entrypoint),
        "OnBuild": Value::Null,
        "Labels": record.docker_labels(),
    });
    if let Some(fields) = value.as_object_mut() {
        if !exposed.is_empty() {
            fields.insert("ExposedPorts".into(), Value::Object(exposed));
        }
        let health = body.healthcheck.clone().or_else(|| record.image.healthcheck.clone());
        if let Some(health) = health {
            fields.insert("Healthcheck".into(), json!(health));
        }
        let signal = text(&body.stop_signal, &record.image.stop_signal);
        if !signal.is_empty() {
            fields.insert("StopSignal".into(), json!(signal));
        }
        if let Some(seconds) = body.stop_timeout {
            fields.insert("StopTimeout".into(), json!(seconds));
        }
        // Said back where it was asked for; the address itself is the cluster's.
        if let Some(address) =
            record.raw.get("MacAddress").filter(|address| **address != "" && !address.is_null())
        {
            fields.insert("MacAddress".into(), address.clone());
        }
    }
    value
}

fn network_settings(container: &Container, state: &State, context: &Context) -> Value {
    let running = state.phase == Phase::Running;
    let aliases = if context.api < 45 { Aliases::All } else { Aliases::Asked };
    let networks = settings::networks(container, running, &context.networks, aliases);
    let mut value = json!({
        "SandboxID": "",
        "SandboxKey": "",
        "Ports": settings::ports(container, running),
        "Networks": networks,
    });
    if context.api < 52
        && let Some(fields) = value.as_object_mut()
    {
        let bridge = networks.get("bridge").cloned().unwrap_or(Value::Null);
        let text = |key: &str| bridge.get(key).cloned().unwrap_or_else(|| json!(""));
        let legacy = json!({
            "Bridge": "", "HairpinMode": false, "LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0,
            "SecondaryIPAddresses": null, "SecondaryIPv6Addresses": null,
            "EndpointID": text("EndpointID"), "Gateway": text("Gateway"),
            "GlobalIPv6Address": text("GlobalIPv6Address"), "GlobalIPv6PrefixLen": 0,
            "IPAddress": text("IPAddress"),
            "IPPrefixLen": bridge.get("IPPrefixLen").cloned().unwrap_or_else(|| json!(0)),
            "IPv6Gateway": "", "MacAddress": "",
        });
        fields.extend(legacy.as_object().cloned().unwrap_or_default());
    }
    value
}

/// `Mounts` of inspect and of a line of `docker ps`.
pub fn mounts(context: &Context) -> Value {
    let all: Vec<Value> = context
        .mounts
        .iter()
        .filter_map(|(plan, name)| match &plan.kind {
            MountKind::Named(_) | MountKind::Anonymous => Some(json!({
                "Type": "volume",
                "Name": name,
                "Source": format!("/var/lib/docker/volumes/{name}/_data"),
                "Destination": plan.target,
                "Driver": "local",
                "Mode": plan.mode,
                "RW": !plan.read_only,
                "Propagation": "",
            })),
            MountKind::Tmpfs(_) if plan.unlisted => None,
            MountKind::Tmpfs(_) => Some(json!({
                "Type": "tmpfs", "Source": "", "Destination": plan.target, "Mode": "", "RW": !plan.read_only,
                "Propagation": "",
            })),
            MountKind::Bind(bind) => Some(json!({
                "Type": "bind", "Source": bind.source, "Destination": plan.target, "Mode": plan.mode,
                "RW": !plan.read_only, "Propagation": bind.shown_propagation(),
            })),
            MountKind::Shm(_) => None,
        })
        .collect();
    json!(all)
}

/// A line of `docker ps`.
pub fn summary(container: &Container, context: &Context, now: Timestamp) -> Value {
    let record = &container.record;
    let state = container.state();
    let running = state.phase == Phase::Running;
    let health =
        context.health.as_ref().and_then(|h| h.get("Status")).and_then(Value::as_str).map(str::to_owned);
    let mut value = json!({
        "Id": record.id,
        "Names": [format!("/{}", record.name)],
        "Image": record.body.image,
        "ImageID": record.image.id,
        "Command": full_command(record).iter().map(|word| shown(word)).collect::<Vec<_>>().join(" "),
        "Created": record.created.as_second(),
        "Ports": settings::port_summary(container, running),
        "Labels": record.docker_labels(),
        "State": if container.removing { "removing" } else { state.word() },
        "Status": status_text(&state, container.removing, health.as_deref().filter(|_| running), now),
        "HostConfig": {"NetworkMode": network_mode(record)},
        "NetworkSettings": {"Networks": settings::networks(container, running, &context.networks, Aliases::None)},
        "Mounts": mounts(context),
    });
    if context.api >= 52
        && let Some(fields) = value.as_object_mut()
    {
        let streak =
            context.health.as_ref().and_then(|h| h.get("FailingStreak")).cloned().unwrap_or_else(|| json!(0));
        let status = health.unwrap_or_else(|| "none".into());
        fields.insert("Health".into(), json!({"Status": status, "FailingStreak": streak}));
    }
    value
}

/// The network mode as inspect shows it.
pub fn network_mode(record: &Record) -> String {
    let mode = record.body.host_config.as_ref().and_then(|h| h.network_mode.clone()).unwrap_or_default();
    if matches!(mode.as_str(), "" | "default") { "bridge".into() } else { mode }
}

/// Docker's `STATUS` column.
pub fn status_text(state: &State, removing: bool, health: Option<&str>, now: Timestamp) -> String {
    let ago =
        |since: Option<Timestamp>| super::time::rough(since.map_or(0, |t| now.as_second() - t.as_second()));
    if removing {
        return "Removal In Progress".into();
    }
    if state.never_ran() {
        return "Created".into();
    }
    match state.phase {
        Phase::Created => "Created".into(),
        Phase::Running => {
            let health = match health {
                Some("starting") => " (health: starting)".to_owned(),
                Some(known @ ("healthy" | "unhealthy")) => format!(" ({known})"),
                _ => String::new(),
            };
            let paused = if state.paused { " (Paused)" } else { "" };
            format!("Up {}{health}{paused}", ago(state.run.started))
        }
        Phase::Restarting => format!("Restarting ({}) {} ago", state.run.exit_code, ago(state.run.finished)),
        Phase::Exited => format!("Exited ({}) {} ago", state.run.exit_code, ago(state.run.finished)),
    }
}
