//! The kubelet: runs the Pods of its Node through an engine, and tells in their status what it sees.
//! Each Pod has a task of its own, which lives until the Pod is gone.

mod clock;
mod container;
mod engine_log;
mod environment;
mod files;
mod follow;
mod forward;
pub mod host_path;
mod leaving;
mod log_reader;
mod log_tail;
mod logs;
mod metrics;
mod node;
mod places;
mod pod;
mod probes;
mod renewal;
mod report;
mod run;
mod running;
mod sockets;
mod spdy;
mod state;
mod stopping;
mod streams;
#[cfg(test)]
pub mod testing;
mod tokens;
mod volumes;

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::Response;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::changes::Action;
use super::http::{self, Asked};
use super::identities::Identities;
use super::kinds;
use super::meta;
use super::status::{Result, Status};
use super::verbs::Api;
use d2k_engine::Engine;
pub use node::LEASES;
use running::Running;

/// What the kubelet is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name of its Node.
    pub node: String,
    /// The Node's address.
    pub address: std::net::IpAddr,
    /// Folder for the files of Pods.
    pub folder: PathBuf,
    /// The DNS server's address inside.
    pub dns: std::net::IpAddr,
    /// Domain of the cluster.
    pub domain: String,
    /// Where Pods reach the API server: variables that each container gets.
    pub variables: Vec<(String, String)>,
}

/// The kubelet.
pub struct Kubelet<E: Engine> {
    api: Arc<Api>,
    engine: Arc<E>,
    options: Options,
    /// Name of the engine, as the IDs of containers begin.
    runtime: String,
    pods: Mutex<HashMap<String, Arc<Running>>>,
    stopping: CancellationToken,
    /// Looks at paths of the machine.
    paths: host_path::Checks,
    /// Makes the tokens of Pods.
    identities: Arc<Identities>,
    /// Tells that the clock of the machine was set.
    clock: watch::Sender<()>,
}

impl<E: Engine> Kubelet<E> {
    /// A kubelet; it does nothing before [`Kubelet::run`].
    pub fn new(
        api: Arc<Api>,
        engine: Arc<E>,
        options: Options,
        identities: Arc<Identities>,
        stopping: CancellationToken,
    ) -> Arc<Self> {
        let (pods, paths, clock) = (Mutex::default(), host_path::Checks::default(), watch::Sender::new(()));
        let runtime = engine.node().runtime.split("://").next().unwrap_or_default().to_owned();
        Arc::new(Self { api, engine, options, runtime, pods, stopping, paths, identities, clock })
    }

    /// Makes the Node known.
    pub fn register(&self) {
        node::register(&self.api, &self.options.node, self.options.address, &self.engine.node());
        node::hold_lease(&self.api, &self.options.node);
    }

    /// Runs Pods until it is stopped.
    pub async fn run(self: Arc<Self>) {
        let clock = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                ended = clock.watch_clock() => {
                    let Err(error) = ended;
                    tracing::warn!(%error, "the clock is not watched: when it is set, tokens of Pods may end too early");
                }
                () = clock.stopping.cancelled() => {}
            }
        });
        let of = &kinds::POD;
        let mut bell = self.api.store.bell(&[of]);
        let mut seen = 0;
        let mut known: BTreeMap<String, watch::Sender<Option<Arc<Value>>>> = BTreeMap::new();
        loop {
            bell.hush();
            match if seen == 0 { Err(Status::no_resource()) } else { self.api.store.since(of, seen) } {
                Ok((changes, version)) => {
                    for change in changes {
                        let object = (change.action != Action::Deleted).then_some(change.object.clone());
                        self.see(&mut known, &change.object, object);
                    }
                    seen = version;
                }
                Err(_) => {
                    let list = self.api.list(of, "");
                    for sender in known.values().filter(|sender| is_gone(sender, &list.items)) {
                        sender.send_replace(None);
                    }
                    for pod in list.items {
                        self.see(&mut known, &pod, Some(pod.clone()));
                    }
                    seen = list.version;
                }
            }
            known.retain(|_, sender| !sender.is_closed());
            tokio::select! {
                rings = bell.rings() => if !rings { return },
                () = self.stopping.cancelled() => return,
            }
        }
    }

    /// Tells all Pods when the clock of the machine was set; ends only if that cannot be watched.
    async fn watch_clock(&self) -> std::io::Result<Infallible> {
        let changes = clock::Changes::new()?;
        loop {
            changes.wait().await?;
            self.clock.send_replace(());
        }
    }

    fn see(
        self: &Arc<Self>,
        known: &mut BTreeMap<String, watch::Sender<Option<Arc<Value>>>>,
        pod: &Arc<Value>,
        now: Option<Arc<Value>>,
    ) {
        if meta::string(pod, &["spec", "nodeName"]) != self.options.node {
            return;
        }
        let uid = meta::uid(pod);
        if let Some(sender) = known.get(uid) {
            sender.send_replace(now);
            return;
        }
        if now.is_none() {
            return;
        }
        let (sender, receiver) = watch::channel(now);
        known.insert(uid.to_owned(), sender);
        let running = Arc::new(Running::new(pod, |name| self.engine.found(uid, name)));
        self.pods.lock().insert(uid.to_owned(), running.clone());
        let (kubelet, uid) = (self.clone(), uid.to_owned());
        tokio::spawn(async move {
            tokio::select! {
                biased;
                // First: what ends now with d2k is not to be cleaned up, its Pods are there at the next start.
                () = kubelet.stopping.cancelled() => {}
                () = kubelet.run_pod(&running, receiver) => {}
            }
            kubelet.pods.lock().remove(&uid);
        });
    }

    /// A Pod that has a task here.
    fn running(&self, namespace: &str, name: &str) -> Result<(Arc<Value>, Arc<Running>)> {
        let pod = self.api.get(&kinds::POD, namespace, name)?;
        let running = self.pods.lock().get(meta::uid(&pod)).cloned();
        let running = running
            .ok_or_else(|| Status::bad_request(format!("pod {name} does not have a host assigned")))?;
        Ok((pod, running))
    }
}

/// Whether the Pod of a task is not among these.
fn is_gone(pod: &watch::Sender<Option<Arc<Value>>>, pods: &[Arc<Value>]) -> bool {
    let uid = pod.borrow().as_deref().map(|pod| meta::uid(pod).to_owned());
    uid.is_some_and(|uid| pods.iter().all(|pod| meta::uid(pod) != uid))
}

impl<E: Engine> http::Node for Kubelet<E> {
    fn serve<'a>(&'a self, asked: Asked, request: Request) -> BoxFuture<'a, Result<Response<Body>>> {
        async move {
            if asked.what != "log" && !request.headers().contains_key(axum::http::header::UPGRADE) {
                self.container_of(&asked)?;
                return Err(Status::bad_request("Upgrade request required"));
            }
            match asked.what.as_str() {
                "log" => self.log(&asked),
                "exec" => self.exec(&asked, request).await,
                "attach" => self.attach(&asked, request).await,
                _ => self.port_forward(&asked, request).await,
            }
        }
        .boxed()
    }

    fn metrics<'a>(
        &'a self,
        resource: &'a str,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Value>>> {
        async move {
            Ok(if resource == "pods" {
                self.pod_metrics(namespace, name).await
            } else {
                self.node_metrics(name).await
            })
        }
        .boxed()
    }
}
