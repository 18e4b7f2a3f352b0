//! Bind mounts: a file or folder of the machine that runs the container, from both of Docker's
//! spellings. Whether one is allowed is a decision of the `volumes` policy, not of this file.

use std::path::Path;

use bollard_stubs::models::Mount;
use serde::{Deserialize, Serialize};

use super::{MountKind, MountPlan, Mounts, clean};
use d2k_common::fault::{Fault, Result};

/// Where dockerd keeps what it has. A bind that shows this folder would hold its mounts.
const DOCKER_ROOT: &str = "/var/lib/docker";

/// A path of the machine, and how it is mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bind {
    /// The path: absolute and clean; links in it are not followed yet.
    pub source: String,
    /// Whether a folder is made where nothing is: `-v` and `bind-create-src` do, `--mount` refuses.
    pub create: bool,
    /// Docker's word: `rprivate`, `private`, `rslave`, `slave`, `rshared` or `shared`; empty if none is asked.
    pub propagation: String,
    /// What becomes of mounts below the source.
    pub below: Below,
    /// Why Docker does not start a container with these options, which it creates; empty if it does.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub conflict: String,
}

/// Mounts below the source of a bind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Below {
    /// They are mounted, too; read-only with a read-only bind where the kernel can do that.
    #[default]
    Mounted,
    /// They can be written even where the bind is read-only (`bind-recursive=writable`).
    Writable,
    /// They must be read-only (`bind-recursive=readonly`).
    ReadOnly,
    /// They are left out (`bind-recursive=disabled`).
    LeftOut,
}

impl Bind {
    /// The propagation that `docker inspect` shows. Where none is asked it is `rslave` for a bind that
    /// shows Docker's own folder, as Docker Engine 29 answers, else `rprivate`. Only what is asked reaches the
    /// Pod: dockerd does without, too, where the machine's mounts are not shared.
    pub fn shown_propagation(&self) -> &str {
        let (source, root) = (Path::new(&self.source), Path::new(DOCKER_ROOT));
        match self.propagation.as_str() {
            "" if root.starts_with(source) || source.starts_with(root) => "rslave",
            "" => "rprivate",
            asked => asked,
        }
    }
}

/// Whether a path is the Docker socket, which d2k replaces by `DOCKER_HOST`.
pub(super) fn is_docker_socket(source: &str, target: &str, mounts: &mut Mounts) -> bool {
    let is = matches!(clean(source).as_str(), "/var/run/docker.sock" | "/run/docker.sock");
    if is {
        mounts.docker_socket = true;
        mounts.warnings.push(format!(
            "the Docker socket is not mounted at {target}: DOCKER_HOST in the container points at d2k instead"
        ));
    }
    is
}

/// A mount of type `bind`; `None` if it is the Docker socket, which needs no mount.
pub(super) fn structured(
    mount: &Mount,
    source: &str,
    target: &str,
    mounts: &mut Mounts,
) -> Result<Option<MountPlan>> {
    let wrong = |what: &str| Fault::invalid(format!("invalid mount config for type \"bind\": {what}"));
    if source.is_empty() {
        return Err(wrong("field Source must not be empty"));
    }
    if !source.starts_with('/') {
        return Err(wrong(&format!("invalid mount path: '{source}' mount path must be absolute")));
    }
    if is_docker_socket(source, target, mounts) {
        return Ok(None);
    }
    let options = mount.bind_options.clone().unwrap_or_default();
    let read_only = mount.read_only.unwrap_or_default();
    let on = |flag: Option<bool>| flag == Some(true);
    let below = match () {
        () if on(options.non_recursive) => Below::LeftOut,
        () if on(options.read_only_non_recursive) => Below::Writable,
        () if on(options.read_only_force_recursive) => Below::ReadOnly,
        () => Below::Mounted,
    };
    let propagation = options.propagation.map(|word| word.to_string()).unwrap_or_default();
    let create = on(options.create_mountpoint);
    let (writable, strict) = (on(options.read_only_non_recursive), on(options.read_only_force_recursive));
    let conflict = match (read_only, writable, strict) {
        (false, true, _) => "mount options conflict: !ReadOnly && BindOptions.ReadOnlyNonRecursive",
        (false, _, true) => "mount options conflict: !ReadOnly && BindOptions.ReadOnlyForceRecursive",
        (true, true, true) => {
            "mount options conflict: ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive"
        }
        _ => "",
    };
    let conflict = conflict.to_owned();
    let bind = Bind { source: clean(source), create, propagation, below, conflict };
    tell_of_left_out(&bind, target, mounts);
    Ok(Some(MountPlan { read_only, ..MountPlan::new(MountKind::Bind(bind), target) }))
}

fn tell_of_left_out(bind: &Bind, target: &str, mounts: &mut Mounts) {
    if bind.below == Below::LeftOut {
        mounts.warnings.push(format!(
            "what is mounted below {} is seen at {target}, too: a hostPath volume is always recursive",
            bind.source
        ));
    }
}
