//! What changes in a Pod while it runs: limits, images, containers that come later, and the files of
//! its volumes.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::Kubelet;
use super::running::Running;
use super::state::Phase;
use crate::events::{self, About};
use crate::kinds;
use crate::meta::{self, at, items, number, string};
use d2k_engine::Engine;

/// Pause after a change, so that many changes are one look at the volumes.
const CALM: Duration = Duration::from_secs(1);

impl<E: Engine> Kubelet<E> {
    /// Makes a Pod that runs what it has become.
    pub(super) async fn follow(self: &Arc<Self>, running: &Arc<Running>, before: &Value, now: &Arc<Value>) {
        self.resize(running, before, now).await;
        self.replace_images(running, before, now);
        if !running.ip().is_empty() {
            self.start_ephemeral(running, now);
        }
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

    /// Ends containers whose image is another one now: they begin again with that.
    fn replace_images(self: &Arc<Self>, running: &Arc<Running>, before: &Value, now: &Arc<Value>) {
        for container in items(now, &["spec", "containers"]) {
            let name = string(container, &["name"]).to_owned();
            let old = items(before, &["spec", "containers"]).iter().find(|c| string(c, &["name"]) == name);
            let same = old.is_none_or(|old| at(old, &["image"]) == at(container, &["image"]));
            if same || !matches!(running.state(&name).phase, Phase::Running { .. }) {
                continue;
            }
            running.set(&name, |state| state.again = true);
            let about = About::new(now, "kubelet").container(&name);
            let words = format!("Container {name} definition changed, will be restarted");
            events::record(&self.api, &about, "Normal", "Killing", &words);
            let (kubelet, running, pod) = (self.clone(), running.clone(), now.clone());
            tokio::spawn(async move {
                let grace = number(&pod, &["spec", "terminationGracePeriodSeconds"]).unwrap_or(30);
                let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(30));
                kubelet.end_within(&running, &pod, &name, grace).await;
            });
        }
    }

    /// Starts the containers that have been put beside those of the Pod (`kubectl debug`).
    pub(super) fn start_ephemeral(self: &Arc<Self>, running: &Arc<Running>, pod: &Arc<Value>) {
        for container in items(pod, &["spec", "ephemeralContainers"]) {
            if !running.adds(string(container, &["name"])) {
                continue;
            }
            let (kubelet, running, pod) = (self.clone(), running.clone(), pod.clone());
            let mut container = container.clone();
            meta::map(&mut container).insert("restartPolicy".into(), "Never".into());
            tokio::spawn(async move {
                let volumes = running.volumes();
                kubelet.keep(&running, &pod, &container, &volumes, false).await;
            });
        }
    }

    /// Writes the files of volumes anew when the objects change that they come from.
    pub(super) async fn refresh_volumes(&self, running: &Running) {
        // The Pod itself is a source, too: the downward API shows its metadata.
        let mut bell = self.api.store.bell(&[&kinds::CONFIG_MAP, &kinds::SECRET, &kinds::POD]);
        let mut seen = self.sources(&running.now());
        while !seen.is_empty() {
            if !bell.rings().await {
                break;
            }
            tokio::time::sleep(CALM).await;
            bell.hush();
            let pod = running.now();
            let sources = self.sources(&pod);
            if running.ip().is_empty() || sources == seen {
                continue;
            }
            match self.volumes(running, &pod).await {
                Ok(_) => seen = sources,
                // As with a kubelet, what is there stays.
                Err(error) => {
                    let about = About::new(&pod, "kubelet");
                    events::record(&self.api, &about, "Warning", "FailedMount", &error.to_string());
                    seen = sources;
                }
            }
        }
        std::future::pending::<()>().await;
    }
}
