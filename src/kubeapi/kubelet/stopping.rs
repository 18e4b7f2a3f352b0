//! How a container is stopped: its hook, its signal, and force when its time is over.

use std::time::Duration;

use serde_json::Value;

use super::Kubelet;
use super::running::Running;
use super::state::Phase;
use crate::events::{self, About};
use crate::meta::string;
use d2k_common::signal;
use d2k_engine::{Engine, Pull};

impl<E: Engine> Kubelet<E> {
    /// Ends a container politely, and waits for it.
    pub(super) async fn stop_container(&self, running: &Running, pod: &Value, name: &str) {
        let state = running.state(name);
        if !matches!(state.phase, Phase::Running { .. }) {
            return;
        }
        let about = About::new(pod, "kubelet").container(name);
        events::record(&self.api, &about, "Normal", "Killing", &format!("Stopping container {name}"));
        self.before_stop(running, pod, name, &state.id).await;
        let signal = self.stop_signal(running, name).await;
        let _ = self.engine.signal(&state.id, signal).await;
        let _ = self.engine.wait(&state.id).await;
        // Its own task writes down the end.
        let mut changed = running.changed.subscribe();
        while matches!(running.state(name).phase, Phase::Running { .. }) && changed.changed().await.is_ok() {}
    }

    /// The signal of the image, else TERM.
    async fn stop_signal(&self, running: &Running, name: &str) -> i32 {
        let container = running.container(name).unwrap_or_default();
        let container = &container;
        let own = string(container, &["lifecycle", "stopSignal"]);
        let image = match own {
            "" => self.engine.image(string(container, &["image"]), Pull::Never, &[]).await.ok(),
            _ => None,
        };
        let named = image.and_then(|image| image.stop_signal).unwrap_or_else(|| own.to_owned());
        signal::number(&named).unwrap_or(15)
    }

    /// Ends a container politely, and not so politely after a while.
    pub(super) async fn stop_within(&self, running: &Running, pod: &Value, name: &str, grace: Duration) {
        let stopped = self.stop_container(running, pod, name);
        tokio::pin!(stopped);
        if tokio::time::timeout(grace, &mut stopped).await.is_err() {
            self.kill_container(running, name).await;
            stopped.await;
        }
    }

    /// The same without a word: who calls it has said why.
    pub(super) async fn end_within(&self, running: &Running, pod: &Value, name: &str, grace: Duration) {
        let id = running.state(name).id;
        let polite = async {
            self.before_stop(running, pod, name, &id).await;
            let signal = self.stop_signal(running, name).await;
            let _ = self.engine.signal(&id, signal).await;
            let _ = self.engine.wait(&id).await;
        };
        if tokio::time::timeout(grace, polite).await.is_err() {
            let _ = self.engine.signal(&id, 9).await;
        }
    }

    /// Ends a container at once.
    pub(super) async fn kill_container(&self, running: &Running, name: &str) {
        let state = running.state(name);
        if matches!(state.phase, Phase::Running { .. }) {
            let _ = self.engine.signal(&state.id, 9).await;
        }
    }
}
