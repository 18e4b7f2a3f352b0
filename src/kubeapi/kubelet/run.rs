//! The runs of one container: each from its image to its end. Where the engine restarts containers by itself, so that they
//! outlive this process, the kubelet only observes the runs that follow, and takes over those that it finds.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::Kubelet;
use super::running::{Running, Volumes};
use super::state::{End, Phase, State};
use crate::events::{self, About};
use crate::meta::{self, string};
use d2k_engine::{Engine, Exit, Next, Restart, Start, Trouble};

/// Most bytes of a termination message.
const MESSAGE: usize = 4096;
/// File of the termination messages of a container that the engine restarts by itself.
const MESSAGES: &str = "termination";

/// How long an end is shown as such before the reason why nothing runs.
const SHOWN: Duration = Duration::from_secs(1);

/// A run of a container.
struct Run {
    id: String,
    image: String,
    begin: Timestamp,
    /// From when on the log of the container is that of this run.
    log_since: Timestamp,
    log: PathBuf,
    /// File of the termination message.
    message: PathBuf,
}

impl<E: Engine> Kubelet<E> {
    /// One run, from the image to the end, and those that the engine begins by itself after it.
    pub(super) async fn run_once(
        &self,
        running: &Arc<Running>,
        pod: &Value,
        container: &Value,
        volumes: &Volumes,
        restart: Restart,
    ) -> Result<(), Trouble> {
        let begun = match self.adopt(running, pod, container) {
            Some(run) => Some(run),
            None => self.begin(running, pod, container, volumes, restart).await?,
        };
        let Some(mut run) = begun else { return Ok(()) };
        // One that was taken over may have ended before.
        if matches!(running.state(string(container, &["name"])).phase, Phase::Running { .. }) {
            self.until_end(running, pod, container, &mut run).await?;
        }
        while self.engine.restarts() && self.next_run(running, pod, container, &mut run, restart).await? {
            self.until_end(running, pod, container, &mut run).await?;
        }
        Ok(())
    }

    /// The run that the engine has of a container from before this process began; none the second time.
    fn adopt(&self, running: &Running, pod: &Value, container: &Value) -> Option<Run> {
        let name = string(container, &["name"]);
        let found = self.engine.found(meta::uid(pod), name)?;
        let mut state = running.state(name);
        if !running.adopts(name) {
            return None;
        }
        let begin = Timestamp::try_from(found.started).unwrap_or_else(|_| Timestamp::now());
        let (log, message) = (PathBuf::new(), self.message_file(pod, name, 0));
        let is_behind = state.is_behind(&found);
        let log_since = if is_behind { state.miss_end(&found).min(begin) } else { state.log_since };
        let restarts = if is_behind { state.next_run() } else { state.restarts };
        let restarts = restarts.max(found.restarts);
        let run = Run { id: found.id, image: found.image, begin, log_since, log, message };
        running.set(name, |known| *known = State { restarts, ..state });
        if is_behind {
            enter(running, container, restarts, &run);
        }
        Some(run)
    }

    /// Makes a container and starts it; none if its program could not be run, which is an end, too.
    async fn begin(
        &self,
        running: &Arc<Running>,
        pod: &Value,
        container: &Value,
        volumes: &Volumes,
        restart: Restart,
    ) -> Result<Option<Run>, Trouble> {
        let name = string(container, &["name"]).to_owned();
        let about = About::new(pod, "kubelet").container(&name);
        let image = self.pull(pod, container, &about).await?;
        let restarts = running.state(&name).next_run();
        let start = self.plan(running, pod, container, volumes, &image, restarts).await?;
        let (message, log) = (self.message_file(pod, &name, restarts), start.log.clone());
        let id = self.engine.create(Start { restart, ..start }).await?;
        events::record(&self.api, &about, "Normal", "Created", &format!("Created container: {name}"));
        let begin = Timestamp::now();
        let old = running.state(&name).id;
        if let Err(trouble) = self.engine.start(&id).await {
            if trouble.reason != "StartError" {
                let _ = self.engine.remove(&id).await;
                return Err(trouble);
            }
            // The runtime could not run the program: that is the container's own end.
            events::record(&self.api, &about, "Warning", "Failed", &format!("Error: {}", trouble.message));
            let end = failed_start(&trouble, begin, &id);
            running.set(&name, |state| {
                state.begin(restarts, id.clone(), &image.id);
                state.enter(Phase::Terminated(end));
            });
            super::logs::forget_before(&log, restarts - 1);
            if !old.is_empty() {
                let _ = self.engine.remove(&old).await;
            }
            return Ok(None);
        }
        tracing::debug!(pod = meta::name(pod), container = name, id, "a container runs");
        events::record(&self.api, &about, "Normal", "Started", &format!("Started container {name}"));
        let run = Run { id, image: image.id, begin, log_since: begin, log, message };
        enter(running, container, restarts, &run);
        super::logs::forget_before(&run.log, restarts - 1);
        if !old.is_empty() {
            let _ = self.engine.remove(&old).await;
        }
        Ok(Some(run))
    }

    /// Waits for the end of a run, and notes it.
    async fn until_end(
        &self,
        running: &Arc<Running>,
        pod: &Value,
        container: &Value,
        run: &mut Run,
    ) -> Result<(), Trouble> {
        let exit = tokio::select! {
            exit = self.engine.wait(&run.id) => exit?,
            () = self.probe(running, pod, container, &run.id) => self.engine.wait(&run.id).await?,
        };
        let mut end = end_of(exit, run);
        // A line of the next run may be older than its start, and not older than this end.
        run.log_since = end.finished;
        let fallback = string(container, &["terminationMessagePolicy"]) == "FallbackToLogsOnError";
        if fallback && end.code != 0 && end.message.is_empty() {
            end.message = self.last_words(&run.id, &run.log).await;
        }
        running.set(string(container, &["name"]), |state| {
            state.enter(Phase::Terminated(end));
            state.ready = false;
            state.started = false;
        });
        Ok(())
    }

    /// Waits for the next run of a container that the engine restarts by itself; false if there is none.
    async fn next_run(
        &self,
        running: &Arc<Running>,
        pod: &Value,
        container: &Value,
        run: &mut Run,
        restart: Restart,
    ) -> Result<bool, Trouble> {
        let name = string(container, &["name"]);
        let state = running.state(name);
        let again = match (&state.phase, restart) {
            (_, Restart::Never) => false,
            (Phase::Terminated(end), Restart::OnFailure) => end.code != 0,
            _ => true,
        };
        if state.again || !again || running.ending.is_cancelled() || running.over.is_cancelled() {
            return Ok(false);
        }
        if state.killed {
            // For the engine it was stopped by a person.
            run.begin = Timestamp::now();
            self.engine.start(&run.id).await?;
            self.begin_again(running, pod, container, run);
            return Ok(true);
        }
        let next = tokio::select! {
            next = self.engine.next_run(&run.id) => next?,
            () = self.show_pause(running, pod, name, &run.id) => return Ok(false),
            () = running.ending.cancelled() => return Ok(false),
            () = running.over.cancelled() => return Ok(false),
        };
        match next {
            Next::Gone => {
                self.lost(pod);
                Ok(false)
            }
            Next::Run(started) => {
                run.begin = Timestamp::try_from(started).unwrap_or_else(|_| Timestamp::now());
                self.begin_again(running, pod, container, run);
                Ok(true)
            }
        }
    }

    /// Notes that the next run of a container has begun.
    fn begin_again(&self, running: &Running, pod: &Value, container: &Value, run: &Run) {
        let name = string(container, &["name"]);
        enter(running, container, running.state(name).next_run(), run);
        let about = About::new(pod, "kubelet").container(name);
        events::record(&self.api, &about, "Normal", "Started", &format!("Started container {name}"));
    }

    /// Shows why a container does not run, for as long as it does not.
    async fn show_pause(&self, running: &Running, pod: &Value, name: &str, id: &str) {
        tokio::time::sleep(SHOWN).await;
        let (space, pod_name, uid) = (meta::namespace(pod), meta::name(pod), meta::uid(pod));
        let about = About::new(pod, "kubelet").container(name);
        if self.engine.is_restarting(id).await {
            let words = format!("back-off restarting failed container={name} pod={pod_name}_{space}({uid})");
            running.set(name, |state| state.enter(Phase::waiting("CrashLoopBackOff", &words)));
            let words =
                format!("Back-off restarting failed container {name} in pod {pod_name}_{space}({uid})");
            events::record(&self.api, &about, "Warning", "BackOff", &words);
        } else {
            let words =
                format!("Container {name} was stopped on the engine; start it there, or delete the Pod");
            events::record(&self.api, &about, "Warning", "Stopped", &words);
        }
        std::future::pending().await
    }

    /// Deletes a Pod whose container was removed on the engine: its controller makes another one.
    fn lost(&self, pod: &Value) {
        let words = "A container was removed on the engine";
        events::record(&self.api, &About::new(pod, "kubelet"), "Warning", "ContainerGone", words);
        self.delete_now(pod);
    }

    pub(super) fn container_folder(&self, pod: &Value, name: &str) -> PathBuf {
        self.options.folder.join(meta::uid(pod)).join("containers").join(name)
    }

    /// The file of the termination message. Runs of one container have one file, where the engine begins them.
    pub(super) fn message_file(&self, pod: &Value, name: &str, restarts: i64) -> PathBuf {
        let folder = self.container_folder(pod, name);
        if self.engine.restarts() {
            folder.join(MESSAGES)
        } else {
            folder.join(format!("{restarts}.termination"))
        }
    }
}

/// Notes that a run has begun.
fn enter(running: &Running, container: &Value, restarts: i64, run: &Run) {
    let probed = |probe: &str| container.get(probe).is_some_and(Value::is_object);
    running.set(string(container, &["name"]), |state| {
        state.begin(restarts, run.id.clone(), &run.image);
        state.enter(Phase::Running { started: run.begin });
        state.log_since = run.log_since;
        state.started = !probed("startupProbe");
        state.ready = !probed("startupProbe") && !probed("readinessProbe");
    });
}

fn failed_start(trouble: &Trouble, begin: Timestamp, id: &str) -> End {
    End {
        // The kubelet's code for a program that the runtime could not run.
        code: 128,
        reason: "StartError".into(),
        message: trouble.message.clone(),
        started: Timestamp::UNIX_EPOCH,
        finished: begin,
        id: id.to_owned(),
        log_since: begin,
    }
}

fn end_of(exit: Exit, run: &Run) -> End {
    let reason = match (exit.oom_killed, exit.code) {
        (true, _) => "OOMKilled",
        (false, 0) => "Completed",
        (false, _) => "Error",
    };
    let text = std::fs::read(&run.message).unwrap_or_default();
    let text = String::from_utf8_lossy(text.get(..text.len().min(MESSAGE)).unwrap_or_default()).into_owned();
    let finished = Timestamp::try_from(exit.at).unwrap_or(run.begin);
    End {
        code: exit.code,
        reason: reason.into(),
        message: text,
        started: run.begin,
        finished: finished.max(run.begin),
        id: run.id.clone(),
        log_since: run.log_since,
    }
}
