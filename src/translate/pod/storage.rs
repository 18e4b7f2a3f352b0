//! Mount plans and staged files as the volumes of a Pod and the mounts of its container.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    EmptyDirVolumeSource, KeyToPath, PersistentVolumeClaimVolumeSource, SecretVolumeSource, Volume,
    VolumeMount,
};

use super::{PodContext, StagedFile};
use crate::fault::{Fault, Result};
use crate::translate::mounts::{MountKind, MountPlan};
use crate::translate::path::clean;
use crate::translate::quantity::of_bytes;

/// Volumes and mounts, `None` where there are none.
pub(super) struct Storage {
    pub(super) volumes: Option<Vec<Volume>>,
    pub(super) mounts: Option<Vec<VolumeMount>>,
}

pub(super) fn build(plans: &[MountPlan], context: &PodContext) -> Result<Storage> {
    let mut volumes: Vec<Volume> = Vec::new();
    let mut mounts = Vec::new();
    for plan in plans {
        let name = match plan.claim_key() {
            Some(key) => claim_volume(key, context, &mut volumes)?,
            None => memory_volume(plan, &mut volumes),
        };
        mounts.push(VolumeMount {
            name,
            mount_path: plan.target.clone(),
            read_only: plan.read_only.then_some(true),
            sub_path: plan.subpath.clone(),
            ..VolumeMount::default()
        });
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

fn memory_volume(plan: &MountPlan, volumes: &mut Vec<Volume>) -> String {
    let (prefix, size) = match plan.kind {
        MountKind::Shm(size) => ("shm", Some(size)),
        MountKind::Tmpfs(size) => ("tmpfs", size),
        MountKind::Named(_) | MountKind::Anonymous => ("volume", None),
    };
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
