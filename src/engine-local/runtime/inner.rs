//! The helper itself: first process of its PID namespace, without threads since `libcontainer` copies
//! it. It answers the daemon's requests one after the other and tells when a process has ended.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal as ChildSignal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_bind, mount_change,
    move_mount, open_tree,
};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open};

use crate::runtime::cgroups::{CgroupError, Cgroups};
use crate::runtime::containers::Containers;
use crate::runtime::devices::Devices;
use crate::runtime::handover;
use crate::runtime::network::{self, NetlinkError};
use crate::runtime::sandbox::{self, Pod};
use crate::runtime::threads::apart;
use crate::runtime::wire::{
    Envelope, Facts, Failure, Launch, Notice, Options, Request, SandboxPlan, receive, send,
};
use crate::runtime::{MACHINE_PROC, overlay, reasons, run_folder, unprivileged};
use d2k_images::rootfs::{Overlay, Rootfs};

/// The longest that a killed process may take to end.
const DYING: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// What to do where the kernel refuses namespaces or mounts.
const ROOT_NEEDED: &str = "run as root, or allow unprivileged user namespaces \
                           (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)";

/// What containers need and this machine does not have, and what to do.
#[derive(Debug, thiserror::Error)]
enum MachineError {
    #[error("no mount namespace can be made: {0}; {hint}", hint = ROOT_NEEDED)]
    MountNamespace(#[source] nix::errno::Errno),
    #[error("mounts cannot be made private: {0}; {hint}", hint = ROOT_NEEDED)]
    PrivateMounts(#[source] Errno),
    #[error("/proc cannot be mounted in a PID namespace: {0}; {hint}", hint = ROOT_NEEDED)]
    Proc(#[source] Errno),
    #[error("{0} cannot be made: {1}")]
    RunFolder(PathBuf, #[source] io::Error),
    #[error("a tmpfs cannot be mounted at {0}: {1}; {hint}", hint = ROOT_NEEDED)]
    Tmpfs(PathBuf, #[source] Errno),
    /// A folder in the run folder.
    #[error(transparent)]
    Folder(io::Error),
    #[error("the machine's /proc cannot be kept: {0}")]
    MachineProc(#[source] Errno),
    #[error(transparent)]
    WorkingDirectory(io::Error),
    #[error("no network namespace can be made: {0}; {hint}", hint = ROOT_NEEDED)]
    NetworkNamespace(#[source] nix::errno::Errno),
    #[error("the bridge cannot be made: {0}; load the kernel module `bridge`")]
    Bridge(#[source] NetlinkError),
    #[error("a pair of interfaces cannot be made: {0}; load the kernel module `veth`")]
    Pair(#[source] NetlinkError),
    #[error("/dev/net/tun cannot be opened: {0}; {hint}", hint = tun_hint(.0))]
    Tun(#[source] io::Error),
    #[error(transparent)]
    Cgroups(#[from] CgroupError),
}

fn tun_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "run as root, or let this user open it",
        _ => "load the kernel module `tun`",
    }
}

/// Why a signal was not sent.
#[derive(Debug, thiserror::Error)]
enum SignalError {
    #[error("there is no such signal")]
    Unknown,
    #[error(transparent)]
    Refused(Errno),
    #[error("sh cannot be started: {0}")]
    Shell(#[source] io::Error),
    #[error("the shell's kill has ended with {0}")]
    Kill(ExitStatus),
}

/// A process whose end is told.
struct Watched {
    end: OwnedFd,
    /// The container that it is the first process or a command of.
    container: String,
    /// Name of the session, of a command.
    session: Option<String>,
}

struct Inner {
    options: Options,
    socket: OwnedFd,
    run: PathBuf,
    pods: HashMap<String, Pod>,
    /// How many sandboxes there have been.
    made: u32,
    containers: Containers,
    watched: HashMap<Pid, Watched>,
}

/// Serves until the daemon has gone.
///
/// # Errors
/// The socket to the daemon, or the ends of processes, could not be watched any more.
pub fn serve(options: Options, socket: OwnedFd) -> io::Result<()> {
    let run = run_folder(&options);
    reasons::hear();
    let (facts, cgroups, devices) = match prepare(&options, &run) {
        Ok(ready) => ready,
        Err(error) => return send(&socket, &Notice::Failed(error.to_string()), &[]),
    };
    send(&socket, &Notice::Ready(facts), &[])?;
    let containers = Containers::new(run.clone(), cgroups, devices, unprivileged());
    let (pods, watched) = (HashMap::new(), HashMap::new());
    Inner { options, socket, run, pods, made: 0, containers, watched }.turn()
}

/// Makes the helper's own namespaces and tries what containers need.
fn prepare(options: &Options, run: &Path) -> Result<(Facts, Cgroups, Devices), MachineError> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(MachineError::MountNamespace)?;
    // What the machine mounts later shows up here, what is mounted here shows up nowhere.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(MachineError::PrivateMounts)?;
    let machine_proc = copy_of_proc();
    let strict = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", strict, None).map_err(MachineError::Proc)?;
    fs::create_dir_all(run).map_err(|error| MachineError::RunFolder(run.to_owned(), error))?;
    mount("d2k", run, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=0700"))
        .map_err(|error| MachineError::Tmpfs(run.to_owned(), error))?;
    for name in ["pods", "memory", "bundles", "state", "held", MACHINE_PROC] {
        fs::create_dir(run.join(name)).map_err(MachineError::Folder)?;
    }
    keep_machine_proc(machine_proc, &run.join(MACHINE_PROC)).map_err(MachineError::MachineProc)?;
    std::env::set_current_dir(run).map_err(MachineError::WorkingDirectory)?;
    let host_network = !unprivileged() && keep_host_network(run);
    unshare(CloneFlags::CLONE_NEWNET).map_err(MachineError::NetworkNamespace)?;
    apart(|| network::prepare(options)).map_err(MachineError::Bridge)?;
    apart(network::probe_pair).map_err(MachineError::Pair)?;
    let _ = fs::write("/proc/sys/net/ipv4/ip_forward", "1");
    File::options().read(true).write(true).open("/dev/net/tun").map_err(MachineError::Tun)?;
    let cgroups = Cgroups::detect(&options.name)?;
    cgroups.probe()?;
    let devices = Devices::prepare(&cgroups, unprivileged());
    let no_device_rules = devices.unguarded().map(ToString::to_string);
    Ok((Facts { overlay: overlay_works(&options.data), host_network, no_device_rules }, cgroups, devices))
}

/// The machine's processes, which the helper's own `/proc` hides.
fn copy_of_proc() -> Result<OwnedFd, Errno> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, "/proc", flags)
}

/// Puts the copy where containers have it from; without one they get the helper's.
fn keep_machine_proc(copy: Result<OwnedFd, Errno>, at: &Path) -> Result<(), Errno> {
    let whole = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    let moved = copy.and_then(|copy| move_mount(&copy, "", CWD, at, whole));
    moved.or_else(|_| mount_bind("/proc", at))
}

fn keep_host_network(run: &Path) -> bool {
    let at = run.join("host-network");
    File::create(&at).is_ok() && mount_bind("/proc/self/ns/net", &at).is_ok()
}

/// Some file systems (an overlay among them) cannot be an overlay's upper folder.
fn overlay_works(data: &Path) -> bool {
    let folder = data.join("probe");
    let make = |name: &str| fs::create_dir_all(folder.join(name)).map(|()| folder.join(name));
    let plan = || -> io::Result<Rootfs> {
        let overlay = Overlay {
            at: PathBuf::new(),
            lower: vec![make("lower")?],
            upper: make("upper")?,
            work: make("work")?,
        };
        Ok(Rootfs { root: make("root")?, overlays: vec![overlay] })
    };
    let works = plan().is_ok_and(|rootfs| {
        let mounted = overlay::mount_all(&rootfs, unprivileged()).is_ok();
        let written = mounted && fs::write(rootfs.root.join("file"), "").is_ok();
        overlay::unmount_all(&rootfs);
        written
    });
    let _ = fs::remove_dir_all(&folder);
    works
}

impl Inner {
    fn turn(&mut self) -> io::Result<()> {
        loop {
            if self.wait()? {
                let Some((envelope, files)) = receive::<Envelope>(&self.socket)? else { return Ok(()) };
                let (failure, files) = match self.answer(envelope.request, files) {
                    Ok(files) => (None, files),
                    Err(failure) => (Some(failure), Vec::new()),
                };
                send(&self.socket, &Notice::Reply { number: envelope.number, failure }, &files)?;
            }
            self.reap()?;
        }
    }

    /// Waits for a request or an end; whether there is a request.
    fn wait(&self) -> io::Result<bool> {
        let mut files = vec![PollFd::new(&self.socket, PollFlags::IN)];
        files.extend(self.watched.values().map(|watched| PollFd::new(&watched.end, PollFlags::IN)));
        // Orphans of no container come to the first process of the namespace, too, and tell nobody.
        let soon = Timespec { tv_sec: 10, tv_nsec: 0 };
        match poll(&mut files, Some(&soon)) {
            Ok(_) => Ok(files.first().is_some_and(|socket| !socket.revents().is_empty())),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn reap(&mut self) -> io::Result<()> {
        loop {
            let (pid, status) = match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some(ended)) => ended,
                Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(()),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let Some(watched) = self.watched.remove(&pid) else { continue };
            let signal = status.terminating_signal().map(|signal| signal + 128);
            let code = status.exit_status().or(signal).unwrap_or(255);
            let oom = self.containers.cgroups.oom_killed(&watched.container);
            let key = match watched.session {
                Some(session) => session,
                None => {
                    // With a PID namespace of the Pod's, the others do not end with the first.
                    self.containers.kill_all(&watched.container);
                    watched.container
                }
            };
            send(&self.socket, &Notice::Ended { key, code, oom }, &[])?;
        }
    }

    fn answer(&mut self, request: Request, files: Vec<OwnedFd>) -> Result<Vec<OwnedFd>, Failure> {
        match request {
            Request::CreateSandbox(plan) => self.create_sandbox(&plan).map(|()| Vec::new()),
            Request::RemoveSandbox { uid } => self.remove_sandbox(&uid).map(|()| Vec::new()),
            Request::Start(launch) => self.start(*launch, files),
            Request::Exec(command) => {
                let (pid, files) = self.containers.exec(&command, files)?;
                self.watch(pid, command.container, Some(command.session))?;
                Ok(files)
            }
            Request::Signal { container, signal } => self.signal(&container, signal).map(|()| Vec::new()),
            Request::Remove { container } => self.remove(&container).map(|()| Vec::new()),
            Request::Socket(wanted) => handover::make(&wanted, &self.run.join("pods"))
                .map(|file| vec![file])
                .map_err(|error| Failure::new("RunContainerError", error.to_string())),
        }
    }

    fn create_sandbox(&mut self, plan: &SandboxPlan) -> Result<(), Failure> {
        if self.pods.contains_key(&plan.uid) {
            return Ok(());
        }
        self.made = self.made.wrapping_add(1);
        let pod = sandbox::create(&self.options, &self.run, self.made, plan)?;
        self.pods.insert(plan.uid.clone(), pod);
        Ok(())
    }

    fn remove_sandbox(&mut self, uid: &str) -> Result<(), Failure> {
        let of_pod = self.containers.all.iter().filter(|(_, container)| container.pod == uid);
        for id in of_pod.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.remove(&id)?;
        }
        if let Some(pod) = self.pods.remove(uid) {
            sandbox::remove(&pod);
        }
        Ok(())
    }

    fn start(&mut self, launch: Launch, files: Vec<OwnedFd>) -> Result<Vec<OwnedFd>, Failure> {
        let missing = || Failure::new("CreateContainerError", format!("Pod {} has no sandbox", launch.pod));
        let pod = self.pods.get(&launch.pod).ok_or_else(missing)?;
        let id = launch.id.clone();
        let files = self.containers.start(launch, pod, files)?;
        if let Some(pid) = self.containers.all.get(&id).map(|container| container.pid) {
            self.watch(pid, id, None)?;
        }
        Ok(files)
    }

    fn watch(&mut self, pid: Pid, container: String, session: Option<String>) -> Result<(), Failure> {
        let end = pidfd_open(pid, PidfdFlags::empty())
            .map_err(|error| Failure::new("RunContainerError", format!("process of {container}: {error}")))?;
        self.watched.insert(pid, Watched { end, container, session });
        Ok(())
    }

    fn signal(&self, id: &str, number: i32) -> Result<(), Failure> {
        let missing = || Failure::new("NotFound", format!("container {id} is not running"));
        let container = self.containers.all.get(id).ok_or_else(missing)?;
        if !self.watched.contains_key(&container.pid) {
            return Err(missing());
        }
        let sent = match Signal::from_named_raw(number) {
            Some(signal) => {
                rustix::process::kill_process(container.pid, signal).map_err(SignalError::Refused)
            }
            None => real_time(container.pid, number),
        };
        sent.map_err(|error| Failure::new("RunContainerError", format!("signal {number}: {error}")))
    }

    /// Ends what runs of a container, tells it, and removes the rest.
    fn remove(&mut self, id: &str) -> Result<(), Failure> {
        let lost = |error: io::Error| Failure::new("RunContainerError", format!("container {id}: {error}"));
        let first = self.containers.all.get(id).map(|container| container.pid);
        if let Some(watched) = first.and_then(|pid| self.watched.get(&pid)) {
            if let Some(pid) = first {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
            let mut end = [PollFd::from_borrowed_fd(watched.end.as_fd(), PollFlags::IN)];
            if !matches!(poll(&mut end, Some(&DYING)), Ok(1..)) {
                let message = format!("container {id} has not ended {} s after SIGKILL", DYING.tv_sec);
                return Err(Failure::new("RunContainerError", message));
            }
        }
        self.reap().map_err(lost)?;
        self.containers.remove(id);
        Ok(())
    }
}

/// No library sends a real-time signal by number without unsafe code; every shell does.
fn real_time(pid: Pid, number: i32) -> Result<(), SignalError> {
    if !(32..=64).contains(&number) {
        return Err(SignalError::Unknown);
    }
    let words = [number.to_string(), pid.as_raw_nonzero().to_string()];
    let sent = Command::new("sh").args(["-c", "kill -\"$0\" \"$1\""]).args(words).status();
    match sent {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(SignalError::Kill(status)),
        Err(error) => Err(SignalError::Shell(error)),
    }
}

/// The first process of a Pod's own PID namespace: reaps what ends in it.
pub fn pause() -> ! {
    let mut child = SigSet::empty();
    child.add(ChildSignal::SIGCHLD);
    let _ = child.thread_block();
    loop {
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
        if child.wait().is_err() {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}
