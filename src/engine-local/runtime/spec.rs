//! The OCI configuration of a container (runtime specification, `config.json`), complete but for what
//! only the helper can see: numbers of the user, namespaces of the Pod, the cgroup.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::runtime::binds::within;
use crate::runtime::capabilities;
use crate::runtime::wire::{Held, Place};
use d2k_common::masked_paths::{MASKED, READ_ONLY};
use d2k_engine::{Below, Limits, Mount, Source, Start};

/// What programs are looked for in where nothing is said.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where a container sees its cgroups.
const CGROUPS: &str = "/sys/fs/cgroup";

/// What the machine and the Pod add to a container's configuration.
#[derive(Debug, Clone)]
pub struct Surroundings<'a> {
    /// Root folder.
    pub root: &'a Path,
    /// The Pod's shared memory.
    pub shared_memory: &'a Path,
    /// Where the Pod's volumes in memory are.
    pub memory: &'a Path,
    /// Where the helper holds what the container has of the machine and parts of volumes.
    pub held: &'a Path,
    /// Where the helper has the machine's processes.
    pub machine_proc: &'a Path,
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
    /// Whether nothing keeps the container from a device whose node it can make.
    pub no_device_rules: bool,
    /// In a user namespace, where some numbers and devices do not exist.
    pub unprivileged: bool,
}

/// The configuration of one container.
pub fn config(start: &Start, around: &Surroundings<'_>) -> Value {
    let security = &start.security;
    let privileged = security.privileged;
    let capabilities = capabilities::of(security, around.no_device_rules);
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
    let hidden = |place: &Path| {
        start.mounts.iter().any(|asked| asked.target == Path::new(CGROUPS) && place.starts_with(CGROUPS))
    };
    all.extend(around.views.iter().filter(|(place, _)| !hidden(place)).map(|(place, folder)| {
        json!({ "destination": place, "type": "bind", "source": folder, "options": ["rbind", "rprivate", system] })
    }));
    // What is asked for wins over what is always there.
    all.retain(|usual| {
        !start.mounts.iter().any(|asked| usual.get("destination") == Some(&json!(asked.target)))
    });
    all.extend(
        start.mounts.iter().enumerate().map(|(number, mount)| asked(mount, number, privileged, around)),
    );
    all
}

fn mount(target: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": target, "type": kind, "source": source, "options": options })
}

/// A file that a container writes into a volume is no device node and changes no user for another container that
/// has the volume. Mounts below a folder of d2k are no exception. A privileged container may have
/// the machine's devices anyway, and its `/dev` may be what is mounted. A path of the machine is mounted as the
/// machine has it, but in a user namespace, where the machine's users are not the container's.
fn asked(mount: &Mount, number: usize, privileged: bool, around: &Surroundings<'_>) -> Value {
    let access = if mount.read_only { "ro" } else { "rw" };
    let flow = if mount.follows { "rslave" } else { "rprivate" };
    let mut options = vec!["rbind", flow, access];
    let host = matches!(mount.source, Source::Host(_));
    if around.unprivileged || !host {
        options.extend(["nosuid", "rnosuid"]);
    }
    // Whether nodes of the machine work depends on the node: the helper tells.
    if !privileged && !host {
        options.extend(["nodev", "rnodev"]);
    }
    json!({
        "destination": mount.target, "type": "bind", "source": source(mount, number, around),
        "options": options,
    })
}

/// Whether the helper opens the source and holds a copy of its mounts, as only then a path that changes
/// meanwhile misleads nobody, and mounts below it get what the OCI configuration cannot say.
fn is_held(mount: &Mount) -> bool {
    let part = !mount.sub.as_os_str().is_empty();
    part || matches!(mount.source, Source::Host(_)) || mount.below != Below::AsTheyAre
}

/// Where the helper finds what is mounted; `number` tells the mounts of a container apart.
fn source(mount: &Mount, number: usize, around: &Surroundings<'_>) -> PathBuf {
    if is_held(mount) { around.held.join(number.to_string()) } else { volume(mount, around) }
}

fn volume(mount: &Mount, around: &Surroundings<'_>) -> PathBuf {
    match &mount.source {
        Source::Managed(path) => path.clone(),
        // The helper's own hides it.
        Source::Host(path) => match path.strip_prefix("/proc") {
            Ok(rest) => within(around.machine_proc, rest),
            Err(_) => path.clone(),
        },
        // `Local` refuses volumes of the engine.
        Source::Memory(name) | Source::Volume(name) => around.memory.join(name),
    }
}

/// The mounts whose sources the helper holds.
pub fn held(start: &Start, around: &Surroundings<'_>) -> Vec<Held> {
    let unguarded = around.no_device_rules || around.unprivileged;
    let no_devices = unguarded && !start.security.privileged;
    let asked = start.mounts.iter().enumerate().filter(|(_, mount)| is_held(mount));
    let hold = |(number, mount): (usize, &Mount)| {
        let host = matches!(mount.source, Source::Host(_));
        Held {
            target: mount.target.clone(),
            named: named(mount),
            volume: volume(mount, around),
            sub: mount.sub.clone(),
            at: source(mount, number, around),
            host,
            follows: mount.follows,
            below: mount.below,
            no_devices: host && no_devices,
            file_system: None,
        }
    };
    asked.map(hold).collect()
}

/// How users know what is mounted.
fn named(mount: &Mount) -> PathBuf {
    match &mount.source {
        Source::Managed(path) | Source::Host(path) => within(path, &mount.sub),
        Source::Memory(name) | Source::Volume(name) => within(Path::new(name), &mount.sub),
    }
}

/// Where each mount's files really are, for a working directory inside one and for words.
pub fn places(start: &Start, around: &Surroundings<'_>) -> Vec<Place> {
    let place = |(number, mount): (usize, &Mount)| Place {
        target: mount.target.clone(),
        source: source(mount, number, around),
        named: named(mount),
        read_only: mount.read_only,
    };
    start.mounts.iter().enumerate().map(place).collect()
}

fn resources(limits: &Limits, privileged: bool, unified: bool, pids: bool) -> Value {
    let mut all = serde_json::Map::new();
    // Version 2 has no files for them: `devices` attaches a program.
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
    use d2k_engine::Security;

    fn around() -> Surroundings<'static> {
        Surroundings {
            root: Path::new("/r"),
            shared_memory: Path::new("/s"),
            memory: Path::new("/m"),
            held: Path::new("/p"),
            machine_proc: Path::new("/q"),
            hostname: "h",
            cgroup: Path::new("/c"),
            unified: false,
            pids: true,
            views: Vec::new(),
            no_device_rules: false,
            unprivileged: false,
        }
    }

    #[test]
    fn a_mount_that_is_asked_for_replaces_the_usual_one() {
        let asked = Mount::new("/dev/shm", Source::Memory("shm".into()));
        let start = Start { mounts: vec![asked], ..Start::default() };
        let all = mounts(&start, &around());
        let shm: Vec<_> = all.iter().filter(|m| m.get("destination") == Some(&json!("/dev/shm"))).collect();
        assert_eq!(shm.len(), 1);
        assert!(shm.iter().all(|m| m.get("source") == Some(&json!("/m/shm"))));
    }

    #[test]
    fn volumes_hold_no_devices_and_change_no_user() {
        let mount = |target: &str, source, sub: &str| Mount { sub: sub.into(), ..Mount::new(target, source) };
        let own = || Source::Managed("/v".into());
        let asked = vec![
            mount("/a", own(), ""),
            mount("/b", own(), "x/y"),
            mount("/c", Source::Memory("m".into()), ""),
        ];
        let start = Start { mounts: asked, ..Start::default() };
        let all = mounts(&start, &around());
        let found = |target: &str| all.iter().find(|m| m.get("destination") == Some(&json!(target))).unwrap();
        for (target, source) in [("/a", "/v"), ("/b", "/p/1"), ("/c", "/m/m")] {
            assert_eq!(found(target).get("source"), Some(&json!(source)));
            let options = found(target).get("options").unwrap().to_string();
            assert!(options.contains("nodev") && options.contains("nosuid"), "{options}");
        }
        assert!(!found("/dev").get("options").unwrap().to_string().contains("nodev"));
        let security = Security { privileged: true, ..Security::default() };
        let all = mounts(&Start { security, ..start.clone() }, &around());
        let asked: Vec<_> = all.iter().rev().take(3).map(|mount| mount.get("options").unwrap()).collect();
        assert!(asked.iter().all(|options| !options.to_string().contains("nodev")), "{asked:?}");
        let [part] = &held(&start, &around())[..] else { panic!("one of them is a part") };
        assert_eq!(
            (&*part.volume, &*part.sub, &*part.at),
            (Path::new("/v"), Path::new("x/y"), Path::new("/p/1"))
        );
        assert!(!part.host && !part.no_devices);
        let places = places(&start, &around());
        assert_eq!(places.get(1).unwrap().source, PathBuf::from("/p/1"));
        assert!(places.iter().all(|place| !place.read_only));
    }

    #[test]
    fn a_path_of_the_machine_is_mounted_as_the_machine_has_it() {
        let host = |target: &str| Mount::new(target, Source::Host("/dev".into()));
        let asked = vec![
            host("/a"),
            Mount { follows: true, read_only: true, ..host("/b") },
            Mount {
                below: Below::ReadOnly,
                read_only: true,
                ..Mount::new("/c", Source::Managed("/v".into()))
            },
        ];
        let start = Start { mounts: asked, ..Start::default() };
        let options = |all: &[Value], target: &str| {
            let found = all.iter().find(|m| m.get("destination") == Some(&json!(target))).unwrap();
            found.get("options").unwrap().clone()
        };
        let all = mounts(&start, &around());
        assert_eq!(options(&all, "/a"), json!(["rbind", "rprivate", "rw"]));
        assert_eq!(options(&all, "/b"), json!(["rbind", "rslave", "ro"]));
        let rootless = Surroundings { unprivileged: true, ..around() };
        assert!(options(&mounts(&start, &rootless), "/a").to_string().contains("nosuid"));
        assert!(super::held(&start, &rootless).iter().take(2).all(|held| held.no_devices));
        let of = |path: &str| volume(&Mount::new("/x", Source::Host(path.into())), &around());
        assert_eq!(["/proc", "/proc/1/", "/process"].map(of), ["/q", "/q/1", "/process"].map(PathBuf::from));
        let held = |around: &Surroundings<'_>| held(&start, around);
        let [a, b, c] = &held(&around())[..] else { panic!("all are held") };
        assert!(a.host && !a.follows && b.follows && !c.host && !a.no_devices);
        assert_eq!(c.below, Below::ReadOnly);
        let unguarded = Surroundings { no_device_rules: true, ..around() };
        assert_eq!(
            held(&unguarded).iter().map(|held| held.no_devices).collect::<Vec<_>>(),
            [true, true, false]
        );
    }
}
