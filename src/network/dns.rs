//! The DNS server of the Pods, on the bridge: the cluster's names from a table, the machine's hosts
//! file, and all else from the machine's own servers.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::{Answer, Range, TTL, answer, plain, reversed};
use super::names::Names;
use super::upstream::{Known, Upstream};
use super::wire::{Asked, Question, Transport, read};

/// The machine itself, where Pods may reach it.
const MACHINE: &str = "host.docker.internal";
/// Questions that are answered at the same time; more over UDP are dropped, as a full network would.
const UDP_MAX: usize = 1024;
/// Connections at the same time.
const TCP_MAX: usize = 256;
/// A connection without a question is closed after this.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// After an error of a socket, so that one that lasts does not take the processor.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers questions.
pub(super) struct Dns {
    pub names: watch::Receiver<Arc<Names>>,
    pub own: Vec<Range>,
    /// What stands for the machine itself.
    pub machine: Option<Ipv4Addr>,
    pub upstream: Upstream,
}

impl Dns {
    /// The answer to a packet, if it deserves one.
    pub async fn respond(&self, packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let question = match read(packet, transport) {
            Asked::Question(question) => question,
            Asked::Refused(reply) => return Some(reply),
            Asked::Nothing => return None,
        };
        let names = Arc::clone(&self.names.borrow());
        if let Some(mut answer) = answer(&names, &self.own, &question.query) {
            if let Some(name) = answer.elsewhere.clone() {
                self.follow(&question, name, &mut answer).await;
            }
            turn(&mut answer.answers);
            return question.reply(answer);
        }
        if let Some(answer) = self.machine_itself(&question) {
            return question.reply(answer);
        }
        let known = self.upstream.known().await;
        if let Some(answer) = from_hosts(&known, &question) {
            return question.reply(answer);
        }
        match self.upstream.ask(packet).await {
            Some(bytes) => question.pass_on(bytes),
            None => question.reply(Answer { code: ResponseCode::ServFail, ..Answer::default() }),
        }
    }

    /// The name that Docker Desktop gives to the machine that it runs on.
    fn machine_itself(&self, question: &Question) -> Option<Answer> {
        let machine = self.machine.filter(|_| plain(&question.query.name) == MACHINE)?;
        let asked = matches!(question.query.query_type, RecordType::A | RecordType::ANY);
        let record = || Record::from_rdata(question.query.name.clone(), TTL, RData::A(A(machine)));
        Some(Answer { answers: asked.then(record).into_iter().collect(), ..Answer::default() })
    }

    /// Adds what an alias resolves to outside the cluster; the alias alone is an answer too.
    async fn follow(&self, question: &Question, name: Name, answer: &mut Answer) {
        let known = self.upstream.known().await;
        let mut about = question.query.clone();
        about.name = name.clone();
        if let Some(found) = hosts_records(&known, &about) {
            answer.answers.extend(found);
            return;
        }
        let Some(query) = question.about(name) else { return };
        let reply = self.upstream.ask(&query).await.and_then(|bytes| Message::from_vec(&bytes).ok());
        if let Some(reply) = reply {
            answer.answers.extend(reply.answers);
            answer.code = reply.metadata.response_code;
        }
    }
}

/// Another record first each time, so that clients that take the first one share the load.
fn turn(records: &mut [Record]) {
    let same =
        records.first().is_some_and(|first| records.iter().all(|r| r.record_type() == first.record_type()));
    if same && records.len() > 1 {
        records.rotate_left(rand::random_range(0..records.len()));
    }
}

fn from_hosts(known: &Known, question: &Question) -> Option<Answer> {
    let answers = hosts_records(known, &question.query)?;
    Some(Answer { answers, ..Answer::default() })
}

/// What the hosts file has for a question; `None` if it does not have the name.
fn hosts_records(known: &Known, query: &hickory_proto::op::Query) -> Option<Vec<Record>> {
    let name = plain(&query.name);
    let record = |data| Record::from_rdata(query.name.clone(), TTL, data);
    if let Some(address) = reversed(&name) {
        let names = known.reverse.get(&address).filter(|_| query.query_type == RecordType::PTR)?;
        let names = names.iter().filter_map(|name| Name::from_ascii(format!("{name}.")).ok());
        return Some(names.map(|name| record(RData::PTR(PTR(name)))).collect());
    }
    let addresses = known.hosts.get(&name)?;
    let wanted = |kind| query.query_type == kind || query.query_type == RecordType::ANY;
    let data = addresses.iter().filter_map(|address| match address {
        IpAddr::V4(address) => wanted(RecordType::A).then_some(RData::A(A(*address))),
        IpAddr::V6(address) => wanted(RecordType::AAAA).then_some(RData::AAAA(AAAA(*address))),
    });
    Some(data.map(record).collect())
}

/// Answers over UDP until it is told to stop.
pub(super) async fn serve_udp(
    dns: Arc<Dns>,
    socket: UdpSocket,
    stopping: CancellationToken,
    tasks: TaskTracker,
) {
    let socket = Arc::new(socket);
    let places = Arc::new(Semaphore::new(UDP_MAX));
    let mut buffer = vec![0_u8; 4096];
    loop {
        let received = tokio::select! {
            () = stopping.cancelled() => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        let (length, from) = match received {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "the DNS socket reported an error");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (dns, socket) = (Arc::clone(&dns), Arc::clone(&socket));
        let packet = buffer.get(..length).unwrap_or_default().to_vec();
        let stopping = stopping.clone();
        tasks.spawn(async move {
            let _place = place;
            let reply = stopping.run_until_cancelled(dns.respond(&packet, Transport::Udp)).await.flatten();
            if let Some(reply) = reply
                && let Err(error) = socket.send_to(&reply, from).await
            {
                tracing::debug!(%error, %from, "a DNS answer was not sent");
            }
        });
    }
}

/// Answers over TCP until it is told to stop.
pub(super) async fn serve_tcp(
    dns: Arc<Dns>,
    listener: TcpListener,
    stopping: CancellationToken,
    tasks: TaskTracker,
) {
    let places = Arc::new(Semaphore::new(TCP_MAX));
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (dns, stopping) = (Arc::clone(&dns), stopping.clone());
        tasks.spawn(async move {
            let _place = place;
            stopping.run_until_cancelled(converse(&dns, stream)).await
        });
    }
}

/// Answers the questions of one connection, one after the other.
async fn converse(dns: &Dns, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let length = timeout(TCP_IDLE, stream.read_u16()).await??;
        let mut packet = vec![0; usize::from(length)];
        timeout(TCP_IDLE, stream.read_exact(&mut packet)).await??;
        let Some(reply) = dns.respond(&packet, Transport::Tcp).await else { return Ok(()) };
        let mut framed = u16::try_from(reply.len()).map_err(io::Error::other)?.to_be_bytes().to_vec();
        framed.extend_from_slice(&reply);
        timeout(TCP_IDLE, stream.write_all(&framed)).await??;
    }
}
