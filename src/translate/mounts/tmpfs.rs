//! Memory mounts (`--tmpfs`, `--mount type=tmpfs`): a Kubernetes `emptyDir` has a size and nothing
//! else, so that every other option is named in a warning.

use bollard_stubs::models::Mount;

use super::{MountKind, MountPlan, check_target};
use crate::quantity::docker_bytes;
use d2k_common::fault::{Fault, Result};

/// Mode of an `emptyDir`, and of Docker's tmpfs.
const OPEN_MODE: i64 = 0o1777;

/// Options of `mount -t tmpfs` that Docker accepts without a value.
const FLAGS: [&str; 27] = [
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "private",
    "rbind",
    "relatime",
    "remount",
    "rprivate",
    "rshared",
    "rslave",
    "strictatime",
    "suid",
    "sync",
];

/// A memory mount from `HostConfig.Tmpfs`: `size=64m,mode=1777,noexec`.
pub(super) fn from_options(target: &str, options: &str, warnings: &mut Vec<String>) -> Result<MountPlan> {
    check_target("tmpfs", target)?;
    let mut size = None;
    let mut read_only = false;
    let mut lost = Vec::new();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        match key {
            "size" => size = Some(size_of(value, option)?),
            "ro" => read_only = true,
            // What an emptyDir already is.
            "rw" | "nosuid" | "nodev" | "defaults" => {}
            "mode" if value.trim_start_matches('0') == "1777" => {}
            "mode" | "uid" | "gid" | "nr_inodes" | "nr_blocks" | "mpol" => lost.push(option),
            flag if FLAGS.contains(&flag) => lost.push(option),
            _ => return Err(Fault::invalid(format!("invalid tmpfs option {option:?}"))),
        }
    }
    warn(target, &lost.join(","), warnings);
    Ok(MountPlan { read_only, unlisted: true, ..MountPlan::new(MountKind::Tmpfs(size), target) })
}

fn size_of(value: &str, option: &str) -> Result<i64> {
    docker_bytes(value).filter(|size| *size > 0).ok_or_else(|| {
        Fault::invalid(format!(
            "invalid tmpfs option {option:?}: give the size as a number of bytes or a number with k, m or g, for example size=64m"
        ))
    })
}

/// A memory mount from `HostConfig.Mounts`.
pub(super) fn from_mount(
    mount: &Mount,
    source: &str,
    target: &str,
    warnings: &mut Vec<String>,
) -> Result<MountPlan> {
    let wrong = |what: &str| Fault::invalid(format!("invalid mount config for type \"tmpfs\": {what}"));
    if !source.is_empty() {
        return Err(wrong("field Source must not be specified"));
    }
    let options = mount.tmpfs_options.clone().unwrap_or_default();
    if options.size_bytes.is_some_and(|size| size < 0) {
        return Err(wrong("SizeBytes must not be negative"));
    }
    let mut lost = Vec::new();
    if let Some(mode) = options.mode.filter(|mode| *mode != 0 && *mode != OPEN_MODE) {
        lost.push(format!("mode={mode:o}"));
    }
    lost.extend(options.options.iter().flatten().map(|option| option.join("=")));
    warn(target, &lost.join(","), warnings);
    Ok(MountPlan {
        read_only: mount.read_only.unwrap_or_default(),
        ..MountPlan::new(MountKind::Tmpfs(options.size_bytes.filter(|size| *size > 0)), target)
    })
}

fn warn(target: &str, lost: &str, warnings: &mut Vec<String>) {
    if !lost.is_empty() {
        warnings.push(format!(
            "the tmpfs options {lost} of {target} are not applied: a Kubernetes emptyDir in memory has a size only, and mode 1777"
        ));
    }
}
