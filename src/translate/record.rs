//! A container as d2k remembers it: the annotations of its Deployment or Job, parsed.
//! Docker's view (list, inspect, events) is made from a record and the Pods beside it.

use std::collections::BTreeMap;

use bollard_stubs::models::{ContainerCreateBody, HostConfig, RestartPolicyNameEnum};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::keys;
use super::mounts::Inherited;
use super::request;
use d2k_common::image::ImageFacts;

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
    /// Name of the Secret with the login that opened the image; `None` if it took none.
    pub pull_secret: Option<String>,
    /// Published ports with their allocated numbers.
    pub ports: Vec<PublishedPort>,
    /// Network name → membership. Holds `bridge` (or `host`, `none`) for the default.
    pub networks: BTreeMap<String, Membership>,
    /// Mounts taken from other containers; `None` if an earlier version kept only their names.
    pub inherited: Option<Vec<Inherited>>,
    /// What is known of the last run.
    pub state: RunState,
    /// Warnings given at creation.
    pub warnings: Vec<String>,
    /// Files were copied into it before its start.
    pub staged: bool,
    /// Which policies decided about it, by hook.
    pub decided: BTreeMap<String, String>,
    /// The helper in front of its process, if it has one.
    pub helper: Option<Helper>,
    /// The Pod whose process was given leave to run since the last start.
    pub leave: Option<Leave>,
    /// UID of the Pod whose processes are paused, or empty.
    pub paused: String,
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
    /// Restarts by policy in the last run.
    pub restart_count: i32,
    /// UID of the Pod whose end is recorded here: a Pod is recorded once.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pod: String,
}

/// Which Pod's process was given leave to run: a run that must happen once has one Pod only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Leave {
    /// UID of the Pod.
    pub pod: String,
    /// The process is known to have run.
    pub given: bool,
}

/// That a container has the helper.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Helper {
    /// `amd64` or `arm64`.
    pub architecture: String,
    /// What it is needed for, for people.
    pub because: Vec<String>,
}

impl Record {
    /// Reads a record from the annotations of a workload; `None` if d2k did not make it.
    pub fn read(meta: &ObjectMeta) -> Option<Self> {
        let notes = meta.annotations.as_ref()?;
        let raw: Value = parse(notes, keys::REQUEST)?;
        Some(Self {
            id: notes.get(keys::ID)?.clone(),
            name: notes.get(keys::NAME)?.clone(),
            object: meta.name.clone()?,
            created: notes.get(keys::CREATED)?.parse().ok()?,
            body: request::body(&raw).ok()?,
            raw,
            image: parse(notes, keys::IMAGE).unwrap_or_default(),
            pull_secret: notes.get(keys::PULL_SECRET).cloned(),
            ports: parse(notes, keys::PORTS).unwrap_or_default(),
            networks: parse(notes, keys::NETWORKS).unwrap_or_default(),
            inherited: parse(notes, keys::VOLUMES_FROM),
            state: parse(notes, keys::STATE).unwrap_or_default(),
            warnings: parse(notes, keys::WARNINGS).unwrap_or_default(),
            staged: notes.contains_key(keys::FILES),
            decided: parse(notes, keys::POLICIES).unwrap_or_default(),
            helper: parse(notes, keys::HELPER),
            leave: parse(notes, keys::LEAVE),
            paused: notes.get(keys::PAUSED).cloned().unwrap_or_default(),
        })
    }

    /// The annotations from which [`Record::read`] makes the same record.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        let mut notes = BTreeMap::from([
            (keys::ID.into(), self.id.clone()),
            (keys::NAME.into(), self.name.clone()),
            (keys::CREATED.into(), self.created.to_string()),
            (keys::REQUEST.into(), self.raw.to_string()),
            (keys::IMAGE.into(), json(&self.image.for_container())),
            (keys::PORTS.into(), json(&self.ports)),
            (keys::NETWORKS.into(), json(&self.networks)),
            (keys::STATE.into(), json(&self.state)),
            (keys::WARNINGS.into(), json(&self.warnings)),
        ]);
        if !self.decided.is_empty() {
            notes.insert(keys::POLICIES.into(), json(&self.decided));
        }
        if let Some(helper) = &self.helper {
            notes.insert(keys::HELPER.into(), json(helper));
        }
        if let Some(secret) = &self.pull_secret {
            notes.insert(keys::PULL_SECRET.into(), secret.clone());
        }
        // Also if it is empty: a record without it is one of an earlier version.
        if let Some(inherited) = self.inherited.as_ref().filter(|_| !self.volumes_from().is_empty()) {
            notes.insert(keys::VOLUMES_FROM.into(), json(inherited));
        }
        if self.staged {
            notes.insert(keys::FILES.into(), "true".into());
        }
        notes
    }

    /// Labels by which the container's objects are selected.
    pub fn labels(&self, role: &str) -> BTreeMap<String, String> {
        BTreeMap::from([
            (keys::ROLE.into(), role.into()),
            (keys::CONTAINER.into(), self.short().into()),
            ("app.kubernetes.io/name".into(), self.object.clone()),
            ("app.kubernetes.io/managed-by".into(), "d2k".into()),
        ])
    }

    /// The first 32 hex digits of the ID: the value of the [`keys::CONTAINER`] label.
    pub fn short(&self) -> &str {
        self.id.get(..32).unwrap_or(&self.id)
    }

    /// The host configuration, empty if none was sent.
    pub fn host(&self) -> HostConfig {
        self.body.host_config.clone().unwrap_or_default()
    }

    /// The entries of `--volumes-from` as they were sent.
    pub fn volumes_from(&self) -> &[String] {
        self.body.host_config.as_ref().and_then(|host| host.volumes_from.as_deref()).unwrap_or_default()
    }

    /// Docker labels: the image's, overridden by the request's.
    pub fn docker_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.image.labels.clone();
        labels.extend(self.body.labels.clone().into_iter().flatten());
        labels
    }

    /// `--rm` was given.
    pub fn auto_remove(&self) -> bool {
        self.body.host_config.as_ref().and_then(|h| h.auto_remove).unwrap_or(false)
    }

    /// A terminal is allocated.
    pub fn tty(&self) -> bool {
        self.body.tty.unwrap_or(false)
    }

    /// Standard input is kept open.
    pub fn open_stdin(&self) -> bool {
        self.body.open_stdin.unwrap_or(false)
    }

    /// Seconds between the stop signal and the kill: `--stop-timeout`, Docker's default is 10.
    pub fn stop_timeout(&self) -> i64 {
        self.body.stop_timeout.unwrap_or(10)
    }

    /// Whether a run that ended with `code` after `restarts` restarts is started again by policy.
    pub fn restarts(&self, code: i32, restarts: i32) -> bool {
        let policy = self.body.host_config.as_ref().and_then(|h| h.restart_policy.as_ref());
        let Some(policy) = policy else { return false };
        match policy.name {
            Some(RestartPolicyNameEnum::ALWAYS | RestartPolicyNameEnum::UNLESS_STOPPED) => true,
            Some(RestartPolicyNameEnum::ON_FAILURE) => {
                let limit = policy.maximum_retry_count.unwrap_or(0);
                code != 0 && (limit == 0 || i64::from(restarts) < limit)
            }
            _ => false,
        }
    }

    /// Whether a client said at creation that it will read the output.
    pub fn is_attached(&self) -> bool {
        self.body.attach_stdout.unwrap_or(false) || self.body.attach_stderr.unwrap_or(false)
    }

    /// Whether a process that has ended is not started again, whatever its exit code.
    pub fn runs_once(&self) -> bool {
        use RestartPolicyNameEnum::{ALWAYS, ON_FAILURE, UNLESS_STOPPED};
        !matches!(self.restart_policy(), Some(ALWAYS | UNLESS_STOPPED | ON_FAILURE))
    }

    /// Whether a process that has ended is always started again.
    pub fn restarts_always(&self) -> bool {
        use RestartPolicyNameEnum::{ALWAYS, UNLESS_STOPPED};
        matches!(self.restart_policy(), Some(ALWAYS | UNLESS_STOPPED))
    }

    fn restart_policy(&self) -> Option<RestartPolicyNameEnum> {
        self.body.host_config.as_ref()?.restart_policy.as_ref()?.name
    }

    /// Whether the user is a name that is not the image's own: Kubernetes takes numbers only.
    pub fn has_named_user(&self) -> bool {
        let asked = self.body.user.as_deref().unwrap_or_default();
        let named = |word: &str| !word.is_empty() && word != "root" && word.parse::<u32>().is_err();
        asked != self.image.user && asked.split(':').any(named)
    }

    /// Whether the run is bound to another Pod than this one. A run that was over when another Pod was asked for
    /// (`wanted`, by a start or by somebody who has scaled the workload up) binds nobody.
    pub fn is_bound_elsewhere(&self, pod: &str, wanted: bool) -> bool {
        let over = |bound: &str| wanted && self.state.finished.is_some() && self.state.pod == bound;
        self.leave.as_ref().is_some_and(|bound| bound.pod != pod && !over(&bound.pod))
    }

    /// Whether the container's process waits for d2k's leave each time it is started.
    pub fn waits(&self) -> bool {
        self.helper.as_ref().is_some_and(|helper| {
            !self.restarts_always()
                || helper.because.iter().any(|what| what == "streams" || what == "terminal")
        })
    }

    /// The networks on which names resolve: all but Docker's predefined ones.
    pub fn user_networks(&self) -> impl Iterator<Item = (&String, &Membership)> {
        self.networks.iter().filter(|(name, _)| !super::network::is_predefined(name))
    }
}

fn parse<T: serde::de::DeserializeOwned>(notes: &BTreeMap<String, String>, key: &str) -> Option<T> {
    serde_json::from_str(notes.get(key)?).ok()
}

/// JSON text of a value that always has one.
pub fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
