//! A container as d2k remembers it: the annotations of its Deployment or Job, parsed.
//! Docker's view (list, inspect, events) is made from a record and the Pods beside it.

use std::collections::BTreeMap;

use bollard_stubs::models::{ContainerCreateBody, HostConfig};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::image::ImageFacts;

/// Everything d2k keeps about a container it made.
#[derive(Debug, Clone)]
pub struct Record {
    /// 64 hex digits.
    pub id: String,
    /// Docker name without a slash.
    pub name: String,
    /// Name of the Kubernetes workload (and of its Pod template's container).
    pub object: String,
    /// When `docker create` was answered.
    pub created: Timestamp,
    /// The create request, typed.
    pub body: ContainerCreateBody,
    /// The create request as it came, so that inspect echoes what the client sent.
    pub raw: Value,
    /// What the registry said about the image at creation.
    pub image: ImageFacts,
    /// Published ports with their allocated numbers.
    pub ports: Vec<PublishedPort>,
    /// Network name → membership. Holds `bridge` (or `host`, `none`) for the default.
    pub networks: BTreeMap<String, Membership>,
    /// What is known of the last run.
    pub state: RunState,
    /// Warnings given at creation.
    pub warnings: Vec<String>,
}

/// A container port that is reachable from outside under a host port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// Port of the container, 1 to 65535.
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Port on d2k's host and on the Service, 1 to 65535.
    pub host_port: u16,
}

/// A container's membership in a Docker network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Membership {
    /// ID of the network, 64 hex digits.
    pub network_id: String,
    /// Aliases asked for, without the container's own name.
    pub aliases: Vec<String>,
    /// The endpoint settings as the client sent them, echoed by inspect; null if none.
    pub settings: Value,
}

/// What Docker remembers of a run after its Pod is gone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunState {
    /// Start of the last run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// End of the last run; `None` while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished: Option<Timestamp>,
    /// Exit code of the last run, 0 to 255.
    pub exit_code: i32,
    /// The kernel killed it for want of memory.
    pub oom_killed: bool,
    /// Why it could not run, in the cluster's words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Restarts by policy, over all Pods.
    pub restart_count: i32,
    /// UID of the Pod whose end is recorded here: a Pod is recorded once.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pod: String,
    /// Stopped by the user: `unless-stopped` and `on-failure` must not start it again.
    pub stopped_by_user: bool,
}

impl Record {
    /// The host configuration, empty if none was sent.
    pub fn host(&self) -> HostConfig {
        self.body.host_config.clone().unwrap_or_default()
    }
}
