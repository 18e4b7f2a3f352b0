//! The engine's calls for sandboxes and containers, on top of the link to the helper.

use std::collections::{BTreeSet, HashMap};
use std::io::{Error, ErrorKind, Result as IoResult};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream as StdStream, UdpSocket as StdUdp};
use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::{Mutex, MutexGuard};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;

use crate::runtime::binds;
use crate::runtime::cgroups::Cgroups;
use crate::runtime::link::Link;
use crate::runtime::log::Log;
use crate::runtime::process::{Ends, Process, Wanted as Streams, session};
use crate::runtime::sandbox::{memory_volumes, shared_memory};
use crate::runtime::spec::{self, Surroundings};
use crate::runtime::wire::{Command, Facts, Launch, Options, Request, SandboxPlan, Wanted};
use crate::runtime::{Helper, MACHINE_PROC, run_folder, unprivileged};
use d2k_engine::{Exec, Exit, Limits, Result, Sandbox, Session, Start, Stream, Trouble, Usage};
use d2k_images::rootfs::Rootfs;
use d2k_network::sockets::Sockets;

/// The longest that a connection to a Pod may take to be made.
const CONNECTING: Duration = Duration::from_secs(10);
/// How many sockets are kept for connections to come.
const SPARES: usize = 16;
/// The longest that the helper's processes may take to go.
const LEAVING: Duration = Duration::from_secs(15);

/// A Pod of the daemon's.
#[derive(Debug, Clone)]
struct Pod {
    address: IpAddr,
    hostname: String,
    host_network: bool,
}

#[derive(Debug, Default)]
struct State {
    pods: HashMap<String, Pod>,
    containers: HashMap<String, Arc<Process>>,
    /// Addresses that are taken, as offsets in the bridge's network, and the last one given.
    taken: BTreeSet<u32>,
    last: u32,
}

/// Sandboxes and containers on this machine. Cheap to clone.
#[derive(Clone)]
pub struct Runtime(Arc<Inner>);

struct Inner {
    link: Arc<Link>,
    options: Options,
    facts: Facts,
    cgroups: Cgroups,
    unprivileged: bool,
    state: Mutex<State>,
    sessions: AtomicU64,
    helper: Mutex<Option<Child>>,
    making: tokio::sync::Mutex<()>,
    /// Sockets for connections to come, so that none waits while the helper starts a container.
    spares: Mutex<Vec<OwnedFd>>,
    /// More of them are on their way.
    refilling: AtomicBool,
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl Runtime {
    /// Takes a helper over. In a runtime of tokio.
    pub fn new(helper: Helper) -> IoResult<Self> {
        Ok(Self(Arc::new(Inner {
            link: Link::new(helper.socket)?,
            options: helper.options,
            facts: helper.facts,
            cgroups: helper.cgroups,
            unprivileged: unprivileged(),
            state: Mutex::default(),
            sessions: AtomicU64::new(1),
            helper: Mutex::new(Some(helper.process)),
            making: tokio::sync::Mutex::default(),
            spares: Mutex::default(),
            refilling: AtomicBool::new(false),
        })))
    }

    /// Cancelled when the helper has gone, and all containers with it.
    pub fn gone(&self) -> CancellationToken {
        self.0.link.gone()
    }

    /// What the helper has found out about the machine.
    pub fn facts(&self) -> &Facts {
        &self.0.facts
    }

    /// Ends everything, and waits until it has gone.
    pub async fn shutdown(&self) {
        self.0.link.close();
        let child = self.0.helper.lock().take();
        if let Some(mut child) = child {
            let gone = tokio::task::spawn_blocking(move || child.wait());
            let _ = tokio::time::timeout(LEAVING, gone).await;
        }
    }

    /// Makes the sandbox of a Pod. It goes on if the caller does not wait for it.
    pub async fn create_sandbox(&self, sandbox: Sandbox) -> Result<IpAddr> {
        let this = self.clone();
        tokio::spawn(async move { this.create_sandbox_now(sandbox).await })
            .await
            .unwrap_or_else(|error| Err(Trouble::new("FailedCreatePodSandBox", error.to_string())))
    }

    async fn create_sandbox_now(&self, sandbox: Sandbox) -> Result<IpAddr> {
        // One after the other, so that a second call for a Pod finds what the first has made.
        let _turn = self.0.making.lock().await;
        if let Some(pod) = self.0.state().pods.get(&sandbox.uid) {
            return Ok(pod.address);
        }
        let failed = |message: &str| {
            Trouble::new(
                "FailedCreatePodSandBox",
                format!("Pod {}/{}: {message}", sandbox.namespace, sandbox.name),
            )
        };
        if sandbox.uid.is_empty() || sandbox.uid.contains('/') || sandbox.uid.starts_with('.') {
            return Err(failed("its UID cannot name a folder"));
        }
        if sandbox.host_network && !self.0.facts.host_network {
            return Err(failed("the machine's network can be shared by root only; leave hostNetwork out"));
        }
        let address = match sandbox.host_network {
            true => None,
            false => {
                Some(self.take_address().ok_or_else(|| failed("all addresses of the bridge are taken"))?)
            }
        };
        let plan = SandboxPlan {
            uid: sandbox.uid.clone(),
            hostname: sandbox.hostname.clone(),
            address,
            share_processes: sandbox.share_processes,
            sysctls: sandbox.sysctls,
            memory: sandbox.memory,
        };
        if let Err(trouble) = self.0.link.call(Request::CreateSandbox(plan), Vec::new()).await {
            self.give_back(address.map(IpAddr::V4));
            return Err(trouble);
        }
        let pod = Pod {
            address: address.map_or_else(machine_address, IpAddr::V4),
            hostname: sandbox.hostname,
            host_network: sandbox.host_network,
        };
        let address = pod.address;
        self.0.state().pods.insert(sandbox.uid, pod);
        Ok(address)
    }

    /// Addresses go round, so that one that has just been left is not found again by whoever knew it.
    fn take_address(&self) -> Option<Ipv4Addr> {
        let hosts = 1_u32.checked_shl(32 - u32::from(self.0.options.bridge_prefix.min(30)))?;
        let network = self.0.options.bridge.to_bits() & !(hosts - 1);
        let gateway = self.0.options.bridge.to_bits() - network;
        let mut state = self.0.state();
        let after = (state.last + 1..hosts - 1).chain(1..hosts - 1);
        let free = after.into_iter().find(|at| *at != gateway && !state.taken.contains(at))?;
        state.taken.insert(free);
        state.last = free;
        Some(Ipv4Addr::from_bits(network + free))
    }

    fn give_back(&self, address: Option<IpAddr>) {
        if let Some(IpAddr::V4(address)) = address {
            let hosts = 1_u32.checked_shl(32 - u32::from(self.0.options.bridge_prefix.min(30))).unwrap_or(4);
            self.0.state().taken.remove(&(address.to_bits() & (hosts - 1)));
        }
    }

    /// Removes a sandbox with what is left of its containers; their IDs.
    pub async fn remove_sandbox(&self, uid: &str) -> Result<Vec<String>> {
        self.0.link.call(Request::RemoveSandbox { uid: uid.to_owned() }, Vec::new()).await?;
        let mut state = self.0.state();
        let of_pod = state.containers.extract_if(|_, process| process.pod == uid);
        let removed = of_pod.map(|(id, _)| id).collect();
        let pod = state.pods.remove(uid);
        drop(state);
        self.give_back(pod.filter(|pod| !pod.host_network).map(|pod| pod.address));
        Ok(removed)
    }

    /// Starts a container. It goes on if the caller does not wait for it.
    pub async fn start(&self, start: Start, rootfs: Rootfs) -> Result<()> {
        let this = self.clone();
        tokio::spawn(async move { this.start_now(start, rootfs).await })
            .await
            .unwrap_or_else(|error| Err(Trouble::new("RunContainerError", error.to_string())))
    }

    async fn start_now(&self, start: Start, rootfs: Rootfs) -> Result<()> {
        let failed =
            |error: Error| Trouble::new("CreateContainerError", format!("container {}: {error}", start.name));
        let mut launch = self.launch(&start, rootfs)?;
        launch.held = binds::seen(launch.held).await;
        // Made anew for a Pod that has just gone, its folder would stay.
        let log = Log::open(&start.log).map_err(failed)?;
        let wanted = Streams { stdin: start.stdin, stdout: true, stderr: true };
        let (pipes, files) = match start.tty {
            true => (None, Vec::new()),
            false => Ends::pipes(wanted).map(|(ends, theirs)| (Some(ends), theirs)).map_err(failed)?,
        };
        let end = self.0.link.end_of(&start.id);
        let started = self.0.link.call(Request::Start(Box::new(launch)), files).await;
        let ends = match (started, pipes) {
            (Ok(_), Some(pipes)) => Ok(pipes),
            (Ok(files), None) => Ends::terminal(files, start.stdin).map_err(failed),
            (Err(trouble), _) => Err(trouble),
        };
        let ends = match ends {
            Ok(ends) => ends,
            Err(trouble) => {
                self.0.link.forget(&start.id);
                // After a deadline it may have started all the same.
                let remove = Request::Remove { container: start.id.clone() };
                let _ = self.0.link.call(remove, Vec::new()).await;
                return Err(trouble);
            }
        };
        let process = Process::new(start.pod.clone(), ends, start.stdin_once, log, end);
        self.0.state().containers.insert(start.id.clone(), Arc::new(process));
        Ok(())
    }

    fn launch(&self, start: &Start, rootfs: Rootfs) -> Result<Launch> {
        let config = |message: String| Trouble::new("CreateContainerConfigError", message);
        let hexadecimal = !start.id.is_empty() && start.id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !hexadecimal || start.command.first().is_none_or(String::is_empty) {
            return Err(config(format!("container {} has no legal ID or no command", start.name)));
        }
        let nul = |word: &String| word.contains('\0');
        if start.command.iter().any(nul) || start.env.iter().any(nul) {
            return Err(config(format!(
                "container {}: a NUL byte in its command or environment",
                start.name
            )));
        }
        let hostname = self.0.state().pods.get(&start.pod).map(|pod| pod.hostname.clone());
        let missing = || Trouble::new("CreateContainerError", format!("Pod {} has no sandbox", start.pod));
        let memory = memory_volumes(&run_folder(&self.0.options), &start.pod);
        let held = run_folder(&self.0.options).join("held").join(&start.id);
        let around = Surroundings {
            root: &rootfs.root,
            shared_memory: &shared_memory(&run_folder(&self.0.options), &start.pod),
            memory: &memory,
            held: &held,
            machine_proc: &run_folder(&self.0.options).join(MACHINE_PROC),
            hostname: &hostname.ok_or_else(missing)?,
            cgroup: &self.0.cgroups.path(&start.id),
            unified: self.0.cgroups.unified(),
            pids: self.0.cgroups.counts_processes(),
            views: self.0.cgroups.views(&start.id),
            no_device_rules: self.0.facts.no_device_rules.is_some(),
            unprivileged: self.0.unprivileged,
        };
        let spec = spec::config(start, &around);
        let held = spec::held(start, &around);
        let places = spec::places(start, &around);
        Ok(Launch {
            id: start.id.clone(),
            pod: start.pod.clone(),
            user: start.security.user.clone(),
            groups: start.security.groups.clone(),
            must_not_be_root: start.security.must_not_be_root,
            beside: start.beside.clone(),
            privileged: start.security.privileged,
            held,
            places,
            rootfs,
            spec,
        })
    }

    fn process(&self, id: &str) -> Result<Arc<Process>> {
        let missing = || Trouble::new("NotFound", format!("there is no container {id}"));
        self.0.state().containers.get(id).cloned().ok_or_else(missing)
    }

    fn running(&self, id: &str) -> Result<Arc<Process>> {
        let process = self.process(id)?;
        match process.exit() {
            None => Ok(process),
            Some(_) => Err(Trouble::new("NotFound", format!("container {id} is not running"))),
        }
    }

    /// The end of a container.
    pub async fn wait(&self, id: &str) -> Result<Exit> {
        Ok(self.process(id)?.ended().await)
    }

    /// Sends a signal to its first process.
    pub async fn signal(&self, id: &str, signal: i32) -> Result<()> {
        self.0.link.call(Request::Signal { container: id.to_owned(), signal }, Vec::new()).await.map(|_| ())
    }

    /// Removes a container; one that is not there is no error.
    pub async fn remove(&self, id: &str) -> Result<()> {
        self.0.link.call(Request::Remove { container: id.to_owned() }, Vec::new()).await?;
        let process = self.0.state().containers.remove(id);
        if let Some(process) = process {
            // Its log is whole when this returns.
            let _ = tokio::time::timeout(LEAVING, process.ended()).await;
        }
        Ok(())
    }

    /// Connects to its first process.
    pub async fn attach(&self, id: &str, stdin: bool) -> Result<Session> {
        Ok(self.running(id)?.attach(stdin))
    }

    /// Runs a command in it.
    pub async fn exec(&self, id: &str, exec: Exec) -> Result<Session> {
        self.running(id)?;
        let failed = |error: Error| Trouble::new("StartError", format!("exec in container {id}: {error}"));
        if exec.command.first().is_none_or(String::is_empty)
            || exec.command.iter().any(|word| word.contains('\0'))
        {
            return Err(Trouble::new(
                "StartError",
                format!("exec in container {id}: no legal command is given"),
            ));
        }
        let (pipes, files) = match exec.tty {
            true => (None, Vec::new()),
            false => {
                let wanted = Streams { stdin: exec.stdin, stdout: exec.stdout, stderr: exec.stderr };
                Ends::pipes(wanted).map(|(ends, theirs)| (Some(ends), theirs)).map_err(failed)?
            }
        };
        let session_name = format!("exec{}", self.0.sessions.fetch_add(1, Ordering::Relaxed));
        let end = self.0.link.end_of(&session_name);
        let command = Command {
            container: id.to_owned(),
            session: session_name.clone(),
            arguments: exec.command,
            tty: exec.tty,
            size: exec.size,
        };
        let started = self.0.link.call(Request::Exec(command), files).await;
        let files = started.inspect_err(|_| self.0.link.forget(&session_name))?;
        let ends = match pipes {
            Some(ends) => ends,
            None => Ends::terminal(files, exec.stdin).map_err(failed)?,
        };
        Ok(session(ends, end))
    }

    /// What it uses now.
    pub async fn usage(&self, id: &str) -> Result<Usage> {
        let missing = || Trouble::new("NotFound", format!("container {id} has no cgroup"));
        self.0.cgroups.usage(id).ok_or_else(missing)
    }

    /// Changes its limits.
    pub async fn limit(&self, id: &str, limits: Limits) -> Result<()> {
        self.running(id)?;
        self.0.cgroups.limit(id, &limits).map_err(|error| Trouble::new("ResizeError", error.to_string()))
    }

    /// Connects to a TCP port of a Pod's own loopback interface.
    pub async fn connect(&self, uid: &str, port: u16) -> Result<Box<dyn Stream>> {
        let pod = self.0.state().pods.get(uid).cloned();
        let pod = pod.ok_or_else(|| Trouble::new("NotFound", format!("Pod {uid} has no sandbox")))?;
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let failed = |error: Error| {
            Trouble::new("RunContainerError", format!("connect to {at} of Pod {uid}: {error}"))
        };
        let socket = match pod.host_network {
            true => TcpSocket::new_v4().map_err(failed)?,
            false => {
                let file = self.socket(Wanted::Inside(uid.to_owned())).await.map_err(failed)?;
                TcpSocket::from_std_stream(StdStream::from(file))
            }
        };
        Ok(Box::new(connected(socket, at).await.map_err(failed)?))
    }

    async fn socket(&self, wanted: Wanted) -> IoResult<OwnedFd> {
        let files = self.0.link.call(Request::Socket(wanted), Vec::new()).await;
        let files = files.map_err(|trouble| Error::other(trouble.message))?;
        files.into_iter().next().ok_or_else(|| Error::other("the helper has handed no socket over"))
    }
}

impl Runtime {
    /// A socket for IPv4 that was made earlier; sees to it that there are more.
    fn spare(&self) -> Option<OwnedFd> {
        let mut spares = self.0.spares.lock();
        let spare = spares.pop();
        if spares.len() < SPARES / 2 && !self.0.refilling.swap(true, Ordering::AcqRel) {
            let (this, missing) = (self.clone(), SPARES - spares.len());
            tokio::spawn(async move {
                for _ in 0..missing {
                    let Ok(file) = this.socket(Wanted::Dial(Ipv4Addr::UNSPECIFIED.into())).await else {
                        break;
                    };
                    this.0.spares.lock().push(file);
                }
                this.0.refilling.store(false, Ordering::Release);
            });
        }
        spare
    }
}

async fn connected(socket: TcpSocket, to: SocketAddr) -> IoResult<TcpStream> {
    match tokio::time::timeout(CONNECTING, socket.connect(to)).await {
        Ok(connected) => connected,
        Err(_) => {
            Err(Error::new(ErrorKind::TimedOut, format!("no answer within {} s", CONNECTING.as_secs())))
        }
    }
}

/// The address that the machine would use towards others.
fn machine_address() -> IpAddr {
    let towards = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 9));
    let own = StdUdp::bind((Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|socket| socket.connect(towards).and_then(|()| socket.local_addr()));
    own.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |own| own.ip())
}

impl Sockets for Runtime {
    fn listen(&self, at: SocketAddr) -> BoxFuture<'_, IoResult<TcpListener>> {
        Box::pin(async move {
            let file = self.socket(Wanted::Listen(at)).await?;
            TcpListener::from_std(std::net::TcpListener::from(file))
        })
    }

    fn bind_udp(&self, at: SocketAddr) -> BoxFuture<'_, IoResult<UdpSocket>> {
        Box::pin(async move { UdpSocket::from_std(StdUdp::from(self.socket(Wanted::Bind(at)).await?)) })
    }

    fn dial(&self, to: SocketAddr) -> BoxFuture<'_, IoResult<TcpStream>> {
        Box::pin(async move {
            let file = match to.is_ipv4().then(|| self.spare()).flatten() {
                Some(file) => file,
                None => self.socket(Wanted::Dial(to.ip())).await?,
            };
            connected(TcpSocket::from_std_stream(StdStream::from(file)), to).await
        })
    }
}

impl Runtime {
    /// The tun device that the default route of the Pods leads to: IP packets without a header of its own.
    ///
    /// # Errors
    /// Those of the helper.
    pub async fn tun(&self) -> IoResult<OwnedFd> {
        self.socket(Wanted::Tun).await
    }
}
