//! Mount plans and staged files as the volumes of a Pod and the mounts of its container.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    EmptyDirVolumeSource, HostPathVolumeSource, KeyToPath, PersistentVolumeClaimVolumeSource,
    SecretVolumeSource, Volume, VolumeMount,
};

use super::context::{PodContext, StagedFile};
use crate::mounts::{Below, Bind, MountKind, MountPlan};
use crate::path::clean;
use crate::quantity::of_bytes;
use d2k_common::fault::{Fault, Result};

/// Volumes and mounts, `None` where there are none.
pub(super) struct Storage {
    pub(super) volumes: Option<Vec<Volume>>,
    pub(super) mounts: Option<Vec<VolumeMount>>,
}

pub(super) fn build(plans: &[MountPlan], context: &PodContext) -> Result<Storage> {
    let mut volumes: Vec<Volume> = Vec::new();
    let mut mounts = Vec::new();
    for plan in plans {
        let mut mount = VolumeMount {
            mount_path: plan.target.clone(),
            read_only: plan.read_only.then_some(true),
            sub_path: plan.subpath.clone(),
            ..VolumeMount::default()
        };
        match &plan.kind {
            MountKind::Bind(bind) => bind_volume(bind, context, &mut volumes, &mut mount)?,
            MountKind::Named(key) => mount.name = claim_volume(key, context, &mut volumes)?,
            MountKind::Anonymous => mount.name = claim_volume(&plan.target, context, &mut volumes)?,
            MountKind::Shm(size) => mount.name = memory_volume("shm", Some(*size), &mut volumes),
            MountKind::Tmpfs(size) => mount.name = memory_volume("tmpfs", *size, &mut volumes),
        }
        mounts.push(mount);
    }
    stage(&context.staged_files, &mut volumes, &mut mounts);
    Ok(Storage {
        volumes: (!volumes.is_empty()).then_some(volumes),
        mounts: (!mounts.is_empty()).then_some(mounts),
    })
}

/// The Pod volume for a claim; a volume mounted at two places is one Pod volume.
fn claim_volume(key: &str, context: &PodContext, volumes: &mut Vec<Volume>) -> Result<String> {
    let claim = context.claims.get(key).ok_or_else(|| {
        Fault::internal(format!(
            "no PersistentVolumeClaim is known for the volume {key}; create the container again"
        ))
    })?;
    let existing = volumes.iter().find(|volume| {
        volume.persistent_volume_claim.as_ref().is_some_and(|source| source.claim_name == *claim)
    });
    if let Some(volume) = existing {
        return Ok(volume.name.clone());
    }
    let name = format!("volume-{}", volumes.len());
    volumes.push(Volume {
        name: name.clone(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim.clone(),
            read_only: None,
        }),
        ..Volume::default()
    });
    Ok(name)
}

/// The Pod volume for a path of the machine, and how it is mounted.
fn bind_volume(
    bind: &Bind,
    context: &PodContext,
    volumes: &mut Vec<Volume>,
    mount: &mut VolumeMount,
) -> Result<()> {
    let found = context.host_paths.get(&mount.mount_path).ok_or_else(|| {
        Fault::internal(format!("no policy has decided about the bind of {:?}", bind.source))
    })?;
    mount.mount_propagation = match bind.propagation.as_str() {
        "slave" | "rslave" => Some("HostToContainer".to_owned()),
        "shared" | "rshared" => Some("Bidirectional".to_owned()),
        _ => None,
    };
    // Kubernetes takes it for a read-only mount without propagation alone.
    if mount.read_only == Some(true) && mount.mount_propagation.is_none() {
        mount.recursive_read_only = match bind.below {
            Below::Mounted | Below::LeftOut => Some("IfPossible".to_owned()),
            Below::ReadOnly => Some("Enabled".to_owned()),
            Below::Writable => None,
        };
    }
    mount.sub_path = (!found.below.is_empty()).then(|| found.below.clone());
    let source = HostPathVolumeSource { path: found.path.clone(), type_: Some(found.kind.clone()) };
    let existing = volumes.iter().find(|volume| volume.host_path.as_ref() == Some(&source));
    if let Some(volume) = existing {
        mount.name.clone_from(&volume.name);
        return Ok(());
    }
    mount.name = format!("bind-{}", volumes.len());
    volumes.push(Volume { name: mount.name.clone(), host_path: Some(source), ..Volume::default() });
    Ok(())
}

fn memory_volume(prefix: &str, size: Option<i64>, volumes: &mut Vec<Volume>) -> String {
    let name = format!("{prefix}-{}", volumes.len());
    volumes.push(Volume {
        name: name.clone(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some("Memory".to_owned()),
            size_limit: size.map(of_bytes),
        }),
        ..Volume::default()
    });
    name
}

/// Each file is mounted by itself (`subPath`), so that its directory keeps the image's other files.
fn stage(files: &[StagedFile], volumes: &mut Vec<Volume>, mounts: &mut Vec<VolumeMount>) {
    let mut by_secret: BTreeMap<&str, Vec<&StagedFile>> = BTreeMap::new();
    for file in files {
        by_secret.entry(&file.secret).or_default().push(file);
    }
    for (secret, files) in by_secret {
        let name = format!("files-{}", volumes.len());
        let items = files.iter().map(|file| KeyToPath {
            key: file.key.clone(),
            path: file.key.clone(),
            mode: Some(file.mode),
        });
        volumes.push(Volume {
            name: name.clone(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(secret.to_owned()),
                items: Some(items.collect()),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        });
        mounts.extend(files.iter().map(|file| VolumeMount {
            name: name.clone(),
            mount_path: clean(&file.path),
            sub_path: Some(file.key.clone()),
            ..VolumeMount::default()
        }));
    }
}
