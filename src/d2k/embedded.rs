//! `d2k serve --embedded`: a Kubernetes of d2k's own in the same process, with real containers on
//! this machine. Puts `kubeapi`, the local engine and its network together.

mod command;
mod folder;
mod services;

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Settings;
use d2k_cluster::Reach;
use d2k_daemon::local_images::LocalImages;
use d2k_engine_local::runtime::{self, Helper};
use d2k_engine_local::{Local, outward};
use d2k_kubeapi::cluster;
use d2k_kubeapi::controllers::storage::Folders;
use d2k_kubeapi::store::Limits;
use d2k_kubeapi::verbs::{self, Api};
use d2k_network::sockets::Sockets;
use d2k_network::{self as network, Network, Range};
use d2k_registry::Registry;

pub use command::{Job, run as run_command};
pub use d2k_engine_local::runtime::raise_open_files;

/// The Pods' gateway, where the DNS server is, too.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
/// First address of the range of Services.
const SERVICES: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 0);
/// Where Pods reach the API server.
const INSIDE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)), 443);
/// Name of the only Node.
const NODE: &str = "d2k";
/// Prefix of both ranges.
const PREFIX: u8 = 16;

/// What has to be there before the process has threads.
pub struct Prepared {
    helper: Helper,
    data: PathBuf,
    lock: File,
}

/// A cluster that runs in this process.
pub struct Embedded {
    kubeconfig: PathBuf,
    engine: Local,
    network: Arc<Network>,
    /// The tasks of the way out.
    outward: TaskTracker,
    api: Arc<Api>,
    /// Held as long as this process has the folder.
    _lock: File,
}

/// Runs this process as the engine's helper if it was started as that; its exit code. To be called on the main thread,
/// before any other is started.
pub fn run_as_helper() -> Option<ExitCode> {
    let asked = std::env::args_os().nth(1).is_some_and(|word| word == runtime::HELPER_ARGUMENT);
    asked.then(runtime::helper_main)
}

/// Whether the settings make sense for an embedded cluster.
///
/// # Errors
/// One line that names the setting and what to do.
pub fn check(settings: &Settings) -> Result<(), String> {
    if !settings.listen.is_loopback() {
        return Err(format!(
            "D2K_LISTEN (--listen) is {}: with --embedded, d2k listens on loopback or a unix socket (D2K_SOCKET) only, \
             because whoever reaches it can do everything on this machine",
            settings.listen
        ));
    }
    if let Some(kubeconfig) = &settings.kubeconfig {
        return Err(format!(
            "D2K_KUBECONFIG (--kubeconfig) is {}: --embedded brings a cluster of its own; leave one of the two out",
            kubeconfig.display()
        ));
    }
    Ok(())
}

/// The folder of the cluster that is kept between starts.
///
/// # Errors
/// One line where there is no home to have it in.
pub fn data_dir(settings: &Settings) -> Result<PathBuf, String> {
    if let Some(folder) = &settings.data_dir {
        return Ok(folder.clone());
    }
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")));
    let state =
        state.ok_or("there is no home directory for the embedded cluster: set D2K_DATA_DIR (--data-dir)")?;
    Ok(state.join("d2k"))
}

/// Takes the folder and starts the helper process. To be called on the main thread, before any other
/// is started.
///
/// # Errors
/// One line that names the step that failed and what to do.
pub fn prepare(data: &Path) -> Result<Prepared, String> {
    let data = folder::private(data)?;
    let lock = folder::lock(&data)?;
    let warning = runtime::enter_user_namespace().map_err(|error| error.to_string())?;
    if !warning.is_empty() {
        eprintln!("d2k: {warning}");
    }
    let name = hex::encode(Sha256::digest(data.as_os_str().as_encoded_bytes()).get(..6).unwrap_or_default());
    let options = runtime::Options {
        name,
        data: data.clone(),
        bridge: GATEWAY,
        bridge_prefix: PREFIX,
        services: SERVICES,
        services_prefix: PREFIX,
    };
    let helper = runtime::prepare(options).map_err(|error| error.to_string())?;
    Ok(Prepared { helper, data, lock })
}

/// A folder for a cluster that is only tried; the caller removes it.
///
/// # Errors
/// One line where none can be made.
pub fn temporary_folder() -> Result<PathBuf, String> {
    folder::temporary()
}

/// Starts the engine's helper as a cluster would, and returns its facts about this machine. To be called before any
/// other thread is started.
///
/// # Errors
/// One line that names the step that failed and what to do.
pub fn facts(folder: &Path) -> Result<runtime::Facts, String> {
    Ok(prepare(folder)?.helper.facts().clone())
}

/// Starts the cluster.
///
/// # Errors
/// One line on what could not be started.
pub async fn start(
    prepared: Prepared,
    registry: Registry,
    namespace: &str,
    stopping: CancellationToken,
) -> Result<Embedded, String> {
    let Prepared { helper, data, lock } = prepared;
    let engine = Local::open(helper, registry).await.map_err(|error| error.to_string())?;
    let options = cluster::Options {
        storage: Arc::new(Folders(data.join("volumes"))),
        data,
        name: NODE.to_owned(),
        address: Ipv4Addr::LOCALHOST.into(),
        listen: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0),
        addresses: vec![GATEWAY.into()],
        names: Vec::new(),
        inside: INSIDE,
        gateway: GATEWAY.into(),
        dns: GATEWAY.into(),
        services: verbs::Settings::default(),
        anonymous: true,
        token: None,
        limits: Limits::default(),
        namespaces: vec![namespace.to_owned()],
    };
    let started = cluster::start(Arc::new(engine.clone()), options, |_, _| {}, stopping.clone())
        .await
        .map_err(|error| error.to_string())?;
    let loopback =
        |address: SocketAddr| (address.port(), SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()));
    let options = network::Options {
        gateway: GATEWAY,
        dns: vec![GATEWAY],
        pods: Range { base: Ipv4Addr::new(10, 88, 0, 0), prefix: PREFIX },
        services: Range { base: SERVICES, prefix: PREFIX },
        forwards: vec![loopback(started.address)],
        ..network::Options::default()
    };
    let sockets: Arc<dyn Sockets> = Arc::new(engine.runtime().clone());
    let outward = outward::start(engine.runtime(), &options, stopping.child_token()).await;
    let outward = outward.map_err(|error| error.to_string())?;
    let network =
        Network::start(sockets, options, stopping.clone()).await.map_err(|error| error.to_string())?;
    let network = Arc::new(network);
    services::follow(started.api.clone(), network.clone(), stopping);
    Ok(Embedded { kubeconfig: started.kubeconfig, engine, network, outward, api: started.api, _lock: lock })
}

impl Embedded {
    /// Waits until everything has ended that `stopping` has ended.
    pub async fn ended(&self) {
        self.engine.shutdown().await;
        self.network.ended().await;
        self.outward.wait().await;
    }

    /// A kubeconfig for it.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Cancelled when the engine has gone, and all containers with it.
    pub fn gone(&self) -> CancellationToken {
        self.engine.runtime().gone()
    }

    /// A listener at the Pods' gateway for d2k's own Docker API. Its connections have the addresses of Pods.
    ///
    /// # Errors
    /// One line that names the address.
    pub async fn docker_listener(&self, port: u16) -> Result<TcpListener, String> {
        let address = SocketAddr::from((GATEWAY, port));
        let listener = self.engine.runtime().listen(address).await;
        listener.map_err(|e| format!("the Docker API cannot listen at {address} in the Pods' network: {e}"))
    }

    /// The images, and which of them Pods have.
    pub fn images(&self) -> LocalImages {
        let (api, images) = (self.api.clone(), self.engine.images().clone());
        LocalImages { images, used: Arc::new(move || services::images_of_pods(&api)) }
    }

    /// The features that this machine lacks for containers, or cannot keep from them, in whole sentences.
    pub fn warnings(&self) -> Vec<String> {
        self.engine.warnings()
    }

    /// The way to Pods.
    pub fn reach(&self) -> Arc<dyn Reach> {
        Arc::new(Inside(self.engine.clone()))
    }
}

/// What a container has in place of a Docker socket.
pub fn docker_host(port: u16) -> String {
    format!("tcp://{GATEWAY}:{port}")
}

/// The network of the Pods, which is not that of this process.
struct Inside(Local);

impl Reach for Inside {
    fn tcp(&self, to: SocketAddr) -> BoxFuture<'_, std::io::Result<TcpStream>> {
        self.0.runtime().dial(to)
    }

    fn udp(&self, to: SocketAddr) -> BoxFuture<'_, std::io::Result<UdpSocket>> {
        async move {
            let socket = self.0.runtime().bind_udp(SocketAddr::new(GATEWAY.into(), 0)).await?;
            socket.connect(to).await?;
            Ok(socket)
        }
        .boxed()
    }
}
