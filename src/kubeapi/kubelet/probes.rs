//! Probes and hooks: what is asked of a container that runs, and what the answers mean.

mod unproven;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Kubelet;
use super::running::Running;
use crate::events::{self, About};
use crate::meta::{self, at, items, number, string};
use d2k_engine::{AWAY, Engine, Exec, Stream, Trouble};

/// Longest time for a hook.
const HOOK: Duration = Duration::from_secs(3600);
/// Most of an answer that is read.
const ANSWER: u64 = 10 * 1024;

/// Why a probe or a hook has failed, in the words of its event.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
    /// It names no port, or one that the container does not have.
    #[error("the probe has no port")]
    NoPort,
    /// The engine has not run the command, or has not reached the port.
    #[error("{}", .0.message)]
    Engine(#[from] Trouble),
    /// The command has failed, with this output.
    #[error("{0}")]
    Command(String),
    /// There is no TLS with the container.
    #[error(transparent)]
    Tls(#[from] unproven::TlsError),
    /// The connection has ended before there was an answer.
    #[error(transparent)]
    Connection(#[from] std::io::Error),
    /// The status code of the answer is not one of success.
    #[error("HTTP probe failed with statuscode: {0}")]
    Code(u16),
    /// It has taken longer than it may.
    #[error("no answer within {0:?}")]
    Late(Duration),
}

impl ProbeError {
    /// Whether it says nothing about the container, so that it does not count: the engine, which runs the command, is away.
    fn is_unknown(&self) -> bool {
        matches!(self, Self::Engine(trouble) if trouble.reason == AWAY)
    }
}

impl<E: Engine> Kubelet<E> {
    /// Probes a container as long as it runs; returns when it must end.
    pub(super) async fn probe(&self, running: &Arc<Running>, pod: &Value, container: &Value, id: &str) {
        let name = string(container, &["name"]).to_owned();
        if let Some(hook) = container.pointer("/lifecycle/postStart") {
            // As long as it runs, the container does: nothing else bounds it.
            if let Err(error) = self.ask(running, pod, container, id, hook, HOOK).await {
                let about = About::new(pod, "kubelet").container(&name);
                let words = format!("PostStartHook failed: {error}");
                events::record(&self.api, &about, "Warning", "FailedPostStartHook", &words);
                return self.end_by_probe(running, pod, &name, &Value::Null, "FailedPostStartHook").await;
            }
        }
        if let Some(startup) = container.get("startupProbe").filter(|p| p.is_object()) {
            let readiness = container.get("readinessProbe").is_some_and(Value::is_object);
            tokio::time::sleep(seconds(startup, "initialDelaySeconds", 0)).await;
            let ended = self.until(running, pod, container, id, startup, "Startup", |state| {
                state.started = true;
                state.ready = !readiness;
            });
            if !ended.await {
                let words = format!("Container {name} failed startup probe, will be restarted");
                return self.end_by_probe(running, pod, &name, startup, &words).await;
            }
        }
        let readiness = async {
            if let Some(probe) = container.get("readinessProbe").filter(|p| p.is_object()) {
                self.watch_readiness(running, pod, container, id, probe).await;
            }
            std::future::pending::<()>().await;
        };
        let liveness = async {
            match container.get("livenessProbe").filter(|p| p.is_object()) {
                Some(probe) => {
                    tokio::time::sleep(seconds(probe, "initialDelaySeconds", 0)).await;
                    while self.until(running, pod, container, id, probe, "Liveness", |_| {}).await {
                        tokio::time::sleep(seconds(probe, "periodSeconds", 10)).await;
                    }
                    probe
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = readiness => {}
            probe = liveness => {
                let words = format!("Container {name} failed liveness probe, will be restarted");
                self.end_by_probe(running, pod, &name, probe, &words).await;
            }
        }
    }

    async fn end_by_probe(&self, running: &Running, pod: &Value, name: &str, probe: &Value, words: &str) {
        let about = About::new(pod, "kubelet").container(name);
        events::record(&self.api, &about, "Normal", "Killing", words);
        // Before its end, which may be seen before the engine has answered.
        running.set(name, |state| state.killed = true);
        let grace = number(probe, &["terminationGracePeriodSeconds"]);
        let grace = grace.or_else(|| number(pod, &["spec", "terminationGracePeriodSeconds"])).unwrap_or(30);
        self.end_within(running, pod, name, Duration::from_secs(u64::try_from(grace).unwrap_or(30))).await;
    }

    /// Asks until the first success (true) or too many failures in a row (false).
    #[allow(clippy::too_many_arguments, reason = "a probe is about all of these")]
    async fn until(
        &self,
        running: &Running,
        pod: &Value,
        container: &Value,
        id: &str,
        probe: &Value,
        word: &str,
        done: impl FnOnce(&mut super::state::State),
    ) -> bool {
        let name = string(container, &["name"]);
        let limit = number(probe, &["failureThreshold"]).unwrap_or(3);
        let mut failed = 0;
        loop {
            match self.ask(running, pod, container, id, probe, seconds(probe, "timeoutSeconds", 1)).await {
                Ok(()) => {
                    running.set(name, done);
                    return true;
                }
                Err(error) if error.is_unknown() => {}
                Err(error) => {
                    failed += 1;
                    let about = About::new(pod, "kubelet").container(name);
                    events::record(
                        &self.api,
                        &about,
                        "Warning",
                        "Unhealthy",
                        &format!("{word} probe failed: {error}"),
                    );
                    if failed >= limit {
                        return false;
                    }
                }
            }
            tokio::time::sleep(seconds(probe, "periodSeconds", 10)).await;
        }
    }

    async fn watch_readiness(
        &self,
        running: &Running,
        pod: &Value,
        container: &Value,
        id: &str,
        probe: &Value,
    ) {
        let name = string(container, &["name"]);
        let threshold = |field: &str, default| number(probe, &[field]).unwrap_or(default);
        let (mut good, mut bad) = (0, 0);
        tokio::time::sleep(seconds(probe, "initialDelaySeconds", 0)).await;
        loop {
            match self.ask(running, pod, container, id, probe, seconds(probe, "timeoutSeconds", 1)).await {
                Ok(()) => {
                    (good, bad) = (good + 1, 0);
                    if good >= threshold("successThreshold", 1) && !running.state(name).ready {
                        running.set(name, |state| state.ready = true);
                    }
                }
                Err(error) if error.is_unknown() => {}
                Err(error) => {
                    (good, bad) = (0, bad + 1);
                    let about = About::new(pod, "kubelet").container(name);
                    events::record(
                        &self.api,
                        &about,
                        "Warning",
                        "Unhealthy",
                        &format!("Readiness probe failed: {error}"),
                    );
                    if bad >= threshold("failureThreshold", 3) && running.state(name).ready {
                        running.set(name, |state| state.ready = false);
                    }
                }
            }
            tokio::time::sleep(seconds(probe, "periodSeconds", 10)).await;
        }
    }

    /// Asks once.
    async fn ask(
        &self,
        running: &Running,
        pod: &Value,
        container: &Value,
        id: &str,
        probe: &Value,
        limit: Duration,
    ) -> Result<(), ProbeError> {
        let asked = async {
            if let Some(exec) = probe.get("exec") {
                let command =
                    items(exec, &["command"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
                return self.run_command(id, command).await;
            }
            if let Some(sleep) = probe.get("sleep") {
                tokio::time::sleep(seconds(sleep, "seconds", 0)).await;
                return Ok(());
            }
            if let Some(get) = probe.get("httpGet") {
                return self.http_get(running, pod, container, get).await;
            }
            let port = port_of(container, at(probe, &["tcpSocket", "port"]))
                .or_else(|| port_of(container, at(probe, &["grpc", "port"])));
            let port = port.ok_or(ProbeError::NoPort)?;
            self.engine.dial(meta::uid(pod), port).await.map(|_| ()).map_err(ProbeError::Engine)
        };
        tokio::time::timeout(limit, asked).await.unwrap_or(Err(ProbeError::Late(limit)))
    }

    async fn run_command(&self, id: &str, command: Vec<String>) -> Result<(), ProbeError> {
        let exec = Exec { command, stdout: true, stderr: true, ..Exec::default() };
        let mut session = self.engine.exec(id, exec).await?;
        let mut text = Vec::new();
        for stream in [session.stdout.take(), session.stderr.take()].into_iter().flatten() {
            let _ = stream.take(ANSWER).read_to_end(&mut text).await;
        }
        match session.ended.await?.code {
            0 => Ok(()),
            _ => Err(ProbeError::Command(String::from_utf8_lossy(&text).into_owned())),
        }
    }

    async fn http_get(
        &self,
        running: &Running,
        pod: &Value,
        container: &Value,
        get: &Value,
    ) -> Result<(), ProbeError> {
        let port = port_of(container, at(get, &["port"])).ok_or(ProbeError::NoPort)?;
        let host = match string(get, &["host"]) {
            "" => running.ip(),
            own => own.to_owned(),
        };
        let mut head = format!(
            "GET {} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: kube-probe/1.34\r\nAccept: */*\r\nConnection: close\r\n",
            string(get, &["path"])
        );
        for header in items(get, &["httpHeaders"]) {
            head.push_str(&format!("{}: {}\r\n", string(header, &["name"]), string(header, &["value"])));
        }
        head.push_str("\r\n");
        let stream = self.engine.dial(meta::uid(pod), port).await?;
        let answer = match string(get, &["scheme"]) {
            "HTTPS" => talk(unproven::connect(stream).await?, &head).await?,
            _ => talk(stream, &head).await?,
        };
        let text = String::from_utf8_lossy(&answer);
        let code: u16 = text.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        if (200..400).contains(&code) { Ok(()) } else { Err(ProbeError::Code(code)) }
    }

    /// Runs the hook before a container is stopped.
    pub(super) async fn before_stop(&self, running: &Running, pod: &Value, name: &str, id: &str) {
        let all = ["containers", "initContainers"].map(|field| items(pod, &["spec", field])).concat();
        let container = all.iter().find(|c| string(c, &["name"]) == name);
        let Some(hook) = container.and_then(|c| c.pointer("/lifecycle/preStop")) else { return };
        let container = container.unwrap_or(&Value::Null);
        if let Err(error) = self.ask(running, pod, container, id, hook, HOOK).await {
            let about = About::new(pod, "kubelet").container(name);
            events::record(
                &self.api,
                &about,
                "Warning",
                "FailedPreStopHook",
                &format!("PreStopHook failed: {error}"),
            );
        }
    }
}

/// Says something and reads the beginning of the answer.
async fn talk(mut stream: impl Stream, head: &str) -> std::io::Result<Vec<u8>> {
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    let read = stream.take(ANSWER).read_to_end(&mut answer).await;
    // Servers that close a connection of TLS without a word have answered all the same.
    match read {
        Err(error) if answer.is_empty() => Err(error),
        _ => Ok(answer),
    }
}

fn seconds(probe: &Value, field: &str, default: u64) -> Duration {
    let given = number(probe, &[field]).and_then(|s| u64::try_from(s).ok());
    Duration::from_secs(given.unwrap_or(default))
}

fn port_of(container: &Value, port: &Value) -> Option<u16> {
    if let Some(number) = port.as_u64() {
        return number.try_into().ok();
    }
    let name = port.as_str()?;
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let all = items(container, &["ports"]).iter();
    all.filter(|p| string(p, &["name"]) == name).find_map(|p| number(p, &["containerPort"])?.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_the_words_alone() {
        let refused = || std::io::Error::other("refused");
        let cases = [
            (ProbeError::from(Trouble::new("NotFound", "no such process")), "no such process"),
            (ProbeError::Command("not yet\n".into()), "not yet\n"),
            (unproven::TlsError::Handshake(refused()).into(), "tls: refused"),
            (refused().into(), "refused"),
            (ProbeError::Code(503), "HTTP probe failed with statuscode: 503"),
            (ProbeError::Late(Duration::from_millis(1500)), "no answer within 1.5s"),
        ];
        for (error, words) in cases {
            assert_eq!(error.to_string(), words);
            assert!(!error.is_unknown());
        }
        assert!(ProbeError::from(Trouble::new(AWAY, "connection refused")).is_unknown());
    }
}
