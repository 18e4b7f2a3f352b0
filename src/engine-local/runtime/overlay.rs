//! Mounts the root of a container in the helper's mount namespace, where no one else sees it and
//! where it goes with the helper.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, mount_bind, mount_remount, move_mount,
    unmount,
};

use d2k_images::rootfs::{Overlay, Rootfs};

/// The kernel takes one page of options.
const LONGEST_OPTIONS: usize = 4000;

/// Why the root of a container is not mounted.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// The folder that is the root itself.
    #[error("the root file system {0} cannot be mounted: {1}")]
    Plain(PathBuf, #[source] Errno),
    /// An overlay, by the place that it is for.
    #[error("the root file system cannot be mounted at {0}: {1}")]
    Overlay(PathBuf, #[source] Errno),
}

/// Mounts all overlays of a root; what has been mounted is taken down again if one fails.
pub fn mount_all(rootfs: &Rootfs, unprivileged: bool) -> Result<(), RootfsError> {
    // In a user namespace no device node works anyway.
    if is_plain(rootfs) && !unprivileged {
        mount_plain(&rootfs.root).map_err(|error| RootfsError::Plain(rootfs.root.clone(), error))?;
    }
    for (at, overlay) in rootfs.overlays.iter().enumerate() {
        if let Err(error) = mount_one(&rootfs.root, overlay, unprivileged) {
            let done = Rootfs {
                root: rootfs.root.clone(),
                overlays: rootfs.overlays.iter().take(at).cloned().collect(),
            };
            unmount_all(&done);
            return Err(RootfsError::Overlay(rootfs.root.join(&overlay.at), error));
        }
    }
    Ok(())
}

/// Takes all overlays of a root down.
pub fn unmount_all(rootfs: &Rootfs) {
    for overlay in rootfs.overlays.iter().rev() {
        let _ = unmount(target(&rootfs.root, overlay), UnmountFlags::DETACH);
    }
    if is_plain(rootfs) {
        let _ = unmount(&rootfs.root, UnmountFlags::DETACH);
    }
}

/// Whether the root itself is a folder, with or without overlays in it.
fn is_plain(rootfs: &Rootfs) -> bool {
    rootfs.overlays.iter().all(|overlay| !overlay.at.as_os_str().is_empty())
}

/// Mounts a folder over itself, so that device nodes in it do not work, as with an overlay.
fn mount_plain(root: &Path) -> Result<(), Errno> {
    let already = rustix::fs::statvfs(root)?.f_flag;
    let kept = [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ];
    let kept = kept.into_iter().filter(|(has, _)| already.contains(*has)).map(|(_, flag)| flag);
    let flags = kept.fold(MountFlags::BIND | MountFlags::NODEV, |all, flag| all | flag);
    mount_bind(root, root)?;
    let closed = mount_remount(root, flags, c"");
    if closed.is_err() {
        let _ = unmount(root, UnmountFlags::DETACH);
    }
    closed
}

fn target(root: &Path, overlay: &Overlay) -> PathBuf {
    if overlay.at.as_os_str().is_empty() { root.to_owned() } else { root.join(&overlay.at) }
}

fn mount_one(root: &Path, overlay: &Overlay, unprivileged: bool) -> Result<(), Errno> {
    let target = target(root, overlay);
    // Nothing of a container outlives a crash of the machine, so syncing its files would be waste;
    // kernels before 5.10 and some unprivileged mounts do not know the word.
    // The kernel's mark of an earlier mount of that kind would forbid this one.
    let _ = std::fs::remove_dir_all(overlay.work.join("work/incompat"));
    match mount_with(&target, overlay, unprivileged, true) {
        Err(Errno::INVAL) => mount_with(&target, overlay, unprivileged, false),
        done => done,
    }
}

fn mount_with(target: &Path, overlay: &Overlay, unprivileged: bool, volatile: bool) -> Result<(), Errno> {
    let mut options = b"lowerdir=".to_vec();
    for (at, lower) in overlay.lower.iter().enumerate() {
        if at > 0 {
            options.push(b':');
        }
        escape(lower, &mut options);
    }
    for (name, folder) in [(",upperdir=", &overlay.upper), (",workdir=", &overlay.work)] {
        options.extend_from_slice(name.as_bytes());
        escape(folder, &mut options);
    }
    for (wanted, word) in [(unprivileged, ",userxattr"), (volatile, ",volatile")] {
        if wanted {
            options.extend_from_slice(word.as_bytes());
        }
    }
    if options.len() > LONGEST_OPTIONS {
        return mount_by_pieces(target, overlay, unprivileged, volatile);
    }
    let options = CString::new(options).map_err(|_| Errno::INVAL)?;
    mount("overlay", target, "overlay", MountFlags::NODEV, options.as_c_str())
}

/// Colons, commas and backslashes mean something in the options.
fn escape(path: &Path, into: &mut Vec<u8>) {
    for byte in path.as_os_str().as_bytes() {
        if matches!(byte, b':' | b',' | b'\\') {
            into.push(b'\\');
        }
        into.push(*byte);
    }
}

/// The newer calls take one layer at a time (kernel 6.7), so there can be any number.
fn mount_by_pieces(
    target: &Path,
    overlay: &Overlay,
    unprivileged: bool,
    volatile: bool,
) -> Result<(), Errno> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for lower in &overlay.lower {
        fsconfig_set_string(&context, "lowerdir+", lower)?;
    }
    fsconfig_set_string(&context, "upperdir", &overlay.upper)?;
    fsconfig_set_string(&context, "workdir", &overlay.work)?;
    for (wanted, word) in [(unprivileged, "userxattr"), (volatile, "volatile")] {
        if wanted {
            fsconfig_set_flag(&context, word)?;
        }
    }
    fsconfig_create(&context)?;
    let mounted = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_NODEV)?;
    move_mount(&mounted, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}
