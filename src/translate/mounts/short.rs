//! The short form of a mount, `-v source:/target:options`: a volume, or a path of the machine.

use bollard_stubs::models::HostConfig;

use super::bind::{Below, Bind, is_docker_socket};
use super::{MountKind, MountPlan, Mounts, VOLUME_MODE, check_target, check_volume, clean};
use d2k_common::fault::{Fault, Result};

/// What the options after the second colon say.
#[derive(Default)]
struct Options<'a> {
    read_only: bool,
    no_copy: bool,
    propagation: Option<&'a str>,
    written: &'a str,
}

/// The mount that `spec` asks for; `None` if it was the Docker socket, which needs no mount.
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
            if options.no_copy {
                return Err(wrong(
                    "invalid mount config for type \"bind\": field VolumeOptions must not be specified",
                ));
            }
            if is_docker_socket(source, target, mounts) {
                return Ok(None);
            }
            MountKind::Bind(bind(source, &options))
        }
        Some(name) => {
            if options.propagation.is_some() {
                return Err(wrong(
                    "invalid mount config for type \"volume\": field BindOptions must not be specified",
                ));
            }
            check_volume(name)?;
            MountKind::Named(name.to_owned())
        }
        None => MountKind::Anonymous,
    };
    let driver = match kind {
        MountKind::Bind(_) => String::new(),
        _ => host.volume_driver.clone().unwrap_or_default(),
    };
    let mode = match (&kind, options.written) {
        (MountKind::Named(_) | MountKind::Anonymous, "") => VOLUME_MODE,
        (_, written) => written,
    };
    Ok(Some(MountPlan {
        read_only: options.read_only,
        mode: mode.to_owned(),
        no_copy: options.no_copy,
        driver,
        ..MountPlan::new(kind, target)
    }))
}

fn is_path(source: &str) -> bool {
    source.starts_with('/')
}

fn bind(source: &str, options: &Options<'_>) -> Bind {
    Bind {
        source: clean(source),
        create: true,
        propagation: options.propagation.unwrap_or_default().to_owned(),
        below: Below::Mounted,
        conflict: String::new(),
    }
}

/// Docker takes at most one word of each kind.
fn mode_options(mode: &str) -> Result<Options<'_>> {
    let invalid = || Fault::invalid(format!("invalid mode: {mode}"));
    let mut options = Options { written: mode, ..Options::default() };
    let mut seen: Vec<&str> = Vec::new();
    for word in mode.split(',') {
        let kind = match word {
            "ro" | "rw" => {
                options.read_only = word == "ro";
                "access"
            }
            "nocopy" => {
                options.no_copy = true;
                "copy"
            }
            // The kubelet relabels where SELinux is on.
            "z" | "Z" => "label",
            // For Docker Desktop only; Docker ignores them on Linux.
            "consistent" | "cached" | "delegated" | "default" => "consistency",
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => {
                options.propagation = Some(word);
                "propagation"
            }
            _ => return Err(invalid()),
        };
        if seen.contains(&kind) {
            return Err(invalid());
        }
        seen.push(kind);
    }
    Ok(options)
}
