//! Which of the node's namespaces a container shares. Joining another container's namespaces is
//! refused: the containers of two Pods share none.

use bollard_stubs::models::HostConfig;

use super::{Security, refused};
use d2k_common::fault::{Fault, Result};

const TWO_PODS: &str = "every container is a Pod of its own, and two Pods share no namespaces; \
     leave the option out, or let the containers meet over a network or a volume";

pub(super) fn apply(host: &HostConfig, security: &mut Security, warnings: &mut Vec<String>) -> Result<()> {
    let mode = |value: &Option<String>| value.clone().unwrap_or_default();
    network(&mode(&host.network_mode), security, warnings)?;
    pid(&mode(&host.pid_mode), security)?;
    ipc(&mode(&host.ipc_mode), security, warnings)?;
    match mode(&host.uts_mode).as_str() {
        "" => {}
        "host" if security.host_network => {}
        "host" => warnings.push(
            "HostConfig.UTSMode: \"host\" is not applied, a Pod has the node's host name only with the node's network (--network host)".to_owned(),
        ),
        other => return Err(Fault::invalid(format!("invalid UTS mode: {other}"))),
    }
    match mode(&host.userns_mode).as_str() {
        // Pods share the node's users unless told otherwise.
        "" | "host" => Ok(()),
        "private" => {
            security.own_users = true;
            Ok(())
        }
        other => Err(Fault::invalid(format!("invalid userns mode: {other}"))),
    }
}

fn network(mode: &str, security: &mut Security, warnings: &mut Vec<String>) -> Result<()> {
    if mode.starts_with("container:") {
        return Err(refused("network mode", mode, TWO_PODS));
    }
    match mode {
        "host" => security.host_network = true,
        "none" => warnings.push(
            "HostConfig.NetworkMode: \"none\" is not applied, a Pod always has a network; a NetworkPolicy can close it".to_owned(),
        ),
        _ => {}
    }
    Ok(())
}

fn pid(mode: &str, security: &mut Security) -> Result<()> {
    match mode {
        "" | "private" => {}
        "host" => security.host_pid = true,
        joined if joined.starts_with("container:") => {
            return Err(refused("PID mode", joined, TWO_PODS));
        }
        other => return Err(Fault::invalid(format!("invalid PID mode: {other}"))),
    }
    Ok(())
}

fn ipc(mode: &str, security: &mut Security, warnings: &mut Vec<String>) -> Result<()> {
    match mode {
        // Nobody can join a shareable namespace here, so it is as good as a private one.
        "" | "private" | "shareable" => {}
        "host" => security.host_ipc = true,
        "none" => warnings.push(
            "HostConfig.IpcMode: \"none\" is not applied, the container has IPC and a /dev/shm of its own"
                .to_owned(),
        ),
        joined if joined.starts_with("container:") => return Err(refused("IPC mode", joined, TWO_PODS)),
        other => return Err(Fault::invalid(format!("invalid IPC mode: {other}"))),
    }
    Ok(())
}
