//! `/_ping`, `/version`, `/info` and `/system/df`.

use std::collections::BTreeSet;
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
use d2k_common::fault::Fault;
use d2k_daemon::Daemon;
use d2k_daemon::stats::machine_memory;
use d2k_translate::inspect;
use d2k_translate::state::Phase;
use d2k_translate::volume;

/// What `?type=` of `system df` may name.
const KINDS: [&str; 4] = ["container", "image", "volume", "build-cache"];

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
        "BuildTime": "",
    }))
    .into_response()
}

/// What `docker info` shows below the driver: where the containers are, and which policies decide.
fn driver_status(daemon: &Daemon) -> Vec<[String; 2]> {
    let set = daemon.policies.current();
    let mut rows = vec![
        ["Namespace".to_owned(), daemon.cluster.namespace().to_owned()],
        ["Server".to_owned(), daemon.cluster.server().to_owned()],
    ];
    if let Some(local) = &daemon.options.local {
        rows.push(["Layers".to_owned(), local.layers()]);
    }
    rows.extend(set.policies.iter().map(|policy| ["Policy".to_owned(), policy.id()]));
    rows
}

fn warnings(daemon: &Daemon) -> Vec<String> {
    let mut warnings =
        vec!["networks are not isolated: all Pods of the namespace reach one another".to_owned()];
    warnings.extend(daemon.policies.warning());
    warnings.extend(daemon.options.warnings.iter().cloned());
    warnings
}

fn registries() -> Value {
    let hub = json!({"Name": "docker.io", "Mirrors": [], "Secure": true, "Official": true});
    json!({"IndexConfigs": {"docker.io": hub}, "InsecureRegistryCIDRs": ["127.0.0.0/8"], "Mirrors": []})
}

/// Fields that newer versions of the API do without.
fn legacy(info: &mut Value, version: ApiVersion) {
    let mut add = |at: &str, field: &str, value: Value| {
        if let Some(fields) = info.pointer_mut(at).and_then(Value::as_object_mut) {
            fields.insert(field.into(), value);
        }
    };
    if version.below(42) {
        add("", "KernelMemory", json!(false));
        add("", "KernelMemoryTCP", json!(false));
    }
    if version.below(48) {
        add("/RegistryConfig", "AllowNondistributableArtifactsCIDRs", json!([]));
        add("/RegistryConfig", "AllowNondistributableArtifactsHostnames", json!([]));
    }
    if version.below(49) {
        for commit in ["/ContainerdCommit", "/RuncCommit", "/InitCommit"] {
            add(commit, "Expected", json!(""));
        }
    }
    if version.below(50) {
        add("", "BridgeNfIptables", json!(false));
        add("", "BridgeNfIp6tables", json!(false));
    } else {
        add("", "CDISpecDirs", json!([]));
    }
}

async fn info(State(daemon): State<Arc<Daemon>>, version: ApiVersion) -> Response {
    let containers = daemon.containers();
    let count = |wanted: fn(Phase) -> bool| containers.iter().filter(|c| wanted(c.state().phase)).count();
    let running = count(|p| matches!(p, Phase::Running | Phase::Restarting));
    let namespace = daemon.cluster.namespace();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let volumes = ["local"];
    let mut answer = json!({
        "ID": daemon.system_id(),
        "Containers": containers.len(),
        "ContainersRunning": running,
        "ContainersPaused": containers.iter().filter(|c| c.state().paused).count(),
        "ContainersStopped": containers.len() - running,
        "Images": super::images::group(daemon.images()).len(),
        "Driver": "kubernetes",
        "DriverStatus": driver_status(&daemon),
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
        "RegistryConfig": registries(),
        "NCPU": processors, "MemTotal": machine_memory(), "GenericResources": null, "DockerRootDir": "/var/lib/docker",
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
        "RuncCommit": {"ID": ""}, "InitCommit": {"ID": ""}, "SecurityOptions": [],
        "Warnings": warnings(&daemon),
    });
    legacy(&mut answer, version);
    Json(answer).into_response()
}

/// What `system df` tells of one kind of object.
struct Usage {
    kind: &'static str,
    /// The field of the list, up to 1.52.
    list: &'static str,
    /// The field of the figures, from 1.52.
    figures: &'static str,
    items: Vec<Value>,
    active: usize,
    size: i64,
    reclaimable: i64,
}

impl Usage {
    fn figures(&self, verbose: bool) -> Value {
        let mut figures = json!({
            "ActiveCount": self.active, "TotalCount": self.items.len(),
            "TotalSize": self.size, "Reclaimable": self.reclaimable,
        });
        if verbose && let Some(fields) = figures.as_object_mut() {
            fields.insert("Items".into(), json!(self.items));
        }
        figures
    }
}

fn container_usage(daemon: &Daemon, version: ApiVersion) -> Usage {
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
    Usage {
        kind: "container",
        list: "Containers",
        figures: "ContainerUsage",
        items: lines.collect(),
        active: containers.iter().filter(|c| c.state().running()).count(),
        size: 0,
        reclaimable: 0,
    }
}

fn image_usage(daemon: &Daemon, version: ApiVersion) -> Usage {
    let used: BTreeSet<String> =
        daemon.containers().iter().map(|c| c.record.image.id.clone()).filter(|id| !id.is_empty()).collect();
    let items = super::images::summaries(daemon, version);
    let is_used =
        |image: &&Value| image.get("Id").and_then(Value::as_str).is_some_and(|id| used.contains(id));
    let size = |image: &Value| image.get("Size").and_then(Value::as_i64).unwrap_or(0);
    let all: i64 = items.iter().map(size).sum();
    let kept: i64 = items.iter().filter(is_used).map(size).sum();
    let active = items.iter().filter(is_used).count();
    Usage {
        kind: "image",
        list: "Images",
        figures: "ImageUsage",
        items,
        active,
        size: all,
        reclaimable: all - kept,
    }
}

fn volume_usage(daemon: &Daemon) -> Usage {
    let mut usage = Usage {
        kind: "volume",
        list: "Volumes",
        figures: "VolumeUsage",
        items: Vec::new(),
        active: 0,
        size: 0,
        reclaimable: 0,
    };
    for claim in daemon.volumes() {
        let users = daemon.volume_users(&claim.object).len();
        let bytes = volume::size(&claim.object).unwrap_or(-1);
        usage.size += bytes.max(0);
        if users > 0 {
            usage.active += 1;
        } else {
            usage.reclaimable += bytes.max(0);
        }
        let mut item = serde_json::to_value(volume::volume(&claim.object)).unwrap_or_default();
        if let Some(fields) = item.as_object_mut() {
            fields.insert("UsageData".into(), json!({"Size": bytes, "RefCount": users}));
        }
        usage.items.push(item);
    }
    usage
}

/// Nothing is built here.
fn build_usage() -> Usage {
    Usage {
        kind: "build-cache",
        list: "BuildCache",
        figures: "BuildCacheUsage",
        items: Vec::new(),
        active: 0,
        size: 0,
        reclaimable: 0,
    }
}

async fn df(State(daemon): State<Arc<Daemon>>, version: ApiVersion, query: Query) -> Result<Response> {
    let types: Vec<&str> = query.all("type").filter(|_| !version.below(42)).collect();
    if let Some(kind) = types.iter().find(|kind| !KINDS.contains(kind)) {
        return Err(Fault::invalid(format!("unknown object type: {kind}")).into());
    }
    let verbose = query.flag("verbose");
    let figures = !version.below(52);
    // 1.52 has both forms, for the change from one to the other.
    let lists = version.below(53) && !(figures && verbose);
    let mut answer = serde_json::Map::new();
    let all = [
        container_usage(&daemon, version),
        image_usage(&daemon, version),
        volume_usage(&daemon),
        build_usage(),
    ];
    for usage in all.into_iter().filter(|usage| types.is_empty() || types.contains(&usage.kind)) {
        if figures {
            answer.insert(usage.figures.into(), usage.figures(verbose));
        }
        if lists && usage.kind == "image" {
            answer.insert("LayersSize".into(), json!(usage.size));
        }
        if lists {
            answer.insert(usage.list.into(), json!(usage.items));
        }
    }
    Ok(Json(Value::Object(answer)).into_response())
}
