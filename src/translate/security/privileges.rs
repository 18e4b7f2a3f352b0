//! Privileges that a container asks for beyond those that Docker gives to every container: each of these is a way
//! to the node or to its other containers. Read from the settings that the Pod gets, not from the
//! request, so that another spelling of an option is not overlooked.

use bollard_stubs::models::HostConfig;
use k8s_openapi::api::core::v1::SecurityContext;

use super::{Security, namespaces, options};
use crate::request::capability;

/// The SELinux types that Kubernetes' Pod security standard `baseline` lets a container choose.
const CONFINED_TYPES: [&str; 4] =
    ["container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

/// Older nodes take the AppArmor profile of a container from an annotation of its Pod.
const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Privileges beyond Docker's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Privileges {
    /// `--privileged`.
    pub privileged: bool,
    /// Namespaces of the node that it shares: `ipc`, `network`, `pid`.
    pub host_namespaces: Vec<&'static str>,
    /// Added capabilities that Docker's default set has not, upper case without `CAP_`, in order.
    pub capabilities: Vec<String>,
    /// Confinements that are switched off: `apparmor`, `seccomp`, `selinux`, `systempaths`.
    pub unconfined: Vec<&'static str>,
}

impl Privileges {
    /// The privileges that a request asks for.
    pub fn of(host: &HostConfig) -> Self {
        let (mut security, mut context) = (Security::default(), SecurityContext::default());
        // A request that has no translation is refused when its Pod is made; what was read until
        // then counts.
        let _ = namespaces::apply(host, &mut security, &mut Vec::new());
        let _ = options::apply(host, &mut context, &mut security, &mut Vec::new());
        let mut capabilities: Vec<String> = host.cap_add.iter().flatten().map(|c| capability(c)).collect();
        capabilities.retain(|name| !d2k_common::capabilities::DEFAULT.contains(&name.as_str()));
        capabilities.sort();
        capabilities.dedup();
        Self {
            privileged: host.privileged == Some(true),
            host_namespaces: chosen([
                ("ipc", security.host_ipc),
                ("network", security.host_network),
                ("pid", security.host_pid),
            ]),
            capabilities,
            unconfined: chosen([
                ("apparmor", apparmor_is_off(host, &context)),
                ("seccomp", context.seccomp_profile.as_ref().is_some_and(|p| p.type_ == "Unconfined")),
                ("selinux", selinux_is_off(&context)),
                ("systempaths", options::shows_system_paths(host)),
            ]),
        }
    }

    /// Whether it asks for anything.
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}

fn chosen<const N: usize>(all: [(&'static str, bool); N]) -> Vec<&'static str> {
    all.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect()
}

fn apparmor_is_off(host: &HostConfig, context: &SecurityContext) -> bool {
    let by_note = |(key, value): (&String, &String)| {
        key.starts_with(APPARMOR_ANNOTATION) && value.eq_ignore_ascii_case("unconfined")
    };
    context.app_armor_profile.as_ref().is_some_and(|profile| profile.type_ == "Unconfined")
        || host.annotations.iter().flatten().any(by_note)
}

fn selinux_is_off(context: &SecurityContext) -> bool {
    context.se_linux_options.as_ref().is_some_and(|options| {
        options.user.is_some()
            || options.role.is_some()
            || options.type_.as_deref().is_some_and(|kind| !CONFINED_TYPES.contains(&kind))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(host: serde_json::Value) -> Privileges {
        Privileges::of(&serde_json::from_value(host).unwrap())
    }

    #[test]
    fn an_ordinary_container_asks_for_nothing() {
        for host in [
            json!({}),
            json!({"Privileged": false, "PidMode": "", "IpcMode": "private", "NetworkMode": "bridge"}),
            json!({"CapAdd": ["NET_BIND_SERVICE", "CAP_CHOWN"], "CapDrop": ["ALL"]}),
            json!({"SecurityOpt": ["no-new-privileges", "label=level:s0:c1,c2", "label=type:container_t"]}),
            json!({"SecurityOpt": ["seccomp={}", "apparmor=docker-default"], "MaskedPaths": null}),
        ] {
            assert!(!of(host.clone()).any(), "{host}");
        }
    }

    #[test]
    fn every_way_to_the_node_is_named() {
        assert!(of(json!({"Privileged": true})).privileged);
        for mode in ["PidMode", "IpcMode", "NetworkMode"] {
            assert_eq!(of(json!({mode: "host"})).host_namespaces.len(), 1, "{mode}");
        }
        let added = of(json!({"CapAdd": ["cap_sys_admin", "ALL", "CHOWN", "SYS_ADMIN"]}));
        assert_eq!(added.capabilities, ["ALL", "SYS_ADMIN"]);
        for (option, confinement) in [
            ("seccomp=unconfined", "seccomp"),
            ("seccomp:unconfined", "seccomp"),
            ("apparmor=unconfined", "apparmor"),
            ("systempaths=unconfined", "systempaths"),
            ("label=disable", "selinux"),
            ("label:type:spc_t", "selinux"),
        ] {
            assert_eq!(of(json!({"SecurityOpt": [option]})).unconfined, [confinement], "{option}");
        }
        // The client turns systempaths=unconfined into empty lists.
        assert_eq!(of(json!({"MaskedPaths": [], "ReadonlyPaths": []})).unconfined, ["systempaths"]);
        let note =
            json!({"Annotations": {"container.apparmor.security.beta.kubernetes.io/web": "unconfined"}});
        assert_eq!(of(note).unconfined, ["apparmor"]);
    }

    #[test]
    fn system_paths_count_although_another_option_keeps_the_pod_from_showing_them() {
        let both = of(json!({"PidMode": "host", "SecurityOpt": ["systempaths=unconfined"]}));
        assert_eq!((both.host_namespaces, both.unconfined), (vec!["pid"], vec!["systempaths"]));
    }
}
