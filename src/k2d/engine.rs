//! Docker, or what speaks its API, as the engine of a cluster: images, sandboxes and containers are the engine's own, with
//! labels that say which Pod they are of. The engine keeps apps running; this process only tells it what to run.

pub mod client;
mod containers;
mod frames;
mod images;
mod json;
pub mod labels;
mod net_container;
pub mod network;
mod one_shot;
mod own_image;
mod paths;
mod relay;
mod revive;
mod runs;
mod sandboxes;
mod streams;
mod volumes;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use d2k_engine::{
    Engine, Exec, Exit, Feature, Found, Image, Limits, LogQuery, LogStream, Login, Next, NodeFacts, Pull,
    Result, Sandbox, Session, Start, Stream, Usage,
};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{RwLock, Semaphore};
use tokio_util::sync::CancellationToken;

use client::Client;
use json::{count, text};
use network::{Network, Plan};
pub use one_shot::MACHINE;
use paths::Paths;
use runs::Runs;

pub use json::{at, flag, texts};
pub use runs::News;

/// An engine. Cheap to clone.
#[derive(Clone)]
pub struct Docker {
    inner: Arc<Inner>,
}

struct Inner {
    client: Arc<Client>,
    facts: NodeFacts,
    features: Vec<Feature>,
    /// The Node's address.
    host: IpAddr,
    network: Network,
    paths: Paths,
    runs: Arc<Runs>,
    /// By the UIDs of their Pods.
    sandboxes: Mutex<HashMap<String, Placed>>,
    /// Held to make something of the Pod of a UID, and alone to remove it.
    making: Mutex<HashMap<String, Arc<RwLock<()>>>>,
    /// Containers that were there when this process began, by UID of the Pod and name.
    found: Mutex<HashMap<(String, String), Found>>,
    /// Containers that k2d has not made, by the UIDs of the Pods that show them.
    foreign: Mutex<HashMap<String, String>>,
    /// The names of images by their IDs, as Pods have them.
    names: Mutex<HashMap<String, String>>,
    /// One pull at a time.
    pulls: Semaphore,
    own_image: tokio::sync::OnceCell<String>,
}

/// A Pod that the engine has containers of.
#[derive(Debug)]
pub struct KnownPod {
    /// Its UID.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The Pod, and the objects that own it, as k2d has noted them; none if they were too long for that.
    pub manifests: Vec<Value>,
}

/// A sandbox that is there.
#[derive(Debug, Clone)]
struct Placed {
    namespace: String,
    name: String,
    hostname: String,
    address: Ipv4Addr,
    host_network: bool,
    share_processes: bool,
    sysctls: BTreeMap<String, String>,
    /// The container that has its network, if that is not the Pod's only one.
    holder: Option<String>,
    /// The label from which the Pod can be had again.
    manifests: Option<String>,
}

impl Placed {
    fn ip(&self, host: IpAddr) -> IpAddr {
        if self.host_network { host } else { self.address.into() }
    }

    /// The network mode of its containers.
    fn mode(&self) -> String {
        match &self.holder {
            Some(holder) => format!("container:{holder}"),
            None if self.host_network => "host".to_owned(),
            None => network::NAME.to_owned(),
        }
    }
}

impl Docker {
    /// Connects to an engine and takes over what a k2d before this one has made there. `host` is the Node's address.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn open(
        client: Client,
        plan: Plan,
        host: IpAddr,
        stopping: CancellationToken,
    ) -> std::result::Result<Self, client::Error> {
        let about = client.negotiate().await?;
        let info = client.get("/info").await?;
        let (facts, features) = (facts(&about, &info), features(&info));
        let paths = Paths::find(&client).await?;
        let network = Network::open(&client, plan).await?;
        let (client, runs) = (Arc::new(client), Runs::new());
        tokio::spawn(runs.clone().run(client.clone(), stopping));
        let inner = Inner {
            client,
            facts,
            features,
            host,
            network,
            paths,
            runs,
            sandboxes: Mutex::default(),
            making: Mutex::default(),
            found: Mutex::default(),
            foreign: Mutex::default(),
            names: Mutex::default(),
            pulls: Semaphore::new(1),
            own_image: tokio::sync::OnceCell::new(),
        };
        let this = Self { inner: Arc::new(inner) };
        this.survey().await?;
        Ok(this)
    }

    /// The parts of the Pods' network.
    pub fn plan(&self) -> Plan {
        self.inner.network.plan
    }

    /// Whether the engine can mount what this process keeps there: if k2d runs in a container, only what is mounted there.
    pub fn reaches(&self, path: &Path) -> bool {
        self.inner.paths.is_outside(path)
    }

    /// The Pods of k2d's own that the engine has.
    pub fn pods(&self) -> Vec<KnownPod> {
        let sandboxes = self.inner.sandboxes.lock();
        let known = |(uid, placed): (&String, &Placed)| KnownPod {
            uid: uid.clone(),
            namespace: placed.namespace.clone(),
            name: placed.name.clone(),
            manifests: placed.manifests.as_deref().and_then(labels::unpack).unwrap_or_default(),
        };
        sandboxes.iter().filter(|(uid, _)| !self.has_adopted(uid)).map(known).collect()
    }

    /// Whether a Pod with this UID shows a container that k2d has not made, and that is there.
    pub fn has_adopted(&self, uid: &str) -> bool {
        self.inner.foreign.lock().contains_key(uid)
    }

    /// Whether the engine answers.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn ping(&self) -> std::result::Result<(), client::Error> {
        self.inner.client.get("/version").await.map(drop)
    }

    /// All images, as the engine lists them.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn images(&self) -> std::result::Result<Value, client::Error> {
        self.inner.client.get("/images/json").await
    }

    /// Tells that images may have changed.
    pub fn images_changed(&self) -> tokio::sync::watch::Receiver<u64> {
        self.inner.runs.images()
    }

    /// What happens to any container.
    pub fn news(&self) -> tokio::sync::broadcast::Receiver<News> {
        self.inner.runs.news()
    }

    /// All containers, as the engine inspects them.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn containers(&self) -> std::result::Result<Vec<Value>, client::Error> {
        let mut all = Vec::new();
        for id in json::ids(&self.inner.client.get("/containers/json?all=true").await?) {
            all.extend(self.container(&id).await?);
        }
        Ok(all)
    }

    /// A container, as the engine inspects it; none if it is gone.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn container(&self, id: &str) -> std::result::Result<Option<Value>, client::Error> {
        match self.inner.client.get(&format!("/containers/{id}/json")).await {
            Ok(inspected) => Ok(Some(inspected)),
            Err(error) if error.is(http::StatusCode::NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether this is the container that k2d runs in.
    pub fn is_itself(&self, id: &str) -> bool {
        self.inner.paths.container() == Some(id)
    }

    /// Makes a container that k2d has not made known as the one of a Pod with this UID.
    pub fn adopt(&self, uid: &str, name: &str, inspected: &Value, namespace: &str, pod: &str) {
        let networks = at(inspected, &["NetworkSettings", "Networks"]).as_object();
        let mut addresses = networks.into_iter().flatten().map(|(_, one)| text(one, &["IPAddress"]));
        let address = addresses.find_map(|address| address.parse().ok()).unwrap_or(Ipv4Addr::UNSPECIFIED);
        let placed = Placed {
            namespace: namespace.to_owned(),
            name: pod.to_owned(),
            hostname: text(inspected, &["Config", "Hostname"]).to_owned(),
            address,
            host_network: text(inspected, &["HostConfig", "NetworkMode"]) == "host",
            share_processes: false,
            sysctls: BTreeMap::new(),
            holder: None,
            manifests: None,
        };
        self.inner.sandboxes.lock().insert(uid.to_owned(), placed);
        self.inner.foreign.lock().insert(uid.to_owned(), text(inspected, &["Id"]).to_owned());
        self.found_container(uid, name, inspected);
    }
}

fn facts(about: &Value, info: &Value) -> NodeFacts {
    let engine = at(about, &["Components"]).get(0).map_or("", |first| text(first, &["Name"]));
    let runtime = if engine.contains("Podman") { "podman" } else { "docker" };
    let root = text(info, &["DockerRootDir"]);
    let storage = rustix::fs::statvfs(root).or_else(|_| rustix::fs::statvfs("/"));
    let line = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let first = |one: String, other: &str| if one.is_empty() { other.to_owned() } else { one };
    NodeFacts {
        runtime: format!("{runtime}://{}", text(info, &["ServerVersion"])),
        kernel: text(info, &["KernelVersion"]).to_owned(),
        os_image: text(info, &["OperatingSystem"]).to_owned(),
        cpus: count(info, &["NCPU"]),
        memory: count(info, &["MemTotal"]),
        storage: storage.map_or(0, |about| about.f_blocks * about.f_frsize),
        // The image of k2d has no such file; the engine's own ID is as lasting.
        machine_id: first(line("/etc/machine-id"), text(info, &["ID"])),
        boot_id: line("/proc/sys/kernel/random/boot_id"),
        // The engine's word is Go's and Kubernetes'. This program may be of another one, as on a 64-bit kernel that runs 32-bit programs.
        architecture: first(text(about, &["Arch"]).to_owned(), d2k_kubeapi::architecture()),
    }
}

/// The features that the engine says of itself. Limits that it says nothing of are taken to be kept.
fn features(info: &Value) -> Vec<Feature> {
    let secures = |name: &str| {
        let options = texts(info, &["SecurityOptions"]);
        options
            .iter()
            .filter_map(|option| option.split(',').next())
            .any(|first| first == format!("name={name}"))
    };
    let limits = |field: &str| at(info, &[field]).as_bool() != Some(false);
    let has = |feature: &Feature| match feature {
        Feature::Seccomp => secures("seccomp"),
        Feature::AppArmor => secures("apparmor"),
        Feature::MemoryLimit => limits("MemoryLimit"),
        Feature::CpuLimit => limits("CpuCfsQuota"),
    };
    Feature::ALL.into_iter().filter(has).collect()
}

impl Engine for Docker {
    fn node(&self) -> NodeFacts {
        self.inner.facts.clone()
    }

    fn has(&self, feature: Feature) -> bool {
        self.inner.features.contains(&feature)
    }

    fn image<'a>(
        &'a self,
        reference: &'a str,
        pull: Pull,
        logins: &'a [Login],
    ) -> BoxFuture<'a, Result<Image>> {
        Box::pin(self.ensure_image(reference, pull, logins))
    }

    fn create_sandbox(&self, sandbox: Sandbox) -> BoxFuture<'_, Result<IpAddr>> {
        let (this, uid) = (self.clone(), sandbox.uid.clone());
        Box::pin(self.make(uid, async move { this.place(sandbox).await }))
    }

    fn remove_sandbox<'a>(&'a self, uid: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.remove_pod(uid))
    }

    fn create(&self, start: Start) -> BoxFuture<'_, Result<String>> {
        let (this, uid) = (self.clone(), start.pod.clone());
        Box::pin(self.make(uid, async move { this.create_container(start).await }))
    }

    fn start<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.start_container(id))
    }

    fn wait<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Exit>> {
        Box::pin(self.inner.runs.wait(id))
    }

    fn signal<'a>(&'a self, id: &'a str, signal: i32) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.kill(id, signal))
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.remove_container(id))
    }

    fn attach<'a>(&'a self, id: &'a str, stdin: bool) -> BoxFuture<'a, Result<Session>> {
        Box::pin(self.attach_to(id, stdin))
    }

    fn exec<'a>(&'a self, id: &'a str, exec: Exec) -> BoxFuture<'a, Result<Session>> {
        Box::pin(self.exec_in(id, exec))
    }

    fn limit<'a>(&'a self, id: &'a str, limits: Limits) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.update(id, limits))
    }

    fn usage<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Usage>> {
        Box::pin(self.figures(id))
    }

    fn connect<'a>(&'a self, uid: &'a str, port: u16) -> BoxFuture<'a, Result<Box<dyn Stream>>> {
        Box::pin(self.connect_to(uid, port))
    }

    fn dial<'a>(&'a self, uid: &'a str, port: u16) -> BoxFuture<'a, Result<Box<dyn Stream>>> {
        Box::pin(self.dial_to(uid, port))
    }

    fn restarts(&self) -> bool {
        true
    }

    fn next_run<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Next>> {
        Box::pin(self.inner.runs.next(id))
    }

    fn is_restarting<'a>(&'a self, id: &'a str) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            self.inspect(id).await.is_ok_and(|inspected| flag(&inspected, &["State", "Restarting"]))
        })
    }

    fn found(&self, pod: &str, name: &str) -> Option<Found> {
        self.inner.found.lock().get(&(pod.to_owned(), name.to_owned())).cloned()
    }

    fn is_back(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.inner.runs.connected())
    }

    fn check_host_path<'a>(&'a self, path: &'a Path, kind: &'a str) -> Option<BoxFuture<'a, Result<()>>> {
        self.inner.paths.container()?;
        Some(Box::pin(self.check_on_machine(path, kind)))
    }

    fn log(&self, id: &str, query: LogQuery) -> Option<LogStream> {
        Some(self.log_of(id, query))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_engine_says_which_features_it_has() {
        let info = json!({
            "SecurityOptions": ["name=seccomp,profile=builtin", "name=cgroupns"],
            "MemoryLimit": false, "CpuCfsQuota": true,
        });
        assert_eq!(features(&info), [Feature::Seccomp, Feature::CpuLimit]);
        assert_eq!(features(&json!({})), [Feature::MemoryLimit, Feature::CpuLimit]);
    }
}
