//! What runs Pods for `kubeapi`: images, sandboxes (the network of a Pod) and containers, in the
//! vocabulary of the kubelet's runtime interface (CRI), cut down to what `kubeapi` asks for.
//! Restart policy, probes and status are the kubelet's, in `kubeapi`; an engine only does as told.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite};

pub mod log_files;

/// What an engine answers.
pub type Result<T, E = Trouble> = std::result::Result<T, E>;

/// Why an engine did not do something, in words for the Pod's status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Trouble {
    /// The kubelet's reason: `ErrImagePull`, `ErrImageNeverPull`, `InvalidImageName`,
    /// `CreateContainerError`, `RunContainerError`, `StartError`, `FailedCreatePodSandBox`, `NotFound`, …
    pub reason: &'static str,
    /// What failed, on which object.
    pub message: String,
}

/// The reason of a [`Trouble`] that says nothing about the container: the engine could not be asked.
pub const AWAY: &str = "EngineAway";

impl Trouble {
    /// A trouble with its reason.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// When an image is fetched (`imagePullPolicy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Pull {
    Always,
    IfNotPresent,
    Never,
}

/// A user name and password, or a token, for one registry (a `kubernetes.io/dockerconfigjson` entry).
#[derive(Clone, Default)]
pub struct Login {
    /// The registry's host, and port if any.
    pub registry: String,
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
}

/// An image that is here, with what its configuration says (OCI image specification, `config`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// `sha256:…` of the configuration.
    pub id: String,
    /// `name@sha256:…` if it came from a registry, else the ID.
    pub digest_reference: String,
    /// Entrypoint.
    pub entrypoint: Vec<String>,
    /// Command.
    pub command: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Working directory, `/` if none is said.
    pub working_dir: String,
    /// `user[:group]`, empty for root.
    pub user: String,
    /// Signal that ends it, if one is said.
    pub stop_signal: Option<String>,
}

/// The sandbox of a Pod: a network namespace with an address, and a host name.
#[derive(Debug, Clone, Default)]
pub struct Sandbox {
    /// UID of the Pod; the key of the sandbox.
    pub uid: String,
    /// Its namespace and name, for words and folders.
    pub namespace: String,
    /// Name of the Pod.
    pub name: String,
    /// Host name inside.
    pub hostname: String,
    /// Whether it has the network of the machine instead of its own.
    pub host_network: bool,
    /// Whether its containers see one another's processes.
    pub share_processes: bool,
    /// Whether one container is all that it ever has from the beginning: an engine may then do without one of its own that
    /// holds the network.
    pub alone: bool,
    /// The Pod and the objects that own it, each as JSON, for an engine that keeps containers longer than this process keeps
    /// objects.
    pub manifests: Vec<String>,
    /// Kernel parameters of its namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Memory that its containers share.
    pub memory: Vec<Memory>,
}

/// A volume in memory, which lives as long as its sandbox.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Memory {
    /// Its name, a DNS label.
    pub name: String,
    /// Most bytes that it holds.
    pub limit: Option<u64>,
    /// Group that owns it.
    pub group: Option<u32>,
}

/// When an engine that restarts containers by itself does so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Restart {
    #[default]
    Never,
    OnFailure,
    Always,
}

/// One container to be made. Making the same Pod's container again is a new one with a new ID.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// 64 hexadecimal digits, unique, for an engine that gives no IDs of its own.
    pub id: String,
    /// UID of its Pod, whose sandbox exists.
    pub pod: String,
    /// Name within the Pod.
    pub name: String,
    /// The image's reference, present already.
    pub image: String,
    /// Program and arguments: the image's are merged already. Never empty.
    pub command: Vec<String>,
    /// The whole environment, `NAME=value`. `PATH` and `HOME` are added if missing.
    pub env: Vec<String>,
    /// Working directory; made if it does not exist.
    pub working_dir: String,
    /// A terminal instead of pipes.
    pub tty: bool,
    /// Whether standard input is open; else it is at its end from the beginning.
    pub stdin: bool,
    /// Standard input ends with the first attached client that had it.
    pub stdin_once: bool,
    /// What is mounted, in this order, besides `/proc`, `/sys`, `/dev` and so on.
    pub mounts: Vec<Mount>,
    /// Who it runs as and what it may do.
    pub security: Security,
    /// Its limits.
    pub limits: Limits,
    /// ID of a container of the same Pod whose processes it sees.
    pub beside: Option<String>,
    /// Log in the CRI format (`<RFC 3339 with nanoseconds> stdout|stderr F|P <line>`), appended to and rotated
    /// (`log_files`), for an engine that keeps no logs of its own.
    pub log: PathBuf,
    /// For an engine that restarts containers by itself.
    pub restart: Restart,
}

/// A container that was made before this process began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The engine's ID.
    pub id: String,
    /// ID of its image.
    pub image: String,
    /// When its newest run began.
    pub started: SystemTime,
    /// Whether that run goes on.
    pub running: bool,
    /// When the last run has ended that has.
    pub ended: Option<SystemTime>,
    /// How often the engine has restarted it because it had ended.
    pub restarts: i64,
}

/// The part of a log that is asked of an engine that keeps logs.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogQuery {
    /// Lines at or after this time only.
    pub since: Option<SystemTime>,
    /// Lines at or before this time only.
    pub until: Option<SystemTime>,
    /// Number of lines from the end.
    pub tail: Option<usize>,
    /// New lines, too, until the run ends.
    pub follow: bool,
}

/// A line of a log, or a part of a long one.
#[derive(Debug, Clone)]
pub struct LogLine {
    /// When it was written, as the engine writes times: RFC 3339 with nanoseconds.
    pub time: String,
    /// Whether it is of standard error.
    pub stderr: bool,
    /// Its text, with the end of the line.
    pub text: Vec<u8>,
}

/// Lines as they come.
pub type LogStream = BoxStream<'static, Result<LogLine>>;

/// The next run of a container that an engine restarts by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It has begun.
    Run(SystemTime),
    /// The container was removed.
    Gone,
}

/// A file or folder, or memory, inside a container.
#[derive(Debug, Clone)]
pub struct Mount {
    /// Absolute path inside; made if it does not exist.
    pub target: PathBuf,
    /// What is mounted there.
    pub source: Source,
    /// Relative path of the part of the source that is mounted; empty for all of it. Folders that are
    /// missing are made.
    pub sub: PathBuf,
    /// Whether it can only be read.
    pub read_only: bool,
    /// Whether mounts below the source can be written where the source can only be read.
    pub below: Below,
    /// Whether what the machine mounts below the source later shows up inside (`HostToContainer`).
    pub follows: bool,
    /// Whether the source is a device of the machine, as the volume says (`CharDevice`, `BlockDevice`). An engine may then let the
    /// container use it in spite of the rules that keep containers from devices.
    pub device: bool,
}

impl Mount {
    /// The whole source, which can be written and follows no later mount.
    pub fn new(target: impl Into<PathBuf>, source: Source) -> Self {
        Self {
            target: target.into(),
            source,
            sub: PathBuf::new(),
            read_only: false,
            below: Below::default(),
            follows: false,
            device: false,
        }
    }
}

/// What a mount shows.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file or a folder of d2k's own: nobody puts device nodes or programs of another user there but
    /// containers.
    Managed(PathBuf),
    /// A path of the machine that a Pod names (`hostPath`), with all that is there.
    Host(PathBuf),
    /// The memory of this name that the sandbox has.
    Memory(String),
    /// A volume that the engine keeps under this name.
    Volume(String),
}

/// How mounts below a source are mounted that can only be read (`recursiveReadOnly`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Below {
    /// As the machine has them.
    #[default]
    AsTheyAre,
    /// Only to be read, where the kernel can do it.
    ReadOnlyIfPossible,
    /// Only to be read; a kernel that cannot do it is an error.
    ReadOnly,
}

/// Who a container runs as and what it may do.
#[derive(Debug, Clone, Default)]
pub struct Security {
    /// `uid[:gid]` or names that the image knows; empty for root.
    pub user: String,
    /// More groups.
    pub groups: Vec<u32>,
    /// Owner of group of volumes is the caller's business.
    pub privileged: bool,
    /// Capabilities besides the default ones, without `CAP_`; `ALL` is known.
    pub add: Vec<String>,
    /// Default capabilities that it does not have; `ALL` is known.
    pub drop: Vec<String>,
    /// The root file system cannot be written.
    pub read_only_root: bool,
    /// No process gains privileges.
    pub no_new_privileges: bool,
    /// A container may not be root (`runAsNonRoot`): then a root user is refused with `CreateContainerConfigError`.
    pub must_not_be_root: bool,
}

/// Limits of a container, as cgroups know them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// Memory in bytes.
    pub memory: Option<i64>,
    /// Processor time in thousandths of a processor.
    pub cpu_milli: Option<i64>,
    /// Weight, 2 to 262144.
    pub cpu_shares: Option<u64>,
    /// Processes and threads.
    pub pids: Option<i64>,
}

/// How a container or an exec has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Exit code, 128 + N after signal N.
    pub code: i32,
    /// The kernel has killed it for its memory limit.
    pub oom_killed: bool,
    /// When.
    pub at: SystemTime,
}

/// A command to be run in a container that runs.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct Exec {
    pub command: Vec<String>,
    pub tty: bool,
    /// Rows and columns that its terminal has from the beginning.
    pub size: Option<(u16, u16)>,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// Streams of a process. Dropping them does not end it.
pub struct Session {
    /// Standard input; shutting it down is its end of file.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Standard output, or the terminal.
    pub stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Standard error.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Tells the terminal its rows and columns.
    pub resize: Box<dyn Fn(u16, u16) + Send + Sync>,
    /// Its end. An attached client's streams end before. An error if there was no process: some engines tell only then that
    /// it could not be started.
    pub ended: BoxFuture<'static, Result<Exit>>,
}

/// Use of resources of one container, from its cgroups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time since its start, nanoseconds.
    pub cpu_nanos: u64,
    /// Memory that cannot be given back, bytes (the kubelet's working set).
    pub memory: u64,
    /// Processes and threads.
    pub processes: u64,
    /// Bytes that its Pod has received since its start.
    pub received: u64,
    /// Bytes that its Pod has sent since its start.
    pub sent: u64,
}

/// A two-way byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Facts for the Node's status.
#[derive(Debug, Clone, Default)]
pub struct NodeFacts {
    /// `name://version` of the runtime.
    pub runtime: String,
    /// Kernel release.
    pub kernel: String,
    /// Name of the operating system.
    pub os_image: String,
    /// Processors.
    pub cpus: u64,
    /// Memory in bytes.
    pub memory: u64,
    /// Size of the file system that containers write to, in bytes.
    pub storage: u64,
    /// What the system calls this machine, empty if it does not.
    pub machine_id: String,
    /// What the kernel calls its present run.
    pub boot_id: String,
    /// Kubernetes' word for the architecture, `amd64`.
    pub architecture: String,
}

/// What some engines do of what a Pod may ask for, and others do not: clients are warned where it is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// Containers have a seccomp profile of the engine's.
    Seccomp,
    /// Containers have an AppArmor profile of the engine's.
    AppArmor,
    /// Limits of memory are kept.
    MemoryLimit,
    /// Limits of processor time are kept.
    CpuLimit,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Seccomp, Self::AppArmor, Self::MemoryLimit, Self::CpuLimit];
}

/// What runs containers. Every call has a deadline of the engine's own; none blocks a thread of tokio.
pub trait Engine: Send + Sync + 'static {
    /// Facts about the machine.
    fn node(&self) -> NodeFacts;
    /// Whether it has a feature.
    fn has(&self, feature: Feature) -> bool;
    /// Sees to it that an image is here.
    fn image<'a>(
        &'a self,
        reference: &'a str,
        pull: Pull,
        logins: &'a [Login],
    ) -> BoxFuture<'a, Result<Image>>;
    /// Makes the sandbox of a Pod; its address. One that exists is left as it is.
    fn create_sandbox(&self, sandbox: Sandbox) -> BoxFuture<'_, Result<IpAddr>>;
    /// Removes a sandbox with what is left of its containers. One that is not there is no error.
    fn remove_sandbox<'a>(&'a self, uid: &'a str) -> BoxFuture<'a, Result<()>>;
    /// Makes a container, which does not run yet; its ID. `resolv_conf` and `hosts` come as mounts.
    fn create(&self, start: Start) -> BoxFuture<'_, Result<String>>;
    /// Starts a container that was made; it runs when this returns. One that cannot be started is to be removed.
    fn start<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>>;
    /// The end of a container, at once if it has ended.
    fn wait<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Exit>>;
    /// Sends a signal to its first process, by number.
    fn signal<'a>(&'a self, id: &'a str, signal: i32) -> BoxFuture<'a, Result<()>>;
    /// Removes a container that has ended, with its writable layer and cgroups; kills one that has not.
    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>>;
    /// Connects to the first process of a container; what it wrote before is in the log only.
    fn attach<'a>(&'a self, id: &'a str, stdin: bool) -> BoxFuture<'a, Result<Session>>;
    /// Runs a command in a container, with its first process's user, environment and directory.
    fn exec<'a>(&'a self, id: &'a str, exec: Exec) -> BoxFuture<'a, Result<Session>>;
    /// Changes the limits of a container that runs.
    fn limit<'a>(&'a self, id: &'a str, limits: Limits) -> BoxFuture<'a, Result<()>>;
    /// What a container uses now.
    fn usage<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Usage>>;
    /// Connects to a TCP port of a Pod's own loopback interface (as the kubelet's port-forward does).
    fn connect<'a>(&'a self, uid: &'a str, port: u16) -> BoxFuture<'a, Result<Box<dyn Stream>>>;

    /// Connects to a TCP port of a Pod's address (as the kubelet's probes do).
    fn dial<'a>(&'a self, uid: &'a str, port: u16) -> BoxFuture<'a, Result<Box<dyn Stream>>> {
        self.connect(uid, port)
    }
    /// Whether it restarts containers by itself, as [`Start::restart`] says, with the same ID; the kubelet only observes
    /// that then.
    fn restarts(&self) -> bool {
        false
    }
    /// The next run of a container that has ended, if it is restarted, by the engine or by a person; at once if it runs.
    fn next_run<'a>(&'a self, _id: &'a str) -> BoxFuture<'a, Result<Next>> {
        Box::pin(std::future::ready(Ok(Next::Gone)))
    }
    /// Whether the engine is about to restart a container that has ended.
    fn is_restarting<'a>(&'a self, _id: &'a str) -> BoxFuture<'a, bool> {
        Box::pin(std::future::ready(false))
    }
    /// The container of this name that a Pod had when this process began, if it is still there.
    fn found(&self, _pod: &str, _name: &str) -> Option<Found> {
        None
    }
    /// Waits until the engine is there again after it was away: what failed then is worth another attempt. An engine in this
    /// process is never away.
    fn is_back(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
    /// Sees to it that a path of the machine is what the `type` of a `hostPath` volume says, and makes what is missing where the
    /// type says so. None if this process sees the machine's files itself.
    fn check_host_path<'a>(&'a self, _path: &'a Path, _kind: &'a str) -> Option<BoxFuture<'a, Result<()>>> {
        None
    }
    /// The log of a container, of an engine that keeps logs; otherwise it is in [`Start::log`].
    fn log(&self, _id: &str, _query: LogQuery) -> Option<LogStream> {
        None
    }
}
