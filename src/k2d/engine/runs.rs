//! How containers begin and end, and that images come and go, from the engine's one stream of events. Nothing is polled: after the
//! stream was cut off, what is there is listed once and compared with what was known.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use d2k_engine::{Exit, Next, Trouble};
use futures::StreamExt;
use http::Method;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{broadcast, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::client::{Client, Error, values};
use super::json::{self, text};
use super::revive::revive;

/// First pause before the engine is asked again after it has gone away, and the longest one.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// News that a reader may be behind.
const NEWS: usize = 256;
/// Exit code of a run whose end nobody has seen.
const UNSEEN: i32 = 255;

/// What is known of one container.
#[derive(Debug, Clone, Default)]
struct Life {
    /// Runs that have begun.
    runs: u64,
    /// The run that the kubelet was told of last.
    told: u64,
    running: bool,
    gone: bool,
    /// The kernel has killed processes of this run for its memory limit.
    oom: bool,
    /// When runs began, and how they ended, from the one told on.
    begins: BTreeMap<u64, SystemTime>,
    exits: BTreeMap<u64, Exit>,
}

impl Life {
    fn begin(&mut self, at: SystemTime) {
        if self.running {
            // Its end was not seen.
            self.end(UNSEEN, at);
        }
        self.runs += 1;
        (self.running, self.oom) = (true, false);
        self.begins.insert(self.runs, at);
    }

    fn end(&mut self, code: i32, at: SystemTime) {
        if self.running {
            self.running = false;
            self.exits.insert(self.runs, Exit { code, oom_killed: self.oom, at });
        }
    }

    /// Takes what an inspection says for what has happened.
    fn catch_up(&mut self, state: &Value) {
        let started = json::time(text(state, &["StartedAt"]));
        let runs = json::flag(state, &["Running"]) && !json::flag(state, &["Restarting"]);
        // The event of a start is younger than its `StartedAt`, and older than that of the next run.
        let known = self.begins.get(&self.runs).copied();
        if let Some(started) = started.filter(|started| known.is_none_or(|known| *started > known)) {
            self.begin(started);
        }
        if !runs && self.running {
            self.oom |= json::flag(state, &["OOMKilled"]);
            let code = json::number(state, &["ExitCode"]).and_then(|code| i32::try_from(code).ok());
            let at = json::time(text(state, &["FinishedAt"])).unwrap_or_else(SystemTime::now);
            self.end(code.unwrap_or(UNSEEN), at);
        }
    }

    /// Takes an event of a start, unless it is of a run that an inspection has shown already.
    fn see_begin(&mut self, at: SystemTime) {
        let ended = self.exits.get(&self.runs).is_some_and(|exit| exit.at >= at);
        if !self.running && !ended {
            self.begin(at);
        }
    }

    /// Takes an event of an end, unless it is of a run before.
    fn see_end(&mut self, code: i32, at: SystemTime) {
        if self.begins.get(&self.runs).is_none_or(|begin| *begin <= at) {
            self.end(code, at);
        }
    }

    fn told(&mut self, run: u64) {
        self.told = run;
        self.begins = self.begins.split_off(&run);
        self.exits = self.exits.split_off(&run);
    }
}

/// One thing that has happened to a container, for those that follow all of them.
#[derive(Debug, Clone)]
pub struct News {
    /// The engine's ID.
    pub id: String,
    /// `create`, `start`, `die`, `destroy`, `rename`, `update`; empty after the stream was cut off: anything may have
    /// happened.
    pub action: String,
}

/// The lives of all containers.
#[derive(Debug)]
pub struct Runs {
    lives: Mutex<HashMap<String, watch::Sender<Life>>>,
    execs: Mutex<HashMap<String, oneshot::Sender<i32>>>,
    news: broadcast::Sender<News>,
    /// How often the stream of events was begun.
    connections: watch::Sender<u64>,
    /// How often images may have changed.
    images: watch::Sender<u64>,
}

impl Runs {
    /// None known yet.
    pub fn new() -> Arc<Self> {
        let news = broadcast::Sender::new(NEWS);
        let (connections, images) = (watch::Sender::new(0), watch::Sender::new(0));
        Arc::new(Self { lives: Mutex::default(), execs: Mutex::default(), news, connections, images })
    }

    /// Tells that images may have changed.
    pub fn images(&self) -> watch::Receiver<u64> {
        self.images.subscribe()
    }

    /// Waits until the engine is connected anew.
    pub async fn connected(&self) {
        // It ends with this.
        let _ = self.connections.subscribe().changed().await;
    }

    /// What happens to any container from now on.
    pub fn news(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// Follows a container that was just made, or found with this inspection.
    pub fn follow(&self, id: &str, inspected: Option<&Value>) {
        let mut lives = self.lives.lock();
        let life = lives.entry(id.to_owned()).or_default();
        if let Some(inspected) = inspected {
            life.send_modify(|life| {
                life.catch_up(json::at(inspected, &["State"]));
                life.told(life.runs.max(1));
            });
        }
    }

    /// Whether a container is followed.
    pub fn follows(&self, id: &str) -> bool {
        self.lives.lock().contains_key(id)
    }

    /// Follows a container no more.
    pub fn forget(&self, id: &str) {
        self.lives.lock().remove(id);
    }

    fn watch(&self, id: &str) -> Result<watch::Receiver<Life>, Trouble> {
        let lives = self.lives.lock();
        let life =
            lives.get(id).ok_or_else(|| Trouble::new("NotFound", format!("no such container: {id}")))?;
        Ok(life.subscribe())
    }

    /// Notes that the kubelet knows of a start.
    pub fn started(&self, id: &str) {
        if let Some(life) = self.lives.lock().get(id) {
            life.send_modify(|life| life.told(life.told + 1));
        }
    }

    /// The end of the run that the kubelet knows of.
    pub async fn wait(&self, id: &str) -> Result<Exit, Trouble> {
        let mut life = self.watch(id)?;
        let seen = life.wait_for(|life| life.gone || life.exits.contains_key(&life.told)).await;
        let seen = seen.map_err(|_| Trouble::new("NotFound", format!("the container {id} was removed")))?;
        // Killed by its removal, if its end was not told before.
        let killed = Exit { code: 137, oom_killed: false, at: SystemTime::now() };
        Ok(seen.exits.get(&seen.told).copied().unwrap_or(killed))
    }

    /// The run after the one that the kubelet knows of.
    pub async fn next(&self, id: &str) -> Result<Next, Trouble> {
        let mut life = self.watch(id)?;
        let next = {
            let seen = life.wait_for(|life| life.gone || life.begins.contains_key(&(life.told + 1))).await;
            let Ok(seen) = seen else { return Ok(Next::Gone) };
            seen.begins.get(&(seen.told + 1)).copied()
        };
        let Some(at) = next else { return Ok(Next::Gone) };
        self.started(id);
        Ok(Next::Run(at))
    }

    /// The end of an exec that is about to start.
    pub fn exec(&self, exec: &str) -> oneshot::Receiver<i32> {
        let (sender, receiver) = oneshot::channel();
        self.execs.lock().insert(exec.to_owned(), sender);
        receiver
    }

    /// Forgets an exec whose end is of no interest any more.
    pub fn forget_exec(&self, exec: &str) {
        self.execs.lock().remove(exec);
    }

    /// Reads events until `stopping` is cancelled, also over restarts of the engine.
    pub async fn run(self: Arc<Self>, client: Arc<Client>, stopping: CancellationToken) {
        let mut pause = PAUSES.0;
        loop {
            let read = tokio::select! {
                read = self.read(&client, &mut pause) => read,
                () = stopping.cancelled() => return,
            };
            if let Err(error) = read {
                tracing::warn!(%error, "the engine's events are cut off");
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stopping.cancelled() => return,
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    async fn read(&self, client: &Client, pause: &mut Duration) -> Result<(), Error> {
        let filter = json::encode("{\"type\":[\"container\",\"image\"]}");
        let path = format!("/events?filters={filter}");
        // Before the list, so that nothing that happens between is missed.
        let events = client.stream(Method::GET, &path, &[]);
        let (events, caught_up) = tokio::join!(events, self.catch_up(client));
        caught_up?;
        let mut events = values(events?);
        if *self.connections.borrow() > 0 {
            revive(client).await?;
        }
        self.connections.send_modify(|count| *count += 1);
        self.images.send_modify(|count| *count += 1);
        self.tell("", "");
        *pause = PAUSES.0;
        while let Some(event) = events.next().await {
            self.see(&event?);
        }
        Ok(())
    }

    /// Compares what is known with what is there.
    async fn catch_up(&self, client: &Client) -> Result<(), Error> {
        let known: Vec<String> = self.lives.lock().keys().cloned().collect();
        for id in known {
            match client.get(&format!("/containers/{id}/json")).await {
                Ok(inspected) => self.change(&id, |life| life.catch_up(json::at(&inspected, &["State"]))),
                Err(error) if error.is(http::StatusCode::NOT_FOUND) => {
                    self.change(&id, |life| life.gone = true)
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn see(&self, event: &Value) {
        if text(event, &["Type"]) == "image" {
            return self.images.send_modify(|count| *count += 1);
        }
        let (id, action) = (text(event, &["Actor", "ID"]), text(event, &["Action"]));
        let attribute = |name: &str| text(event, &["Actor", "Attributes", name]);
        let nanos = json::number(event, &["timeNano"]).and_then(|nanos| u64::try_from(nanos).ok());
        let at =
            nanos.map_or_else(SystemTime::now, |nanos| SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos));
        match action {
            "start" => self.change(id, |life| life.see_begin(at)),
            "oom" => self.change(id, |life| life.oom = true),
            // Podman says `died`, and `containerExitCode`.
            "die" | "died" => {
                let code = [attribute("exitCode"), attribute("containerExitCode")].concat().parse();
                self.change(id, |life| life.see_end(code.unwrap_or(UNSEEN), at));
            }
            "destroy" | "remove" => self.change(id, |life| life.gone = true),
            "exec_die" | "exec_died" => {
                if let Some(exec) = self.execs.lock().remove(attribute("execID")) {
                    // Nobody may wait for it any more.
                    let _ = exec.send(attribute("exitCode").parse().unwrap_or(UNSEEN));
                }
                return;
            }
            "create" | "rename" | "update" => {}
            _ => return,
        }
        self.tell(id, action);
    }

    fn tell(&self, id: &str, action: &str) {
        // Nobody may follow them.
        let _ = self.news.send(News { id: id.to_owned(), action: action.to_owned() });
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Life)) {
        if let Some(life) = self.lives.lock().get(id) {
            life.send_modify(change);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(action: &str, second: u64, attributes: Value) -> Value {
        json!({
            "Action": action, "timeNano": second * 1_000_000_000, "Actor": {"ID": "c", "Attributes": attributes},
        })
    }

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    #[tokio::test]
    async fn each_run_is_told_however_late_it_is_asked_for() {
        let runs = Runs::new();
        runs.follow("c", None);
        runs.started("c");
        for run in 1..=3 {
            runs.see(&event("start", run * 10, json!({})));
            runs.see(&event("die", run * 10 + 1, json!({"exitCode": run.to_string()})));
        }
        for run in 1..=3 {
            let exit = runs.wait("c").await.unwrap();
            assert_eq!((exit.code, exit.at), (i32::try_from(run).unwrap(), at(run * 10 + 1)));
            if run < 3 {
                assert_eq!(runs.next("c").await.unwrap(), Next::Run(at((run + 1) * 10)));
            }
        }
        runs.see(&event("destroy", 50, json!({})));
        assert_eq!(runs.next("c").await.unwrap(), Next::Gone);
    }

    #[tokio::test]
    async fn an_end_that_was_not_seen_is_found_when_the_engine_is_back() {
        let runs = Runs::new();
        runs.follow("c", None);
        runs.started("c");
        runs.see(&event("start", 10, json!({})));
        let state = |started: u64, running: bool, code: i32| {
            let time = |second: u64| jiff::Timestamp::try_from(at(second)).unwrap().to_string();
            json!({
                "StartedAt": time(started), "FinishedAt": time(started + 5), "Running": running, "ExitCode": code,
                "OOMKilled": !running,
            })
        };
        // The same run still goes on.
        runs.change("c", |life| life.catch_up(&state(10, true, 0)));
        assert!(futures::FutureExt::now_or_never(runs.wait("c")).is_none());
        // It has ended, and the next one, too.
        runs.change("c", |life| life.catch_up(&state(20, false, 7)));
        assert_eq!(runs.wait("c").await.unwrap().code, UNSEEN);
        assert_eq!(runs.next("c").await.unwrap(), Next::Run(at(20)));
        let exit = runs.wait("c").await.unwrap();
        assert_eq!((exit.code, exit.oom_killed, exit.at), (7, true, at(25)));
        // Events that come after the inspection that has shown the same say nothing new.
        runs.see(&event("die", 15, json!({"exitCode": "1"})));
        runs.see(&event("start", 21, json!({})));
        runs.see(&event("die", 25, json!({"exitCode": "7"})));
        runs.change("c", |life| life.catch_up(&state(20, false, 7)));
        assert!(futures::FutureExt::now_or_never(runs.next("c")).is_none());
    }

    #[tokio::test]
    async fn memory_and_removal_are_told_as_ends() {
        let runs = Runs::new();
        runs.follow("c", None);
        runs.started("c");
        runs.see(&event("start", 10, json!({})));
        runs.see(&event("oom", 11, json!({})));
        runs.see(&event("die", 12, json!({"exitCode": "137"})));
        assert!(runs.wait("c").await.unwrap().oom_killed);
        assert_eq!(runs.wait("none").await.unwrap_err().reason, "NotFound");
        runs.follow("d", None);
        runs.started("d");
        runs.change("d", |life| life.begin(at(1)));
        runs.change("d", |life| life.gone = true);
        assert_eq!(runs.wait("d").await.unwrap().code, 137);
    }
}
