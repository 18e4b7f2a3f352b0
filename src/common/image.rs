//! What d2k knows of an image: the facts of its manifest and config that containers inherit.

use std::collections::BTreeMap;

use bollard_stubs::models::HealthConfig;
use serde::{Deserialize, Serialize};

/// The facts of an image's manifest and config (OCI image specification, `config.md`).
/// Empty fields mean "not known" or "not set": Docker does not tell them apart either.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageFacts {
    /// Full reference with registry and tag or digest, e.g. `docker.io/library/busybox:latest`.
    pub reference: String,
    /// The image ID: `sha256:` and the digest of the config (64 hex digits).
    pub id: String,
    /// `sha256:…` digest of the manifest (list) under which the tag was found.
    pub digest: String,
    /// Entrypoint of the image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Default command of the image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Environment, `KEY=value`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// `USER` of the image, as written there.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `WORKDIR` of the image.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// `EXPOSE`d ports, `80/tcp`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exposed_ports: Vec<String>,
    /// `VOLUME`s.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `STOPSIGNAL`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// `HEALTHCHECK` (a Docker extension of the OCI config).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// `SHELL` (a Docker extension of the OCI config).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
    /// Architecture, `amd64`.
    pub architecture: String,
    /// Operating system, `linux`.
    pub os: String,
    /// When the image was built, RFC 3339; empty if unknown.
    pub created: String,
    /// Author, if the config has one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// Sum of the compressed layer sizes in bytes.
    pub size: i64,
    /// Digests of the uncompressed layers (`rootfs.diff_ids`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
    /// History, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<HistoryEntry>,
    /// True if no registry answered and the facts were made up from the reference.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub synthesised: bool,
    /// Whether its registry gives it to everybody.
    #[serde(skip_serializing_if = "Access::is_unknown")]
    pub access: Access,
}

/// Whether a registry gives an image to everybody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Nobody has asked; so it is in what an earlier version wrote down.
    #[default]
    Unknown,
    /// It was given without credentials.
    Public,
    /// It was refused without credentials, and given with them.
    Private,
}

impl Access {
    fn is_unknown(&self) -> bool {
        *self == Self::Unknown
    }
}

/// One line of `docker history`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryEntry {
    /// RFC 3339 time, or empty.
    pub created: String,
    /// The build step.
    pub created_by: String,
    /// The comment of the step.
    pub comment: String,
    /// Size in bytes of the (compressed) layer that the step made, 0 if it made none.
    pub size: i64,
}

impl ImageFacts {
    /// The part that a container keeps: without history and layers, which only `image inspect` shows.
    pub fn for_container(&self) -> Self {
        Self { history: Vec::new(), layers: Vec::new(), ..self.clone() }
    }
}
