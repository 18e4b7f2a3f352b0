//! The labels and annotations under `d2k.io/`: where Docker's knowledge lives in Kubernetes.
//! Labels carry only short legal values, for selection; everything else is an annotation.

/// Label on every object that d2k made; its value is the role (`container`, `volume`, `network`, …).
pub const ROLE: &str = "d2k.io/role";
/// Label on a container's workload, Pods and Services: the first 32 hex digits of the container ID.
pub const CONTAINER: &str = "d2k.io/container";
/// Kubernetes' recommended label for the name of an application; d2k's own Deployment has `d2k` there.
pub const APPLICATION: &str = "app.kubernetes.io/name";
/// Label on a Pod that may call the Docker API, with the value `true`.
pub const DOCKER: &str = "d2k.io/docker";
/// Annotation: the container's full ID, 64 hex digits.
pub const ID: &str = "d2k.io/id";
/// Annotation: the Docker name, without a slash.
pub const NAME: &str = "d2k.io/name";
/// Annotation: when Docker's object was created, RFC 3339 with nanoseconds.
pub const CREATED: &str = "d2k.io/created";
/// Annotation: the create request as it came, JSON.
pub const REQUEST: &str = "d2k.io/request";
/// Annotation: what the registry said about the image ([`d2k_common::image::ImageFacts`]), JSON.
pub const IMAGE: &str = "d2k.io/image";
/// Annotation: the Secret with the login that opened the image for the client of the create call.
pub const PULL_SECRET: &str = "d2k.io/pull-secret";
/// Annotation: allocated ports, JSON.
pub const PORTS: &str = "d2k.io/ports";
/// Annotation: network memberships, JSON.
pub const NETWORKS: &str = "d2k.io/networks";
/// Annotation: mounts taken from other containers ([`crate::mounts::Inherited`]), JSON array.
pub const VOLUMES_FROM: &str = "d2k.io/volumes-from";
/// Annotation: what is known of the last run and survives its Pod, JSON.
pub const STATE: &str = "d2k.io/state";
/// Annotation: warnings of the create call, JSON array.
pub const WARNINGS: &str = "d2k.io/warnings";
/// Annotation: files were copied into the container before its start.
pub const FILES: &str = "d2k.io/files";
/// Annotation: Docker labels of a volume or network, JSON object.
pub const LABELS: &str = "d2k.io/labels";
/// Annotation: driver options of a volume or network, JSON object.
pub const OPTIONS: &str = "d2k.io/options";
/// Annotation on an anonymous volume: present and `true`.
pub const ANONYMOUS: &str = "d2k.io/anonymous";
/// Annotation on a volume: a container was started with it, so that it has the image's files.
pub const USED: &str = "d2k.io/used";

/// Annotation: which policies decided about the object, by hook, JSON object.
pub const POLICIES: &str = "d2k.io/policies";
/// Annotation: the policies that shaped the object as it was written.
pub const SHAPED: &str = "d2k.io/shaped";

/// Annotation: that d2k's helper is in front of the container's process, and why, JSON.
pub const HELPER: &str = "d2k.io/helper";
/// Annotation: the Pod whose process was given leave to run, JSON ([`crate::record::Leave`]).
pub const LEAVE: &str = "d2k.io/leave";
/// Annotation: the UID of the Pod whose processes are paused.
pub const PAUSED: &str = "d2k.io/paused";

/// Values of the [`ROLE`] label.
pub mod role {
    /// A container's Deployment or Job, and its Pods.
    pub const CONTAINER: &str = "container";
    /// A volume's PersistentVolumeClaim.
    pub const VOLUME: &str = "volume";
    /// A network's ConfigMap, headless Service and EndpointSlice.
    pub const NETWORK: &str = "network";
    /// The headless Service and the EndpointSlice of a container's links.
    pub const LINKS: &str = "links";
    /// The Service that publishes a container's ports.
    pub const PORTS: &str = "ports";
    /// A ConfigMap that remembers a pulled image.
    pub const IMAGE: &str = "image";
    /// A ConfigMap with the log of a container's earlier Pods.
    pub const LOG: &str = "log";
    /// A Secret with files copied into a container before its start.
    pub const FILES: &str = "files";
    /// A ConfigMap with a Job that is being made anew.
    pub const REPLACING: &str = "replacing";
    /// A ConfigMap with the helper for containers.
    pub const HELPER: &str = "helper";
    /// A ConfigMap that reserves the name of a container.
    pub const NAME: &str = "name";
    /// A Secret with registry credentials, and the ConfigMap that tells of it.
    pub const REGISTRY: &str = "registry";
}
