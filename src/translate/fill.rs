//! The init container that gives an empty volume the files that the image has where it is mounted, with
//! their owners and modes. Docker does so when a volume is first used (Docker docs, "Populate a volume
//! using a container"); Kubernetes mounts it empty and root's.

use k8s_openapi::api::core::v1::{Container, SecurityContext, VolumeMount};

use super::helper::{self, protocol};
use super::literal::literal;
use super::mounts::MountPlan;
use super::pod::context::PodContext;

/// The name of the init container.
const NAME: &str = "d2k-fill";

/// The init container before `main`, if one of the volumes that it mounts was never used.
pub(super) fn container(plans: &[MountPlan], context: &PodContext, main: &Container) -> Option<Container> {
    let mut command = vec![protocol::PATH.to_owned(), "fill".to_owned()];
    let mut volume_mounts = vec![helper::mount()];
    for plan in plans.iter().filter(|plan| plan.takes_image_files()) {
        let claim = plan.claim_key().and_then(|key| context.claims.get(key));
        if !claim.is_some_and(|claim| context.unused_claims.contains(claim)) {
            continue;
        }
        let mounted = main.volume_mounts.iter().flatten().find(|mount| mount.mount_path == plan.target)?;
        let mount_path = format!("{}/{}", protocol::VOLUMES, volume_mounts.len());
        command.extend([literal(&plan.target), mount_path.clone()]);
        volume_mounts.push(VolumeMount { name: mounted.name.clone(), mount_path, ..VolumeMount::default() });
    }
    if volume_mounts.len() == 1 {
        return None;
    }
    Some(Container {
        name: NAME.to_owned(),
        image: main.image.clone(),
        image_pull_policy: main.image_pull_policy.clone(),
        command: Some(command),
        resources: main.resources.clone(),
        security_context: Some(user(main.security_context.as_ref())),
        volume_mounts: Some(volume_mounts),
        ..Container::default()
    })
}

/// Only root can give files away. Where the container must not be root, its own user copies.
fn user(main: Option<&SecurityContext>) -> SecurityContext {
    match main {
        Some(main) if main.run_as_non_root == Some(true) => main.clone(),
        _ => SecurityContext { run_as_user: Some(0), run_as_group: Some(0), ..SecurityContext::default() },
    }
}
