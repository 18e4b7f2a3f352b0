//! The words between the daemon and its helper process, and how they travel: a length and a JSON text
//! on a stream socket, with open files beside the length (SCM_RIGHTS).

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, IoSlice, IoSliceMut, Result};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use d2k_engine::{Below, Memory, Trouble};
use d2k_images::rootfs::Rootfs;

/// More than the largest environment that a kernel takes.
const LONGEST: usize = 16 << 20;
/// Standard streams are the most that is ever passed.
const MOST_FILES: usize = 3;

/// What both sides of the helper have to know before they talk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Tells apart what several daemons have on one machine: letters, digits and hyphens.
    pub name: String,
    /// Folder of the daemon, on a file system that holds images.
    pub data: PathBuf,
    /// Address of the bridge that all Pods are on, and the gateway of every Pod.
    pub bridge: Ipv4Addr,
    /// Length of the bridge's network prefix.
    pub bridge_prefix: u8,
    /// First address of the range of Services.
    pub services: Ipv4Addr,
    /// Length of that range's prefix.
    pub services_prefix: u8,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "default".into(),
            data: PathBuf::from("/var/lib/d2k"),
            bridge: Ipv4Addr::new(10, 88, 0, 1),
            bridge_prefix: 16,
            services: Ipv4Addr::new(10, 96, 0, 0),
            services_prefix: 16,
        }
    }
}

/// One request, with the number that its reply bears.
#[derive(Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// Number of the request.
    pub number: u64,
    /// What is asked for.
    pub request: Request,
}

/// What the daemon asks for.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Makes a Pod's namespaces.
    CreateSandbox(SandboxPlan),
    /// Removes them.
    RemoveSandbox {
        /// UID of the Pod.
        uid: String,
    },
    /// Starts a container; with three files unless it has a terminal, whose master comes back.
    Start(Box<Launch>),
    /// Runs a command in a container; files as for a start.
    Exec(Command),
    /// Sends a signal to the first process of a container.
    Signal {
        /// ID of the container.
        container: String,
        /// Number of the signal.
        signal: i32,
    },
    /// Removes what a container has left, and ends it if need be.
    Remove {
        /// ID of the container.
        container: String,
    },
    /// A socket made inside.
    Socket(Wanted),
}

/// A socket that the daemon wants, made in the helper's network namespace unless said otherwise.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Wanted {
    /// A TCP socket that listens.
    Listen(SocketAddr),
    /// A UDP socket that is bound.
    Bind(SocketAddr),
    /// A TCP socket, not yet connected, for that family.
    Dial(IpAddr),
    /// A TCP socket for IPv4, not yet connected, in the network namespace of a Pod.
    Inside(String),
    /// The tun device that all traffic for elsewhere goes to.
    Tun,
}

/// A Pod's sandbox as the helper makes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SandboxPlan {
    /// UID of the Pod.
    pub uid: String,
    /// Host name inside.
    pub hostname: String,
    /// Its address; none where it has the machine's network.
    pub address: Option<Ipv4Addr>,
    /// Whether its containers see one another's processes.
    pub share_processes: bool,
    /// Kernel parameters of its namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Memory that its containers share.
    pub memory: Vec<Memory>,
}

/// A container as the helper starts it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Launch {
    /// Its ID.
    pub id: String,
    /// UID of its Pod.
    pub pod: String,
    /// Its root.
    pub rootfs: Rootfs,
    /// `uid[:gid]` or names that the image knows.
    pub user: String,
    /// More groups.
    pub groups: Vec<u32>,
    /// All devices may be used.
    pub privileged: bool,
    /// Refuse user 0.
    pub must_not_be_root: bool,
    /// ID of a container whose processes it sees.
    pub beside: Option<String>,
    /// What of its mounts the helper opens and holds.
    pub held: Vec<Held>,
    /// The OCI configuration, complete but for user, namespaces and cgroup.
    pub spec: serde_json::Value,
    /// Targets of mounts and what is behind each.
    pub places: Vec<Place>,
}

/// A mount of a container whose source the helper holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Path inside the container.
    pub target: PathBuf,
    /// How it is called in words.
    pub named: PathBuf,
    /// File or folder of the volume.
    pub volume: PathBuf,
    /// Relative path of the part; empty for all of it.
    pub sub: PathBuf,
    /// Where the helper holds it, below a folder of its own.
    pub at: PathBuf,
    /// Whether a Pod names the path (`hostPath`), so that it is not d2k's own.
    pub host: bool,
    /// Whether it follows what the machine mounts later.
    pub follows: bool,
    /// How mounts below are mounted.
    pub below: Below,
    /// Whether device nodes do not work, but harmless ones that are mounted themselves.
    pub no_devices: bool,
    /// Number of the file system that the daemon sees there, if it is a path of the machine that exists.
    pub file_system: Option<u64>,
}

/// Where the files of a mount are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Path inside the container.
    pub target: PathBuf,
    /// Where the helper finds it.
    pub source: PathBuf,
    /// How it is called in words.
    pub named: PathBuf,
    /// Whether nothing can be made in it.
    pub read_only: bool,
}

/// A command that runs in a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Command {
    /// ID of the container.
    pub container: String,
    /// What its end is told under.
    pub session: String,
    /// Program and arguments.
    pub arguments: Vec<String>,
    /// A terminal instead of pipes.
    pub tty: bool,
    /// Rows and columns of the terminal.
    pub size: Option<(u16, u16)>,
}

/// What the helper tells.
#[derive(Debug, Serialize, Deserialize)]
pub enum Notice {
    /// The first words: all is in place.
    Ready(Facts),
    /// The first words: the step that failed and what to do.
    Failed(String),
    /// The answer to a request, with files where it says so.
    Reply {
        /// Number of the request.
        number: u64,
        /// What went wrong, if so.
        failure: Option<Failure>,
    },
    /// A container or a session has ended.
    Ended {
        /// ID of the container or name of the session.
        key: String,
        /// Exit code, 128 + N after signal N.
        code: i32,
        /// Killed for its memory limit.
        oom: bool,
    },
}

/// What the helper has found out about the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Whether overlays can be mounted with their upper folder in the data folder.
    pub overlay: bool,
    /// Whether a Pod can have the machine's network.
    pub host_network: bool,
    /// Why containers cannot be kept from devices by rules, if they cannot.
    pub no_device_rules: Option<String>,
}

/// A `Trouble` that can travel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kubelet's reason.
    pub reason: String,
    /// What failed, on which object.
    pub message: String,
}

impl Failure {
    /// A failure with its reason.
    pub fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), message: message.into() }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        const KNOWN: [&str; 6] = [
            "CreateContainerError",
            "CreateContainerConfigError",
            "RunContainerError",
            "StartError",
            "FailedCreatePodSandBox",
            "NotFound",
        ];
        let reason = KNOWN.into_iter().find(|known| *known == failure.reason).unwrap_or("RunContainerError");
        Trouble::new(reason, failure.message)
    }
}

/// Sends one message with its files.
pub fn send<T: Serialize>(socket: impl AsFd, message: &T, files: &[OwnedFd]) -> Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).map_err(|_| Error::from(ErrorKind::InvalidInput))?.to_le_bytes();
    let borrowed: Vec<BorrowedFd<'_>> = files.iter().take(MOST_FILES).map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() {
        beside.push(SendAncillaryMessage::ScmRights(&borrowed));
    }
    // The files go with the length alone, which is read alone: so they never meet another message's.
    rustix::net::sendmsg(&socket, &[IoSlice::new(&length)], &mut beside, SendFlags::NOSIGNAL)?;
    let mut rest = body.as_slice();
    while !rest.is_empty() {
        let sent = match rustix::net::send(&socket, rest, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => continue,
            sent => sent?,
        };
        rest = rest.get(sent..).unwrap_or_default();
    }
    Ok(())
}

/// Receives one message with its files; none at the end of the stream.
pub fn receive<T: DeserializeOwned>(socket: impl AsFd) -> Result<Option<(T, Vec<OwnedFd>)>> {
    let mut length = [0; 4];
    let mut files = Vec::new();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let into = &mut [IoSliceMut::new(&mut length)];
        match rustix::net::recvmsg(&socket, into, &mut beside, RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL) {
            Err(rustix::io::Errno::INTR) => {}
            received => break received?,
        }
    };
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            files.extend(passed);
        }
    }
    match received.bytes {
        0 => return Ok(None),
        4 => {}
        _ => return Err(Error::from(ErrorKind::UnexpectedEof)),
    }
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > LONGEST {
        return Err(Error::new(ErrorKind::InvalidData, "a message of the helper is too long"));
    }
    let mut body = vec![0; length];
    let mut at = 0;
    while let Some(rest) = body.get_mut(at..).filter(|rest| !rest.is_empty()) {
        match rustix::net::recv(&socket, rest, RecvFlags::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            Ok((_, 0)) => return Err(Error::from(ErrorKind::UnexpectedEof)),
            Ok((_, count)) => at += count,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some((serde_json::from_slice(&body)?, files)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn files_arrive_with_their_own_message() {
        let (near, far) = UnixStream::pair().unwrap();
        let (mut read, write) = std::io::pipe().unwrap();
        let reply = |number| Notice::Reply { number, failure: None };
        send(&near, &reply(1), &[]).unwrap();
        send(&near, &reply(2), &[OwnedFd::from(write)]).unwrap();
        send(&near, &reply(3), &[]).unwrap();
        drop(near);
        let mut came = Vec::new();
        while let Some((Notice::Reply { number, .. }, files)) = receive::<Notice>(&far).unwrap() {
            came.push((number, files.len()));
            for file in files {
                std::fs::File::from(file).write_all(b"passed").unwrap();
            }
        }
        assert_eq!(came, [(1, 0), (2, 1), (3, 0)]);
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert_eq!(text, "passed");
    }

    #[test]
    fn a_cut_message_is_an_error_and_an_end_is_none() {
        let (mut near, far) = UnixStream::pair().unwrap();
        near.write_all(&[9, 0, 0, 0, b'{']).unwrap();
        drop(near);
        assert_eq!(receive::<Notice>(&far).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert!(receive::<Notice>(&far).unwrap().is_none());
    }
}
