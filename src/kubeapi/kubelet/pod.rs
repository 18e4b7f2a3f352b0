//! The life of one Pod: volumes, sandbox, init containers, containers, and its end with the grace
//! period that it was given.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Kubelet;
use super::running::{Running, Volumes};
use super::state::{End, Phase, State};
use crate::events::{self, About};
use crate::kinds;
use crate::meta::{self, at, items, string};
use crate::verbs::{DeleteOptions, Target};
use d2k_engine::{Engine, Sandbox};

/// Pause before something is tried again that a Pod cannot begin without.
const AGAIN: Duration = Duration::from_secs(2);
/// Longest one.
const LONGEST: Duration = Duration::from_secs(60);
/// How long a container beside the main ones may take to end after them.
const SIDE: Duration = Duration::from_secs(30);
/// Why the life of a Pod is at its end.
enum Cause {
    /// It is to be deleted, or has been.
    Deleted(Option<Arc<Value>>),
    /// It has lived as long as it may.
    Deadline,
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
        let deadline = async {
            match left(&pod).filter(|_| !over) {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        let files = async { tokio::join!(self.refresh_volumes(running), self.renew_tokens(running)) };
        let work = async { tokio::join!(reporting, living, files) };
        tokio::pin!(work);
        let cause = tokio::select! {
            gone = self.until_deleted(running, &mut pods) => Cause::Deleted(gone),
            () = deadline => Cause::Deadline,
            _ = &mut work => Cause::Deleted(None),
        };
        running.ending.cancel();
        // The containers' own tasks go on, and report their ends.
        let deleted = async {
            let gone = match cause {
                Cause::Deleted(gone) => gone,
                Cause::Deadline => {
                    self.fail(running, &pod).await;
                    self.until_deleted(running, &mut pods).await
                }
            };
            let grace = gone.as_deref().map(grace).unwrap_or_default();
            self.end(running, &pod, grace, &mut pods).await;
            gone
        };
        let gone = tokio::select! {
            gone = deleted => gone,
            _ = &mut work => None,
        };
        self.report(running, meta::uid(&pod));
        self.clean_up(&pod).await;
        if gone.is_some() {
            self.forget(&pod, &mut pods).await;
        }
    }

    /// Follows a Pod until it is to be deleted (the Pod) or has been (nothing).
    async fn until_deleted(
        self: &Arc<Self>,
        running: &Arc<Running>,
        pods: &mut watch::Receiver<Option<Arc<Value>>>,
    ) -> Option<Arc<Value>> {
        loop {
            let now = pods.borrow_and_update().clone()?;
            let before = running.becomes(now.clone());
            if meta::deleting(&now) {
                return Some(now);
            }
            if !running.ending.is_cancelled() {
                self.follow(running, &before, &now).await;
            }
            pods.changed().await.ok()?;
        }
    }

    /// Ends a Pod that has lived as long as it may; the object stays.
    async fn fail(&self, running: &Arc<Running>, pod: &Value) {
        let words = "Pod was active on the node longer than the specified deadline";
        let about = About::new(pod, "kubelet");
        events::record(&self.api, &about, "Normal", "DeadlineExceeded", words);
        running.fails("DeadlineExceeded", words);
        let grace = meta::number(pod, &["spec", "terminationGracePeriodSeconds"]).unwrap_or(30);
        let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(30));
        let names: Vec<String> = running.states().into_keys().collect();
        join_all(names.iter().map(|name| self.stop_within(running, pod, name, grace))).await;
        self.report(running, meta::uid(pod));
    }

    /// Brings a Pod up and keeps its containers.
    async fn live(self: &Arc<Self>, running: &Arc<Running>, pod: &Arc<Value>) {
        let about = About::new(pod, "kubelet");
        let Some(mounts) = self.mounted(running, pod, &about).await else { return };
        let ip = loop {
            match self.engine.create_sandbox(self.sandbox(pod)).await {
                Ok(ip) => break ip,
                Err(trouble) => {
                    let words = format!("Failed to create pod sandbox: {}", trouble.message);
                    events::record(&self.api, &about, "Warning", trouble.reason, &words);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                () = self.engine.is_back() => {}
                () = running.ending.cancelled() => return,
            }
        };
        running.placed(mounts.clone(), ip.to_string());
        self.start_ephemeral(running, &running.now());
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
        // What is beside the main containers ends with them, the last one first.
        let init = items(pod, &["spec", "initContainers"]).iter().rev();
        for side in init.filter(|c| string(c, &["restartPolicy"]) == "Always") {
            running.over.cancel();
            self.stop_within(running, pod, string(side, &["name"]), SIDE).await;
        }
    }

    /// The volumes of a Pod, once all can be made: at once when an object is there that was missing, else after longer and longer pauses.
    /// Nothing if the Pod ends before.
    async fn mounted(&self, running: &Running, pod: &Value, about: &About) -> Option<Volumes> {
        let mut bell = self.api.store.bell(&[
            &kinds::CONFIG_MAP,
            &kinds::SECRET,
            &kinds::PERSISTENT_VOLUME,
            &kinds::PERSISTENT_VOLUME_CLAIM,
        ]);
        let (mut pause, mut next) = (AGAIN, Instant::now() + AGAIN);
        loop {
            bell.hush();
            let error = match self.volumes(running, pod).await {
                Ok(mounts) => return Some(mounts),
                Err(error) => error,
            };
            let object = async {
                if !error.lacks_object() || !bell.rings().await {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = object => {}
                () = self.engine.is_back() => {}
                () = tokio::time::sleep_until(next) => {
                    events::record(&self.api, about, "Warning", "FailedMount", &error.to_string());
                    pause = (pause * 2).min(LONGEST);
                    next = Instant::now() + pause;
                }
                () = running.ending.cancelled() => return None,
            }
        }
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
        grace_given: Duration,
        pods: &mut watch::Receiver<Option<Arc<Value>>>,
    ) {
        let mut limit = grace_given;
        let begin = Instant::now();
        let names: Vec<String> = running.states().into_keys().collect();
        let stopped = async {
            let runs = |state: &State| matches!(state.phase, Phase::Running { .. });
            // One that is to go at once does not wait for anybody.
            if !grace_given.is_zero() && running.states().values().any(runs) {
                self.leave_services(pod).await;
            }
            self.stop_in_order(running, pod, &names).await;
        };
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                _ = &mut stopped => return,
                () = tokio::time::sleep(limit.saturating_sub(begin.elapsed())) => break,
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

    /// Stops the main containers, then those beside them.
    async fn stop_in_order(&self, running: &Arc<Running>, pod: &Value, names: &[String]) {
        let main = |name: &&String| {
            !items(pod, &["spec", "initContainers"]).iter().any(|c| string(c, &["name"]) == name.as_str())
        };
        let first = names.iter().filter(main);
        join_all(first.map(|name| self.stop_container(running, pod, name))).await;
        let then = names.iter().filter(|name| !main(name));
        join_all(then.map(|name| self.stop_container(running, pod, name))).await;
    }

    /// Removes what a Pod had on this machine. An engine that cannot is asked again: nobody else ever would, and the Pod's containers
    /// would run on.
    async fn clean_up(&self, pod: &Value) {
        let mut pause = AGAIN;
        while let Err(trouble) = self.engine.remove_sandbox(meta::uid(pod)).await {
            let words = format!("error killing pod: {}", trouble.message);
            events::record(&self.api, &About::new(pod, "kubelet"), "Warning", "FailedKillPod", &words);
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST),
                () = self.engine.is_back() => {}
            }
        }
        self.remove_volumes(meta::uid(pod)).await;
    }

    /// Removes the object; a finalizer may keep it for a while.
    async fn forget(&self, pod: &Value, pods: &mut watch::Receiver<Option<Arc<Value>>>) {
        self.delete_now(pod);
        while pods.borrow_and_update().is_some() && pods.changed().await.is_ok() {}
    }

    /// Deletes the object of a Pod without a grace period, unless another Pod has its name by now.
    pub(super) fn delete_now(&self, pod: &Value) {
        let target = Target::own(&kinds::POD, meta::namespace(pod), meta::name(pod));
        let preconditions = serde_json::json!({"uid": meta::uid(pod)});
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            preconditions: serde_json::from_value(preconditions).ok(),
            ..DeleteOptions::default()
        };
        // Deleted by somebody else already, it is gone as well.
        let _ = self.api.delete(&target, &options);
    }
}

/// The grace period that a Pod is deleted with.
fn grace(pod: &Value) -> Duration {
    let seconds = meta::number(pod, &["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// How long a Pod may still live, where that is limited.
fn left(pod: &Value) -> Option<Duration> {
    let limit = meta::number(pod, &["spec", "activeDeadlineSeconds"])?;
    let begun = string(pod, &["status", "startTime"]).parse().unwrap_or_else(|_| Timestamp::now());
    let left = begun.as_second().saturating_add(limit) - Timestamp::now().as_second();
    Some(Duration::from_secs(u64::try_from(left).unwrap_or(0)))
}

/// Whether one container is all that a Pod has, with nothing that belongs to the Pod and not to the container.
fn is_alone(pod: &Value) -> bool {
    items(pod, &["spec", "containers"]).len() == 1
        && items(pod, &["spec", "initContainers"]).is_empty()
        && at(pod, &["spec", "shareProcessNamespace"]).as_bool() != Some(true)
        && super::volumes::memory(pod).is_empty()
}

impl<E: Engine> Kubelet<E> {
    fn sandbox(&self, pod: &Value) -> Sandbox {
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
            memory: super::volumes::memory(pod),
            host_network: at(pod, &["spec", "hostNetwork"]).as_bool() == Some(true),
            share_processes: at(pod, &["spec", "shareProcessNamespace"]).as_bool() == Some(true),
            alone: is_alone(pod),
            sysctls: sysctls
                .map(|s| (string(s, &["name"]).to_owned(), string(s, &["value"]).to_owned()))
                .collect(),
            manifests: if self.engine.restarts() { self.manifests(pod) } else { Vec::new() },
        }
    }

    /// The Pod and the objects that own it, the Pod first.
    fn manifests(&self, pod: &Value) -> Vec<String> {
        let mut all = vec![manifest(pod)];
        let mut object = Arc::new(pod.clone());
        while let Some(owner) = meta::controller(&object) {
            let kind = kinds::of(string(owner, &["apiVersion"]), string(owner, &["kind"]));
            let name = string(owner, &["name"]);
            let found = kind.and_then(|kind| self.api.get(kind, meta::namespace(pod), name).ok());
            let Some(found) = found else { break };
            all.push(manifest(&found));
            object = found;
        }
        all
    }
}

/// What somebody has to write to have this object again, with its identity.
fn manifest(object: &Value) -> String {
    let metadata: serde_json::Map<String, Value> =
        ["name", "namespace", "uid", "labels", "annotations", "ownerReferences"]
            .into_iter()
            .filter_map(|field| Some((field.to_owned(), object.get("metadata")?.get(field)?.clone())))
            .collect();
    let field = |name: &str| object.get(name).cloned().unwrap_or_default();
    serde_json::json!({
        "apiVersion": field("apiVersion"), "kind": field("kind"), "metadata": metadata, "spec": field("spec"),
    })
    .to_string()
}
