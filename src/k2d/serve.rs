//! `k2d serve`: finds the engine, starts the cluster over it, and ends in order.

use std::fs::{DirBuilder, File, TryLockError};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use d2k_kubeapi::cluster::{self, Options, StartError};
use d2k_kubeapi::store::Limits;
use d2k_kubeapi::verbs;
use ipnet::Ipv4Net;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::{LogFormat, Settings};
use crate::engine::Docker;
use crate::engine::client::Client;
use crate::engine::network::Plan;
use crate::recover::{self, recover};
use crate::{foreign, health, node_images, services, unread_settings};

/// Where an engine listens that says nothing else, in the order in which they are tried.
const SOCKETS: &[&str] = &["/var/run/docker.sock", "/run/podman/podman.sock"];
/// What a device keeps: little, and on its disk before it is answered, since its power may go at any time.
const LIMITS: Limits =
    Limits { journal: 1 << 20, changes: 64 << 10, events: 200, connections: 200, sync: true };
/// Threads for work that blocks: files of volumes and of the journal.
const BLOCKING_THREADS: usize = 4;

/// Serves until it is told to end.
///
/// # Errors
/// One line that names the setting or the step, and what to do.
pub fn run(settings: Settings) -> Result<(), String> {
    log(&settings);
    unread_settings::warn();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    runtime.block_on(serve(settings))
}

fn log(settings: &Settings) {
    let level = tracing_subscriber::filter::LevelFilter::from_level(settings.log_level);
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines =
        tracing_subscriber::fmt().with_max_level(level).with_ansi(colours).with_writer(std::io::stderr);
    match settings.log_format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
}

async fn serve(settings: Settings) -> Result<(), String> {
    let stopping = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| format!("no signals: {error}"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| format!("no signals: {error}"))?;
    // Held as long as this process lives.
    let _lock = take_folder(&settings.data_path)?;
    let started = start(&settings, &stopping);
    let kubeconfig = tokio::select! {
        started = started => started?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    tracing::info!(kubeconfig = %kubeconfig.display(), port = settings.port, "k2d serves the Kubernetes API");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // Apps go on without k2d.
    stopping.cancel();
    Ok(())
}

async fn start(settings: &Settings, stopping: &CancellationToken) -> Result<std::path::PathBuf, String> {
    let data = &settings.data_path;
    let listen = SocketAddr::new(settings.listen, settings.port);
    // Before anything is done on the engine, which may be another k2d's.
    std::net::TcpListener::bind(listen).map_err(|error| words(&StartError::Listen(listen, error)))?;
    let plan = plan(settings.pod_cidr)?;
    let host = engine_host(settings.engine.as_deref());
    let client = Client::new(&host).map_err(|error| format!("K2D_ENGINE (--engine): {error}"))?;
    let address = settings.advertise_addr.unwrap_or_else(own_address);
    let engine =
        Docker::open(client, plan, address, stopping.clone()).await.map_err(|error| error.to_string())?;
    if !engine.reaches(data) {
        let place = data.display();
        return Err(format!(
            "K2D_DATA_PATH (--data-path) is {place}, inside of k2d's own container, where the engine cannot mount it from: run              k2d with -v {place}:{place}"
        ));
    }
    let plan = engine.plan();
    let node = settings.node.clone().unwrap_or_else(machine);
    let options = Options {
        data: data.clone(),
        name: node.clone(),
        address,
        listen,
        addresses: vec![plan.gateway().into(), Ipv4Addr::LOCALHOST.into()],
        names: settings.names.clone(),
        inside: SocketAddr::new(plan.kubernetes().into(), 443),
        gateway: plan.gateway().into(),
        dns: plan.dns().into(),
        storage: Arc::new(engine.clone()),
        services: verbs::Settings {
            services: plan.services.network(),
            services_prefix: plan.services.prefix_len(),
            ..verbs::Settings::default()
        },
        anonymous: false,
        token: settings.secret.clone(),
        limits: LIMITS,
        namespaces: Vec::new(),
    };
    let foreign = foreign::Foreign::new(engine.clone(), node.clone());
    foreign.adopt().await.map_err(|error| error.to_string())?;
    let table = data.join("net");
    std::fs::create_dir_all(&table).map_err(|error| format!("{}: {error}", table.display()))?;
    engine.ensure_net(&table).await.map_err(|trouble| trouble.message)?;
    let prepare = |api: &Arc<verbs::Api>, removed| {
        foreign.purge(api);
        let gone = recover(api, &engine, &removed);
        tokio::spawn(recover::remove(engine.clone(), gone, data.join("pods")));
    };
    let started = cluster::start(Arc::new(engine.clone()), options, prepare, stopping.clone()).await;
    let cluster = started.map_err(|error| words(&error))?;
    services::start(cluster.api.clone(), table, stopping.clone()).await?;
    tokio::spawn(node_images::follow(cluster.api.clone(), engine.clone(), node, stopping.clone()));
    tokio::spawn(foreign.follow(cluster.api, stopping.clone()));
    if let Err(error) = health::serve(data, cluster.address, engine, stopping.clone()) {
        tracing::warn!(folder = %data.display(), %error, "`k2d health` has no answer here");
    }
    Ok(cluster.kubeconfig)
}

/// Why the cluster was not started, and what to do about a port that is taken.
fn words(error: &StartError) -> String {
    match error {
        StartError::Listen(..) => format!("{error}: choose another address or port, K2D_LISTEN and K2D_PORT"),
        error => error.to_string(),
    }
}

/// The range that was asked for, else one that is free.
fn plan(asked: Option<Ipv4Net>) -> Result<Plan, String> {
    if let Some(asked) = asked {
        let words = || format!("K2D_POD_CIDR (--pod-cidr) is {asked}: take a prefix of 24 or less");
        return Plan::of(asked).ok_or_else(words);
    }
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    Plan::free(&routes).ok_or_else(|| {
        "this machine has routes to all of 10.89.0.0/16 to 10.127.0.0/16: name a free range with K2D_POD_CIDR (--pod-cidr)"
            .to_owned()
    })
}

/// Makes the folder one that only its owner enters, and locks it: two processes would spoil the journal for each other. The kernel
/// gives it back when the process ends, however that is.
fn take_folder(folder: &Path) -> Result<File, String> {
    let wrong = |words: &dyn std::fmt::Display| {
        format!("K2D_DATA_PATH (--data-path) is {}: {words}", folder.display())
    };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    let opened =
        made.and_then(|()| File::options().create(true).append(true).mode(0o600).open(folder.join("lock")));
    let file = opened.map_err(|error| wrong(&error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(wrong(&"another k2d uses it: end that one, or choose another folder"))
        }
        Err(TryLockError::Error(error)) => Err(wrong(&error)),
    }
}

/// Where the engine is: as Docker's own client finds it.
fn engine_host(given: Option<&str>) -> String {
    let variable = || std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
    let there = || SOCKETS.iter().find(|socket| Path::new(socket).exists()).or(SOCKETS.first());
    let usual = || there().map(|socket| format!("unix://{socket}")).unwrap_or_default();
    given.map(str::to_owned).or_else(variable).unwrap_or_else(usual)
}

/// The address of this machine that leads outside. Nothing is sent.
fn own_address() -> IpAddr {
    let found = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        // An address for documentation (RFC 5737): only the route to it matters.
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    found.map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip())
}

/// The name of this machine, as a Node may have it.
fn machine() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let legal = name.replace(|letter: char| !letter.is_ascii_alphanumeric() && letter != '.', "-");
    let legal = legal.trim_matches(['-', '.']);
    if legal.is_empty() { "k2d".to_owned() } else { legal.to_owned() }
}
