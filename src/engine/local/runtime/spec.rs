//! The OCI configuration of a container (runtime specification, `config.json`), complete but for what
//! only the helper can see: numbers of the user, namespaces of the Pod, the cgroup.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::engine::{Limits, Mount, Security, Source, Start};

/// What programs are looked for in where nothing is said.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// All capabilities in the order of their numbers.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Those that Docker leaves to a container.
const DEFAULT: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What the machine and the Pod add to a container's configuration.
#[derive(Debug, Clone)]
pub struct Surroundings<'a> {
    /// Root folder.
    pub root: &'a Path,
    /// The Pod's shared memory.
    pub shared_memory: &'a Path,
    /// Where the Pod's volumes in memory are.
    pub memory: &'a Path,
    /// Host name of the Pod.
    pub hostname: &'a str,
    /// Path of the cgroup.
    pub cgroup: &'a Path,
    /// Cgroups of version 2.
    pub unified: bool,
    /// Whether processes can be counted.
    pub pids: bool,
    /// What the container sees of cgroups of version 1. Mounted one by one: the library's own mount of
    /// them can be written, and fails in a PID namespace that exists already.
    pub views: Vec<(PathBuf, PathBuf)>,
    /// In a user namespace, where some numbers and devices do not exist.
    pub unprivileged: bool,
}

/// The configuration of one container.
pub fn config(start: &Start, around: &Surroundings<'_>) -> Value {
    let security = &start.security;
    let privileged = security.privileged;
    let capabilities = capabilities(security, own_capabilities());
    let mut linux = json!({
        "cgroupsPath": around.cgroup,
        "resources": resources(&start.limits, privileged, around.unified, around.pids),
        "maskedPaths": if privileged { vec![] } else { MASKED.to_vec() },
        "readonlyPaths": if privileged { vec![] } else { READ_ONLY.to_vec() },
    });
    if privileged && let Some(linux) = linux.as_object_mut() {
        linux.insert("devices".into(), Value::Array(devices()));
    }
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": start.tty,
            "user": { "uid": 0, "gid": 0 },
            "args": start.command,
            "env": environment(start, around.hostname),
            "cwd": if start.working_dir.is_empty() { "/" } else { &start.working_dir },
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities
            },
            "rlimits": [open_files()],
            "noNewPrivileges": security.no_new_privileges,
        },
        "root": { "path": around.root, "readonly": security.read_only_root },
        "mounts": mounts(start, around),
        "linux": linux,
    })
}

fn environment(start: &Start, hostname: &str) -> Vec<String> {
    let mut env: Vec<String> = start.env.iter().filter(|pair| pair.contains('=')).cloned().collect();
    let hostname = format!("HOSTNAME={hostname}");
    let terminal = start.tty.then_some("TERM=xterm");
    for default in [Some(PATH), Some(hostname.as_str()), terminal].into_iter().flatten() {
        let name = default.split_inclusive('=').next().unwrap_or(default);
        if !env.iter().any(|pair| pair.starts_with(name)) {
            env.push(default.to_owned());
        }
    }
    env
}

fn mounts(start: &Start, around: &Surroundings<'_>) -> Vec<Value> {
    let privileged = start.security.privileged;
    let system = if privileged { "rw" } else { "ro" };
    let mut terminals = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    if !around.unprivileged {
        terminals.push("gid=5");
    }
    let mut all = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", &terminals),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", system]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/dev/shm", "bind", &around.shared_memory.to_string_lossy(), &["rbind", "rw", "rprivate"]),
    ];
    let strict = ["nosuid", "noexec", "nodev", "relatime"];
    all.push(match around.unified {
        true => mount("/sys/fs/cgroup", "cgroup", "cgroup", &[&strict[..], &[system]].concat()),
        false => mount("/sys/fs/cgroup", "tmpfs", "tmpfs", &[&strict[..], &["mode=755"]].concat()),
    });
    all.extend(around.views.iter().map(|(place, folder)| {
        json!({ "destination": place, "type": "bind", "source": folder, "options": ["rbind", "rprivate", system] })
    }));
    // What is asked for wins over what is always there.
    all.retain(|usual| {
        !start.mounts.iter().any(|asked| usual.get("destination") == Some(&json!(asked.target)))
    });
    all.extend(start.mounts.iter().map(|mount| asked(mount, around.memory)));
    all
}

fn mount(target: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": target, "type": kind, "source": source, "options": options })
}

fn asked(mount: &Mount, memory: &Path) -> Value {
    let access = if mount.read_only { "ro" } else { "rw" };
    match &mount.source {
        Source::Host(source) => json!({
            "destination": mount.target, "type": "bind", "source": source,
            "options": ["rbind", "rprivate", access],
        }),
        Source::Memory(name, sub) => json!({
            "destination": mount.target, "type": "bind", "source": memory.join(name).join(sub).components().collect::<PathBuf>(),
            "options": ["rbind", "rprivate", "nosuid", "nodev", access],
        }),
    }
}

/// The folders of a Pod's memory that a container has mounted.
pub fn memory(start: &Start, volumes: &Path) -> Vec<(PathBuf, PathBuf)> {
    let folder = |mount: &Mount| match &mount.source {
        Source::Memory(name, sub) => Some((volumes.join(name), sub.clone())),
        Source::Host(_) => None,
    };
    start.mounts.iter().filter_map(folder).collect()
}

/// Where each mount's files really are, for a working directory inside one.
pub fn folders(start: &Start) -> Vec<(PathBuf, Option<PathBuf>)> {
    let behind = |mount: &Mount| match &mount.source {
        Source::Host(folder) if !mount.read_only => Some(folder.clone()),
        _ => None,
    };
    start.mounts.iter().map(|mount| (mount.target.clone(), behind(mount))).collect()
}

fn resources(limits: &Limits, privileged: bool, unified: bool, pids: bool) -> Value {
    let mut all = serde_json::Map::new();
    // Without a C library, version 2 has no rules for devices; the mounts' `nodev` stands in for them.
    if !unified {
        all.insert("devices".into(), json!([{ "allow": privileged, "access": "rwm" }]));
    }
    if let Some(limit) = limits.memory {
        all.insert("memory".into(), json!({ "limit": limit }));
    }
    let mut cpu = serde_json::Map::new();
    if let Some(shares) = limits.cpu_shares {
        cpu.insert("shares".into(), json!(shares.clamp(2, 262_144)));
    }
    if let Some(milli) = limits.cpu_milli {
        // The kernel refuses less than a millisecond.
        cpu.insert("quota".into(), json!(milli.saturating_mul(100).max(1000)));
        cpu.insert("period".into(), json!(100_000));
    }
    if !cpu.is_empty() {
        all.insert("cpu".into(), Value::Object(cpu));
    }
    if let Some(limit) = limits.pids.filter(|_| pids) {
        all.insert("pids".into(), json!({ "limit": limit }));
    }
    Value::Object(all)
}

/// What a container has: Docker's rule for what is added to and dropped from the default.
fn capabilities(security: &Security, own: u64) -> Vec<String> {
    let is = |list: &[String], name: &str| {
        list.iter().any(|word| word.to_uppercase().trim_start_matches("CAP_") == name)
    };
    let (all, none) = (security.privileged || is(&security.add, "ALL"), is(&security.drop, "ALL"));
    CAPABILITIES
        .iter()
        .enumerate()
        .filter(|(number, _)| own & (1 << number) != 0)
        .map(|(_, name)| *name)
        .filter(|name| {
            let base = if all { true } else { !none && DEFAULT.contains(name) };
            security.privileged || is(&security.add, name) || base && !is(&security.drop, name)
        })
        .map(|name| format!("CAP_{name}"))
        .collect()
}

/// The capabilities of this process: nobody can give what he does not have.
fn own_capabilities() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let own = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    own.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0)
}

fn open_files() -> Value {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = limit.maximum.unwrap_or(1 << 20).min(1 << 20);
    json!({ "type": "RLIMIT_NOFILE", "hard": most, "soft": most })
}

/// The machine's devices, for a privileged container.
fn devices() -> Vec<Value> {
    const OWN: [&str; 8] = ["null", "zero", "full", "random", "urandom", "tty", "console", "ptmx"];
    let mut all = Vec::new();
    for folder in ["/dev", "/dev/net", "/dev/mapper", "/dev/dri", "/dev/snd", "/dev/input"] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, Ok(about)) = (entry.path(), entry.metadata()) else { continue };
            let kind = about.file_type();
            let named = |name: &&str| path == Path::new("/dev").join(name);
            if OWN.iter().any(named) || !(kind.is_char_device() || kind.is_block_device()) {
                continue;
            }
            let number = about.rdev();
            all.push(json!({
                "path": path,
                "type": if kind.is_block_device() { "b" } else { "c" },
                "major": rustix::fs::major(number),
                "minor": rustix::fs::minor(number),
                "fileMode": about.mode() & 0o777,
                "uid": about.uid(),
                "gid": about.gid(),
            }));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(security: &Security) -> Vec<String> {
        capabilities(security, u64::MAX)
    }

    #[test]
    fn capabilities_follow_dockers_rule() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(named(&Security::default()).len(), DEFAULT.len());
        let only = Security { add: words(&["cap_net_admin"]), drop: words(&["ALL"]), ..Security::default() };
        assert_eq!(named(&only), ["CAP_NET_ADMIN"]);
        let but = Security { add: words(&["ALL"]), drop: words(&["SYS_ADMIN"]), ..Security::default() };
        assert_eq!(named(&but).len(), CAPABILITIES.len() - 1);
        let all = Security { privileged: true, drop: words(&["ALL"]), ..Security::default() };
        assert_eq!(named(&all).len(), CAPABILITIES.len());
        assert!(capabilities(&all, 1).eq(&["CAP_CHOWN"]));
    }

    #[test]
    fn a_mount_that_is_asked_for_replaces_the_usual_one() {
        let target = PathBuf::from("/dev/shm");
        let asked = Mount { target, source: Source::Memory("shm".into(), PathBuf::new()), read_only: false };
        let start = Start { mounts: vec![asked], ..Start::default() };
        let around = Surroundings {
            root: Path::new("/r"),
            shared_memory: Path::new("/s"),
            memory: Path::new("/m"),
            hostname: "h",
            cgroup: Path::new("/c"),
            unified: false,
            pids: true,
            views: Vec::new(),
            unprivileged: false,
        };
        let all = mounts(&start, &around);
        let shm: Vec<_> = all.iter().filter(|m| m.get("destination") == Some(&json!("/dev/shm"))).collect();
        assert_eq!(shm.len(), 1);
        assert!(shm.iter().all(|m| m.get("source") == Some(&json!("/m/shm"))));
    }
}
