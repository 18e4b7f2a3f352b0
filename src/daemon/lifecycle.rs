//! `docker stop`, `kill`, `restart` and `rename`. A stop scales the workload down and answers when
//! the end of the Pod is on record; signals that Kubernetes does not know are sent by exec.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::Daemon;
use super::reservations::Reservation;
use d2k_common::fault::{Fault, Result};
use d2k_common::signal;
use d2k_translate::container::{Container, Kind};
use d2k_translate::record::{self, RunState};
use d2k_translate::state::Phase;
use d2k_translate::{helper, keys, validate};

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;
/// The longest grace period: `docker stop -t -1` waits without end.
const ENDLESS: i64 = 365 * 86_400;

/// How long a kill from inside may take before the Pod is ended from outside.
const STRIKE: Duration = Duration::from_secs(3);

impl Daemon {
    /// Stops a container: signal, grace period (seconds, negative = endless), kill.
    ///
    /// # Errors
    /// 304 if it does not run.
    pub async fn stop(&self, key: &str, timeout: Option<i64>, signal: Option<i32>) -> Result<()> {
        let id = self.managed(key)?.record.id.clone();
        let _lock = self.locks.container(&id).await;
        let container = self.container(&id)?;
        if !container.state().running() {
            return Err(Fault::not_modified());
        }
        self.stop_locked(&container, timeout, signal).await?;
        self.tell(&container.record, "stopped", []);
        Ok(())
    }

    pub(crate) async fn stop_locked(
        &self,
        container: &Container,
        timeout: Option<i64>,
        signal: Option<i32>,
    ) -> Result<()> {
        let grace = match timeout.unwrap_or_else(|| container.record.stop_timeout()) {
            ..0 => ENDLESS,
            seconds => seconds.min(ENDLESS),
        };
        if container.state().paused {
            // Held processes take no signal; the end would come by force.
            self.unpause_locked(container).await?;
        }
        let sent = signal.unwrap_or_else(|| stop_signal(container));
        if container.state().phase == Phase::Restarting {
            // No process is there to get a signal, and its end was told.
            return self.take_down(container, grace).await;
        }
        self.tell(&container.record, "signalled", [("signal", sent.to_string())]);
        if sent != image_signal(container) {
            // The kubelet knows only the image's own signal, and sends it at the end of the Pod.
            self.signal_by_exec(container, sent).await?;
            let over = Duration::from_secs(grace.unsigned_abs());
            let id = container.record.id.clone();
            let ended = || self.container_by_id(&id).is_none_or(|c| !c.state().running()).then_some(());
            if self.cluster.wait(over, ended).await.is_none() {
                return self.take_down(container, 1).await;
            }
        }
        self.take_down(container, grace).await
    }

    /// Sends a signal. `KILL` ends the container; what it does to others is theirs to decide.
    ///
    /// # Errors
    /// 409 if it does not run.
    pub async fn kill(&self, key: &str, signal: i32) -> Result<()> {
        let container = self.managed(key)?;
        let id = container.record.id.clone();
        if !container.state().running() {
            return Err(not_running(&container));
        }
        if signal == SIGKILL {
            self.strike(&container).await;
        } else {
            self.tell(&container.record, "signalled", [("signal", signal.to_string())]);
            if self.try_signal(&container, signal).await.is_ok() {
                return Ok(());
            }
        }
        let _lock = self.locks.container(&id).await;
        let Some(container) = self.container_by_id(&id).filter(|c| c.state().running()) else {
            return Ok(());
        };
        if signal != SIGKILL {
            return self.signal_by_exec(&container, signal).await;
        }
        self.take_down(&container, 1).await
    }

    /// Kills the container's process from inside, where there is a helper, else cuts its grace period short.
    /// That needs no lock: a stop with a long grace period may hold it.
    pub(crate) async fn strike(&self, container: &Container) {
        let Some(pod) = container.pod() else { return };
        self.tell(&container.record, "signalled", [("signal", SIGKILL.to_string())]);
        self.runs.kill(pod.metadata.uid.as_deref().unwrap_or_default());
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let struck = if container.has_helper() && !container.state().paused {
            let command = helper::command(["kill", &SIGKILL.to_string()]);
            let own = container.container_name();
            let words = self.run_quietly(name, &own, &command);
            // The connection may go with the process, and say no more.
            tokio::time::timeout(STRIKE, words).await.unwrap_or_else(|_| Ok((0, String::new()))).map(|_| ())
        } else if container.own && pod.metadata.deletion_timestamp.is_some() {
            self.cluster.begin_delete::<Pod>(name, Some(1)).await
        } else {
            return;
        };
        if let Err(fault) = struck {
            tracing::debug!(container = container.record.name, why = fault.message, "the Pod's end will do");
        }
    }

    /// Sends a signal to the container's first process; without a `kill` in the image, the signals
    /// that end a process end the Pod instead.
    async fn signal_by_exec(&self, container: &Container, signal: i32) -> Result<()> {
        match self.try_signal(container, signal).await {
            // HUP, INT, QUIT and TERM end a process that does not handle them.
            Err(_) if matches!(signal, 1 | 2 | 3 | 15) => {
                self.take_down(container, container.record.stop_timeout()).await
            }
            Err(_) if signal == SIGKILL => self.take_down(container, 1).await,
            result => result,
        }
    }

    /// Sends a signal with the image's own `kill`.
    async fn try_signal(&self, container: &Container, signal: i32) -> Result<()> {
        let pod = container.running_pod().ok_or_else(|| not_running(container))?;
        if container.record.host().pid_mode.as_deref() == Some("host") {
            return Err(Fault::not_implemented(format!(
                "signal {} is not sent to container {}: process 1 is the node's own there (--pid host)",
                signal::name(signal),
                container.record.name
            )));
        }
        // The kernel keeps STOP from the first process, which is held in another way.
        match signal {
            SIGSTOP if container.has_helper() => return self.hold(container, &pod).await,
            SIGCONT if container.has_helper() => self.let_go(container, &pod).await?,
            _ => {}
        }
        let mut commands = vec![
            vec!["kill".to_owned(), format!("-{signal}"), "1".to_owned()],
            vec!["/bin/sh".to_owned(), "-c".to_owned(), format!("kill -{signal} 1")],
        ];
        if container.has_helper() {
            commands.insert(0, helper::command(["kill", &signal.to_string()]));
        }
        let mut words = String::new();
        for command in commands {
            match self.run_quietly(&pod, &container.container_name(), &command).await {
                Ok((0, _)) => return Ok(()),
                Ok((_, output)) => words = output,
                Err(fault) => words = fault.message,
            }
            if self.container_by_id(&container.record.id).is_none_or(|c| !c.state().running()) {
                return Ok(());
            }
        }
        Err(Fault::not_implemented(format!(
            "signal {} cannot be sent to container {}: its image has no kill command ({})",
            signal::name(signal),
            container.record.name,
            words.trim()
        )))
    }

    /// Stops a container if it runs, and starts it.
    ///
    /// # Errors
    /// Those of `stop` and `start`.
    pub async fn restart(
        self: &std::sync::Arc<Self>,
        key: &str,
        timeout: Option<i64>,
        signal: Option<i32>,
    ) -> Result<()> {
        let id = self.managed(key)?.record.id.clone();
        let _lock = self.locks.container(&id).await;
        let container = self.container(&id)?;
        if container.own {
            // A container that may not start again is not stopped either.
            self.judge(&self.policies.current(), &container.record).await?;
        }
        if container.state().running() {
            self.stop_locked(&container, timeout, signal).await?;
            self.tell(&container.record, "stopped", []);
        }
        let container = self.container(&id)?;
        let started = self.start_locked(&container).await;
        started.map_err(|fault| {
            let message = format!("Cannot restart container {}: {}", container.record.name, fault.message);
            Fault { message, ..fault }
        })?;
        self.tell(&container.record, "restarted", []);
        Ok(())
    }

    /// Gives a container another Docker name. The Kubernetes object keeps its own.
    ///
    /// # Errors
    /// 400 for an illegal name, 409 for one in use.
    pub async fn rename(&self, key: &str, name: &str) -> Result<()> {
        let name = name.strip_prefix('/').unwrap_or(name);
        let container = self.container(key)?;
        let worded = |fault: Fault| {
            let message = format!("Error when allocating new name: {}", fault.message);
            Fault { message, ..fault }
        };
        validate::name(&format!("/{name}")).map_err(worded)?;
        self.require_own(&container, "renamed")?;
        let record = &container.record;
        if record.name == name {
            let message = "Renaming a container with the same name as its current name";
            return Err(Fault::invalid(message));
        }
        let _name = self.locks.name(name).ok_or_else(|| worded(self.name_conflict(name, None)))?;
        if let Some(owner) = self.name_owner(name) {
            return Err(worded(self.name_conflict(name, Some(&owner))));
        }
        let reserved = self.reserve_name(name, &record.id).await.map_err(worded)?;
        self.bear(&container, name, &reserved).await.map_err(worded)?;
        self.release_name(&record.name, &record.id).await;
        let renamed = self.container(&record.id)?;
        self.tell(&renamed.record, "renamed", [("oldName", format!("/{}", record.name))]);
        self.sync_networks().await;
        Ok(())
    }

    /// Writes the new name down, and the old one again if another container has got the new one meanwhile.
    async fn bear(&self, container: &Container, name: &str, reserved: &Reservation) -> Result<()> {
        let record = &container.record;
        let written = match self.annotate(container, &json!({keys::NAME: name})).await {
            Ok(()) => self.confirm_name(reserved).await,
            Err(fault) => Err(fault),
        };
        if written.is_err() {
            let undone = self.annotate(container, &json!({keys::NAME: record.name})).await;
            if let Err(error) = undone {
                tracing::warn!(container = %record.name, %error, "a failed rename was not undone");
            }
            self.release_name(name, &record.id).await;
        }
        written
    }

    /// Changes annotations of a container's workload.
    pub(crate) async fn annotate(&self, container: &Container, notes: &serde_json::Value) -> Result<()> {
        let patch = json!({"metadata": {"annotations": notes}});
        let object = &container.record.object;
        match container.kind {
            Kind::Deployment => self.cluster.patch::<Deployment>(object, &patch).await.map(|_| ()),
            Kind::Job => self.cluster.patch::<Job>(object, &patch).await.map(|_| ()),
            Kind::StatefulSet => self.cluster.patch::<StatefulSet>(object, &patch).await.map(|_| ()),
            Kind::DaemonSet | Kind::Pod => Err(Fault::not_implemented("this workload cannot be changed")),
        }
    }

    /// Puts the end of a run on record.
    pub(crate) async fn record_end(&self, container: &Container, run: &RunState) -> Result<()> {
        self.runs.note_end(&container.record.id, run.exit_code, &run.error);
        let notes = json!({keys::STATE: record::json(run)});
        let object = &container.record.object;
        if container.kind == Kind::Deployment && container.wanted > 0 {
            let patch = json!({"metadata": {"annotations": notes}, "spec": {"replicas": 0}});
            return self.cluster.patch::<Deployment>(object, &patch).await.map(|_| ());
        }
        self.annotate(container, &notes).await
    }

    /// Refuses what d2k cannot do to a workload that it did not make.
    pub(crate) fn require_own(&self, container: &Container, verb: &str) -> Result<()> {
        if container.own {
            return Ok(());
        }
        let (kind, name) = (container.kind.as_str(), &container.record.object);
        Err(Fault::conflict(format!(
            "container {} is the {kind} {name}, which d2k did not make: it cannot be {verb} here; use kubectl",
            container.record.name
        )))
    }
}

/// The signal that stops the container: the request's, the image's, or TERM.
fn stop_signal(container: &Container) -> i32 {
    let asked = container.record.body.stop_signal.as_deref().unwrap_or_default();
    signal::number(asked).unwrap_or_else(|_| image_signal(container))
}

/// The signal that the kubelet sends: the image's, or TERM.
fn image_signal(container: &Container) -> i32 {
    signal::number(&container.record.image.stop_signal).unwrap_or(SIGTERM)
}

pub(crate) fn not_running(container: &Container) -> Fault {
    Fault::conflict(format!("container {} is not running", container.record.id))
}
