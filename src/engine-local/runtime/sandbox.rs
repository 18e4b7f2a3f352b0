//! The namespaces of a Pod in the helper: made by a thread that enters them, kept by mounts in the
//! helper's own folder, so that no process is needed and all goes with the helper.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::num::TryFromIntError;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::runtime::namespaces::{NamespaceError, enter, keep};
use crate::runtime::network::{self, NetlinkError};
use crate::runtime::threads::{ThreadEnded, apart};
use crate::runtime::wire::{Failure, Options, SandboxPlan};
use d2k_engine::Memory;

/// A Pod in the helper.
#[derive(Debug)]
pub struct Pod {
    /// Where its namespaces are mounted.
    pub folder: PathBuf,
    /// Its shared memory.
    shared_memory: PathBuf,
    /// Where its volumes in memory are mounted.
    volumes: PathBuf,
    /// Name of its interface in the helper's namespace.
    outside: Option<String>,
    /// The process that a shared PID namespace needs.
    pause: Option<i32>,
}

/// Why a Pod has no sandbox.
#[derive(Debug, thiserror::Error)]
enum SandboxError {
    #[error("the kernel parameter {0} is not one of a Pod's own namespaces")]
    ForeignParameter(String),
    #[error("kernel parameter {0} = {1}: {2}")]
    Parameter(String, String, #[source] io::Error),
    /// A folder of its own in the helper's.
    #[error(transparent)]
    Folder(io::Error),
    #[error("its shared memory cannot be mounted: {0}")]
    SharedMemory(#[source] Errno),
    #[error("its memory {0} cannot be mounted: it cannot name a folder")]
    MemoryName(String),
    #[error("its memory {0} cannot be mounted: {1}")]
    Memory(String, #[source] io::Error),
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    #[error("its interface cannot be made: {0}")]
    Interface(#[source] NetlinkError),
    #[error("host name {0}: {1}")]
    HostName(String, #[source] Errno),
    #[error("its PID namespace cannot be made: {0}")]
    PidNamespace(#[source] nix::errno::Errno),
    #[error("the first process of its PID namespace cannot be started: {0}")]
    FirstProcess(#[source] io::Error),
    #[error(transparent)]
    ProcessNumber(TryFromIntError),
    #[error(transparent)]
    Thread(#[from] ThreadEnded),
}

/// Makes the sandbox. `number` is unique in the life of the helper.
pub fn create(options: &Options, run: &Path, number: u32, plan: &SandboxPlan) -> Result<Pod, Failure> {
    let mut pod = Pod {
        folder: run.join("pods").join(&plan.uid),
        shared_memory: shared_memory(run, &plan.uid),
        volumes: memory_volumes(run, &plan.uid),
        outside: plan.address.map(|_| format!("pod{number}")),
        pause: None,
    };
    let made = make(options, run, plan, &mut pod);
    made.map_err(|error| {
        remove(&pod);
        Failure::new(
            "FailedCreatePodSandBox",
            format!("the sandbox of Pod {} cannot be made: {error}", plan.uid),
        )
    })?;
    Ok(pod)
}

/// Where the shared memory of a Pod is mounted.
pub fn shared_memory(run: &Path, uid: &str) -> PathBuf {
    run.join("memory").join(uid)
}

/// Where the volumes of a Pod are that are memory.
pub fn memory_volumes(run: &Path, uid: &str) -> PathBuf {
    run.join("volumes").join(uid)
}

fn mount_memory(folder: &Path, volume: &Memory) -> Result<(), SandboxError> {
    let failed = |error: io::Error| SandboxError::Memory(volume.name.clone(), error);
    // The name becomes one of a folder.
    if volume.name.is_empty() || volume.name.contains('/') || volume.name.starts_with('.') {
        return Err(SandboxError::MemoryName(volume.name.clone()));
    }
    let folder = folder.join(&volume.name);
    fs::create_dir_all(&folder).map_err(failed)?;
    let mut options = match volume.group {
        Some(group) => format!("mode=2777,gid={group}"),
        None => "mode=1777".to_owned(),
    };
    if let Some(limit) = volume.limit {
        options.push_str(&format!(",size={limit}"));
    }
    let options = std::ffi::CString::new(options).map_err(|error| failed(io::Error::other(error)))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", &folder, "tmpfs", flags, Some(options.as_c_str())).map_err(|error| failed(error.into()))
}

fn make(options: &Options, run: &Path, plan: &SandboxPlan, pod: &mut Pod) -> Result<(), SandboxError> {
    check_sysctls(plan)?;
    fs::create_dir_all(&pod.folder).map_err(SandboxError::Folder)?;
    fs::create_dir_all(&pod.shared_memory).map_err(SandboxError::Folder)?;
    let size = Some(c"mode=1777,size=65536k");
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("shm", &pod.shared_memory, "tmpfs", flags, size).map_err(SandboxError::SharedMemory)?;
    plan.memory.iter().try_for_each(|volume| mount_memory(&pod.volumes, volume))?;
    let folder = pod.folder.clone();
    let outside = pod.outside.clone();
    apart(move || {
        let enter = || enter(&folder, plan.address.is_some());
        match (plan.address, outside) {
            (Some(address), Some(outside)) => {
                network::join(options, address, &outside, enter).map_err(SandboxError::Interface)?;
            }
            _ => {
                enter()?;
                keep(&run.join("host-network"), &folder.join("net"))?;
            }
        }
        let name = plan.hostname.as_bytes();
        rustix::system::sethostname(name)
            .map_err(|error| SandboxError::HostName(plan.hostname.clone(), error))?;
        defaults(plan.address);
        plan.sysctls.iter().try_for_each(|(name, value)| {
            set(name, value).map_err(|error| SandboxError::Parameter(name.clone(), value.clone(), error))
        })
    })?;
    if plan.share_processes {
        pod.pause = Some(apart(pause)?);
        let namespace = format!("/proc/{}/ns/pid", pod.pause.unwrap_or_default());
        keep(Path::new(&namespace), &pod.folder.join("pid"))?;
    }
    Ok(())
}

/// Starts the first process of a new PID namespace, which lives as long as the Pod.
fn pause() -> Result<i32, SandboxError> {
    unshare(CloneFlags::CLONE_NEWPID).map_err(SandboxError::PidNamespace)?;
    let child = Command::new("/proc/self/exe")
        .args(super::arguments("pause"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(SandboxError::FirstProcess)?;
    i32::try_from(child.id()).map_err(SandboxError::ProcessNumber)
}

/// Removes a sandbox, as far as it is there.
pub fn remove(pod: &Pod) {
    if let Some(outside) = pod.outside.clone() {
        let _ = apart(move || network::leave(&outside));
    }
    if let Some(pid) = pod.pause.and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    for name in ["net", "uts", "ipc", "pid"] {
        let _ = unmount(pod.folder.join(name), UnmountFlags::DETACH);
    }
    let _ = unmount(&pod.shared_memory, UnmountFlags::DETACH);
    let _ = fs::remove_dir(&pod.shared_memory);
    for volume in fs::read_dir(&pod.volumes).into_iter().flatten().flatten() {
        let _ = unmount(volume.path(), UnmountFlags::DETACH);
        let _ = fs::remove_dir(volume.path());
    }
    let _ = fs::remove_dir(&pod.volumes);
    let _ = fs::remove_dir_all(&pod.folder);
}

/// A parameter that is not of a namespace would change the whole machine.
fn check_sysctls(plan: &SandboxPlan) -> Result<(), SandboxError> {
    const OWN: [&str; 4] = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];
    let foreign = |name: &&String| {
        let own = OWN.iter().any(|prefix| name.starts_with(prefix));
        !(own || plan.address.is_some() && name.starts_with("net."))
    };
    let names: &BTreeMap<String, String> = &plan.sysctls;
    match names.keys().find(foreign) {
        Some(name) => Err(SandboxError::ForeignParameter(name.clone())),
        None => Ok(()),
    }
}

/// What other engines set, too: ports below 1024 and ping need no privilege inside.
fn defaults(address: Option<Ipv4Addr>) {
    if address.is_some() {
        let _ = set("net.ipv4.ip_unprivileged_port_start", "0");
        let _ = set("net.ipv4.ping_group_range", "0 2147483647");
    }
}

fn set(name: &str, value: &str) -> io::Result<()> {
    fs::write(Path::new("/proc/sys").join(name.replace('.', "/")), value)
}
