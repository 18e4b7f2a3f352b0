//! What a container has of the machine, and parts of volumes. The helper opens each source once, copies its tree
//! of mounts, gives the copy its attributes and holds it in its own folder, where `libcontainer` finds it by a
//! path that nobody else changes. `libcontainer` sets no propagation on a mount, so it is set here, too.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use libcontainer::syscall::SyscallError;
use libcontainer::syscall::linux::{
    AT_EMPTY_PATH, AT_RECURSIVE, MOUNT_ATTR_NODEV, MOUNT_ATTR_RDONLY, MountAttr,
};
use libcontainer::syscall::syscall::create_syscall;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount,
};

use crate::runtime::devices::is_harmless;
use crate::runtime::subpath;
use crate::runtime::users::Root;
use crate::runtime::wire::{Failure, Held, Place};
use d2k_engine::Below;

/// How long a look at the sources of a container may take.
const LOOK: Duration = Duration::from_secs(5);

/// Why a source is not mounted.
#[derive(Debug, thiserror::Error)]
enum BindError {
    #[error("the source cannot be opened: {0}; check that the path exists on this machine")]
    Open(#[source] Errno),
    #[error(transparent)]
    Look(Errno),
    #[error(
        "it is in a mount that the machine made after d2k's start, which d2k's containers do not see, \
         since the machine's mounts are private; run `mount --make-rshared /`, and start d2k again"
    )]
    Unseen,
    #[error(
        "mountPropagation HostToContainer: the mount that it is in is not a shared or slave \
         mount; run `mount --make-rshared` for that mount on this machine, and start d2k again"
    )]
    NotShared,
    #[error(transparent)]
    Copy(Errno),
    #[error(transparent)]
    Attributes(SyscallError),
    #[error(
        "what is mounted below it cannot be made read-only by this kernel (recursiveReadOnly: Enabled): {0}"
    )]
    ReadOnly(#[source] SyscallError),
    #[error(transparent)]
    Place(io::Error),
    #[error(transparent)]
    Move(Errno),
}

/// Notes which file systems the sources are on for the daemon, which sees all mounts of the machine; nothing
/// where one does not answer in time. In a thread of its own, since one that never answers must not keep d2k
/// from ending.
pub async fn seen(all: Vec<Held>) -> Vec<Held> {
    if !all.iter().any(|held| held.host) {
        return all;
    }
    let (sender, seen) = tokio::sync::oneshot::channel();
    let copy = all.clone();
    std::thread::spawn(move || sender.send(copy.into_iter().map(look).collect::<Vec<_>>()));
    match tokio::time::timeout(LOOK, seen).await {
        Ok(Ok(seen)) => seen,
        _ => all,
    }
}

fn look(held: Held) -> Held {
    let machine = held.host && within(&held.volume, &held.sub) == held.named;
    let about = machine.then(|| rustix::fs::stat(&held.named).ok()).flatten();
    Held { file_system: about.map(|about| about.st_dev), ..held }
}

/// Opens each source and mounts it at its place.
///
/// # Errors
/// The mount and the reason why it cannot be had.
pub fn hold(all: &[Held]) -> Result<(), Failure> {
    all.iter().try_for_each(|held| {
        let part = !held.sub.as_os_str().is_empty();
        let reason = if part { "CreateContainerConfigError" } else { "CreateContainerError" };
        let not_mounted = |error: BindError| Failure::new(reason, failed(held, &error));
        let opened = match part {
            true => subpath::open(&held.volume, &held.sub, held.host)
                .map_err(|error| Failure::new(reason, error.to_string()))?,
            false => open(&held.volume).map_err(not_mounted)?,
        };
        mount(&opened, held).map_err(not_mounted)
    })
}

/// The path of a part of a volume; all of a volume has no slash behind it.
pub fn within(volume: &Path, sub: &Path) -> PathBuf {
    if sub.as_os_str().is_empty() { volume.to_owned() } else { volume.join(sub) }
}

fn failed(held: &Held, error: &BindError) -> String {
    format!("error mounting {:?} to rootfs at {:?}: {error}", held.named.display(), held.target.display())
}

fn open(source: &Path) -> Result<OwnedFd, BindError> {
    rustix::fs::openat(CWD, source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(BindError::Open)
}

/// Undoes `hold`. A container that has started keeps its own mounts of them.
pub fn release(all: &[Held]) {
    for held in all {
        let _ = unmount(&held.at, UnmountFlags::DETACH);
        let _ = std::fs::remove_file(&held.at).or_else(|_| std::fs::remove_dir(&held.at));
    }
    if let Some(folder) = all.first().and_then(|held| held.at.parent()) {
        let _ = std::fs::remove_dir(folder);
    }
}

fn mount(opened: &OwnedFd, held: &Held) -> Result<(), BindError> {
    let about = rustix::fs::fstat(opened).map_err(BindError::Look)?;
    let kind = FileType::from_raw_mode(about.st_mode);
    let number = about.st_rdev;
    if held.file_system.is_some_and(|number| number != about.st_dev) {
        return Err(BindError::Unseen);
    }
    if held.follows && held.host && !shares(opened) {
        return Err(BindError::NotShared);
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(opened, "", flags).map_err(BindError::Copy)?;
    let harmless = kind == FileType::CharacterDevice
        && is_harmless(rustix::fs::major(number), rustix::fs::minor(number));
    let devices = if held.no_devices && !harmless { MOUNT_ATTR_NODEV } else { 0 };
    let flow = if held.follows { 0 } else { u64::from(MountPropagationFlags::PRIVATE.bits()) };
    set(&tree, devices, flow).map_err(BindError::Attributes)?;
    match held.below {
        Below::AsTheyAre => {}
        Below::ReadOnlyIfPossible => _ = set(&tree, MOUNT_ATTR_RDONLY, 0),
        Below::ReadOnly => set(&tree, MOUNT_ATTR_RDONLY, 0).map_err(BindError::ReadOnly)?,
    }
    make_place(&held.at, kind == FileType::Directory).map_err(BindError::Place)?;
    move_mount(&tree, "", CWD, &held.at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(BindError::Move)
}

fn make_place(at: &Path, folder: bool) -> io::Result<()> {
    if let Some(above) = at.parent() {
        std::fs::create_dir_all(above)?;
    }
    if folder { std::fs::create_dir(at) } else { File::create(at).map(drop) }
}

/// Gives attributes and a propagation to all mounts of a tree.
fn set(tree: &OwnedFd, attributes: u64, flow: u64) -> Result<(), SyscallError> {
    let wanted = MountAttr { attr_set: attributes, attr_clr: 0, propagation: flow, userns_fd: 0 };
    let (flags, size) = (AT_EMPTY_PATH | AT_RECURSIVE, size_of::<MountAttr>());
    create_syscall().mount_setattr(tree.as_fd(), Path::new(""), flags, &wanted, size)
}

/// Whether the mount that a file is in learns of the machine's later mounts.
fn shares(opened: &OwnedFd) -> bool {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let about = read(&format!("/proc/self/fdinfo/{}", opened.as_raw_fd()));
    let number = about.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim);
    shares_in(&read("/proc/self/mountinfo"), number.unwrap_or_default())
}

/// Optional fields of a mount are between its options and a hyphen.
fn shares_in(mounts: &str, number: &str) -> bool {
    let mut found = mounts.lines().filter(|line| line.split(' ').next() == Some(number));
    found.any(|line| {
        let more = line.split(' ').skip(6).take_while(|word| *word != "-");
        more.into_iter().any(|word| word.starts_with("master:") || word.starts_with("shared:"))
    })
}

/// The mount that a path inside is in, and the rest of the path.
pub fn innermost<'a>(places: &'a [Place], path: &'a Path) -> Option<(&'a Path, &'a Place)> {
    let inside = places.iter().filter_map(|place| Some((path.strip_prefix(&place.target).ok()?, place)));
    inside.min_by_key(|(rest, _)| rest.as_os_str().len())
}

/// The words for a mount that has failed, made of what `libcontainer` says; other words stay.
pub fn explain(words: &str, places: &[Place], root: &Path) -> String {
    let Some(mount) = words.strip_prefix("failed to mount Mount {") else { return words.to_owned() };
    let of = |place: &&Place| mount.contains(&format!(" destination: {:?},", place.target));
    let Some(place) = places.iter().find(of) else { return words.to_owned() };
    let error = mount.rsplit_once("}: ").map_or("it failed", |(_, error)| error);
    let kind = |folder: bool| if folder { "folder" } else { "file" };
    let why = match (place.source.is_dir(), there(places, root, &place.target)) {
        (source, Some(target)) if source != target => format!(
            "the source is a {} and the target is a {}: not a directory: Are you trying to mount a \
             directory onto a file (or vice-versa)? Check if the specified host path exists and is the \
             expected type",
            kind(source),
            kind(target)
        ),
        (source, None) => {
            let others = others(places, &place.target);
            let cause = match innermost(&others, &place.target) {
                Some((_, above)) if above.read_only => {
                    format!("{:?} is mounted read-only (read-only file system)", above.target.display())
                }
                _ => error.to_owned(),
            };
            format!("the target does not exist, and no {} can be made there: {cause}", kind(source))
        }
        _ => error.to_owned(),
    };
    format!("error mounting {:?} to rootfs at {:?}: {why}", place.named.display(), place.target.display())
}

/// Whether there is a folder where a mount is to be, if there is something.
fn there(places: &[Place], root: &Path, target: &Path) -> Option<bool> {
    match innermost(&others(places, target), target) {
        Some((rest, place)) => Root::open(&place.source).ok()?.is_folder(rest),
        None => Root::open(root).ok()?.is_folder(target.strip_prefix("/").unwrap_or(target)),
    }
}

fn others(places: &[Place], target: &Path) -> Vec<Place> {
    places.iter().filter(|place| place.target != target).cloned().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

    use super::*;

    #[test]
    fn a_mount_shares_if_it_has_peers_or_a_master() {
        let mounts = "22 27 0:21 / /proc rw,relatime - proc proc rw\n\
                      23 27 8:1 / /a rw shared:4 - ext4 /dev/sda rw\n\
                      24 27 8:1 /master:1 /b rw,noatime master:5 propagate_from:2 - ext4 /dev/sda rw\n";
        assert_eq!(
            ["22", "23", "24", "2"].map(|number| shares_in(mounts, number)),
            [false, true, true, false]
        );
    }

    #[test]
    fn a_mount_that_fails_is_told_with_its_source_its_target_and_their_kinds() {
        let base = std::env::temp_dir().join(format!("d2k-binds-{}", std::process::id()));
        let (root, host) = (base.join("root"), base.join("host"));
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::create_dir_all(root.join("usr")).unwrap();
        std::fs::write(root.join("etc/motd"), "").unwrap();
        std::fs::create_dir_all(host.join("sub")).unwrap();
        std::fs::write(host.join("file"), "").unwrap();
        let place = |target: &str, source: &Path| Place {
            target: target.into(),
            source: source.into(),
            named: source.into(),
            read_only: target == "/x",
        };
        let places = [
            place("/etc/motd", &host),
            place("/usr", &host.join("file")),
            place("/x", &host),
            place("/x/sub", &host.join("file")),
            place("/x/new", &host),
        ];
        let said = |target: &str| {
            let mount =
                format!("Mount {{ destination: {target:?}, typ: Some(\"bind\"), source: Some(\"/r\") }}");
            explain(&format!("failed to mount {mount}: EROFS: no"), &places, &root)
        };
        assert!(said("/etc/motd").contains("the source is a folder and the target is a file"));
        for target in ["/usr", "/x/sub"] {
            let said = said(target);
            assert!(said.contains("the source is a file and the target is a folder"), "{said}");
            assert!(
                said.starts_with(&format!("error mounting {:?} to rootfs at {target:?}", host.join("file")))
            );
        }
        let cannot = "the target does not exist, and no folder can be made there: ";
        let read_only = "\"/x\" is mounted read-only (read-only file system)";
        assert!(said("/x/new").ends_with(&format!("{cannot}{read_only}")));
        assert!(said("/x").ends_with(&format!("\"/x\": {cannot}EROFS: no")));
        assert!(said("/proc").starts_with("failed to mount"));
        std::fs::remove_dir_all(base).unwrap();
    }

    /// What a mount namespace of a thread's own sees, so that the machine sees nothing of it.
    fn apart(test: impl FnOnce() + Send) {
        use rustix::mount::mount_change;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
                mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
                test();
            });
        });
    }

    #[test]
    fn what_is_held_is_the_source_itself_and_only_harmless_nodes_work_where_others_may_not() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let base = std::env::temp_dir().join(format!("d2k-held-{}", std::process::id()));
        std::fs::create_dir_all(base.join("folder")).unwrap();
        let node = |name: &str, kind, device| {
            rustix::fs::mknodat(CWD, base.join(name), kind, Mode::from_raw_mode(0o600), device).unwrap();
        };
        node("folder/zero", FileType::CharacterDevice, rustix::fs::makedev(1, 5));
        node("kmsg", FileType::CharacterDevice, rustix::fs::makedev(1, 11));
        node("pipe", FileType::Fifo, 0);
        let _socket = std::os::unix::net::UnixListener::bind(base.join("socket")).unwrap();
        let held = |name: &str, no_devices| Held {
            file_system: None,
            target: "/x".into(),
            named: base.join(name),
            volume: base.join(name),
            sub: PathBuf::new(),
            at: base.join("held").join(name),
            host: true,
            follows: false,
            below: Below::AsTheyAre,
            no_devices,
        };
        let names = ["folder", "kmsg", "pipe", "socket"];
        let null = Held { volume: "/dev/null".into(), ..held("null", true) };
        apart(|| {
            for no_devices in [false, true] {
                let mut all: Vec<Held> = names.iter().map(|name| held(name, no_devices)).collect();
                all.push(null.clone());
                hold(&all).unwrap();
                for name in names {
                    let kind = |path: PathBuf| std::fs::metadata(path).unwrap().file_type();
                    assert_eq!(kind(base.join("held").join(name)), kind(base.join(name)), "{name}");
                }
                let opens = |name: &str| File::open(base.join("held").join(name)).is_ok();
                assert!(opens("null") && opens("folder/zero") != no_devices && opens("kmsg") != no_devices);
                release(&all);
                assert!(!base.join("held").exists());
            }
            let gone = [held("folder", false), held("none", false)];
            let failure = hold(&gone).unwrap_err();
            release(&gone);
            assert!(failure.message.contains("the source cannot be opened: No such file"), "{failure:?}");
            assert!(!base.join("held").exists());
        });
        std::fs::remove_dir_all(base).unwrap();
    }
}
