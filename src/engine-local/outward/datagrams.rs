//! UDP and echo requests of Pods to the outside: a flow each, with a socket of the machine, and the
//! fragments of large datagrams put together first.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use d2k_network::Limits;
use d2k_network::flow::{Flow, Flows};

use super::fragments::Fragments;
use super::packet::{self, Head};
use super::tun::Tun;

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
/// One question, one answer: these flows need not be kept.
const SHORT: Duration = Duration::from_secs(10);
const DNS: u16 = 53;

/// What tells flows apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Udp(SocketAddrV4, SocketAddrV4),
    Echo(Ipv4Addr, Ipv4Addr, [u8; 2]),
}

/// The datagrams on their way out.
pub(super) struct Datagrams {
    tun: Arc<Tun>,
    flows: Flows<Key>,
    fragments: Mutex<Fragments>,
    idle: Duration,
    mtu: usize,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl Datagrams {
    pub fn new(
        tun: Arc<Tun>,
        limits: &Limits,
        mtu: u16,
        stopping: CancellationToken,
        tasks: TaskTracker,
    ) -> Self {
        let flows = Flows::new(limits.udp_flows);
        let (idle, mtu) = (limits.udp_idle, usize::from(mtu));
        Self { tun, flows, fragments: Mutex::default(), idle, mtu, stopping, tasks }
    }

    /// Takes a UDP or ICMP packet of a Pod; `outside` is where the machine finds its destination.
    pub fn packet(&self, packet: &[u8], head: &Head, outside: Ipv4Addr) {
        if head.more || head.offset > 0 {
            let whole = self.fragments.lock().add(packet, head);
            if let Some(whole) = whole
                && let Some(head) = packet::head(&whole)
            {
                self.whole(&whole, &head, outside);
            }
            return;
        }
        self.whole(packet, head, outside);
    }

    fn whole(&self, packet: &[u8], head: &Head, outside: Ipv4Addr) {
        if head.protocol == packet::UDP {
            self.udp(packet, head, outside);
        } else {
            self.echo(packet, head, outside);
        }
    }

    fn udp(&self, packet: &[u8], head: &Head, outside: Ipv4Addr) {
        let Some((pod, to, payload)) = packet::datagram(packet, head) else { return };
        let Some(mut flow) = self.flows.send(&Key::Udp(pod, to), payload.to_vec()) else { return };
        let (tun, mtu, stopping) = (Arc::clone(&self.tun), self.mtu, self.stopping.clone());
        let idle = if to.port() == DNS { SHORT.min(self.idle) } else { self.idle };
        // What says "nobody is there" quotes the packet that it is about.
        let unreachable = packet::unreachable(packet, head, 3);
        self.tasks.spawn(async move {
            let reply =
                |answer: &[u8]| packet::udp(to, pod, answer, mtu).iter().for_each(|packet| tun.write(packet));
            let outward = SocketAddr::from((outside, to.port()));
            match udp_flow(outward, &mut flow, idle, &stopping, reply).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    unreachable.iter().for_each(|packet| tun.write(packet));
                }
                Err(error) => tracing::debug!(%pod, %to, %error, "a UDP flow of a Pod ended"),
                Ok(()) => {}
            }
        });
    }

    fn echo(&self, packet: &[u8], head: &Head, outside: Ipv4Addr) {
        let Some(message) = packet.get(head.start..head.end) else { return };
        let (Some(&ECHO_REQUEST), Some(&identifier)) =
            (message.first(), message.get(4..).and_then(|m| m.first_chunk()))
        else {
            return;
        };
        let (pod, to) = (head.source, head.destination);
        let key = Key::Echo(pod, to, identifier);
        // Two Pods may choose the same one.
        let own = short(&key);
        let Some(request) = packet::with_identifier(message, own) else { return };
        let Some(mut flow) = self.flows.send(&key, request) else { return };
        let (tun, mtu, stopping) = (Arc::clone(&self.tun), self.mtu, self.stopping.clone());
        self.tasks.spawn(async move {
            let reply = |answer: &[u8]| {
                let Some(answer) = echo_reply(answer, own) else { return };
                let Some(answer) = packet::with_identifier(answer, identifier) else { return };
                packet::packets(packet::ICMP, to, pod, &answer, mtu)
                    .iter()
                    .for_each(|packet| tun.write(packet));
            };
            if let Err(error) = echo_flow(outside, &mut flow, &stopping, reply).await {
                tracing::debug!(%pod, %to, %error, "an echo request of a Pod was dropped");
            }
        });
    }
}

/// A number for a flow that stays the same.
fn short(key: &Key) -> [u8; 2] {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    let [first, second, ..] = hasher.finish().to_ne_bytes();
    [first, second]
}

/// The echo reply in what an echo socket or a raw one received. The kernel sees to it that an echo
/// socket gets its own replies only; a raw one gets all, with their IP headers.
fn echo_reply(received: &[u8], identifier: [u8; 2]) -> Option<&[u8]> {
    if received.first()? >> 4 != 4 {
        return Some(received).filter(|message| message.first() == Some(&ECHO_REPLY));
    }
    let head = packet::head(received)?;
    let message = received.get(head.start..head.end)?;
    let same = message.first() == Some(&ECHO_REPLY) && message.get(4..6) == Some(&identifier);
    same.then_some(message)
}

async fn udp_flow(
    to: SocketAddr,
    flow: &mut Flow<Key>,
    idle: Duration,
    stopping: &CancellationToken,
    reply: impl FnMut(&[u8]),
) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(to).await?;
    flow.run(&socket, idle, stopping, reply).await
}

/// Through the kernel's own echo socket, which users may have whose group is in
/// `net.ipv4.ping_group_range`, or a raw one, which root may have; else the request is dropped.
async fn echo_flow(
    to: Ipv4Addr,
    flow: &mut Flow<Key>,
    stopping: &CancellationToken,
    reply: impl FnMut(&[u8]),
) -> io::Result<()> {
    let socket = |kind: Type| Socket::new(Domain::IPV4, kind.nonblocking(), Some(Protocol::ICMPV4));
    let socket = socket(Type::DGRAM).or_else(|_| socket(Type::RAW))?;
    let socket = UdpSocket::from_std(socket.into())?;
    socket.connect((to, 0)).await?;
    flow.run(&socket, SHORT, stopping, reply).await
}
