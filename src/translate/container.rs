//! A container as the cluster holds it: its workload of whatever kind, its record and its Pods.
//! Workloads that d2k did not make get a record made from their Pod template, so that everything
//! that reads containers treats all of them alike.

use std::collections::BTreeMap;
use std::sync::Arc;

use bollard_stubs::models::{ContainerCreateBody, HostConfig, RestartPolicy, RestartPolicyNameEnum};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::helper;
use super::record::{Membership, Record, RunState};
use super::state::{self, State};
use d2k_common::image::ImageFacts;

/// The kind of workload that owns a container's Pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Deployment,
    Job,
    StatefulSet,
    DaemonSet,
    Pod,
}

impl Kind {
    /// Kubernetes' word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::Job => "Job",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Pod => "Pod",
        }
    }
}

/// A container and its Pods at one moment.
#[derive(Clone)]
pub struct Container {
    /// Kind of its workload.
    pub kind: Kind,
    /// Whether d2k made it.
    pub own: bool,
    /// UID of the workload.
    pub uid: String,
    /// What is remembered of it.
    pub record: Arc<Record>,
    /// Replicas asked for (a Job: 1 unless suspended or finished).
    pub wanted: i32,
    /// The workload is being deleted.
    pub removing: bool,
    /// Its Pods, in no order.
    pub pods: Vec<Arc<Pod>>,
    /// Why the workload's controller cannot make a Pod (quota, admission), in its words.
    pub refused: Option<String>,
}

impl Container {
    /// The Pod that counts.
    pub fn pod(&self) -> Option<&Pod> {
        state::current(self.pods.iter().map(Arc::as_ref))
    }

    /// The state that Docker shows.
    pub fn state(&self) -> State {
        let earlier = if self.kind == Kind::Job { self.pods.len().saturating_sub(1) } else { 0 };
        state::state(&self.record, self.pod(), i32::try_from(earlier).unwrap_or(i32::MAX))
    }

    /// The Pod's name, if its container runs.
    pub fn running_pod(&self) -> Option<String> {
        (self.state().phase == state::Phase::Running).then(|| self.pod()?.metadata.name.clone()).flatten()
    }

    /// Whether the helper lies in the container's Pod.
    pub fn has_helper(&self) -> bool {
        self.pod().and_then(|pod| pod.spec.as_ref()).is_some_and(|spec| helper::used_by(spec).is_some())
    }

    /// Name of the Pod's container that Docker's calls are about.
    pub fn container_name(&self) -> String {
        let spec = self.pod().and_then(|p| p.spec.as_ref());
        let names = spec.map(|s| s.containers.iter().map(|c| c.name.as_str())).into_iter().flatten();
        let mut names = names.peekable();
        let first = names.peek().copied().unwrap_or(&self.record.object).to_owned();
        names.find(|n| *n == self.record.object).map_or(first, str::to_owned)
    }

    /// The address of the Pod.
    pub fn ip(&self) -> Option<String> {
        self.pod()?.status.as_ref()?.pod_ip.clone().filter(|ip| !ip.is_empty())
    }
}

/// A record for a workload that d2k did not make.
pub fn foreign_record(meta: &ObjectMeta, kind: Kind, spec: &PodSpec, namespace: &str) -> Record {
    let uid = meta.uid.clone().unwrap_or_default();
    let main = spec.containers.first();
    let text = |s: Option<&String>| s.cloned().unwrap_or_default();
    let env = main.iter().flat_map(|c| c.env.iter().flatten()).map(|e| match &e.value {
        Some(value) => format!("{}={value}", e.name),
        None => format!("{}=", e.name),
    });
    let ports = main.iter().flat_map(|c| c.ports.iter().flatten()).map(|p| {
        let protocol = p.protocol.clone().unwrap_or_else(|| "TCP".into()).to_lowercase();
        format!("{}/{protocol}", p.container_port)
    });
    let mut labels: BTreeMap<String, String> = meta.labels.clone().unwrap_or_default();
    labels.insert("io.kubernetes.namespace".into(), namespace.to_owned());
    labels.insert("io.kubernetes.kind".into(), kind.as_str().into());
    let once = matches!(spec.restart_policy.as_deref(), Some("Never"));
    let policy = if once { RestartPolicyNameEnum::NO } else { RestartPolicyNameEnum::ALWAYS };
    let body = ContainerCreateBody {
        image: main.and_then(|c| c.image.clone()),
        entrypoint: main.and_then(|c| c.command.clone()),
        cmd: main.and_then(|c| c.args.clone()),
        env: Some(env.collect()),
        working_dir: main.and_then(|c| c.working_dir.clone()),
        exposed_ports: Some(ports.collect()),
        labels: Some(labels.into_iter().collect()),
        tty: main.and_then(|c| c.tty),
        open_stdin: main.and_then(|c| c.stdin),
        host_config: Some(HostConfig {
            restart_policy: Some(RestartPolicy { name: Some(policy), maximum_retry_count: Some(0) }),
            network_mode: Some("default".into()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let image = ImageFacts {
        reference: text(main.and_then(|c| c.image.as_ref())),
        id: format!(
            "sha256:{}",
            hex::encode(Sha256::digest(main.and_then(|c| c.image.clone()).unwrap_or_default()))
        ),
        synthesised: true,
        ..ImageFacts::default()
    };
    Record {
        id: hex::encode(Sha256::digest(&uid)),
        name: text(meta.name.as_ref()),
        object: text(meta.name.as_ref()),
        created: meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0),
        raw: serde_json::to_value(&body).unwrap_or_else(|_| json!({})),
        body,
        image,
        ports: Vec::new(),
        networks: BTreeMap::from([("bridge".to_owned(), Membership::default())]),
        inherited: None,
        pull_secret: None,
        state: RunState::default(),
        warnings: Vec::new(),
        staged: false,
        helper: None,
        leave: None,
        paused: String::new(),
        decided: BTreeMap::new(),
    }
}
