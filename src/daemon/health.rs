//! Running health checks: one task a running container that has a check, by exec, on Docker's
//! timetable. A readiness probe would know no start interval, no log, and no other user.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde_json::Value;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Daemon;
use super::logs::{Run, run_of};
use d2k_translate::container::Container;
use d2k_translate::health::{Check, Health, Outcome, check};

/// How long after a check that was cut short the news of the container's end may come: a kubelet
/// looks once a second.
const NEWS: Duration = Duration::from_secs(2);
/// Exit codes of a check that was cut short: it could not run, or it was killed.
const CUT_SHORT: [i32; 2] = [-1, 137];

/// The health of the running containers.
#[derive(Default)]
pub struct Healths(Mutex<HashMap<String, Watched>>);

struct Watched {
    run: Run,
    health: Health,
    _stop: DropGuard,
}

impl Healths {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<String, Watched>) -> T) -> T {
        act(&mut self.0.lock())
    }

    /// Ends the checks of a container.
    pub(crate) fn forget(&self, id: &str) {
        self.with(|all| all.remove(id));
    }

    /// Begins with a run, unless its checks are under way.
    fn begin(&self, id: &str, run: &Run, stop: &CancellationToken) -> bool {
        self.with(|all| {
            if all.get(id).is_some_and(|w| w.run == *run) {
                return false;
            }
            let watched =
                Watched { run: run.clone(), health: Health::default(), _stop: stop.clone().drop_guard() };
            all.insert(id.to_owned(), watched);
            true
        })
    }
}

impl Daemon {
    /// Begins the health checks of a run; without a check, or if they are under way, nothing happens.
    pub(crate) fn watch_health(self: Arc<Self>, container: &Container, _pod: &Pod) {
        let Some(check) = check(&container.record) else {
            return;
        };
        let Some(run) = run_of(container) else { return };
        let stop = self.stopping.child_token();
        if !self.health.begin(&container.record.id, &run, &stop) {
            return;
        }
        let container = container.clone();
        tokio::spawn(async move {
            stop.run_until_cancelled(self.clone().run_checks(&container, &check, &run)).await;
        });
    }

    /// Checks until the run is over.
    async fn run_checks(self: Arc<Self>, container: &Container, check: &Check, run: &Run) {
        let id = &container.record.id;
        let started = container.state().run.started.unwrap_or_else(Timestamp::now);
        let age = || Duration::try_from(Timestamp::now().duration_since(started)).unwrap_or_default();
        let starting =
            || self.health.with(|all| all.get(id).is_some_and(|w| w.health.status() == "starting"));
        // A run that was under way when d2k started has waited for its first check already.
        let mut waited = age();
        loop {
            let young = age() < check.start_period && starting();
            let pause = if young { check.start_interval.min(check.interval) } else { check.interval };
            tokio::time::sleep(pause.saturating_sub(std::mem::take(&mut waited))).await;
            let outcome = self.run_check(container, check).await;
            // A check that fails because its container has ended says nothing about health; the news
            // of that end may come a moment after the check's own.
            let patience = if CUT_SHORT.contains(&outcome.exit_code) { NEWS } else { Duration::ZERO };
            let over = || self.run_is_over(id, run).then_some(());
            if self.cluster.wait(patience, over).await.is_some() {
                return;
            }
            self.take_outcome(container, check, outcome, started);
        }
    }

    async fn run_check(&self, container: &Container, check: &Check) -> Outcome {
        let start = Timestamp::now();
        let Some(pod) = container.pod().and_then(|p| p.metadata.name.clone()) else {
            return Outcome { start, end: start, exit_code: 1, output: "the Pod is gone".into() };
        };
        let name = container.container_name();
        let run = tokio::time::timeout(check.timeout, self.run_to_the_end(&pod, &name, &check.command)).await;
        let (exit_code, output) = match run {
            Ok(Ok(result)) => result,
            Ok(Err(fault)) => (-1, fault.message),
            Err(_) => (-1, format!("Health check exceeded timeout ({:?})", check.timeout)),
        };
        Outcome { start, end: Timestamp::now(), exit_code, output }
    }

    fn take_outcome(&self, container: &Container, check: &Check, outcome: Outcome, started: Timestamp) {
        let changed = self.health.with(|all| {
            let watched = all.get_mut(&container.record.id)?;
            watched.health.take(outcome, check, started).then(|| watched.health.status())
        });
        if let Some(status) = changed {
            self.tell(&container.record, "health-changed", [("status", status.to_string())]);
            self.cluster.nudge();
        }
    }

    /// `State.Health` of a running container that has a check.
    pub fn health(&self, id: &str) -> Option<Value> {
        self.health.with(|all| all.get(id).map(|w| w.health.json()))
    }
}
