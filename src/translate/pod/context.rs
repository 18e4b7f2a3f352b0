//! What a Pod template needs of the cluster and of the machine, and the record does not say.

use std::collections::{BTreeMap, BTreeSet};

use crate::mounts::MountPlan;

/// What the template needs and the record does not say.
#[derive(Debug, Clone, Default)]
pub struct PodContext {
    /// Docker volume name, or target of an anonymous volume → claim name.
    pub claims: BTreeMap<String, String>,
    /// Those of the claims that no container was ever started with.
    pub unused_claims: BTreeSet<String>,
    /// Target of a bind → the path of the machine that is mounted there.
    pub host_paths: BTreeMap<String, HostPath>,
    /// Mounts of the containers named in `VolumesFrom`.
    pub inherited: Vec<MountPlan>,
    /// `Always`, `Never` or `OnFailure`.
    pub restart_policy: String,
    /// DNS domains of the container's networks.
    pub network_searches: Vec<String>,
    /// Variables that tell of linked containers.
    pub link_variables: Vec<(String, String)>,
    /// What `DOCKER_HOST` is inside containers that asked for the Docker socket.
    pub docker_host: String,
    /// Secrets with registry credentials.
    pub pull_secrets: Vec<String>,
    /// Files copied into the container before its start.
    pub staged_files: Vec<StagedFile>,
    /// The Secret with them, where the helper puts them in their places instead.
    pub staged_secret: Option<String>,
    /// Labels of the Pod.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the Pod.
    pub annotations: BTreeMap<String, String>,
}

/// A path of the machine as a `hostPath` volume has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostPath {
    /// The path of the volume: the source of the bind, or the folder that it must not lead out of.
    pub path: String,
    /// The rest of the source below that folder (`subPath`), which no link leads out of; or empty.
    pub below: String,
    /// Kubernetes' type: `Directory`, `File`, …; empty to take what is there, else make a folder.
    pub kind: String,
}

/// A file that lies in a Secret and must be there before the process starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedFile {
    /// Name of the Secret.
    pub secret: String,
    /// Key in the Secret.
    pub key: String,
    /// Path in the container.
    pub path: String,
    /// Permission bits.
    pub mode: i32,
}
