//! `/_ping`, `/version`, `/info` and `/system/df`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::body::Json;
use super::error::Result;
use super::query::Query;
use super::version::{ApiVersion, ENGINE, NEWEST, OLDEST};
use crate::daemon::Daemon;
use crate::fault::Fault;
use crate::translate::inspect;
use crate::translate::state::Phase;
use crate::translate::volume;

/// The routes.
pub fn router() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/_ping", get(ping))
        .route("/version", get(show_version))
        .route("/info", get(info))
        .route("/system/df", get(df))
}

/// The builder version keeps clients from trying BuildKit.
async fn ping() -> Response {
    let headers = [
        ("Builder-Version", "1"),
        ("Swarm", "inactive"),
        (header::CACHE_CONTROL.as_str(), "no-cache, no-store, must-revalidate"),
        (header::PRAGMA.as_str(), "no-cache"),
        (header::CONTENT_TYPE.as_str(), "text/plain; charset=utf-8"),
    ];
    (headers, "OK").into_response()
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

async fn show_version(State(daemon): State<Arc<Daemon>>) -> Response {
    let api = NEWEST.to_string();
    let oldest = OLDEST.to_string();
    let d2k = env!("CARGO_PKG_VERSION");
    let kubernetes = daemon.cluster.version();
    Json(json!({
        "Platform": {"Name": format!("d2k {d2k} on Kubernetes {kubernetes}")},
        "Components": [
            {"Name": "Engine", "Version": ENGINE, "Details": {
                "ApiVersion": api, "MinAPIVersion": oldest, "Os": "linux", "Arch": architecture(),
                "KernelVersion": "", "GoVersion": "", "GitCommit": "", "BuildTime": "", "Experimental": "false",
            }},
            {"Name": "d2k", "Version": d2k, "Details": {"Namespace": daemon.cluster.namespace()}},
            {"Name": "Kubernetes", "Version": kubernetes, "Details": {"Server": daemon.cluster.server()}},
        ],
        "Version": ENGINE,
        "ApiVersion": api,
        "MinAPIVersion": oldest,
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": architecture(),
        "KernelVersion": "",
        "Experimental": false,
        "BuildTime": "",
    }))
    .into_response()
}

/// Bytes of memory of this machine, for clients that must have a number; a Role cannot read nodes.
fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text
        .lines()
        .find_map(|l| l.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    total.map_or(1 << 30, |kib: u64| kib * 1024)
}

async fn info(State(daemon): State<Arc<Daemon>>) -> Response {
    let containers = daemon.containers();
    let count = |wanted: fn(Phase) -> bool| containers.iter().filter(|c| wanted(c.state().phase)).count();
    let running = count(|p| matches!(p, Phase::Running | Phase::Restarting));
    let namespace = daemon.cluster.namespace();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let volumes = ["local"];
    Json(json!({
        "ID": daemon.system_id(),
        "Containers": containers.len(),
        "ContainersRunning": running,
        "ContainersPaused": 0,
        "ContainersStopped": containers.len() - running,
        "Images": daemon.images().len(),
        "Driver": "kubernetes",
        "DriverStatus": [["Namespace", namespace], ["Server", daemon.cluster.server()]],
        "Plugins": {"Volume": volumes, "Network": ["bridge", "host", "null", "overlay"], "Authorization": null, "Log": ["json-file"]},
        "MemoryLimit": true, "SwapLimit": false, "CpuCfsPeriod": true, "CpuCfsQuota": true, "CPUShares": true,
        "CPUSet": false, "PidsLimit": false, "IPv4Forwarding": true, "Debug": false, "OomKillDisable": false,
        "NFd": 0, "NGoroutines": 0, "SystemTime": Timestamp::now().to_string(),
        "LoggingDriver": "json-file", "CgroupDriver": "none", "CgroupVersion": "2",
        "NEventsListener": daemon.events.listeners(),
        "KernelVersion": daemon.cluster.version(),
        "OperatingSystem": format!("Kubernetes {}", daemon.cluster.version()),
        "OSVersion": "", "OSType": "linux", "Architecture": std::env::consts::ARCH,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {"IndexConfigs": {}, "InsecureRegistryCIDRs": [], "Mirrors": []},
        "NCPU": processors, "MemTotal": memory(), "GenericResources": null, "DockerRootDir": "/var/lib/docker",
        "HttpProxy": "", "HttpsProxy": "", "NoProxy": "",
        "Name": format!("d2k-{namespace}"),
        "Labels": [format!("io.kubernetes.namespace={namespace}")],
        "ExperimentalBuild": false, "ServerVersion": ENGINE,
        "Runtimes": {"runc": {"path": "runc"}}, "DefaultRuntime": "runc",
        "Swarm": {
            "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "",
            "RemoteManagers": null,
        },
        "LiveRestoreEnabled": true, "Isolation": "", "InitBinary": "", "ContainerdCommit": {"ID": ""},
        "RuncCommit": {"ID": ""}, "InitCommit": {"ID": ""}, "SecurityOptions": [], "CDISpecDirs": [],
        "Warnings": ["networks are not isolated: all Pods of the namespace reach one another"],
    }))
    .into_response()
}

/// Which kinds `?type=` asks for.
fn wanted(query: &Query) -> Result<impl Fn(&str) -> bool> {
    let types: Vec<String> = query.all("type").map(str::to_owned).collect();
    for kind in &types {
        if !matches!(kind.as_str(), "container" | "image" | "volume" | "build-cache") {
            return Err(Fault::invalid(format!("unknown object type: {kind}")).into());
        }
    }
    Ok(move |kind: &str| types.is_empty() || types.iter().any(|t| t == kind))
}

async fn df(State(daemon): State<Arc<Daemon>>, version: ApiVersion, query: Query) -> Result<Response> {
    let wanted = wanted(&query)?;
    let mut answer = json!({});
    let mut put = |kind: &str, legacy: &str, usage: &str, items: Vec<Value>, active: usize, total: i64| {
        let Some(fields) = answer.as_object_mut().filter(|_| wanted(kind)) else {
            return;
        };
        let summary = json!({
            "ActiveCount": active, "TotalCount": items.len(), "TotalSize": total, "Reclaimable": 0, "Items": items,
        });
        if version.below(52) {
            fields.insert(legacy.into(), json!(items));
        } else {
            fields.insert(usage.into(), summary);
        }
    };
    let containers = daemon.containers();
    let base = daemon.view_base(version.minor);
    let now = Timestamp::now();
    let lines = containers.iter().map(|c| {
        let mut line = inspect::summary(c, &daemon.view(c, &base), now);
        if let Some(fields) = line.as_object_mut() {
            fields.insert("SizeRw".into(), json!(0));
            fields.insert("SizeRootFs".into(), json!(c.record.image.size));
        }
        line
    });
    let running = containers.iter().filter(|c| c.state().running()).count();
    put("container", "Containers", "ContainerUsage", lines.collect(), running, 0);
    let images = super::images::summaries(&daemon, version);
    let size = images.iter().filter_map(|i| i.get("Size")?.as_i64()).sum();
    put("image", "Images", "ImageUsage", images, containers.len(), size);
    let (mut volumes, mut active, mut size) = (Vec::new(), 0, 0);
    for claim in daemon.volumes() {
        let users = daemon.volume_users(&claim.object).len();
        let bytes = volume::size(&claim.object).unwrap_or(-1);
        (active, size) = (active + usize::from(users > 0), size + bytes.max(0));
        let mut value = serde_json::to_value(volume::volume(&claim.object)).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            fields.insert("UsageData".into(), json!({"Size": bytes, "RefCount": users}));
        }
        volumes.push(value);
    }
    put("volume", "Volumes", "VolumeUsage", volumes, active, size);
    put("build-cache", "BuildCache", "BuildCacheUsage", Vec::new(), 0, 0);
    if version.below(52)
        && let Some(fields) = answer.as_object_mut()
    {
        fields.insert("LayersSize".into(), json!(0));
    }
    Ok(Json(answer).into_response())
}
