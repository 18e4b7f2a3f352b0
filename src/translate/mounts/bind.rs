//! The short form of a mount, `-v source:/target:options`: named volumes are taken, paths of the
//! Docker host are refused, the Docker socket alone is replaced.

use bollard_stubs::models::HostConfig;

use super::{MountKind, MountPlan, Mounts, check_target, clean};
use crate::fault::{Fault, Result};
use crate::translate::volume;

/// What the options after the second colon say.
#[derive(Default)]
struct Options {
    read_only: bool,
    no_copy: bool,
}

/// A volume mount out of `spec`; `None` if it was the Docker socket, which needs no mount.
pub(super) fn parse(spec: &str, host: &HostConfig, mounts: &mut Mounts) -> Result<Option<MountPlan>> {
    let wrong = |why: &str| {
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        Fault::invalid(format!("invalid volume specification: '{spec}'{why}"))
    };
    let parts: Vec<&str> = spec.split(':').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(wrong(""));
    }
    let (source, target, options) = match parts.as_slice() {
        [target] => (None, *target, Options::default()),
        // `/path:ro` has no source: Docker refuses it rather than guess.
        [_, mode] if !mode.starts_with('/') && mode_options(mode).is_ok() => return Err(wrong("")),
        [source, target] => (Some(*source), *target, Options::default()),
        [source, target, mode] => (Some(*source), *target, mode_options(mode)?),
        _ => return Err(wrong("")),
    };
    let kind = if source.is_some_and(is_path) { "bind" } else { "volume" };
    check_target(kind, target).map_err(|fault| wrong(&fault.message))?;
    let kind = match source {
        Some(source) if is_path(source) => {
            host_path(source, target, mounts)?;
            return Ok(None);
        }
        Some(name) => {
            volume::check_name(name)?;
            MountKind::Named(name.to_owned())
        }
        None => MountKind::Anonymous,
    };
    Ok(Some(MountPlan {
        read_only: options.read_only,
        no_copy: options.no_copy,
        driver: host.volume_driver.clone().unwrap_or_default(),
        ..MountPlan::new(kind, target)
    }))
}

fn is_path(source: &str) -> bool {
    source.starts_with('/')
}

/// A path of the Docker host: the Docker socket is noted, everything else refused.
pub(super) fn host_path(source: &str, target: &str, mounts: &mut Mounts) -> Result<()> {
    if matches!(clean(source).as_str(), "/var/run/docker.sock" | "/run/docker.sock") {
        mounts.docker_socket = true;
        mounts.warnings.push(format!(
            "the Docker socket is not mounted at {target}: DOCKER_HOST in the container points at d2k instead"
        ));
        return Ok(());
    }
    Err(Fault::invalid(format!(
        "bind mounts are not supported: {source:?} (for {target}) would be a directory of the Docker host, and a Kubernetes Pod can run on any node. \
         Use a named volume (-v NAME:{target}), or copy the files with \"docker cp\" into the container between \"docker create\" and \"docker start\"; \
         in a Compose file, give secrets by \"environment:\" and configs by \"content:\", which are copied"
    )))
}

fn mode_options(mode: &str) -> Result<Options> {
    let mut options = Options::default();
    for word in mode.split(',') {
        match word {
            "ro" => options.read_only = true,
            "nocopy" => options.no_copy = true,
            // Relabelling is done by the kubelet; propagation and consistency are about host paths.
            "rw" | "z" | "Z" | "consistent" | "cached" | "delegated" | "default" | "private" | "rprivate"
            | "shared" | "rshared" | "slave" | "rslave" => {}
            _ => return Err(Fault::invalid(format!("invalid mode: {mode}"))),
        }
    }
    Ok(options)
}
