//! What is under way in this process and forgotten with it: starts, kills, ends being written down.

use std::collections::{HashMap, HashSet, VecDeque};

use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::release::Attempt;

/// Sets of container IDs and Pod UIDs.
#[derive(Default)]
pub struct Runs {
    starting: Mutex<HashSet<String>>,
    killed: Mutex<HashSet<String>>,
    taken_down: Mutex<HashSet<String>>,
    recording: Mutex<HashSet<String>>,
    /// By container ID: cancelled when the end of its last run is written down, or could not be.
    last_record: Mutex<HashMap<String, CancellationToken>>,
    told: Mutex<HashSet<String>>,
    ours: Mutex<HashSet<String>>,
    replacing: Mutex<HashSet<String>>,
    /// The Pod of each run that this process knows from its beginning, once there is one.
    bound: Mutex<HashMap<String, Option<String>>>,
    releasing: Mutex<HashSet<Attempt>>,
    released: Mutex<HashSet<Attempt>>,
    /// Exit code and error of the last runs by container: one may be removed before those who wait for
    /// its end have looked.
    ends: Mutex<VecDeque<(String, i32, String)>>,
}

/// Ends that are remembered.
const ENDS: usize = 1024;

fn with<T>(set: &Mutex<HashSet<String>>, act: impl FnOnce(&mut HashSet<String>) -> T) -> T {
    act(&mut set.lock())
}

impl Runs {
    /// Notes that a container is being started, until the guard is dropped.
    pub fn starting(&self, id: &str) -> Starting<'_> {
        with(&self.starting, |set| set.insert(id.to_owned()));
        Starting { runs: self, id: id.to_owned() }
    }

    /// Whether a container is being started.
    pub fn is_starting(&self, id: &str) -> bool {
        with(&self.starting, |set| set.contains(id))
    }

    /// Notes that a Pod is being killed: its exit code is 137, whatever it made of TERM.
    pub fn kill(&self, pod: &str) {
        with(&self.killed, |set| set.insert(pod.to_owned()));
    }

    /// Whether a Pod was killed.
    pub fn was_killed(&self, pod: &str) -> bool {
        with(&self.killed, |set| set.contains(pod))
    }

    /// Notes that a Pod is being ended by this process.
    pub(crate) fn take_down(&self, pod: &str) {
        with(&self.taken_down, |set| set.insert(pod.to_owned()));
    }

    /// Whether a Pod is being ended by this process.
    pub(crate) fn is_taken_down(&self, pod: &str) -> bool {
        with(&self.taken_down, |set| set.contains(pod))
    }

    /// Notes that the start of a Pod's run was told to Docker's clients.
    pub fn tell(&self, pod: &str) {
        with(&self.told, |set| set.insert(pod.to_owned()));
    }

    /// Whether the start of a Pod's run was told: what follows it may be told now.
    pub fn was_told(&self, pod: &str) -> bool {
        with(&self.told, |set| set.contains(pod))
    }

    /// Notes that this process serves a container's run.
    pub fn serve(&self, id: &str) {
        with(&self.ours, |set| set.insert(id.to_owned()));
    }

    /// Whether this process serves a container's run; another d2k may do so.
    pub fn serves(&self, id: &str) -> bool {
        with(&self.ours, |set| set.contains(id))
    }

    /// Begins a new run of a container, in a Pod that is not known yet.
    pub(crate) fn begin_run(&self, id: &str) {
        self.serve(id);
        self.ends.lock().retain(|(other, ..)| other != id);
        self.bound.lock().insert(id.to_owned(), None);
    }

    /// The Pod of a run, if this process knows the run from its beginning.
    pub(crate) fn pod_of_run(&self, id: &str) -> Option<Option<String>> {
        self.bound.lock().get(id).cloned()
    }

    /// Binds a run to its Pod.
    pub(crate) fn bind(&self, id: &str, pod: &str) {
        let mut bound = self.bound.lock();
        bound.insert(id.to_owned(), Some(pod.to_owned()));
    }

    /// Claims giving leave to an attempt; false if somebody has claimed it.
    pub(crate) fn begin_release(&self, attempt: &Attempt) -> bool {
        self.releasing.lock().insert(attempt.clone())
    }

    /// Leave could not be given: it may be tried again.
    pub(crate) fn end_release(&self, attempt: &Attempt) {
        self.releasing.lock().remove(attempt);
    }

    /// Notes that leave was given.
    pub(crate) fn released(&self, attempt: &Attempt) {
        self.released.lock().insert(attempt.clone());
    }

    /// Whether leave was given.
    pub(crate) fn was_released(&self, attempt: &Attempt) -> bool {
        self.released.lock().contains(attempt)
    }

    /// Claims the writing down of a Pod's end; false if somebody has claimed it.
    pub fn begin_record(&self, pod: &str) -> bool {
        with(&self.recording, |set| set.insert(pod.to_owned()))
    }

    /// Notes that the end of a container's run is being written down, until the guard is dropped.
    pub(crate) fn recording(&self, id: &str) -> DropGuard {
        let token = CancellationToken::new();
        let mut records = self.last_record.lock();
        records.insert(id.to_owned(), token.clone());
        token.drop_guard()
    }

    /// Waits while the end of a container's run is being written down.
    pub(crate) async fn recorded(&self, id: &str) {
        let token = self.last_record.lock().get(id).cloned();
        if let Some(token) = token {
            token.cancelled().await;
        }
    }

    /// Remembers how a run of a container has ended.
    pub(crate) fn note_end(&self, id: &str, code: i32, error: &str) {
        let mut ends = self.ends.lock();
        ends.retain(|(other, ..)| other != id);
        ends.push_back((id.to_owned(), code, error.to_owned()));
        if ends.len() > ENDS {
            ends.pop_front();
        }
    }

    /// How the last run of a container has ended, if it was not long ago.
    pub(crate) fn end_of(&self, id: &str) -> Option<(i32, String)> {
        let ends = self.ends.lock();
        ends.iter().find(|(other, ..)| other == id).map(|(_, code, error)| (*code, error.clone()))
    }

    /// Forgets a Pod that is gone.
    pub fn forget(&self, pod: &str) {
        with(&self.told, |set| set.remove(pod));
        with(&self.killed, |set| set.remove(pod));
        with(&self.taken_down, |set| set.remove(pod));
        with(&self.recording, |set| set.remove(pod));
        for attempts in [&self.releasing, &self.released] {
            attempts.lock().retain(|attempt| attempt.uid != pod);
        }
    }

    /// Forgets a container that is gone.
    pub(crate) fn forget_container(&self, id: &str) {
        with(&self.ours, |set| set.remove(id));
        self.last_record.lock().remove(id);
        self.bound.lock().remove(id);
    }

    /// Notes that a container's Job is being replaced: neither its end nor its beginning is news.
    pub fn begin_replace(&self, id: &str) {
        with(&self.replacing, |set| set.insert(id.to_owned()));
    }

    /// Whether a container's Job is being replaced.
    pub fn is_replacing(&self, id: &str) -> bool {
        with(&self.replacing, |set| set.contains(id))
    }

    /// The new Job is there (true if it was a replacement).
    pub fn end_replace(&self, id: &str) -> bool {
        with(&self.replacing, |set| set.remove(id))
    }
}

/// A start that is under way.
pub struct Starting<'a> {
    runs: &'a Runs,
    id: String,
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        with(&self.runs.starting, |set| set.remove(&self.id));
    }
}
