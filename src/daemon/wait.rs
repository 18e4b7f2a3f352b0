//! `docker wait` in its three conditions, woken by the watch.

use super::Daemon;
use d2k_translate::container::Container;
use d2k_translate::record::RunState;
use d2k_translate::state::{Phase, last_end, status_of};

/// What `wait` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// The container does not run (true at once for one that never ran).
    NotRunning,
    /// The next end of a run.
    NextExit,
    /// The container is gone.
    Removed,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Exit code, 0 to 255.
    pub code: i32,
    /// Why it could not run, or empty.
    pub error: String,
}

impl Daemon {
    /// Waits for a container; `None` when d2k ends first.
    pub async fn wait(&self, container: &Container, condition: Condition) -> Option<Outcome> {
        let id = container.record.id.clone();
        let before = ends(container);
        // The end of a run that is followed by another one is known while that one is waited for.
        let known = before.2 + i32::from(container.state().phase == Phase::Restarting);
        let mut last = outcome(container);
        let recorded = end_of(&container.record.state);
        let mut ran = false;
        let look = || {
            let Some(now) = self.container_by_id(&id) else {
                // It may have ended and gone since the last look.
                let end = self.runs.end_of(&id).map(|(code, error)| Outcome { code, error });
                return (!self.runs.is_replacing(&id)).then(|| end.unwrap_or_else(|| last.clone()));
            };
            if condition != Condition::Removed
                && let Some(code) = restarted(&now, &before, known)
            {
                return Some(Outcome { code, error: String::new() });
            }
            last = outcome(&now);
            ran |= now.state().running();
            let over = match condition {
                Condition::NotRunning => !now.state().running() && !self.is_starting(&id),
                Condition::NextExit => ends(&now) != before && !now.state().running(),
                Condition::Removed => false,
            };
            // Docker answers when the exit is final: what inspect shows next must agree.
            // A run that was seen has an end that is written down, possibly after its Pod is gone.
            let written = !ran || end_of(&now.record.state) != recorded;
            (over && (!now.own || (written && is_recorded(&now)))).then(|| last.clone())
        };
        tokio::select! {
            outcome = self.cluster.until(look) => Some(outcome),
            () = self.stopping.cancelled() => None,
        }
    }
}

/// The exit code of a run that is followed by another one, by restart policy: Docker tells those who wait
/// of every end, final or not.
fn restarted(now: &Container, before: &Ends, known: i32) -> Option<i32> {
    let state = now.state();
    if state.phase == Phase::Restarting && ends(now) != *before {
        return Some(state.run.exit_code);
    }
    let (last, _) = last_end(status_of(now.pod()?, &now.record.object)?)?;
    (state.phase == Phase::Running && state.run.restart_count > known).then_some(last.exit_code)
}

type Ends = (Option<jiff::Timestamp>, String, i32, String);

/// What changes with each end of a run.
fn ends(container: &Container) -> Ends {
    let run = container.state().run;
    (run.finished, run.pod, run.restart_count, run.error)
}

fn is_recorded(container: &Container) -> bool {
    let state = container.state();
    state.phase == Phase::Created || end_of(&container.record.state) == end_of(&state.run)
}

/// What tells the end of one run from that of another: Kubernetes tells times to the second, and two
/// runs may end in the same one.
fn end_of(run: &RunState) -> (Option<jiff::Timestamp>, String) {
    (run.finished, run.pod.clone())
}

fn outcome(container: &Container) -> Outcome {
    let run = container.state().run;
    Outcome { code: run.exit_code, error: run.error }
}
