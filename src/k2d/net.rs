//! `k2d net`: names and Services of the Pods, in a container of its own on their network. The kernel takes the whole range of
//! Services for its own addresses and answers for them on the network; from there on it is `d2k_network` over ordinary
//! sockets. What there is to serve is a table that k2d writes; while k2d is away, the last one holds.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use d2k_network::objects::{EndpointSlice, Service};
use d2k_network::sockets::Sockets;
use d2k_network::{MachineSide, Network, Options, Range};
use futures::future::BoxFuture;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{RouteScope, RouteType};
use rustix::fs::inotify;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::NetSettings;
use crate::engine::network::Plan;

/// The file of the table.
pub const TABLE: &str = "table.json";
/// The table of routes to addresses of the machine itself (`rtnetlink(7)`, `RT_TABLE_LOCAL`).
const LOCAL_TABLE: u32 = 255;
/// The loopback interface's number in every network namespace.
const LOOPBACK: u32 = 1;

/// What there is to serve.
#[derive(Debug, Default, Serialize)]
pub struct Table {
    /// The Services.
    pub services: Vec<Value>,
    /// Their endpoints.
    pub slices: Vec<Value>,
}

/// The same as it is read.
#[derive(Debug, Default, Deserialize)]
struct Read {
    services: Vec<Service>,
    slices: Vec<EndpointSlice>,
}

/// Serves until it is told to end.
///
/// # Errors
/// One line on what could not be started.
pub fn run(settings: NetSettings) -> Result<(), String> {
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
    runtime.map_err(|error| format!("no runtime: {error}"))?.block_on(serve(settings))
}

async fn serve(settings: NetSettings) -> Result<(), String> {
    let plan = Plan::of(settings.network).ok_or("the network is too small")?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| format!("no signals: {error}"))?;
    own_services(&plan)
        .await
        .map_err(|error| format!("the range {} cannot be taken: {error}", plan.services))?;
    let stopping = CancellationToken::new();
    let range = |net: ipnet::Ipv4Net| Range { base: net.network(), prefix: net.prefix_len() };
    let options = Options {
        gateway: plan.services_host(),
        pods: range(plan.pods),
        services: range(plan.services),
        dns: vec![plan.services_host(), plan.dns()],
        published: MachineSide { node_ports: None, load_balancer: None, host_ports: None },
        ..Options::default()
    };
    let network = Network::start(Arc::new(Own), options, stopping.clone()).await;
    let network = network.map_err(|error| error.to_string())?;
    tokio::select! {
        followed = follow(&network, &settings.folder) => followed.map_err(|error| {
            format!("the table in {} cannot be followed: {error}", settings.folder.display())
        })?,
        _ = terminate.recv() => {}
    }
    stopping.cancel();
    network.ended().await;
    Ok(())
}

/// Makes the range of Services addresses of this machine.
async fn own_services(plan: &Plan) -> Result<(), Box<dyn std::error::Error>> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    let driver = tokio::spawn(connection);
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(plan.services.network(), plan.services.prefix_len())
        .output_interface(LOOPBACK)
        .table_id(LOCAL_TABLE)
        .scope(RouteScope::Host)
        .kind(RouteType::Local)
        .build();
    let added = handle.route().add(route).replace().execute().await;
    driver.abort();
    Ok(added?)
}

/// Serves the table, and what it becomes.
#[allow(
    deprecated,
    reason = "what replaces `AsyncFd::new` is `unsafe`; an `OwnedFd` keeps the descriptor that it has"
)]
async fn follow(network: &Network, folder: &Path) -> std::io::Result<()> {
    let events = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    // k2d puts a new file in the place of the old one.
    inotify::add_watch(&events, folder, inotify::WatchFlags::MOVED_TO)?;
    let events = AsyncFd::new(events)?;
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    loop {
        match read(&folder.join(TABLE)) {
            Ok(table) => drop(network.update(&table.services, &table.slices)),
            // Before the first table there is none.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "the table cannot be read: the last one holds"),
        }
        let mut ready = events.readable().await?;
        let mut reader = inotify::Reader::new(events.get_ref(), &mut buffer);
        while reader.next().is_ok() {}
        ready.clear_ready();
    }
}

fn read(path: &Path) -> std::io::Result<Read> {
    serde_json::from_slice(&std::fs::read(path)?).map_err(std::io::Error::other)
}

/// Sockets of this process's own network.
pub struct Own;

impl Sockets for Own {
    fn listen(&self, at: SocketAddr) -> BoxFuture<'_, std::io::Result<TcpListener>> {
        Box::pin(TcpListener::bind(at))
    }

    fn bind_udp(&self, at: SocketAddr) -> BoxFuture<'_, std::io::Result<UdpSocket>> {
        Box::pin(UdpSocket::bind(at))
    }

    fn dial(&self, to: SocketAddr) -> BoxFuture<'_, std::io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(to))
    }
}
