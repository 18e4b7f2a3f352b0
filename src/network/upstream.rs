//! What the machine knows of names outside the cluster: its `/etc/hosts`, and the servers of its
//! `/etc/resolv.conf`. Both are read again when they change.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hickory_proto::op::Message;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{timeout, timeout_at};

/// One server is given this long, the first time and the second.
const PATIENCE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];
/// All of them together; below the five seconds after which a resolver gives up on us.
const PATIENCE_TOTAL: Duration = Duration::from_secs(4);
/// For so long nobody is asked again after nobody has answered.
const SILENCE: Duration = Duration::from_secs(5);
/// The files are looked at no more often than this.
const FRESH: Duration = Duration::from_secs(1);

/// The machine's own view of names.
pub(super) struct Upstream {
    hosts: PathBuf,
    resolv_conf: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    looked: Option<Instant>,
    read: Option<(Stamp, Stamp)>,
    known: Arc<Known>,
    silent_until: Option<Instant>,
}

type Stamp = Option<(SystemTime, u64)>;

/// What the two files said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub servers: Vec<SocketAddr>,
    pub hosts: HashMap<String, Vec<IpAddr>>,
    pub reverse: HashMap<IpAddr, Vec<String>>,
}

impl Upstream {
    pub fn new(hosts: &Path, resolv_conf: &Path) -> Self {
        Self { hosts: hosts.to_owned(), resolv_conf: resolv_conf.to_owned(), state: Mutex::default() }
    }

    /// What the files say now.
    pub async fn known(&self) -> Arc<Known> {
        {
            let mut state = self.state.lock();
            if state.looked.is_some_and(|looked| looked.elapsed() < FRESH) {
                return Arc::clone(&state.known);
            }
            state.looked = Some(Instant::now());
        }
        let stamps = (stamp(&self.hosts).await, stamp(&self.resolv_conf).await);
        if self.state.lock().read != Some(stamps) {
            let hosts = tokio::fs::read_to_string(&self.hosts).await.unwrap_or_default();
            let resolv_conf = tokio::fs::read_to_string(&self.resolv_conf).await.unwrap_or_default();
            let mut state = self.state.lock();
            state.known = Arc::new(parse(&hosts, &resolv_conf));
            state.read = Some(stamps);
            state.silent_until = None;
        }
        Arc::clone(&self.state.lock().known)
    }

    /// Asks the machine's servers in turn. `None`: there are none, or none has answered in time.
    pub async fn ask(&self, query: &[u8]) -> Option<Vec<u8>> {
        let known = self.known().await;
        let silent = self.state.lock().silent_until;
        if known.servers.is_empty() || silent.is_some_and(|until| until > Instant::now()) {
            return None;
        }
        let answer = timeout(PATIENCE_TOTAL, ask_all(&known.servers, query)).await.ok().flatten();
        let silent = answer.is_none().then(|| Instant::now() + SILENCE);
        self.state.lock().silent_until = silent;
        answer
    }
}

async fn stamp(path: &Path) -> Stamp {
    let metadata = tokio::fs::metadata(path).await.ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

async fn ask_all(servers: &[SocketAddr], query: &[u8]) -> Option<Vec<u8>> {
    let mut unable = None;
    for patience in PATIENCE {
        for server in servers {
            match ask_one(*server, query, patience).await {
                // One that cannot tell may not be the only one; its word is better than none.
                Ok(answer) if is_unable(&answer) => unable = Some(answer),
                Ok(answer) => return Some(answer),
                Err(error) => tracing::debug!(%server, %error, "a DNS server of the machine did not answer"),
            }
        }
        if unable.is_some() {
            break;
        }
    }
    unable
}

/// Whether an answer is SERVFAIL, NOTIMP or REFUSED.
fn is_unable(answer: &[u8]) -> bool {
    answer.get(3).is_some_and(|flags| matches!(flags & 0x0f, 2 | 4 | 5))
}

async fn ask_one(server: SocketAddr, query: &[u8], patience: Duration) -> io::Result<Vec<u8>> {
    let deadline = tokio::time::Instant::now() + patience;
    let answer = timeout_at(deadline, ask_udp(server, query)).await??;
    let truncated = answer.get(2).is_some_and(|flags| flags & 0x02 != 0);
    if !truncated {
        return Ok(answer);
    }
    // A server that cannot do TCP leaves at least what fitted into the packet.
    match timeout(patience, ask_tcp(server, query)).await {
        Ok(Ok(whole)) => Ok(whole),
        _ => Ok(answer),
    }
}

async fn ask_udp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    // An ID of our own: that of the client may be guessed, and so could its answer.
    let own = with_id(query, rand::random());
    socket.send(&own).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = buffer.get(..length).unwrap_or_default();
        if belongs(&own, answer) {
            return Ok(same_id(query, answer));
        }
    }
}

async fn ask_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(query);
    stream.write_all(&framed).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    if belongs(query, &answer) {
        Ok(answer)
    } else {
        Err(io::Error::other("the answer is to another question"))
    }
}

fn with_id(message: &[u8], id: u16) -> Vec<u8> {
    id.to_be_bytes().into_iter().chain(message.iter().skip(2).copied()).collect()
}

fn same_id(query: &[u8], answer: &[u8]) -> Vec<u8> {
    query.iter().take(2).chain(answer.iter().skip(2)).copied().collect()
}

/// Whether bytes are the answer to a query: same ID, an answer, and the same question.
fn belongs(query: &[u8], answer: &[u8]) -> bool {
    if query.get(..2) != answer.get(..2) || answer.get(2).is_none_or(|flags| flags & 0x80 == 0) {
        return false;
    }
    let (Ok(query), Ok(answer)) = (Message::from_vec(query), Message::from_vec(answer)) else {
        return false;
    };
    // A refusal may come without the question.
    answer.queries.is_empty() || query.queries == answer.queries
}

/// What the text of the two files says; lines that say nothing are passed over.
pub(super) fn parse(hosts: &str, resolv_conf: &str) -> Known {
    let mut known = Known::default();
    for line in hosts.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
        // In a Pod the loopback is the Pod's own: only `localhost` means the same there.
        let means_the_same = |name: &String| !address.is_loopback() || name.contains("localhost");
        for name in words.map(str::to_ascii_lowercase).filter(means_the_same) {
            let addresses = known.hosts.entry(name.clone()).or_default();
            if !addresses.contains(&address) {
                addresses.push(address);
            }
            known.reverse.entry(address).or_default().push(name);
        }
    }
    for line in resolv_conf.lines() {
        let mut words = line.split(['#', ';']).next().unwrap_or_default().split_whitespace();
        if words.next() == Some("nameserver")
            && let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok())
        {
            known.servers.push(SocketAddr::new(address, 53));
        }
    }
    known
}
