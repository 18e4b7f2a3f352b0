//! The TCP connections of Pods to the outside: which port stands for which connection, and how far each
//! has come. A table without I/O; `outward` acts on what it says.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use super::packet::{ACK, RST, SYN, Segment};

/// The kernel may still speak about a connection for this long after it has ended (its TIME_WAIT).
const MEMORY: Duration = Duration::from_secs(70);
/// A Pod that does not finish its handshake within this has gone.
const HANDSHAKE: Duration = Duration::from_secs(30);
const FIRST_PORT: u16 = 1024;
/// Ports that are in use or remembered; the rest keeps the search for a free one short.
const PORTS_MAX: usize = 50_000;

/// Who speaks with whom: the Pod's end, and the one it asked for.
pub(super) type Ends = (SocketAddrV4, SocketAddrV4);

/// What is to be done with a segment of a Pod.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Pass it on as coming from this port.
    Pass(u16),
    /// Call the other end first; this port stands for the connection.
    Dial(u16),
    /// Answer with a reset.
    Refuse,
    /// Say nothing: it will come again.
    Drop,
}

/// All connections. `S` is what was dialled.
pub(super) struct Connections<S> {
    by_ends: HashMap<Ends, u16>,
    by_port: HashMap<u16, Connection<S>>,
    /// The ports of connections that have ended, the one that did first in front.
    ended: VecDeque<(u16, Ends)>,
    next: u16,
    living: usize,
    max: usize,
}

struct Connection<S> {
    ends: Ends,
    /// The sequence number of the first segment, which tells a new connection from a repeated segment.
    sequence: u32,
    since: Instant,
    state: State<S>,
}

enum State<S> {
    /// The other end is being called; the segment that asked for it waits.
    Dialling(Vec<u8>),
    /// The other end is there; the Pod's own handshake goes on.
    Dialled(S),
    /// Bytes go through.
    Open,
    /// Both ends are closed; only the last words are still passed on.
    Ended,
}

impl<S> Connections<S> {
    /// No connections, and never more than `max` that live.
    pub fn new(max: usize) -> Self {
        let (by_ends, by_port, ended) = (HashMap::new(), HashMap::new(), VecDeque::new());
        Self { by_ends, by_port, ended, next: FIRST_PORT, living: 0, max }
    }

    /// What to do with a segment that a Pod sent, which `packet` holds.
    pub fn outgoing(&mut self, segment: &Segment, packet: &[u8]) -> Verdict {
        let ends = (segment.source, segment.destination);
        let opens = segment.flags & (SYN | ACK | RST) == SYN;
        if let Some(port) = self.by_ends.get(&ends).copied()
            && let Some(known) = self.by_port.get(&port)
        {
            match known.state {
                State::Dialling(_) if segment.flags & RST != 0 => {
                    self.remove(port);
                    return Verdict::Drop;
                }
                State::Dialling(_) => return Verdict::Drop,
                State::Ended if opens && segment.sequence != known.sequence => self.remove(port),
                _ => return Verdict::Pass(port),
            }
        }
        if !opens {
            return Verdict::Refuse;
        }
        match self.free_port() {
            Some(port) => {
                let state = State::Dialling(packet.to_vec());
                let connection =
                    Connection { ends, sequence: segment.sequence, since: Instant::now(), state };
                self.by_ends.insert(ends, port);
                self.by_port.insert(port, connection);
                self.living += 1;
                Verdict::Dial(port)
            }
            None => Verdict::Refuse,
        }
    }

    /// Who a port stands for.
    pub fn ends(&self, port: u16) -> Option<Ends> {
        self.by_port.get(&port).map(|connection| connection.ends)
    }

    /// The other end is there: the segment that waited for it, to be passed on now. `None` if the Pod
    /// has given up meanwhile.
    pub fn dialled(&mut self, port: u16, ends: Ends, stream: S) -> Option<Vec<u8>> {
        let connection = self.by_port.get_mut(&port).filter(|connection| connection.ends == ends)?;
        if !matches!(connection.state, State::Dialling(_)) {
            return None;
        }
        connection.since = Instant::now();
        match std::mem::replace(&mut connection.state, State::Dialled(stream)) {
            State::Dialling(packet) => Some(packet),
            _ => None,
        }
    }

    /// The other end is not there: the segment that waited for it, to be answered.
    pub fn failed(&mut self, port: u16, ends: Ends) -> Option<Vec<u8>> {
        self.by_port.get(&port).filter(|connection| connection.ends == ends)?;
        match self.remove_entry(port)?.state {
            State::Dialling(packet) => Some(packet),
            _ => None,
        }
    }

    /// The Pod has finished its handshake: the other end's stream.
    pub fn accepted(&mut self, port: u16) -> Option<S> {
        let connection = self.by_port.get_mut(&port)?;
        if !matches!(connection.state, State::Dialled(_)) {
            return None;
        }
        match std::mem::replace(&mut connection.state, State::Open) {
            State::Dialled(stream) => Some(stream),
            _ => None,
        }
    }

    /// Both ends are closed.
    pub fn ended(&mut self, port: u16) {
        if let Some(connection) = self.by_port.get_mut(&port)
            && matches!(connection.state, State::Open)
        {
            connection.state = State::Ended;
            connection.since = Instant::now();
            self.ended.push_back((port, connection.ends));
            self.living = self.living.saturating_sub(1);
        }
    }

    /// Forgets what is over. Returns whether anything is left.
    pub fn sweep(&mut self) -> bool {
        while self.ended.front().is_some_and(|(port, _)| !self.is_fresh(*port)) {
            self.forget_oldest();
        }
        let given_up = |connection: &Connection<S>| {
            matches!(connection.state, State::Dialled(_)) && connection.since.elapsed() > HANDSHAKE
        };
        let gone: Vec<u16> =
            self.by_port.iter().filter(|(_, c)| given_up(c)).map(|(port, _)| *port).collect();
        for port in gone {
            self.remove(port);
        }
        !self.by_port.is_empty()
    }

    fn is_fresh(&self, port: u16) -> bool {
        self.by_port.get(&port).is_some_and(|connection| connection.since.elapsed() < MEMORY)
    }

    /// Forgets the connection that ended first, unless another one has its port by now.
    fn forget_oldest(&mut self) -> Option<()> {
        let (port, ends) = self.ended.pop_front()?;
        let connection = self.by_port.get(&port)?;
        if connection.ends == ends && matches!(connection.state, State::Ended) {
            self.remove(port);
        }
        Some(())
    }

    fn free_port(&mut self) -> Option<u16> {
        if self.living >= self.max {
            return None;
        }
        while self.by_port.len() >= PORTS_MAX && !self.ended.is_empty() {
            self.forget_oldest();
        }
        for _ in 0..=PORTS_MAX {
            let port = self.next;
            self.next = port.checked_add(1).unwrap_or(FIRST_PORT);
            if !self.by_port.contains_key(&port) {
                return Some(port);
            }
        }
        None
    }

    fn remove(&mut self, port: u16) {
        self.remove_entry(port);
    }

    fn remove_entry(&mut self, port: u16) -> Option<Connection<S>> {
        let connection = self.by_port.remove(&port)?;
        self.by_ends.remove(&connection.ends);
        if !matches!(connection.state, State::Ended) {
            self.living = self.living.saturating_sub(1);
        }
        Some(connection)
    }
}
