//! What a container of a Pod does at the moment, and how its runs have ended.

use jiff::Timestamp;
use serde_json::Value;

use crate::meta::{self, at, items, string};
use d2k_engine::Found;

/// Seconds by which the clocks of the engine and of this process may differ.
const CLOCKS: i64 = 3600;

/// What a container does.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Phase {
    Waiting { reason: String, message: String },
    Running { started: Timestamp },
    Terminated(End),
}

impl Default for Phase {
    fn default() -> Self {
        Self::waiting("ContainerCreating", "")
    }
}

impl Phase {
    /// Waiting for this reason.
    pub fn waiting(reason: &str, message: &str) -> Self {
        Self::Waiting { reason: reason.to_owned(), message: message.to_owned() }
    }
}

/// How a run has ended.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct End {
    pub code: i32,
    pub reason: String,
    pub message: String,
    pub started: Timestamp,
    pub finished: Timestamp,
    pub id: String,
    /// From when on the log of its container is that of this run.
    pub log_since: Timestamp,
}

impl End {
    /// How long the run took, in seconds; none at all if its program could not be run.
    pub fn seconds(&self) -> i64 {
        if self.started == Timestamp::UNIX_EPOCH {
            return 0;
        }
        self.finished.as_second() - self.started.as_second()
    }
}

/// One container of a Pod.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// What it does.
    pub phase: Phase,
    /// How the run before has ended.
    pub last: Option<End>,
    /// Runs before this one.
    pub restarts: i64,
    /// The engine's ID of the newest run.
    pub id: String,
    /// Its readiness probe says so, or it has none and runs.
    pub ready: bool,
    /// Its startup probe has succeeded, or it has none and runs.
    pub started: bool,
    /// The image's ID.
    pub image_id: String,
    /// From when on the log of the container is that of the newest run: an engine that restarts containers by itself
    /// goes on with the same log.
    pub log_since: Timestamp,
    /// It is started once more whatever its policy says, since its definition has changed.
    pub again: bool,
    /// The kubelet ends this run because of a probe: to an engine that restarts containers by itself, a person has stopped it.
    pub killed: bool,
}

impl State {
    /// What is said of a container before anything was done for it.
    pub fn before(pod: &Value) -> Self {
        let init = !items(pod, &["spec", "initContainers"]).is_empty();
        let phase = if init { Phase::waiting("PodInitializing", "") } else { Phase::default() };
        Self { phase, ..Self::default() }
    }

    /// The number of the run that comes next.
    pub fn next_run(&self) -> i64 {
        if self.id.is_empty() { self.restarts } else { self.restarts + 1 }
    }

    /// Begins a run. Its number is told no sooner: whoever saw it beside the end of the run before would
    /// take that for the end of this one.
    pub fn begin(&mut self, run: i64, id: String, image_id: &str) {
        self.restarts = run;
        self.id = id;
        image_id.clone_into(&mut self.image_id);
        (self.again, self.killed) = (false, false);
    }

    /// Does something else from now on; how the run before has ended is kept.
    pub fn enter(&mut self, phase: Phase) {
        if let Phase::Terminated(end) = std::mem::replace(&mut self.phase, phase) {
            self.last = Some(end);
        }
    }

    /// Whether a container that the engine has is in another run than the one that is known here.
    pub fn is_behind(&self, found: &Found) -> bool {
        match self.phase {
            _ if self.id != found.id => true,
            Phase::Running { started } => {
                let begun = Timestamp::try_from(found.started).map_or(0, Timestamp::as_second);
                // Times in a status are whole seconds. A board without a battery for its clock begins at 1970 again.
                let has_ended = last_end(found).as_second() > started.as_second();
                found.running && (has_ended || begun < started.as_second() - CLOCKS)
            }
            _ => found.running,
        }
    }

    /// Notes that the run that is known has ended before the one that the engine has; when.
    pub fn miss_end(&mut self, found: &Found) -> Timestamp {
        if let Phase::Running { started } = self.phase {
            self.phase = Phase::Terminated(unseen(started, last_end(found), self.id.clone(), self.log_since));
        }
        match &self.phase {
            Phase::Terminated(end) => end.finished,
            _ => self.log_since,
        }
    }

    /// What a status says of a container. One that ran before this process began has ended, unless the engine still has it.
    pub fn recall(status: &Value, found: Option<&Found>) -> Self {
        let end = |state: &Value| {
            let ended = state.get("terminated")?;
            let time = |field: &str| string(ended, &[field]).parse::<Timestamp>().ok();
            Some(End {
                code: meta::number(ended, &["exitCode"]).and_then(|c| i32::try_from(c).ok()).unwrap_or(0),
                reason: string(ended, &["reason"]).to_owned(),
                message: string(ended, &["message"]).to_owned(),
                started: time("startedAt").unwrap_or(Timestamp::UNIX_EPOCH),
                finished: time("finishedAt").unwrap_or(Timestamp::UNIX_EPOCH),
                id: bare_id(string(ended, &["containerID"])),
                log_since: time("startedAt").unwrap_or(Timestamp::UNIX_EPOCH),
            })
        };
        let id = bare_id(string(status, &["containerID"]));
        let survives = found.is_some_and(|found| found.id == id);
        let now = at(status, &["state"]);
        let phase = match (end(now), string(now, &["running", "startedAt"]).parse().ok()) {
            (Some(end), _) => Phase::Terminated(end),
            (None, Some(started)) if survives => Phase::Running { started },
            // It ended with the process that ran it.
            (None, Some(started)) => {
                Phase::Terminated(unseen(started, Timestamp::now(), id.clone(), started))
            }
            (None, None) => Phase::waiting("ContainerCreating", ""),
        };
        Self {
            phase,
            last: end(at(status, &["lastState"])),
            restarts: meta::number(status, &["restartCount"]).unwrap_or(0),
            id,
            image_id: string(status, &["imageID"]).to_owned(),
            log_since: end(at(status, &["lastState"])).map_or(Timestamp::UNIX_EPOCH, |last| last.finished),
            ready: survives && at(status, &["ready"]).as_bool() == Some(true),
            started: survives && at(status, &["started"]).as_bool() == Some(true),
            again: false,
            killed: false,
        }
    }
}

/// The end of a run that nobody has seen.
fn unseen(started: Timestamp, finished: Timestamp, id: String, log_since: Timestamp) -> End {
    let (reason, message) = ("Unknown".to_owned(), String::new());
    End { code: 255, reason, message, started, finished, id, log_since }
}

/// When the last run of a container has ended that has; 1970 if there was none.
fn last_end(found: &Found) -> Timestamp {
    found.ended.and_then(|at| Timestamp::try_from(at).ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// An ID without the name of its engine.
fn bare_id(id: &str) -> String {
    id.split_once("://").map_or(id, |(_, id)| id).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(code: i32) -> End {
        let (started, finished) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
        let (reason, message, log_since) = (String::new(), String::new(), started);
        End { code, reason, message, started, finished, id: "a".into(), log_since }
    }

    #[test]
    fn a_program_that_could_not_be_run_has_taken_no_time() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let run =
            |started, finished| End { started: at(started), finished: at(finished), ..end(1) }.seconds();
        assert_eq!((run(0, 1_000_000), run(1_000, 1_700)), (0, 700));
    }

    #[test]
    fn a_run_is_counted_when_it_begins() {
        let mut state = State::default();
        assert_eq!(state.next_run(), 0);
        state.begin(0, "a".into(), "image");
        state.enter(Phase::Terminated(end(3)));
        assert_eq!((state.restarts, &state.last, state.next_run()), (0, &None, 1));
        state.begin(state.next_run(), "b".into(), "image");
        state.enter(Phase::Running { started: Timestamp::UNIX_EPOCH });
        assert_eq!((state.restarts, &state.last), (1, &Some(end(3))));
    }

    #[test]
    fn a_run_that_nobody_has_seen_begin_is_known_by_the_end_before_it() {
        let second = |second: u64| std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(second);
        let found = |id: &str, running, ended: Option<u64>| Found {
            id: id.to_owned(),
            image: String::new(),
            started: second(30),
            running,
            ended: ended.map(second),
            restarts: 0,
        };
        let at = |second| Timestamp::from_second(second).unwrap();
        let running = State { phase: Phase::Running { started: at(10) }, id: "a".into(), ..State::default() };
        // The same run, the first of its container or one after an end.
        for ended in [None, Some(9), Some(10)] {
            assert!(!running.is_behind(&found("a", true, ended)), "{ended:?}");
        }
        // It has ended, and nothing runs: its end is told.
        assert!(!running.is_behind(&found("a", false, Some(25))));
        let mut state = running.clone();
        assert!(state.is_behind(&found("a", true, Some(25))));
        assert_eq!(state.miss_end(&found("a", true, Some(25))), at(25));
        assert!(matches!(&state.phase, Phase::Terminated(end) if end.finished == at(25) && end.code == 255));
        // The clock has begun anew with the machine.
        let late = State { phase: Phase::Running { started: at(1_000_000) }, ..running.clone() };
        assert!(late.is_behind(&found("a", true, Some(25))));
        // Between two runs when it was last seen, or another container.
        let waiting = State { phase: Phase::waiting("CrashLoopBackOff", ""), ..running.clone() };
        assert!(waiting.is_behind(&found("a", true, None)) && !waiting.is_behind(&found("a", false, None)));
        assert!(running.is_behind(&found("b", true, None)));
    }

    #[test]
    fn an_end_is_kept_while_the_next_run_waits_and_cannot_be_had() {
        let mut state = State::default();
        state.begin(0, "a".into(), "image");
        state.enter(Phase::Terminated(end(3)));
        state.enter(Phase::waiting("CrashLoopBackOff", ""));
        state.enter(Phase::waiting("ErrImagePull", ""));
        assert_eq!((state.restarts, &state.last, state.next_run()), (0, &Some(end(3)), 1));
    }
}
