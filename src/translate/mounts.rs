//! Everything that a container mounts, from all of Docker's spellings (`Binds`, `Mounts`, `Tmpfs`,
//! `Volumes`, `ShmSize`, `VolumesFrom` and the image's `VOLUME`s), as one list in Docker's order of precedence.

use std::collections::BTreeMap;

use bollard_stubs::models::{ContainerCreateBody, HostConfig, Mount, MountType, MountVolumeOptions};

use super::path::clean;
use super::volume;
use d2k_common::fault::{Fault, Result};
use d2k_common::image::ImageFacts;

mod bind;
mod inherited;
mod short;
#[cfg(test)]
mod tests;
mod tmpfs;

pub use bind::{Below, Bind};
pub use inherited::{Inherited, add as inherit, entries as volumes_from};

/// Size of `/dev/shm` that Docker and the kubelet's runtime both give to every container.
const DEFAULT_SHM: i64 = 64 << 20;

/// The mode that `docker inspect` shows of a volume for which none is asked.
const VOLUME_MODE: &str = "z";

/// What is mounted at one place of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A volume with this Docker name.
    Named(String),
    /// A volume without a name, made with the container.
    Anonymous,
    /// A file or folder of the machine that runs the container.
    Bind(Bind),
    /// Memory that goes with the container, with a limit in bytes if one was given.
    Tmpfs(Option<i64>),
    /// `/dev/shm` with this size in bytes.
    Shm(i64),
}

/// One mount of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPlan {
    /// What is mounted.
    pub kind: MountKind,
    /// Where: a clean absolute path.
    pub target: String,
    /// Whether the container may only read.
    pub read_only: bool,
    /// `docker inspect` does not list it among the mounts.
    pub unlisted: bool,
    /// What `docker inspect` shows as its mode: the options of `-v`, or what stands for none.
    pub mode: String,
    /// A directory of the volume instead of its root.
    pub subpath: Option<String>,
    /// `nocopy` was given: the image's files are not wanted in an empty volume.
    pub no_copy: bool,
    /// Volume driver, empty for the default.
    pub driver: String,
    /// Driver options for the volume's creation.
    pub options: BTreeMap<String, String>,
    /// Labels for the volume's creation.
    pub labels: BTreeMap<String, String>,
}

/// All mounts of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mounts {
    /// The mounts, each target once.
    pub plans: Vec<MountPlan>,
    /// The Docker socket was asked for: the container is given `DOCKER_HOST` instead.
    pub docker_socket: bool,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl MountPlan {
    fn new(kind: MountKind, target: &str) -> Self {
        Self {
            kind,
            target: clean(target),
            read_only: false,
            unlisted: false,
            mode: String::new(),
            subpath: None,
            no_copy: false,
            driver: String::new(),
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
        }
    }

    /// The key under which the volume's claim is found: the Docker name, or the target of an
    /// anonymous volume; `None` for memory and for binds.
    pub fn claim_key(&self) -> Option<&str> {
        match &self.kind {
            MountKind::Named(name) => Some(name),
            MountKind::Anonymous => Some(&self.target),
            MountKind::Bind(_) | MountKind::Tmpfs(_) | MountKind::Shm(_) => None,
        }
    }

    /// Whether it is a volume that takes the image's files when it is first used.
    pub fn takes_image_files(&self) -> bool {
        self.claim_key().is_some() && !self.no_copy && self.subpath.is_none()
    }

    /// The bind, if it is one.
    pub fn bind(&self) -> Option<&Bind> {
        match &self.kind {
            MountKind::Bind(bind) => Some(bind),
            _ => None,
        }
    }
}

/// The mounts of a create request for an image, with those of other containers (`VolumesFrom`) as `inherited`.
pub fn plan(body: &ContainerCreateBody, image: &ImageFacts, inherited: &[MountPlan]) -> Result<Mounts> {
    let host = body.host_config.clone().unwrap_or_default();
    let mut mounts = Mounts::default();
    let mut explicit: Vec<MountPlan> = Vec::new();
    for spec in host.binds.iter().flatten() {
        if let Some(plan) = short::parse(spec, &host, &mut mounts)? {
            add(&mut explicit, plan)?;
        }
    }
    let mut structured_targets = Vec::new();
    for mount in host.mounts.iter().flatten() {
        if let Some(plan) = structured(mount, &mut mounts)? {
            structured_targets.push(plan.target.clone());
            add(&mut explicit, plan)?;
        }
    }
    for (target, options) in sorted(&host) {
        // Docker's order: an entry of `Mounts` wins over one of `Tmpfs`.
        if structured_targets.contains(&clean(&target)) {
            continue;
        }
        add(&mut explicit, tmpfs::from_options(&target, &options, &mut mounts.warnings)?)?;
    }
    let overridden = |target: &str| explicit.iter().any(|plan| plan.target == target);
    mounts.plans = inherited.iter().filter(|plan| !overridden(&plan.target)).cloned().collect();
    mounts.plans.append(&mut explicit);
    add_anonymous(body, image, &mut mounts.plans)?;
    add_shm(&host, &mut mounts.plans);
    Ok(mounts)
}

fn add(plans: &mut Vec<MountPlan>, plan: MountPlan) -> Result<()> {
    if plans.iter().any(|other| other.target == plan.target) {
        return Err(Fault::invalid(format!("Duplicate mount point: {}", plan.target)));
    }
    // Not 404 as for `docker volume create`: the CLI takes any 404 of a create call for a missing image.
    volume::check_driver(&plan.driver).map_err(|fault| Fault::invalid(fault.message))?;
    volume::check_options(&plan.options)?;
    plans.push(plan);
    Ok(())
}

fn sorted(host: &HostConfig) -> BTreeMap<String, String> {
    host.tmpfs.clone().unwrap_or_default().into_iter().collect()
}

/// Volumes without a name: those of the request, then those of the image, where nothing else is mounted.
fn add_anonymous(body: &ContainerCreateBody, image: &ImageFacts, plans: &mut Vec<MountPlan>) -> Result<()> {
    let mut targets: Vec<&String> = body.volumes.iter().flatten().collect();
    targets.sort();
    for target in targets.into_iter().chain(&image.volumes) {
        check_target("volume", target)?;
        let plan = MountPlan::new(MountKind::Anonymous, target);
        if !plans.iter().any(|other| other.target == plan.target) {
            plans.push(plan);
        }
    }
    Ok(())
}

fn add_shm(host: &HostConfig, plans: &mut Vec<MountPlan>) {
    let size = host.shm_size.unwrap_or_default();
    let taken = plans.iter().any(|plan| plan.target == "/dev/shm");
    if size > 0 && size != DEFAULT_SHM && !taken {
        plans.push(MountPlan::new(MountKind::Shm(size), "/dev/shm"));
    }
}

/// An entry of `HostConfig.Mounts`.
fn structured(mount: &Mount, mounts: &mut Mounts) -> Result<Option<MountPlan>> {
    let kind = mount.typ.unwrap_or(MountType::BIND);
    let target = mount.target.clone().unwrap_or_default();
    let source = mount.source.clone().unwrap_or_default();
    check_target(&kind.to_string(), &target)?;
    check_options(mount, kind)?;
    match kind {
        MountType::VOLUME => volume_mount(mount, &source, &target).map(Some),
        MountType::TMPFS => tmpfs::from_mount(mount, &source, &target, &mut mounts.warnings).map(Some),
        MountType::BIND => bind::structured(mount, &source, &target, mounts),
        MountType::IMAGE => {
            Err(unsupported("image", &target, "copy the files into a volume with a container of that image"))
        }
        MountType::NPIPE => {
            Err(unsupported("npipe", &target, "named pipes exist on Windows only; leave the mount out"))
        }
        MountType::CLUSTER => Err(unsupported(
            "cluster",
            &target,
            "use type=volume with the option accessMode=rwx for a volume that many nodes share",
        )),
    }
}

fn unsupported(kind: &str, target: &str, instead: &str) -> Fault {
    Fault::invalid(format!(
        "invalid mount config for type {kind:?}: d2k cannot mount it at {target} on Kubernetes; {instead}"
    ))
}

fn volume_mount(mount: &Mount, source: &str, target: &str) -> Result<MountPlan> {
    let wrong = |what: &str| Fault::invalid(format!("invalid mount config for type \"volume\": {what}"));
    let options: MountVolumeOptions = mount.volume_options.clone().unwrap_or_default();
    let subpath = options.subpath.filter(|path| !path.is_empty());
    let kind = if source.is_empty() {
        if subpath.is_some() {
            return Err(wrong("must not set Subpath when using anonymous volumes"));
        }
        MountKind::Anonymous
    } else {
        check_volume(source)?;
        MountKind::Named(source.to_owned())
    };
    if let Some(path) = &subpath
        && (path.starts_with('/') || clean(path).split('/').any(|part| part == ".."))
    {
        return Err(wrong("subpath must be a relative path within the volume"));
    }
    let driver = options.driver_config.unwrap_or_default();
    Ok(MountPlan {
        read_only: mount.read_only.unwrap_or_default(),
        mode: VOLUME_MODE.to_owned(),
        subpath: subpath.map(|path| clean(&path)),
        no_copy: options.no_copy.unwrap_or_default(),
        driver: driver.name.unwrap_or_default(),
        options: driver.options.unwrap_or_default().into_iter().collect(),
        labels: options.labels.unwrap_or_default().into_iter().collect(),
        ..MountPlan::new(kind, target)
    })
}

/// Options of another type of mount are refused, also empty ones.
fn check_options(mount: &Mount, kind: MountType) -> Result<()> {
    let all = [
        (mount.bind_options.is_some(), MountType::BIND, "BindOptions"),
        (mount.volume_options.is_some(), MountType::VOLUME, "VolumeOptions"),
        (mount.tmpfs_options.is_some(), MountType::TMPFS, "TmpfsOptions"),
    ];
    match all.into_iter().find(|(given, of, _)| *given && *of != kind) {
        Some((_, _, field)) => Err(Fault::invalid(format!(
            "invalid mount config for type \"{kind}\": field {field} must not be specified"
        ))),
        None => Ok(()),
    }
}

/// The name of a volume that is made with the container, where it is not there.
fn check_volume(name: &str) -> Result<()> {
    volume::check_name(name)
        .map_err(|fault| Fault { message: format!("create {name}: {}", fault.message), ..fault })
}

/// Docker's checks of the place where something is mounted.
fn check_target(kind: &str, target: &str) -> Result<()> {
    let wrong = |what: String| Err(Fault::invalid(format!("invalid mount config for type {kind:?}: {what}")));
    if target.is_empty() {
        return wrong("field Target must not be empty".to_owned());
    }
    if !target.starts_with('/') {
        return wrong(format!("invalid mount path: '{target}' mount path must be absolute"));
    }
    if clean(target) == "/" {
        return wrong("invalid specification: destination can't be '/'".to_owned());
    }
    if target.contains(':') {
        return wrong(format!(
            "{target:?} has a colon, which Kubernetes does not allow in a mount path; choose another path"
        ));
    }
    Ok(())
}
