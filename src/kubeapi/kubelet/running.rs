//! What the kubelet knows of a Pod that runs: the states of its containers, its volumes, its address and
//! why it has failed, for all that bring the Pod up, follow it and report on it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::renewal::Renewal;
use super::state::State;
use crate::meta::{self, items, string};
use d2k_engine::Found;

/// The volumes of a Pod by name.
pub type Volumes = BTreeMap<String, Volume>;

/// A volume that is there.
#[derive(Debug, Clone)]
pub enum Volume {
    /// A folder of d2k's own.
    Path(PathBuf),
    /// A path of the machine that the Pod names.
    Host(PathBuf),
    /// A device of the machine that the Pod names as such.
    Device(PathBuf),
    /// Files that come from objects, which containers only read.
    Files(PathBuf),
    /// Memory that the sandbox has under this name.
    Memory(String),
    /// A volume that the engine keeps under this name.
    Kept(String),
}

/// Where a Pod has its containers and what is told of them.
pub const LISTS: &[(&str, &str)] = &[
    ("initContainers", "initContainerStatuses"),
    ("containers", "containerStatuses"),
    ("ephemeralContainers", "ephemeralContainerStatuses"),
];

/// What is known of the containers of a Pod.
pub struct Running {
    /// Namespace and name.
    pub key: (String, String),
    /// The Pod as it is now.
    now: Mutex<Arc<Value>>,
    /// By name, init containers too.
    states: Mutex<BTreeMap<String, State>>,
    /// Its volumes, when they are there.
    volumes: Mutex<Volumes>,
    /// Why it has failed as a whole: reason and words.
    failure: Mutex<Option<(&'static str, String)>>,
    /// Address of its sandbox.
    ip: Mutex<String>,
    /// Containers that were taken over from before this process began.
    adopted: Mutex<BTreeSet<String>>,
    /// Resources that containers were given while they ran.
    resources: Mutex<BTreeMap<String, Value>>,
    /// When the tokens in its volumes are to be made anew, if it has some.
    pub renewal: watch::Sender<Option<Renewal>>,
    /// Counts changes of states, for those that wait for one.
    pub changed: watch::Sender<u64>,
    /// The Pod has begun to end.
    pub ending: CancellationToken,
    /// Its main containers have ended for good.
    pub over: CancellationToken,
}

impl Running {
    /// What the status of a Pod says; `found` tells the containers that the engine still has of those before this process.
    pub fn new(pod: &Arc<Value>, found: impl Fn(&str) -> Option<Found>) -> Self {
        let mut states = BTreeMap::new();
        for (list, field) in LISTS {
            for container in items(pod, &["spec", list]) {
                let name = string(container, &["name"]);
                let status = items(pod, &["status", field]).iter().find(|s| string(s, &["name"]) == name);
                // One that is beside the others is begun when the Pod is there.
                if status.is_some() || *list != "ephemeralContainers" {
                    let recall = |status| State::recall(status, found(name).as_ref());
                    states.insert(name.to_owned(), status.map_or_else(|| State::before(pod), recall));
                }
            }
        }
        Self {
            key: (meta::namespace(pod).to_owned(), meta::name(pod).to_owned()),
            now: Mutex::new(pod.clone()),
            states: Mutex::new(states),
            volumes: Mutex::default(),
            failure: Mutex::default(),
            ip: Mutex::default(),
            adopted: Mutex::default(),
            resources: Mutex::default(),
            renewal: watch::Sender::new(None),
            changed: watch::Sender::new(0),
            ending: CancellationToken::new(),
            over: CancellationToken::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, State>> {
        self.states.lock()
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
    pub fn resized(&self, name: &str, resources: &Value, differs: bool) -> bool {
        let mut all = self.resources.lock();
        match all.get(name) {
            Some(known) if known == resources => false,
            None if !differs => false,
            _ => {
                all.insert(name.to_owned(), resources.clone());
                true
            }
        }
    }

    /// Notes that a container is taken over; whether it was not before.
    pub fn adopts(&self, name: &str) -> bool {
        self.adopted.lock().insert(name.to_owned())
    }

    /// The Pod as it is now.
    pub fn now(&self) -> Arc<Value> {
        self.now.lock().clone()
    }

    /// Takes note of a change of the Pod; what it was before.
    pub fn becomes(&self, pod: Arc<Value>) -> Arc<Value> {
        std::mem::replace(&mut self.now.lock(), pod)
    }

    /// A container as the Pod has it now.
    pub fn container(&self, name: &str) -> Option<Value> {
        let pod = self.now();
        let mut all = LISTS.iter().flat_map(|(list, _)| items(&pod, &["spec", list]));
        all.find(|container| string(container, &["name"]) == name).cloned()
    }

    /// Notes a container that has come later; whether it is a new one.
    pub fn adds(&self, name: &str) -> bool {
        let new = !self.lock().contains_key(name);
        if new {
            self.set(name, |_| {});
        }
        new
    }

    /// Its volumes, none before they are there.
    pub fn volumes(&self) -> Volumes {
        self.volumes.lock().clone()
    }

    /// Notes its volumes and the address of its sandbox.
    pub fn placed(&self, volumes: Volumes, ip: String) {
        *self.volumes.lock() = volumes;
        *self.ip.lock() = ip;
        self.changed.send_modify(|n| *n += 1);
    }

    /// Notes why it has failed as a whole.
    pub fn fails(&self, reason: &'static str, words: &str) {
        *self.failure.lock() = Some((reason, words.to_owned()));
    }

    /// Why it has failed as a whole, if it has.
    pub fn failure(&self) -> Option<(&'static str, String)> {
        self.failure.lock().clone()
    }

    /// The Pod's address, empty before it has one.
    pub fn ip(&self) -> String {
        self.ip.lock().clone()
    }
}
