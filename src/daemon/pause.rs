//! `docker pause` and `unpause`: a command of the helper stops all processes of the container and stays
//! in it until they are to go on. Which Pod is paused is on record.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::Daemon;
use super::lifecycle::not_running;
use d2k_cluster::{Process, Wanted};
use d2k_common::fault::{Fault, Result};
use d2k_translate::container::Container;
use d2k_translate::helper::{self, protocol};
use d2k_translate::keys;

/// How long stopping, or letting go, may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The longest line that is read of the helper, in bytes.
const LINE: u64 = 1024;

/// The connections by which containers are held, by container ID.
#[derive(Default)]
pub struct Held(Mutex<HashMap<String, Process>>);

impl Held {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<String, Process>) -> T) -> T {
        act(&mut self.0.lock())
    }

    /// Lets a connection go.
    pub(crate) fn forget(&self, id: &str) {
        self.with(|all| all.remove(id));
    }
}

impl Daemon {
    /// Stops all processes of a container.
    ///
    /// # Errors
    /// 409 if it does not run or is paused, 501 if it runs without the helper.
    pub async fn pause(&self, key: &str) -> Result<()> {
        let id = self.managed(key)?.record.id.clone();
        let _lock = self.locks.container(&id).await;
        let container = self.container(&id)?;
        let pod = container.running_pod().ok_or_else(|| not_running(&container))?;
        if container.state().paused {
            return Err(Fault::conflict(format!("container {id} is already paused")));
        }
        require_helper(&container, "paused")?;
        self.hold(&container, &pod).await?;
        let uid = container.pod().and_then(|pod| pod.metadata.uid.clone());
        self.annotate(&container, &json!({keys::PAUSED: uid})).await?;
        self.tell(&container.record, "paused", []);
        Ok(())
    }

    /// Stops all processes until [`Daemon::let_go`], or until they are told to go on.
    pub(crate) async fn hold(&self, container: &Container, pod: &str) -> Result<()> {
        let id = &container.record.id;
        let hold = helper::command(["hold"]);
        let wanted = Wanted { stdout: true, stderr: true, ..Wanted::default() };
        let mut process = self.cluster.exec(pod, &container.container_name(), &hold, wanted).await?;
        let said = tokio::time::timeout(LIMIT, first_line(&mut process)).await.unwrap_or_default();
        if said != protocol::HELD {
            let why = if said.is_empty() { "its helper does not answer" } else { &said };
            return Err(Fault::internal(format!("cannot stop the processes of container {id}: {why}")));
        }
        self.held.with(|all| all.insert(id.clone(), process));
        Ok(())
    }

    /// Lets held processes go on; nothing happens to those that are not held.
    pub(crate) async fn let_go(&self, container: &Container, pod: &str) -> Result<()> {
        let id = &container.record.id;
        let command = helper::command(["let-go"]);
        let (code, words) = self.run_quietly(pod, &container.container_name(), &command).await?;
        if code != 0 {
            let why = words.trim();
            return Err(Fault::internal(format!("cannot let the processes of container {id} go on: {why}")));
        }
        self.held.forget(id);
        Ok(())
    }

    /// Lets the processes of a paused container go on.
    ///
    /// # Errors
    /// 409 if it is not paused.
    pub async fn unpause(&self, key: &str) -> Result<()> {
        let id = self.managed(key)?.record.id.clone();
        let _lock = self.locks.container(&id).await;
        self.unpause_locked(&self.container(&id)?).await
    }

    /// The same for a caller that has the container's lock.
    pub(crate) async fn unpause_locked(&self, container: &Container) -> Result<()> {
        let id = &container.record.id;
        if !container.state().paused {
            return Err(Fault::conflict(format!("Container {id} is not paused")));
        }
        let pod = container.running_pod().ok_or_else(|| not_running(container))?;
        self.let_go(container, &pod).await?;
        self.annotate(container, &json!({keys::PAUSED: null})).await?;
        self.tell(&container.record, "unpaused", []);
        Ok(())
    }
}

async fn first_line(process: &mut Process) -> String {
    let Some(stdout) = process.stdout.take() else { return String::new() };
    let mut line = Vec::new();
    let _ = BufReader::new(stdout).take(LINE).read_until(b'\n', &mut line).await;
    String::from_utf8_lossy(&line).trim().to_owned()
}

/// Refuses what only the helper can do.
fn require_helper(container: &Container, verb: &str) -> Result<()> {
    if container.has_helper() {
        return Ok(());
    }
    Err(Fault::not_implemented(format!(
        "d2k: container {} runs without d2k's helper, and Kubernetes alone cannot have it {verb}; create it again \
         with the workload policy's setting helper: always",
        container.record.name
    )))
}
