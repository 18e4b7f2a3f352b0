//! The way out of the Pods' network. Packets come from a tun device, the default route there. A TCP
//! connection is first made from the machine; only then is the Pod's own handshake let through, to a
//! listener of the same namespace, by replacing the addresses in its packets: so the kernel speaks TCP
//! on both sides, and a Pod sees "connection refused" where there is nobody. UDP and echo requests are
//! flows, each with a socket of the machine.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use d2k_network::relay::{relay, reset};
use d2k_network::sockets::Sockets;
use d2k_network::{Options, PAUSE, Range, made};

use crate::runtime::Runtime;
use connections::{Connections, Ends, Verdict};
use datagrams::Datagrams;
use packet::Head;
use tun::Tun;

mod connections;
mod datagrams;
mod fragments;
mod packet;
#[cfg(test)]
mod packet_tests;
mod tun;

/// MTU of the tun device and of the Pods, as the helper makes them.
const MTU: u16 = 65_520;
/// Stands for the outside in the packets that the listener gets: an address of the range for
/// measurements inside networks (RFC 2544), which leads back to the tun device.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// How often it is looked for connections that are over.
const SWEEP: Duration = Duration::from_secs(5);
/// A packet of the largest size.
const LARGEST: usize = 65_535;

/// Why there is no way out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The helper could not make the listener or the tun device.
    #[error(transparent)]
    Make(#[from] d2k_network::Error),
    /// Where connections come in.
    #[error("the listener of the way out at {0} has no IPv4 address")]
    NoAddress(SocketAddr),
    /// The tun device is there and gives no packets.
    #[error("the tun device cannot be read: {0}")]
    Tun(#[source] io::Error),
}

/// Starts the way out of a network with these options; it ends when `stopping` is cancelled, and then so do the tasks.
///
/// # Errors
/// The socket or device that is missing.
pub async fn start(
    runtime: &Runtime,
    options: &Options,
    stopping: CancellationToken,
) -> Result<TaskTracker, Error> {
    let any = SocketAddr::from((options.gateway, 0));
    let listener = made("the listener of the way out", any, runtime.listen(any)).await?;
    let Ok(SocketAddr::V4(at)) = listener.local_addr() else { return Err(Error::NoAddress(any)) };
    let device = made("the tun device of", any, runtime.tun()).await?;
    let device = Tun::new(device).map_err(Error::Tun)?;
    let tasks = TaskTracker::new();
    let outward = Outward::new(device, at, options, stopping, tasks.clone());
    tasks.spawn(Arc::clone(&outward).carry());
    tasks.spawn(outward.accept(listener));
    tasks.close();
    Ok(tasks)
}

/// The way out.
struct Outward {
    tun: Arc<Tun>,
    listener: SocketAddrV4,
    machine: Option<Ipv4Addr>,
    /// The addresses of Pods and of Services, which are not outside.
    inside: [Range; 2],
    connecting: Duration,
    connections: Mutex<Connections<TcpStream>>,
    datagrams: Datagrams,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl Outward {
    /// A way out through `tun`, whose TCP connections arrive at a listener with the address `listener`.
    pub fn new(
        tun: Tun,
        listener: SocketAddrV4,
        options: &Options,
        stopping: CancellationToken,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        let tun = Arc::new(tun);
        let (machine, limits, inside) = (options.machine, &options.limits, [options.pods, options.services]);
        let datagrams = Datagrams::new(Arc::clone(&tun), limits, MTU, stopping.clone(), tasks.clone());
        let connections = Mutex::new(Connections::new(limits.outward));
        let connecting = limits.connecting;
        Arc::new(Self { tun, listener, machine, inside, connecting, connections, datagrams, stopping, tasks })
    }

    /// Carries packets until it is told to stop, or the device is gone.
    pub async fn carry(self: Arc<Self>) {
        let mut buffer = vec![0_u8; LARGEST];
        let mut swept = Instant::now();
        let mut busy = false;
        loop {
            let packet = tokio::select! {
                () = self.stopping.cancelled() => return,
                () = tokio::time::sleep_until(swept + SWEEP), if busy => None,
                packet = self.tun.read(&mut buffer) => Some(packet),
            };
            match packet {
                Some(Ok(packet)) => {
                    self.packet(packet);
                    busy = true;
                }
                Some(Err(error)) => {
                    // The helper that owned the network is gone, and all Pods with it.
                    tracing::warn!(%error, "the way out of the Pods' network has ended");
                    return;
                }
                None => {}
            }
            if swept.elapsed() >= SWEEP {
                busy = self.connections().sweep();
                swept = Instant::now();
            }
        }
    }

    /// Takes the connections that come out of the namespace's own end.
    pub async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.stopping.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, from)) = accepted else {
                sleep(PAUSE).await;
                continue;
            };
            let outside = (from.ip() == OUTSIDE).then(|| self.connections().accepted(from.port())).flatten();
            let Some(outside) = outside else {
                reset(stream);
                continue;
            };
            let own = Arc::clone(&self);
            self.tasks.spawn(async move {
                relay(stream, outside, &own.stopping).await;
                own.connections().ended(from.port());
            });
        }
    }

    fn connections(&self) -> MutexGuard<'_, Connections<TcpStream>> {
        self.connections.lock()
    }

    fn packet(self: &Arc<Self>, packet: &mut [u8]) {
        let Some(head) = packet::head(packet) else { return };
        if head.destination == OUTSIDE {
            self.back(packet, &head);
            return;
        }
        // Only what a Pod sends as itself can be answered.
        if !self.inside.iter().any(|range| range.contains(head.source)) {
            return;
        }
        let Some(outside) = reachable(head.destination, self.machine, &self.inside) else {
            if let Some(answer) = packet::unreachable(packet, &head, 1).filter(|_| answerable(&head)) {
                self.tun.write(&answer);
            }
            return;
        };
        match head.protocol {
            packet::TCP if head.offset == 0 && !head.more => self.tcp(packet, &head, outside),
            packet::UDP | packet::ICMP => self.datagrams.packet(packet, &head, outside),
            _ => {}
        }
    }

    /// From the listener back to the Pod.
    fn back(&self, packet: &mut [u8], head: &Head) {
        let Some(segment) = packet::segment(packet, head).filter(|_| head.protocol == packet::TCP) else {
            return;
        };
        if segment.source != self.listener {
            return;
        }
        let Some((pod, outside)) = self.connections().ends(segment.destination.port()) else { return };
        if packet::readdress(packet, head, outside, pod).is_some() {
            self.tun.write(packet);
        }
    }

    fn tcp(self: &Arc<Self>, packet: &mut [u8], head: &Head, outside: Ipv4Addr) {
        let Some(segment) = packet::segment(packet, head) else { return };
        let verdict = self.connections().outgoing(&segment, packet);
        match verdict {
            Verdict::Pass(port) => self.pass(packet, head, port),
            Verdict::Dial(port) => {
                let ends = (segment.source, segment.destination);
                let to = SocketAddr::from((outside, segment.destination.port()));
                let own = Arc::clone(self);
                self.tasks.spawn(async move { own.dial(port, ends, to).await });
            }
            Verdict::Refuse => {
                if let Some(answer) = packet::refusal(&segment) {
                    self.tun.write(&answer);
                }
            }
            Verdict::Drop => {}
        }
    }

    /// From a Pod to the listener.
    fn pass(&self, packet: &mut [u8], head: &Head, port: u16) {
        if packet::readdress(packet, head, SocketAddrV4::new(OUTSIDE, port), self.listener).is_some() {
            self.tun.write(packet);
        }
    }

    /// Connects from the machine, and tells the Pod how it went by what becomes of its first packet.
    async fn dial(&self, port: u16, ends: Ends, to: SocketAddr) {
        let dialled =
            self.stopping.run_until_cancelled(timeout(self.connecting, TcpStream::connect(to))).await;
        let dialled = match dialled {
            Some(Ok(dialled)) => dialled,
            Some(Err(_)) => Err(io::ErrorKind::TimedOut.into()),
            None => return,
        };
        match dialled {
            Ok(stream) => {
                let waiting = self.connections().dialled(port, ends, stream);
                if let Some(mut packet) = waiting
                    && let Some(head) = packet::head(&packet)
                {
                    self.pass(&mut packet, &head, port);
                }
            }
            Err(error) => {
                tracing::debug!(%error, pod = %ends.0, %to, "a connection of a Pod could not be made");
                let waiting = self.connections().failed(port, ends);
                if let Some(answer) = waiting.and_then(|packet| refused(&packet, error.kind())) {
                    self.tun.write(&answer);
                }
            }
        }
    }
}

/// What the Pod's kernel makes the error out of that the machine's own gave.
fn refused(packet: &[u8], error: io::ErrorKind) -> Option<Vec<u8>> {
    let head = packet::head(packet)?;
    if error == io::ErrorKind::ConnectionRefused {
        return packet::refusal(&packet::segment(packet, &head)?);
    }
    packet::unreachable(packet, &head, 1)
}

/// Where the machine finds what a Pod asks for; `None` for addresses that mean something else there.
fn reachable(destination: Ipv4Addr, machine: Option<Ipv4Addr>, inside: &[Range]) -> Option<Ipv4Addr> {
    if machine == Some(destination) {
        return Some(Ipv4Addr::LOCALHOST);
    }
    let own = destination.is_loopback()
        || destination.is_unspecified()
        || destination.octets().first() == Some(&0)
        || destination.is_multicast()
        || destination.is_broadcast()
        || inside.iter().any(|range| range.contains(destination));
    (!own).then_some(destination)
}

/// Nobody is told that a packet to many, or one about a packet, did not arrive (RFC 1122, section 3.2.2).
fn answerable(head: &Head) -> bool {
    let one = !head.destination.is_multicast() && !head.destination.is_broadcast();
    one && head.offset == 0 && matches!(head.protocol, packet::TCP | packet::UDP)
}
