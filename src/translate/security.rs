//! Who a container runs as and what it may do: user, groups, capabilities, security options,
//! sysctls and namespaces of the host, as the security contexts of a Pod and its container.

use bollard_stubs::models::HostConfig;
use k8s_openapi::api::core::v1::{Capabilities, PodSecurityContext, PodSpec, SecurityContext, Sysctl};

use super::record::Record;
use super::request::capability;
use d2k_common::fault::{Fault, Result};
use d2k_common::image::ImageFacts;

mod namespaces;
mod options;
mod privileges;
mod user;

pub use privileges::Privileges;
pub use user::{Identity, identity};

/// Security settings of a container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Security {
    /// Settings of the container, if it has any.
    pub container: Option<SecurityContext>,
    /// Settings of the Pod, if it has any.
    pub pod: Option<PodSecurityContext>,
    /// The container uses the node's network.
    pub host_network: bool,
    /// The container sees the node's processes.
    pub host_pid: bool,
    /// The container shares the node's IPC.
    pub host_ipc: bool,
    /// The Pod needs a user namespace of its own.
    pub own_users: bool,
}

/// The security settings that a create request asks for. `has_claims` says whether volumes are mounted,
/// which must be writable for the container's user.
pub fn settings(record: &Record, has_claims: bool, warnings: &mut Vec<String>) -> Result<Security> {
    let (host, image) = (record.host(), &record.image);
    let mut security = Security::default();
    namespaces::apply(&host, &mut security, warnings)?;
    let mut container = SecurityContext::default();
    let identity = match record.helper.is_some() && record.has_named_user() {
        // The helper looks the name up in the image, and must be root to become another.
        true => Identity { run_as_user: Some(0), by_name: true, ..Identity::default() },
        false => identity(&record.body, image)?,
    };
    container.run_as_user = identity.run_as_user;
    container.run_as_group = identity.run_as_group;
    // What the restricted Pod security standard wants to read, beside the number.
    container.run_as_non_root = identity.run_as_user.filter(|user| *user > 0).map(|_| true);
    container.privileged = host.privileged.filter(|on| *on);
    container.read_only_root_filesystem = host.readonly_rootfs.filter(|on| *on);
    container.capabilities = capabilities(&host);
    options::apply(&host, &mut container, &mut security, warnings)?;
    let mut pod = PodSecurityContext {
        supplemental_groups: groups(&host, warnings),
        sysctls: sysctls(&host),
        ..PodSecurityContext::default()
    };
    if has_claims {
        make_volumes_writable(&identity, image, &mut pod, warnings);
    }
    security.container = (container != SecurityContext::default()).then_some(container);
    security.pod = (pod != PodSecurityContext::default()).then_some(pod);
    Ok(security)
}

/// Docker gives an empty volume the owner that its path has in the image. A claim belongs to root on
/// most storage; `fsGroup` makes it writable for a user whose number is known.
fn make_volumes_writable(
    identity: &Identity,
    image: &ImageFacts,
    pod: &mut PodSecurityContext,
    warnings: &mut Vec<String>,
) {
    match identity.writes_as {
        Some(group) => {
            pod.fs_group = Some(group);
            // Without this every start would walk through all files of the volume.
            pod.fs_group_change_policy = Some("OnRootMismatch".to_owned());
        }
        None if identity.by_name => warnings.push(format!(
            "the image runs as user {:?}, whose number only the image knows: if it cannot write to its volumes, give the number (--user UID:GID)",
            image.user
        )),
        None => {}
    }
}

fn capabilities(host: &HostConfig) -> Option<Capabilities> {
    let names = |list: &Option<Vec<String>>| {
        let all: Vec<String> = list.iter().flatten().map(|name| capability(name)).collect();
        (!all.is_empty()).then_some(all)
    };
    let capabilities = Capabilities { add: names(&host.cap_add), drop: names(&host.cap_drop) };
    (capabilities != Capabilities::default()).then_some(capabilities)
}

fn groups(host: &HostConfig, warnings: &mut Vec<String>) -> Option<Vec<i64>> {
    let mut numbers = Vec::new();
    for group in host.group_add.iter().flatten() {
        match group.parse::<u32>() {
            Ok(number) => numbers.push(i64::from(number)),
            Err(_) if group == "root" => numbers.push(0),
            Err(_) => warnings.push(format!(
                "HostConfig.GroupAdd: the group {group:?} is not added, Kubernetes takes numbers only; give its number (--group-add GID)"
            )),
        }
    }
    (!numbers.is_empty()).then_some(numbers)
}

fn sysctls(host: &HostConfig) -> Option<Vec<Sysctl>> {
    let mut all: Vec<Sysctl> = host
        .sysctls
        .iter()
        .flatten()
        .map(|(name, value)| Sysctl { name: name.clone(), value: value.clone() })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    (!all.is_empty()).then_some(all)
}

impl Security {
    /// Puts the settings that belong to the Pod into `spec`.
    pub fn apply_to_pod(&self, spec: &mut PodSpec) {
        spec.security_context = self.pod.clone();
        spec.host_network = self.host_network.then_some(true);
        spec.host_pid = self.host_pid.then_some(true);
        spec.host_ipc = self.host_ipc.then_some(true);
        spec.host_users = self.own_users.then_some(false);
    }
}

fn refused(field: &str, value: &str, why: &str) -> Fault {
    Fault::invalid(format!("{field} {value:?} is not supported: {why}"))
}
