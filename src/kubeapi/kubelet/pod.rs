//! The life of one Pod: volumes, sandbox, init containers, containers, and its end with the grace
//! period that it was given.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Kubelet;
use super::container::{End, Phase};
use super::events::{self, About};
use crate::engine::{Engine, Sandbox};
use crate::kubeapi::controllers::kind;
use crate::kubeapi::meta::{self, at, items, string};
use crate::kubeapi::verbs::{DeleteOptions, Target};

/// Pause before something is tried again that a Pod cannot begin without.
const AGAIN: Duration = Duration::from_secs(2);

/// What is known of the containers of a Pod.
pub struct Running {
    /// Namespace and name.
    pub key: (String, String),
    /// By name, init containers too.
    states: Mutex<BTreeMap<String, State>>,
    /// Address of its sandbox.
    ip: Mutex<String>,
    /// Resources that containers were given while they ran.
    resources: Mutex<BTreeMap<String, Value>>,
    /// Counts changes of states, for those that wait for one.
    pub changed: watch::Sender<u64>,
    /// The Pod has begun to end.
    pub ending: CancellationToken,
}

/// One container of a Pod.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// What it does.
    pub phase: Phase,
    /// How the run before has ended.
    pub last: Option<End>,
    /// Runs before this one.
    pub restarts: i64,
    /// The engine's ID of the newest run.
    pub id: String,
    /// Its readiness probe says so, or it has none and runs.
    pub ready: bool,
    /// Its startup probe has succeeded, or it has none and runs.
    pub started: bool,
    /// The image's ID.
    pub image_id: String,
}

impl Running {
    /// What the status of a Pod says; a process that ran before this one is not there any more.
    pub fn new(pod: &Value) -> Self {
        let mut states = BTreeMap::new();
        for (list, field) in
            [("initContainers", "initContainerStatuses"), ("containers", "containerStatuses")]
        {
            for container in items(pod, &["spec", list]) {
                let name = string(container, &["name"]);
                let status = items(pod, &["status", field]).iter().find(|s| string(s, &["name"]) == name);
                states.insert(name.to_owned(), status.map(State::recall).unwrap_or_default());
            }
        }
        Self {
            key: (meta::namespace(pod).to_owned(), meta::name(pod).to_owned()),
            states: Mutex::new(states),
            ip: Mutex::default(),
            resources: Mutex::default(),
            changed: watch::Sender::new(0),
            ending: CancellationToken::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state of a container.
    pub fn state(&self, name: &str) -> State {
        self.lock().get(name).cloned().unwrap_or_default()
    }

    /// All states.
    pub fn states(&self) -> BTreeMap<String, State> {
        self.lock().clone()
    }

    /// Changes the state of a container.
    pub fn set(&self, name: &str, change: impl FnOnce(&mut State)) {
        change(self.lock().entry(name.to_owned()).or_default());
        self.changed.send_modify(|n| *n += 1);
    }

    /// Notes the resources of a container; whether they are others than it has.
    fn resized(&self, name: &str, resources: &Value, differs: bool) -> bool {
        let mut all = self.resources.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get(name) {
            Some(known) if known == resources => false,
            None if !differs => false,
            _ => {
                all.insert(name.to_owned(), resources.clone());
                true
            }
        }
    }

    /// The Pod's address, empty before it has one.
    pub fn ip(&self) -> String {
        self.ip.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl State {
    fn recall(status: &Value) -> Self {
        let end = |state: &Value| {
            let ended = state.get("terminated")?;
            let time = |field: &str| string(ended, &[field]).parse::<Timestamp>().ok();
            Some(End {
                code: meta::number(ended, &["exitCode"]).and_then(|c| i32::try_from(c).ok()).unwrap_or(0),
                reason: string(ended, &["reason"]).to_owned(),
                message: string(ended, &["message"]).to_owned(),
                started: time("startedAt").unwrap_or(Timestamp::UNIX_EPOCH),
                finished: time("finishedAt").unwrap_or(Timestamp::UNIX_EPOCH),
                id: string(ended, &["containerID"]).trim_start_matches("d2k://").to_owned(),
            })
        };
        let id = string(status, &["containerID"]).trim_start_matches("d2k://").to_owned();
        let now = at(status, &["state"]);
        let phase = match (end(now), string(now, &["running", "startedAt"]).parse().ok()) {
            (Some(end), _) => Phase::Terminated(end),
            // It ended with the process that ran it.
            (None, Some(started)) => Phase::Terminated(End {
                code: 255,
                reason: "Unknown".into(),
                message: String::new(),
                started,
                finished: Timestamp::now(),
                id: id.clone(),
            }),
            (None, None) => Phase::default(),
        };
        Self {
            phase,
            last: end(at(status, &["lastState"])),
            restarts: meta::number(status, &["restartCount"]).unwrap_or(0),
            id,
            image_id: string(status, &["imageID"]).to_owned(),
            ready: false,
            started: false,
        }
    }
}

impl<E: Engine> Kubelet<E> {
    /// Runs a Pod until it is gone.
    pub(super) async fn run_pod(
        self: &Arc<Self>,
        running: &Arc<Running>,
        mut pods: watch::Receiver<Option<Arc<Value>>>,
    ) {
        let Some(pod) = pods.borrow_and_update().clone() else { return };
        let over = matches!(string(&pod, &["status", "phase"]), "Succeeded" | "Failed");
        let reporting = self.keep_reporting(running, meta::uid(&pod).to_owned());
        let living = async {
            if !over && !meta::deleting(&pod) {
                self.live(running, &pod).await;
            }
            std::future::pending::<()>().await;
        };
        let end = async {
            loop {
                let now = pods.borrow_and_update().clone();
                match now {
                    None => return None,
                    Some(pod) if meta::deleting(&pod) => return Some(pod),
                    Some(now) => self.resize(running, &pod, &now).await,
                }
                if pods.changed().await.is_err() {
                    return None;
                }
            }
        };
        let work = async { tokio::join!(reporting, living) };
        tokio::pin!(work);
        let ending = tokio::select! {
            ending = end => ending,
            _ = &mut work => None,
        };
        running.ending.cancel();
        // The containers' own tasks go on, and report their ends.
        let ended = async {
            self.end(running, &pod, ending.as_deref(), &mut pods).await;
        };
        tokio::select! {
            () = ended => {}
            _ = &mut work => {}
        }
        self.report(running, meta::uid(&pod));
        self.clean_up(&pod).await;
        if ending.is_some() {
            self.forget(&pod, &mut pods).await;
        }
    }

    /// Brings a Pod up and keeps its containers.
    async fn live(self: &Arc<Self>, running: &Arc<Running>, pod: &Arc<Value>) {
        let about = About::new(pod, "kubelet");
        let mounts = loop {
            match self.volumes(pod).await {
                Ok(mounts) => break mounts,
                Err(words) => events::record(&self.api, &about, "Warning", "FailedMount", &words),
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                () = running.ending.cancelled() => return,
            }
        };
        let ip = loop {
            match self.engine.create_sandbox(sandbox(pod)).await {
                Ok(ip) => break ip,
                Err(trouble) => {
                    let words = format!("Failed to create pod sandbox: {}", trouble.message);
                    events::record(&self.api, &about, "Warning", trouble.reason, &words);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                () = running.ending.cancelled() => return,
            }
        };
        *running.ip.lock().unwrap_or_else(PoisonError::into_inner) = ip.to_string();
        running.changed.send_modify(|n| *n += 1);
        for container in items(pod, &["spec", "initContainers"]) {
            let name = string(container, &["name"]);
            let sidecar = string(container, &["restartPolicy"]) == "Always";
            let done = matches!(running.state(name).phase, Phase::Terminated(End { code: 0, .. }));
            if sidecar {
                let (kubelet, running, pod) = (self.clone(), running.clone(), pod.clone());
                let (container, mounts) = (container.clone(), mounts.clone());
                let side = running.clone();
                tokio::spawn(async move { kubelet.keep(&side, &pod, &container, &mounts, false).await });
                self.until_started(&running, name).await;
            } else if !done && !self.keep(running, pod, container, &mounts, true).await {
                return;
            }
        }
        let all = items(pod, &["spec", "containers"]).iter();
        join_all(all.map(|container| self.keep(running, pod, container, &mounts, false))).await;
    }

    async fn until_started(&self, running: &Running, name: &str) {
        let mut changed = running.changed.subscribe();
        while !running.state(name).started && changed.changed().await.is_ok() {}
    }

    /// Ends all containers within the grace period, which may be shortened meanwhile.
    async fn end(
        &self,
        running: &Arc<Running>,
        pod: &Value,
        ending: Option<&Value>,
        pods: &mut watch::Receiver<Option<Arc<Value>>>,
    ) {
        let grace = |pod: &Value| {
            let seconds = meta::number(pod, &["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0);
            Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
        };
        let mut limit = ending.map(grace).unwrap_or_default();
        let begin = tokio::time::Instant::now();
        let names: Vec<String> = running.states().into_keys().collect();
        let stopped = join_all(names.iter().map(|name| self.stop_container(running, pod, name)));
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                _ = &mut stopped => return,
                () = tokio::time::sleep_until(begin + limit) => break,
                changed = pods.changed() => match (changed.is_ok(), &*pods.borrow_and_update()) {
                    (true, Some(pod)) => limit = limit.min(grace(pod)),
                    _ => break,
                },
            }
        }
        for name in &names {
            self.kill_container(running, name).await;
        }
        let _ = tokio::time::timeout(Duration::from_secs(10), stopped).await;
    }

    /// Gives containers that run the limits that the Pod has now (KEP-1287).
    async fn resize(&self, running: &Running, before: &Value, now: &Value) {
        for container in items(now, &["spec", "containers"]) {
            let name = string(container, &["name"]);
            let old = items(before, &["spec", "containers"]).iter().find(|c| string(c, &["name"]) == name);
            let state = running.state(name);
            let differs = old.is_some_and(|old| at(old, &["resources"]) != at(container, &["resources"]));
            let known = running.resized(name, at(container, &["resources"]), differs);
            if !known || !matches!(state.phase, Phase::Running { .. }) {
                continue;
            }
            if let Err(trouble) = self.engine.limit(&state.id, super::container::limits(container)).await {
                let about = About::new(now, "kubelet").container(name);
                events::record(&self.api, &about, "Warning", trouble.reason, &trouble.message);
            }
        }
    }

    /// Removes what a Pod had on this machine.
    async fn clean_up(&self, pod: &Value) {
        if let Err(trouble) = self.engine.remove_sandbox(meta::uid(pod)).await {
            tracing::warn!(pod = meta::name(pod), %trouble, "a sandbox was not removed");
        }
        self.remove_volumes(meta::uid(pod)).await;
    }

    /// Removes the object; a finalizer may keep it for a while.
    async fn forget(&self, pod: &Value, pods: &mut watch::Receiver<Option<Arc<Value>>>) {
        let target = Target::own(kind("", "Pod"), meta::namespace(pod), meta::name(pod));
        let preconditions = serde_json::json!({"uid": meta::uid(pod)});
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            preconditions: serde_json::from_value(preconditions).ok(),
            ..DeleteOptions::default()
        };
        let _ = self.api.delete(&target, &options);
        while pods.borrow_and_update().is_some() && pods.changed().await.is_ok() {}
    }
}

fn sandbox(pod: &Value) -> Sandbox {
    let hostname = match string(pod, &["spec", "hostname"]) {
        "" => meta::name(pod),
        hostname => hostname,
    };
    let sysctls = items(pod, &["spec", "securityContext", "sysctls"]).iter();
    Sandbox {
        uid: meta::uid(pod).to_owned(),
        namespace: meta::namespace(pod).to_owned(),
        name: meta::name(pod).to_owned(),
        hostname: hostname.chars().take(63).collect(),
        host_network: at(pod, &["spec", "hostNetwork"]).as_bool() == Some(true),
        share_processes: at(pod, &["spec", "shareProcessNamespace"]).as_bool() == Some(true),
        sysctls: sysctls
            .map(|s| (string(s, &["name"]).to_owned(), string(s, &["value"]).to_owned()))
            .collect(),
    }
}
