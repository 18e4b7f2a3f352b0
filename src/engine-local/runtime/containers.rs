//! Containers in the helper: `libcontainer` creates and enters them, this file feeds it, finds out what
//! went wrong in words, and removes what they leave.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Display;
use std::fs;
use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};

use crate::runtime::binds;
use crate::runtime::cgroups::Cgroups;
use crate::runtime::devices::{Attached, Devices, DevicesError};
use crate::runtime::overlay;
use crate::runtime::program::Program;
use crate::runtime::reasons::{self, chain};
use crate::runtime::sandbox::Pod;
use crate::runtime::users::Root;
use crate::runtime::wire::{Command, Failure, Launch, Place};
use d2k_images::rootfs::Rootfs;

/// Of containers and of what is made for them, as with other runtimes, whatever it is of d2k itself.
pub const UMASK: u32 = 0o022;
/// The longest that a program may take to replace the helper's copy.
const BECOMING: Duration = Duration::from_secs(10);

/// Why a container or a command does not run. Of what `libcontainer` says, all causes are told.
#[derive(Debug, thiserror::Error)]
enum LaunchError {
    /// A file for `libcontainer`.
    #[error("{0}: {1}")]
    File(PathBuf, #[source] io::Error),
    #[error("{words}", words = chain(.0))]
    Libcontainer(#[from] LibcontainerError),
    #[error(transparent)]
    Devices(#[from] DevicesError),
    #[error("a builder can be made once")]
    BuilderUsed,
    #[error("it has no process")]
    NoProcess,
    #[error("the terminal's socket: {0}")]
    TerminalSocket(#[source] io::Error),
    #[error("the terminal has not come: {0}")]
    Terminal(#[source] io::Error),
    #[error("the terminal has not come")]
    NoTerminal,
}

/// A failure of the machine's part in making a container.
fn not_created(error: impl Display) -> Failure {
    Failure::new("CreateContainerError", error.to_string())
}

/// A failure because of what the container asks for.
fn misconfigured(error: impl Display) -> Failure {
    Failure::new("CreateContainerConfigError", error.to_string())
}

/// One container.
#[derive(Debug)]
pub struct Container {
    /// Its first process, as the helper numbers it.
    pub pid: Pid,
    /// Its Pod.
    pub pod: String,
    rootfs: Rootfs,
    process: Value,
    /// Its device rules, where the helper keeps them.
    _devices: Option<Attached>,
}

/// Makes a builder for a container with that ID and the folder of all states.
type MakeBuilder<'a> = dyn FnMut(&str, &Path) -> Result<ContainerBuilder, LaunchError> + 'a;

/// All containers of the helper.
pub struct Containers {
    /// By ID.
    pub all: HashMap<String, Container>,
    /// The helper's own folder, also its working directory.
    run: PathBuf,
    /// Their cgroups.
    pub cgroups: Cgroups,
    devices: RefCell<Devices>,
    unprivileged: bool,
    /// Whether a process can have more groups here: not with one user in a user namespace.
    groups: bool,
}

impl Containers {
    /// None yet.
    pub fn new(run: PathBuf, cgroups: Cgroups, devices: Devices, unprivileged: bool) -> Self {
        let groups = !fs::read_to_string("/proc/self/setgroups").is_ok_and(|word| word.trim() == "deny");
        Self { all: HashMap::new(), run, cgroups, devices: RefCell::new(devices), unprivileged, groups }
    }

    /// Starts a container; a terminal's master, if it has one.
    pub fn start(&mut self, launch: Launch, pod: &Pod, files: Vec<OwnedFd>) -> Result<Vec<OwnedFd>, Failure> {
        overlay::mount_all(&launch.rootfs, self.unprivileged).map_err(not_created)?;
        let started = self.start_mounted(&launch, pod, files);
        binds::release(&launch.held);
        match started {
            Ok((container, files)) => {
                self.all.insert(launch.id, container);
                Ok(files)
            }
            Err(failure) => {
                self.clean(&launch.id, &launch.rootfs);
                Err(failure)
            }
        }
    }

    fn start_mounted(
        &self,
        launch: &Launch,
        pod: &Pod,
        files: Vec<OwnedFd>,
    ) -> Result<(Container, Vec<OwnedFd>), Failure> {
        binds::hold(&launch.held)?;
        let config = self.configure(launch, pod)?;
        let process = config.get("process").cloned().unwrap_or_default();
        let bundle = self.bundle(&launch.id);
        write(&bundle, "config.json", &config).map_err(not_created)?;
        let mut devices = None;
        let (pid, files) = self
            .launch(files, |builder| {
                let builder = builder(&launch.id, &self.run.join("state"))?;
                let mut made = builder.as_init(&bundle).with_systemd(false).build()?;
                // The cgroup is there and the program not yet.
                if !launch.privileged {
                    devices = self.devices.borrow_mut().attach(&self.cgroups, &launch.id)?;
                }
                made.start()?;
                made.pid().map(nix::unistd::Pid::as_raw).ok_or(LaunchError::NoProcess)
            })
            .map_err(|failure| Failure {
                // Told here, as what is held can still be looked at.
                message: binds::explain(&failure.message, &launch.places, &launch.rootfs.root),
                ..failure
            })?;
        let (pod, rootfs) = (launch.pod.clone(), launch.rootfs.clone());
        Ok((Container { pid, pod, rootfs, process, _devices: devices }, files))
    }

    /// Runs a command in a container that runs.
    pub fn exec(&self, command: &Command, files: Vec<OwnedFd>) -> Result<(Pid, Vec<OwnedFd>), Failure> {
        let id = &command.container;
        let missing = || Failure::new("NotFound", format!("container {id} is not running"));
        let container = self.all.get(id).ok_or_else(missing)?;
        let mut process = container.process.clone();
        if let Some(process) = process.as_object_mut() {
            process.insert("args".into(), json!(command.arguments));
            process.insert("terminal".into(), json!(command.tty));
            if let Some((rows, columns)) = command.size {
                process.insert("consoleSize".into(), json!({ "height": rows, "width": columns }));
            }
            add_environment(process, command.tty.then_some("TERM=xterm"));
        }
        let bundle = self.bundle(id);
        let name = format!("process-{}.json", command.session);
        write(&bundle, &name, &process).map_err(|error| Failure::new("StartError", error.to_string()))?;
        let description = bundle.join(name);
        let done = self.launch(files, |builder| {
            let tenant = builder(id, &self.run.join("state"))?.as_tenant().with_detach(true);
            Ok(tenant.with_process(Some(&description)).build()?.as_raw())
        });
        let _ = fs::remove_file(&description);
        for entry in fs::read_dir(self.run.join("state").join(id)).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with("tenant-") {
                let _ = fs::remove_file(entry.path());
            }
        }
        done.map_err(|failure| match failure.reason.as_str() {
            "CreateContainerError" => Failure::new("StartError", failure.message),
            _ => failure,
        })
    }

    /// What starts and commands have in common: streams or a terminal, and the words of a failure.
    fn launch(
        &self,
        files: Vec<OwnedFd>,
        run: impl FnOnce(&mut MakeBuilder<'_>) -> Result<i32, LaunchError>,
    ) -> Result<(Pid, Vec<OwnedFd>), Failure> {
        let (mut report, writer) = io::pipe().map_err(not_created)?;
        let writer = OwnedFd::from(writer);
        reasons::report_to(writer.try_clone().ok());
        let mut writer = Some(writer);
        let terminal = if files.is_empty() { Some(self.console().map_err(not_created)?) } else { None };
        let mut files = files.into_iter();
        let before = open_files();
        let made = run(&mut |id, state| {
            let program = Program::new(writer.take().ok_or(LaunchError::BuilderUsed)?);
            let builder = ContainerBuilder::new(id.to_owned(), SyscallType::default()).with_executor(program);
            let builder = builder.with_root_path(state)?;
            Ok(match (files.next(), files.next(), files.next()) {
                (Some(input), Some(output), Some(error)) => {
                    builder.with_stdin(input).with_stdout(output).with_stderr(error)
                }
                _ => builder.with_console_socket(Some(self.run.join("console.sock"))),
            })
        });
        if made.is_err() {
            close_others(&before);
        }
        drop(writer);
        reasons::report_to(None);
        let (program, words) = reasons::understand(&becoming(&mut report));
        match made {
            Ok(pid) if !program => {
                let pid = Pid::from_raw(pid).ok_or_else(|| not_created(LaunchError::NoProcess))?;
                let master = terminal.map(|socket| master(&socket)).transpose().map_err(not_created)?;
                Ok((pid, master.into_iter().collect()))
            }
            Err(error) if words.is_empty() => Err(not_created(error)),
            Err(_) if !program => Err(not_created(words)),
            _ => Err(Failure::new(
                "StartError",
                format!("unable to start container process: error during container init: {words}"),
            )),
        }
    }

    /// The socket that a terminal's master comes through. The working directory keeps its name short.
    fn console(&self) -> Result<UnixListener, LaunchError> {
        let _ = fs::remove_file("console.sock");
        UnixListener::bind("console.sock").map_err(LaunchError::TerminalSocket)
    }

    fn configure(&self, launch: &Launch, pod: &Pod) -> Result<Value, Failure> {
        let root = Root::open(&launch.rootfs.root).map_err(misconfigured)?;
        let identity = root.identity(&launch.user, &launch.groups).map_err(misconfigured)?;
        if launch.must_not_be_root && identity.uid == 0 {
            return Err(misconfigured("container has runAsNonRoot and image will run as root"));
        }
        let mut config = launch.spec.clone();
        let mut groups = if self.groups { identity.groups } else { Vec::new() };
        // As other runtimes have it: the group of the process is one of its groups.
        if self.groups && !groups.contains(&identity.gid) {
            groups.insert(0, identity.gid);
        }
        if let Some(process) = config.get_mut("process").and_then(Value::as_object_mut) {
            process.insert(
                "user".into(),
                json!({
                    "uid": identity.uid, "gid": identity.gid, "additionalGids": groups, "umask": UMASK,
                }),
            );
            add_environment(process, Some(&format!("HOME={}", identity.home)));
            let folder = process.get("cwd").and_then(Value::as_str).unwrap_or("/").to_owned();
            make_working_folder(&root, Path::new(&folder), &launch.places)?;
        }
        let mut namespaces = vec![json!({ "type": "mount" })];
        for (kind, name) in [("network", "net"), ("uts", "uts"), ("ipc", "ipc")] {
            namespaces.push(json!({ "type": kind, "path": pod.folder.join(name) }));
        }
        let shared = pod.folder.join("pid");
        let beside = launch.beside.as_ref().and_then(|id| self.all.get(id));
        namespaces.push(match (beside, shared.exists()) {
            (Some(other), _) => json!({ "type": "pid", "path": format!("/proc/{}/ns/pid", other.pid) }),
            (None, true) => json!({ "type": "pid", "path": shared }),
            (None, false) => json!({ "type": "pid" }),
        });
        if self.cgroups.unified() {
            namespaces.push(json!({ "type": "cgroup" }));
        }
        if let Some(linux) = config.get_mut("linux").and_then(Value::as_object_mut) {
            linux.insert("namespaces".into(), Value::Array(namespaces));
        }
        Ok(config)
    }

    fn bundle(&self, id: &str) -> PathBuf {
        self.run.join("bundles").join(id)
    }

    /// Removes a container, whose first process has ended.
    pub fn remove(&mut self, id: &str) {
        if let Some(container) = self.all.remove(id) {
            self.clean(id, &container.rootfs);
        }
    }

    /// Ends every process in the cgroups of a container.
    pub fn kill_all(&self, id: &str) {
        for pid in self.cgroups.processes(id).into_iter().filter_map(Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }

    fn clean(&self, id: &str, rootfs: &Rootfs) {
        self.kill_all(id);
        // The helper is the parent of what has just been killed: unreaped, it would keep the cgroup.
        let _ = self.cgroups.remove(id);
        overlay::unmount_all(rootfs);
        let _ = fs::remove_dir_all(self.bundle(id));
        let _ = fs::remove_dir_all(self.run.join("state").join(id));
    }
}

fn add_environment(process: &mut serde_json::Map<String, Value>, default: Option<&str>) {
    let Some((default, name)) = default.and_then(|d| Some((d, d.split_inclusive('=').next()?))) else {
        return;
    };
    if let Some(env) = process.get_mut("env").and_then(Value::as_array_mut)
        && !env.iter().any(|pair| pair.as_str().is_some_and(|pair| pair.starts_with(name)))
    {
        env.push(json!(default));
    }
}

/// Makes the working directory where it will be: in the image, or in the folder that is mounted there.
fn make_working_folder(root: &Root, folder: &Path, places: &[Place]) -> Result<(), Failure> {
    let made = match binds::innermost(places, folder) {
        None => root.make_folders(folder),
        Some((rest, place)) if !place.read_only && place.source.is_dir() => {
            Root::open(&place.source).map_err(misconfigured)?.make_folders(rest)
        }
        Some(_) => Ok(()),
    };
    made.map_err(|error| misconfigured(format!("the working directory cannot be made: {error}")))
}

fn write(folder: &Path, name: &str, content: &Value) -> Result<(), LaunchError> {
    let file = folder.join(name);
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&file, content.to_string()))
        .map_err(|error| LaunchError::File(file, error))
}

/// Waits until the program has taken over, or says why it has not.
fn becoming(report: &mut io::PipeReader) -> String {
    let mut words = String::new();
    let mut poll = [rustix::event::PollFd::new(report, rustix::event::PollFlags::IN)];
    let deadline = rustix::event::Timespec::try_from(BECOMING).ok();
    if matches!(rustix::event::poll(&mut poll, deadline.as_ref()), Ok(1..)) {
        let _ = report.take(4096).read_to_string(&mut words);
    }
    words
}

/// Receives a terminal's master, which has been sent already.
fn master(listener: &UnixListener) -> Result<OwnedFd, LaunchError> {
    listener.set_nonblocking(true).map_err(LaunchError::Terminal)?;
    let (socket, _) = listener.accept().map_err(LaunchError::Terminal)?;
    let _ = socket.set_read_timeout(Some(Duration::from_secs(5)));
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 64];
    rustix::net::recvmsg(&socket, &mut [IoSliceMut::new(&mut name)], &mut beside, RecvFlags::CMSG_CLOEXEC)
        .map_err(|error| LaunchError::Terminal(error.into()))?;
    beside
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut files) => files.next(),
            _ => None,
        })
        .ok_or(LaunchError::NoTerminal)
}

fn open_files() -> Vec<RawFd> {
    let numbers = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// `libcontainer` forgets the ends of its channels where a start fails.
fn close_others(before: &[RawFd]) {
    for leaked in open_files().into_iter().filter(|number| !before.contains(number)) {
        let _ = nix::unistd::close(leaked);
    }
}
