//! The namespaces of a Pod in the helper: made by a thread that enters them, kept by mounts in the
//! helper's own folder, so that no process is needed and all goes with the helper.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};

use crate::runtime::handover::apart;
use crate::runtime::network;
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
    made.map_err(|message| {
        remove(&pod);
        Failure::new(
            "FailedCreatePodSandBox",
            format!("the sandbox of Pod {} cannot be made: {message}", plan.uid),
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

fn mount_memory(folder: &Path, volume: &Memory) -> Result<(), String> {
    let wrong =
        |error: &dyn std::fmt::Display| format!("its memory {} cannot be mounted: {error}", volume.name);
    // The name becomes one of a folder.
    if volume.name.is_empty() || volume.name.contains('/') || volume.name.starts_with('.') {
        return Err(wrong(&"it cannot name a folder"));
    }
    let folder = folder.join(&volume.name);
    fs::create_dir_all(&folder).map_err(|error| wrong(&error))?;
    let mut options = match volume.group {
        Some(group) => format!("mode=2777,gid={group}"),
        None => "mode=1777".to_owned(),
    };
    if let Some(limit) = volume.limit {
        options.push_str(&format!(",size={limit}"));
    }
    let options = std::ffi::CString::new(options).map_err(|error| wrong(&error))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", &folder, "tmpfs", flags, Some(options.as_c_str())).map_err(|error| wrong(&error))
}

fn make(options: &Options, run: &Path, plan: &SandboxPlan, pod: &mut Pod) -> Result<(), String> {
    check_sysctls(plan)?;
    let words = |error: std::io::Error| error.to_string();
    fs::create_dir_all(&pod.folder).map_err(words)?;
    fs::create_dir_all(&pod.shared_memory).map_err(words)?;
    let size = Some(c"mode=1777,size=65536k");
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("shm", &pod.shared_memory, "tmpfs", flags, size)
        .map_err(|error| format!("its shared memory cannot be mounted: {error}"))?;
    plan.memory.iter().try_for_each(|volume| mount_memory(&pod.volumes, volume))?;
    let folder = pod.folder.clone();
    let outside = pod.outside.clone();
    apart(move || {
        let enter = || enter(&folder, plan.address.is_some());
        match (plan.address, outside) {
            (Some(address), Some(outside)) => {
                network::join(options, address, &outside, enter)
                    .map_err(|error| format!("its interface cannot be made: {error}"))?;
            }
            _ => {
                enter()?;
                keep(&run.join("host-network"), &folder.join("net"))?;
            }
        }
        let name = plan.hostname.as_bytes();
        rustix::system::sethostname(name).map_err(|error| format!("host name {}: {error}", plan.hostname))?;
        defaults(plan.address);
        plan.sysctls.iter().try_for_each(|(name, value)| set(name, value))
    })?;
    if plan.share_processes {
        pod.pause = Some(apart(pause)?);
        let namespace = format!("/proc/{}/ns/pid", pod.pause.unwrap_or_default());
        keep(Path::new(&namespace), &pod.folder.join("pid"))?;
    }
    Ok(())
}

/// Puts the calling thread into new namespaces and keeps them; the network's file.
fn enter(folder: &Path, own_network: bool) -> Result<File, String> {
    let mut flags = CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC;
    let mut names = vec!["uts", "ipc"];
    if own_network {
        flags |= CloneFlags::CLONE_NEWNET;
        names.push("net");
    }
    unshare(flags).map_err(|error| format!("its namespaces cannot be made: {error}"))?;
    let own = Path::new("/proc/thread-self/ns");
    names.iter().try_for_each(|name| keep(&own.join(name), &folder.join(name)))?;
    File::open(own.join("net")).map_err(|error| error.to_string())
}

/// A namespace lives as long as it is mounted somewhere.
fn keep(namespace: &Path, at: &Path) -> Result<(), String> {
    File::create(at).map_err(|error| format!("{}: {error}", at.display()))?;
    mount_bind(namespace, at).map_err(|error| format!("{} cannot be kept: {error}", namespace.display()))
}

/// Starts the first process of a new PID namespace, which lives as long as the Pod.
fn pause() -> Result<i32, String> {
    unshare(CloneFlags::CLONE_NEWPID)
        .map_err(|error| format!("its PID namespace cannot be made: {error}"))?;
    let child = Command::new("/proc/self/exe")
        .args(super::arguments("pause"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("the first process of its PID namespace cannot be started: {error}"))?;
    i32::try_from(child.id()).map_err(|error| error.to_string())
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
fn check_sysctls(plan: &SandboxPlan) -> Result<(), String> {
    const OWN: [&str; 4] = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];
    let foreign = |name: &&String| {
        let own = OWN.iter().any(|prefix| name.starts_with(prefix));
        !(own || plan.address.is_some() && name.starts_with("net."))
    };
    let names: &BTreeMap<String, String> = &plan.sysctls;
    match names.keys().find(foreign) {
        Some(name) => Err(format!("the kernel parameter {name} is not one of a Pod's own namespaces")),
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

fn set(name: &str, value: &str) -> Result<(), String> {
    let file = Path::new("/proc/sys").join(name.replace('.', "/"));
    fs::write(&file, value).map_err(|error| format!("kernel parameter {name} = {value}: {error}"))
}
