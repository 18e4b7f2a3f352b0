//! Published ports on d2k's own host: a listener a port that forwards to the Pod, as dockerd's
//! userland proxy does. Every SDK connects to the host of `DOCKER_HOST`, and a laptop has no load
//! balancer; without these listeners a mapped port would be unreachable there.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rand::Rng;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Daemon;
use d2k_common::fault::{Fault, Result};
use d2k_translate::record::{PublishedPort, Record};

/// How long a port that was freed just now may take, in tries of this length.
const FREED: Duration = Duration::from_millis(20);
/// How many.
const FREED_TRIES: u32 = 10;
/// Docker takes random ports from the kernel's ephemeral range; so does d2k.
const RANDOM: std::ops::RangeInclusive<u16> = 32768..=60999;
/// A UDP client that has been silent this long is forgotten.
const UDP_IDLE: Duration = Duration::from_secs(60);
/// The largest UDP datagram.
const DATAGRAM: usize = 65_536;

/// The open listeners.
#[derive(Default)]
pub struct Publisher {
    open: Mutex<HashMap<String, DropGuard>>,
    reserved: Mutex<Vec<(String, u16)>>,
}

impl Publisher {
    fn is_open(&self, id: &str) -> bool {
        self.open.lock().contains_key(id)
    }

    /// Closes the ports of a container and its connections.
    pub fn close(&self, id: &str) {
        self.open.lock().remove(id);
    }
}

/// A port that no other create may take while this lives.
pub struct Reserved<'a> {
    publisher: &'a Publisher,
    protocol: String,
    /// The port.
    pub port: u16,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut all = self.publisher.reserved.lock();
        all.retain(|(protocol, port)| (protocol.as_str(), *port) != (&self.protocol, self.port));
    }
}

impl Daemon {
    /// Picks a free host port of a range, or of the ephemeral range for `None`.
    ///
    /// # Errors
    /// Docker's words if all are taken.
    pub(crate) async fn pick_port(&self, protocol: &str, range: Option<(u16, u16)>) -> Result<Reserved<'_>> {
        let taken: Vec<(String, u16)> = self
            .containers()
            .iter()
            .flat_map(|c| {
                c.record.ports.iter().map(|p| (p.protocol.clone(), p.host_port)).collect::<Vec<_>>()
            })
            .collect();
        let candidates: Vec<u16> = match range {
            Some((first, last)) => (first..=last).collect(),
            None => {
                let start = rand::rng().random_range(RANDOM);
                (start..=*RANDOM.end()).chain(*RANDOM.start()..start).collect()
            }
        };
        for port in candidates {
            let key = (protocol.to_owned(), port);
            if taken.contains(&key) || self.bindable(protocol, port).await.is_err() {
                continue;
            }
            let mut reserved = self.publisher.reserved.lock();
            if !reserved.contains(&key) {
                reserved.push(key);
                return Ok(Reserved { publisher: &self.publisher, protocol: protocol.to_owned(), port });
            }
        }
        Err(Fault::internal("all ports are allocated"))
    }

    async fn bindable(&self, protocol: &str, port: u16) -> std::io::Result<()> {
        let address = SocketAddr::new(self.options.listen, port);
        if protocol == "udp" {
            return UdpSocket::bind(address).await.map(drop);
        }
        TcpListener::bind(address).await.map(drop)
    }

    async fn is_in_use(&self, protocol: &str, port: u16) -> bool {
        self.bindable(protocol, port).await.is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
    }

    /// Opens the ports of a container that is about to run.
    ///
    /// # Errors
    /// Docker's `port is already allocated`.
    pub(crate) async fn open_ports(self: &Arc<Self>, record: &Record) -> Result<()> {
        if !self.options.publish_proxy || record.ports.is_empty() || self.publisher.is_open(&record.id) {
            return Ok(());
        }
        let stop = self.stopping.child_token();
        let guard = stop.clone().drop_guard();
        for port in &record.ports {
            self.open_port(record, port, &stop).await?;
        }
        self.publisher.open.lock().insert(record.id.clone(), guard);
        Ok(())
    }

    async fn open_port(
        self: &Arc<Self>,
        record: &Record,
        port: &PublishedPort,
        stop: &CancellationToken,
    ) -> Result<()> {
        let address = SocketAddr::new(self.options.listen, port.host_port);
        let target =
            Target { daemon: Arc::downgrade(self), id: record.id.clone(), port: port.container_port };
        // A listener that was told to end may have its port for another moment.
        for _ in 0..FREED_TRIES {
            if !self.is_in_use(&port.protocol, port.host_port).await {
                break;
            }
            tokio::time::sleep(FREED).await;
        }
        let bound = match port.protocol.as_str() {
            "tcp" => TcpListener::bind(address).await.map(|l| {
                tokio::spawn(stop.clone().run_until_cancelled_owned(serve_tcp(l, target, stop.clone())));
            }),
            "udp" => UdpSocket::bind(address).await.map(|s| {
                tokio::spawn(stop.clone().run_until_cancelled_owned(serve_udp(Arc::new(s), target)));
            }),
            _ => Ok(()),
        };
        let Err(error) = bound else { return Ok(()) };
        let privileged = error.kind() == ErrorKind::PermissionDenied;
        if privileged && self.options.publish_service {
            tracing::warn!(container = %record.name, %address, %error, "d2k may not listen on a published port; its Service serves it");
            return Ok(());
        }
        let why = if error.kind() == ErrorKind::AddrInUse {
            "port is already allocated".to_owned()
        } else {
            error.to_string()
        };
        Err(Fault::internal(format!(
            "driver failed programming external connectivity on endpoint {} ({}): Bind for {address} failed: {why}",
            record.name, record.id
        )))
    }
}

/// Where a listener forwards to.
#[derive(Clone)]
struct Target {
    daemon: Weak<Daemon>,
    id: String,
    port: u16,
}

impl Target {
    fn pod(&self) -> Option<(Arc<Daemon>, String, Option<IpAddr>)> {
        let daemon = self.daemon.upgrade()?;
        let container = daemon.container_by_id(&self.id)?;
        let pod = container.running_pod()?;
        let ip = container.ip().and_then(|ip| ip.parse().ok());
        Some((daemon, pod, ip))
    }
}

async fn serve_tcp(listener: TcpListener, target: Target, stop: CancellationToken) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let forward = forward_tcp(client, target.clone());
                tokio::spawn(stop.clone().run_until_cancelled_owned(forward));
            }
            // Too many open files, for instance: let some of them close.
            Err(error) => {
                tracing::warn!(%error, "a connection to a published port was not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn forward_tcp(mut client: tokio::net::TcpStream, target: Target) {
    let _ = client.set_nodelay(true);
    let Some((daemon, pod, ip)) = target.pod() else {
        return;
    };
    match daemon.cluster.connect_port(&pod, ip, target.port).await {
        Ok(mut server) => {
            drop(daemon);
            let _ = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, 65_536, 65_536).await;
        }
        Err(error) => {
            tracing::debug!(%pod, port = target.port, %error, "a published port was not reached")
        }
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, target: Target) {
    let mut clients: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut datagram = vec![0; DATAGRAM];
    loop {
        let Ok((size, from)) = socket.recv_from(&mut datagram).await else {
            continue;
        };
        clients.retain(|_, server| Arc::strong_count(server) > 1);
        let server = match clients.get(&from) {
            Some(server) => server.clone(),
            None => match connect_udp(&target, socket.clone(), from).await {
                Some(server) => clients.entry(from).or_insert(server).clone(),
                None => continue,
            },
        };
        let _ = server.send(datagram.get(..size).unwrap_or_default()).await;
    }
}

/// A socket of our own for one client, whose answers go back to that client.
async fn connect_udp(target: &Target, socket: Arc<UdpSocket>, client: SocketAddr) -> Option<Arc<UdpSocket>> {
    let (daemon, _, ip) = target.pod()?;
    let server = Arc::new(daemon.cluster.connect_udp(SocketAddr::new(ip?, target.port)).await.ok()?);
    let answers = server.clone();
    tokio::spawn(async move {
        let mut datagram = vec![0; DATAGRAM];
        while let Ok(Ok(size)) = tokio::time::timeout(UDP_IDLE, answers.recv(&mut datagram)).await {
            let _ = socket.send_to(datagram.get(..size).unwrap_or_default(), client).await;
        }
    });
    Some(server)
}
