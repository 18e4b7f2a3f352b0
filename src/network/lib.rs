//! The network of the Pods in user space: names, Services and ports of the machine, all of it tokio over sockets that somebody
//! else may make inside of another network namespace ([`sockets::Sockets`]). IPv4 only.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use objects::{EndpointSlice, Pod, Service};
use sockets::Sockets;

mod answer;
#[cfg(test)]
mod answer_tests;
mod balance;
mod context;
mod dns;
pub mod flow;
mod forward_tcp;
#[cfg(test)]
mod forward_tcp_tests;
mod forward_udp;
mod host_ports;
mod limits;
mod listeners;
mod names;
pub mod objects;
pub mod relay;
mod services;
#[cfg(test)]
mod services_tests;
pub mod sockets;
mod upstream;
#[cfg(test)]
mod upstream_tests;
mod wire;

pub use answer::Range;
use context::Context;
pub use context::PAUSE;
pub use limits::Limits;
pub use listeners::Problems;
pub use names::{Entry, NamedPort, Names, names};
pub use services::{MachineSide, Owner, Place, Problem, Protocol, Side, Target, Wanted, wanted};

const DNS_PORT: u16 = 53;
/// The helper makes one socket within this, or the network does not start.
const SOCKET: Duration = Duration::from_secs(10);

/// How the network is laid out.
#[derive(Debug, Clone)]
pub struct Options {
    /// The cluster's domain.
    pub domain: String,
    /// The address of the bridge, which is the Pods' gateway.
    pub gateway: Ipv4Addr,
    /// The addresses of Pods.
    pub pods: Range,
    /// The addresses of Services, which are local to the helper's namespace.
    pub services: Range,
    /// Addresses at which names are served.
    pub dns: Vec<Ipv4Addr>,
    /// Whether the addresses of Services are served; otherwise only ports of the machine.
    pub cluster: bool,
    /// Ports of the gateway that lead to a port of the machine, its loopback too: the daemon's own.
    pub forwards: Vec<(u16, SocketAddr)>,
    /// An address that stands for the machine itself, so that Pods reach all that listens on its
    /// loopback (`host.docker.internal` has it). Outside of the ranges of Pods and Services. None unless asked for: what listens on
    /// loopback may rely on nobody else reaching it.
    pub machine: Option<Ipv4Addr>,
    /// Where ports of Services are opened on the machine.
    pub published: MachineSide,
    /// Limits.
    pub limits: Limits,
    /// The machine's own names.
    pub hosts: PathBuf,
    /// The machine's own DNS servers.
    pub resolv_conf: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        let loopback = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        Self {
            domain: "cluster.local".to_owned(),
            gateway: Ipv4Addr::new(10, 88, 0, 1),
            pods: Range { base: Ipv4Addr::new(10, 88, 0, 0), prefix: 16 },
            services: Range { base: Ipv4Addr::new(10, 96, 0, 0), prefix: 16 },
            dns: vec![Ipv4Addr::new(10, 88, 0, 1)],
            cluster: true,
            forwards: Vec::new(),
            machine: None,
            published: MachineSide { node_ports: loopback, load_balancer: loopback, host_ports: loopback },
            limits: Limits::default(),
            hosts: PathBuf::from("/etc/hosts"),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
        }
    }
}

/// What was asked for last.
#[derive(Default)]
struct Asked {
    number: u64,
    services: Wanted,
    host_ports: Vec<(SocketAddr, Target)>,
}

/// Why the network did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket could not be made.
    #[error("{name} at {at} in the Pods' network could not be made: {source}")]
    Make {
        /// Its name, `a DNS listener`.
        name: &'static str,
        /// Where it was to be.
        at: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A socket was not made in time.
    #[error("{name} at {at} in the Pods' network was not made within {limit:?}", limit = SOCKET)]
    Late {
        /// Its name.
        name: &'static str,
        /// Where it was to be.
        at: SocketAddr,
    },
}

/// The network, running.
pub struct Network {
    domain: String,
    published: MachineSide,
    cluster: bool,
    asked: Mutex<Asked>,
    names: watch::Sender<Arc<Names>>,
    wanted: watch::Sender<(u64, Arc<Wanted>)>,
    problems: watch::Receiver<Problems>,
    tasks: TaskTracker,
}

impl Network {
    /// Starts all of it, without any Service. It ends when `stopping` is cancelled.
    ///
    /// # Errors
    /// The socket that is missing.
    pub async fn start(
        sockets: Arc<dyn Sockets>,
        options: Options,
        stopping: CancellationToken,
    ) -> Result<Self, Error> {
        // What was begun ends again if a later step fails.
        let stopping = stopping.child_token();
        let failed = stopping.clone().drop_guard();
        let tasks = TaskTracker::new();
        let (names, known) = watch::channel(Arc::new(self::names(&[], &[], &options.domain)));
        let (wanted, wants) = watch::channel((0, Arc::new(Wanted::default())));
        let (told, problems) = watch::channel(Problems::default());
        let limits = Arc::new(options.limits.clone());
        let places = Arc::new(Semaphore::new(limits.connections));
        let context = Context { sockets, stopping, tasks: tasks.clone(), limits, places };
        start_dns(&context, &options, known).await?;
        for (port, to) in &options.forwards {
            start_forward(&context, SocketAddr::from((options.gateway, *port)), *to).await?;
        }
        tasks.spawn(listeners::keep(context, wants, told));
        tasks.close();
        failed.disarm();
        let (domain, published, cluster) = (options.domain, options.published, options.cluster);
        Ok(Self { domain, published, cluster, asked: Mutex::default(), names, wanted, problems, tasks })
    }

    /// Makes names and listeners what these objects say. Returns at once; `problems` tells when it is
    /// done, by the number that is returned.
    pub fn update(&self, services: &[Service], slices: &[EndpointSlice]) -> u64 {
        self.ask(|asked| {
            self.names.send_replace(Arc::new(names(services, slices, &self.domain)));
            asked.services = wanted(services, slices, self.published);
            asked.services.listeners.retain(|place, _| self.cluster || place.side != Side::Cluster);
        })
    }

    /// Opens the host ports of these Pods, and no others. Returns at once, as `update` does.
    pub fn update_host_ports(&self, pods: &[Pod]) -> u64 {
        self.ask(|asked| asked.host_ports = host_ports::host_ports(pods, self.published.host_ports))
    }

    fn ask(&self, change: impl FnOnce(&mut Asked)) -> u64 {
        let mut asked = self.asked.lock();
        change(&mut asked);
        asked.number += 1;
        let mut wanted = asked.services.clone();
        for (at, target) in &asked.host_ports {
            wanted.add(Side::Host, *at, target);
        }
        self.wanted.send_replace((asked.number, Arc::new(wanted)));
        asked.number
    }

    /// Which ports could not be had, now and whenever that changes.
    pub fn problems(&self) -> watch::Receiver<Problems> {
        self.problems.clone()
    }

    /// Returns when everything has ended, after `stopping` was cancelled.
    pub async fn ended(&self) {
        self.tasks.wait().await;
    }
}

async fn start_dns(
    context: &Context,
    options: &Options,
    names: watch::Receiver<Arc<Names>>,
) -> Result<(), Error> {
    let dns = Arc::new(dns::Dns {
        names,
        own: vec![options.pods, options.services],
        machine: options.machine,
        upstream: upstream::Upstream::new(&options.hosts, &options.resolv_conf),
    });
    for address in options.dns.iter().copied() {
        let at = SocketAddr::from((address, DNS_PORT));
        let socket = made("a DNS socket", at, context.sockets.bind_udp(at)).await?;
        let listener = made("a DNS listener", at, context.sockets.listen(at)).await?;
        let (stopping, tasks) = (&context.stopping, &context.tasks);
        tasks.spawn(dns::serve_udp(Arc::clone(&dns), socket, stopping.clone(), tasks.clone()));
        tasks.spawn(dns::serve_tcp(Arc::clone(&dns), listener, stopping.clone(), tasks.clone()));
    }
    Ok(())
}

/// Opens a port of the gateway that leads to a port of the machine.
async fn start_forward(context: &Context, at: SocketAddr, to: SocketAddr) -> Result<(), Error> {
    let listener: TcpListener =
        made("a listener for the machine's own port", at, context.sockets.listen(at)).await?;
    let own = context.clone();
    context.tasks.spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = own.stopping.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                sleep(PAUSE).await;
                continue;
            };
            let Ok(place) = Arc::clone(&own.places).try_acquire_owned() else {
                relay::reset(stream);
                continue;
            };
            let (stopping, connecting) = (own.stopping.clone(), own.limits.connecting);
            own.tasks.spawn(async move {
                let _place = place;
                match timeout(connecting, TcpStream::connect(to)).await {
                    Ok(Ok(machine)) => relay::relay(stream, machine, &stopping).await,
                    _ => relay::reset(stream),
                }
            });
        }
    });
    Ok(())
}

/// Waits for a socket that is made; `name` is for the error.
///
/// # Errors
/// It cannot be made, or not in time.
pub async fn made<T>(
    name: &'static str,
    at: SocketAddr,
    making: impl Future<Output = std::io::Result<T>>,
) -> Result<T, Error> {
    match timeout(SOCKET, making).await {
        Ok(Ok(made)) => Ok(made),
        Ok(Err(source)) => Err(Error::Make { name, at, source }),
        Err(_) => Err(Error::Late { name, at }),
    }
}
