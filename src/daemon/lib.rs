//! What dockerd does, over a cluster: finds containers, runs them, keeps their history, serves
//! their streams. Called by the HTTP front with plain values; free of HTTP itself.

pub mod archive;
pub mod attach;
mod binds;
pub mod bus;
pub mod callers;
mod carry;
pub mod collect_logins;
pub mod create;
pub mod decisions;
pub mod ending;
pub mod exec;
pub mod foreign;
pub mod gates;
pub mod health;
pub mod heard;
pub mod helper;
pub mod history;
pub mod images;
pub mod input;
pub mod keeper;
pub mod kept_logs;
pub mod lifecycle;
pub mod links;
pub mod listen;
#[cfg(target_os = "linux")]
pub mod local_images;
#[cfg(not(target_os = "linux"))]
#[path = "no_local_images.rs"]
pub mod local_images;
pub mod locks;
pub mod logs;
pub mod lookup;
pub mod networks;
pub mod pause;
pub mod pipe;
pub mod preview;
pub mod publish;
pub mod pull_secrets;
pub mod release;
pub mod remove;
pub mod replace;
pub mod reservations;
pub mod run_binding;
pub mod runs;
pub mod shape;
pub mod staging;
pub mod start;
pub mod stats;
pub mod tell;
pub mod top;
pub mod update;
pub mod view;
pub mod volumes;
pub mod volumes_from;
pub mod wait;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use d2k_cluster::Cluster;
use d2k_policy::Policies;
use d2k_registry::Registry;

/// What the daemon was told at its start.
#[derive(Clone)]
pub struct Options {
    /// How long `start` waits for the container to run.
    pub start_timeout: Duration,
    /// Make Services for published ports.
    pub publish_service: bool,
    /// Listen on published ports and forward to the Pod.
    pub publish_proxy: bool,
    /// Address to listen on for published ports.
    pub listen: std::net::IpAddr,
    /// The access that clients have to workloads that d2k did not make.
    pub foreign: foreign::Foreign,
    /// Name of the Pod that this process runs in, where it does.
    pub own_pod: Option<String>,
    /// The cluster's DNS domain, `cluster.local`.
    pub cluster_domain: String,
    /// What a container gets as `DOCKER_HOST` in place of a bind of the Docker socket.
    pub docker_host: String,
    /// The images of this machine, where the cluster is d2k's own.
    pub local: Option<local_images::LocalImages>,
    /// More warnings of `docker info`, in whole sentences.
    pub warnings: Vec<String>,
}

/// The daemon. One a process, shared by all requests.
pub struct Daemon {
    /// The cluster.
    pub cluster: Cluster,
    /// The decisions.
    pub policies: Arc<Policies>,
    /// Image registries.
    pub registry: Registry,
    /// What it was told at its start.
    pub options: Options,
    pub(crate) local: Option<local_images::LocalImages>,
    /// Docker events.
    pub events: bus::Bus,
    /// Cancelled when d2k ends: streams end cleanly.
    pub stopping: CancellationToken,
    pub(crate) locks: locks::Locks,
    pub(crate) outside: callers::Outside,
    pub(crate) attached: pipe::Attached,
    pub(crate) captures: kept_logs::Captures,
    pub(crate) publisher: publish::Publisher,
    pub(crate) network_lock: tokio::sync::Mutex<()>,
    pub(crate) networks_written: networks::Written,
    pub(crate) links: links::Links,
    pub(crate) runs: runs::Runs,
    pub(crate) health: health::Healths,
    pub(crate) stats: stats::Meters,
    pub(crate) execs: exec::Execs,
    pub(crate) gates: gates::Gates,
    pub(crate) heard: heard::Heard,
    pub(crate) listening: listen::Places,
    pub(crate) held: pause::Held,
    pub(crate) helpers: helper::Known,
}

impl Daemon {
    /// A daemon over a connected cluster.
    pub fn new(
        cluster: Cluster,
        policies: Arc<Policies>,
        registry: Registry,
        options: Options,
        stopping: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            cluster,
            policies,
            registry,
            local: options.local.clone(),
            options,
            events: bus::Bus::default(),
            stopping,
            locks: locks::Locks::default(),
            outside: callers::Outside::default(),
            attached: pipe::Attached::default(),
            captures: kept_logs::Captures::default(),
            publisher: publish::Publisher::default(),
            network_lock: tokio::sync::Mutex::default(),
            networks_written: networks::Written::default(),
            links: links::Links::default(),
            runs: runs::Runs::default(),
            health: health::Healths::default(),
            stats: stats::Meters::default(),
            execs: exec::Execs::default(),
            gates: gates::Gates::default(),
            heard: heard::Heard::default(),
            listening: listen::Places::default(),
            held: pause::Held::default(),
            helpers: helper::Known::default(),
        })
    }
}
