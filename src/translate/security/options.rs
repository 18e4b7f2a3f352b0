//! `--security-opt`: each option has a field in Kubernetes, or is named in a warning.

use bollard_stubs::models::HostConfig;
use k8s_openapi::api::core::v1::{AppArmorProfile, SELinuxOptions, SeccompProfile, SecurityContext};

use super::Security;
use crate::request::capability;
use d2k_common::fault::{Fault, Result};

pub(super) fn apply(
    host: &HostConfig,
    container: &mut SecurityContext,
    security: &mut Security,
    warnings: &mut Vec<String>,
) -> Result<()> {
    for option in host.security_opt.iter().flatten() {
        let wrong = || Fault::invalid(format!("invalid --security-opt 2: {option:?}"));
        let (key, value) = match option.split_once('=').or_else(|| option.split_once(':')) {
            Some(pair) => pair,
            None if option == "no-new-privileges" => ("no-new-privileges", "true"),
            None => return Err(wrong()),
        };
        match (key, value) {
            ("no-new-privileges", "true") => forbid_escalation(host, container, warnings),
            ("no-new-privileges", "false") => {}
            ("seccomp", profile) => container.seccomp_profile = Some(seccomp(profile, warnings)),
            ("apparmor", profile) if !profile.is_empty() => container.app_armor_profile = Some(apparmor(profile)),
            ("label", label) => selinux(label, container.se_linux_options.get_or_insert_default()).ok_or_else(wrong)?,
            ("systempaths", "unconfined") => {}
            ("writable-cgroups", "false") => {}
            ("writable-cgroups", "true") => warnings.push(
                "HostConfig.SecurityOpt: writable-cgroups is not applied, Kubernetes has no field for it; --privileged makes cgroups writable".to_owned(),
            ),
            _ => return Err(wrong()),
        }
    }
    if shows_system_paths(host) {
        show_system_paths(host, container, security, warnings);
    }
    Ok(())
}

/// Whether the paths of the system that Docker hides and protects are to be seen.
pub(super) fn shows_system_paths(host: &HostConfig) -> bool {
    let lifts =
        |option: &String| matches!(option.as_str(), "systempaths=unconfined" | "systempaths:unconfined");
    lifted(&host.masked_paths)
        || lifted(&host.readonly_paths)
        || host.security_opt.iter().flatten().any(lifts)
}

/// An empty list (the CLI sends it for `systempaths=unconfined`) hides nothing; no list hides the usual paths.
fn lifted(paths: &Option<Vec<String>>) -> bool {
    paths.as_ref().is_some_and(Vec::is_empty)
}

fn show_system_paths(
    host: &HostConfig,
    container: &mut SecurityContext,
    security: &mut Security,
    warnings: &mut Vec<String>,
) {
    if host.privileged == Some(true) {
        return; // A privileged container sees them anyway.
    }
    if security.host_network || security.host_pid || security.host_ipc {
        warnings.push(
            "HostConfig.MaskedPaths: system paths stay hidden, Kubernetes shows them only in Pods that share no namespace with the node".to_owned(),
        );
        return;
    }
    container.proc_mount = Some("Unmasked".to_owned());
    security.own_users = true;
    warnings.push(
        "HostConfig.MaskedPaths: system paths are shown with procMount Unmasked, for which the Pod gets a user namespace; the node must support both".to_owned(),
    );
}

/// Kubernetes refuses `allowPrivilegeEscalation: false` beside these, because the two contradict each other.
fn forbid_escalation(host: &HostConfig, container: &mut SecurityContext, warnings: &mut Vec<String>) {
    let admin = host.cap_add.iter().flatten().any(|name| capability(name) == "SYS_ADMIN");
    if host.privileged == Some(true) || admin {
        warnings.push(
            "HostConfig.SecurityOpt: no-new-privileges is not applied, Kubernetes does not take it together with --privileged or SYS_ADMIN".to_owned(),
        );
        return;
    }
    container.allow_privilege_escalation = Some(false);
}

fn seccomp(profile: &str, warnings: &mut Vec<String>) -> SeccompProfile {
    let of = |kind: &str| SeccompProfile { localhost_profile: None, type_: kind.to_owned() };
    match profile {
        "unconfined" => of("Unconfined"),
        "builtin" => of("RuntimeDefault"),
        _ => {
            warnings.push(
                "HostConfig.SecurityOpt: the seccomp profile cannot be sent to a node; the runtime's default profile is used".to_owned(),
            );
            of("RuntimeDefault")
        }
    }
}

fn apparmor(profile: &str) -> AppArmorProfile {
    let (kind, name) = match profile {
        "unconfined" => ("Unconfined", None),
        "docker-default" | "runtime/default" => ("RuntimeDefault", None),
        other => ("Localhost", Some(other.to_owned())),
    };
    AppArmorProfile { localhost_profile: name, type_: kind.to_owned() }
}

fn selinux(label: &str, options: &mut SELinuxOptions) -> Option<()> {
    if label == "disable" {
        // The type that container-selinux gives to containers without confinement.
        options.type_ = Some("spc_t".to_owned());
        return Some(());
    }
    let (key, value) = label.split_once(':')?;
    let value = Some(value.to_owned());
    match key {
        "user" => options.user = value,
        "role" => options.role = value,
        "type" => options.type_ = value,
        "level" => options.level = value,
        _ => return None,
    }
    Some(())
}
