//! Exec, attach and port-forward: the streams of a process, or of a port, over a WebSocket.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::extract::ws::WebSocket;
use axum::http::Response;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;

use super::Kubelet;
use super::container::Phase;
use super::sockets::{self, CLOSE, RESIZE, STDERR, STDIN, STDOUT};
use crate::engine::{Engine, Exec, Exit, Session};
use crate::kubeapi::http::Asked;
use crate::kubeapi::meta;
use crate::kubeapi::status::{Result, Status};

/// Protocols of exec and attach, the best first.
const COMMAND: &[&str] =
    &["v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
/// Protocols of port-forward.
const FORWARD: &[&str] = &["v4.channel.k8s.io", "portforward.k8s.io"];

impl<E: Engine> Kubelet<E> {
    /// Serves `pods/exec`.
    pub(super) async fn exec(&self, asked: &Asked, request: Request) -> Result<Response<Body>> {
        let id = self.running_container(asked)?;
        let query = &asked.query;
        let command: Vec<String> = query.all("command").map(str::to_owned).collect();
        if command.is_empty() {
            return Err(Status::bad_request("you must specify at least 1 container command"));
        }
        let exec = Exec {
            command,
            tty: query.is("tty"),
            stdin: query.is("stdin"),
            stdout: query.is("stdout"),
            stderr: query.is("stderr") && !query.is("tty"),
        };
        let engine = self.engine.clone();
        sockets::upgrade(request, COMMAND, move |socket: WebSocket, protocol: String| async move {
            let session = engine.exec(&id, exec).await;
            serve(socket, &protocol, session.map_err(|t| t.message), true).await;
        })
        .await
    }

    /// Serves `pods/attach`.
    pub(super) async fn attach(&self, asked: &Asked, request: Request) -> Result<Response<Body>> {
        let query = asked.query.clone();
        // As with Kubernetes, the upgrade comes before the node is asked.
        let found = self.running_container(asked);
        let engine = self.engine.clone();
        sockets::upgrade(request, COMMAND, move |socket: WebSocket, protocol: String| async move {
            let session = match found {
                Ok(id) => engine.attach(&id, query.is("stdin")).await.map_err(|t| t.message),
                Err(status) => Err(status.message),
            };
            let session = session.map(|mut session| {
                session.stdout = session.stdout.filter(|_| query.is("stdout"));
                session.stderr = session.stderr.filter(|_| query.is("stderr"));
                session
            });
            serve(socket, &protocol, session, false).await;
        })
        .await
    }

    /// The engine's ID of a container that runs.
    fn running_container(&self, asked: &Asked) -> Result<String> {
        let (pod, name) = self.container_of(asked)?;
        let phase = meta::string(&pod, &["status", "phase"]);
        if matches!(phase, "Succeeded" | "Failed") {
            let words = format!("cannot exec into a container in a completed pod; current phase is {phase}");
            return Err(Status { code: 400, reason: "BadRequest", message: words, details: Value::Null });
        }
        let (_, running) = self.running(&asked.namespace, &asked.pod)?;
        let state = running.state(&name);
        if matches!(state.phase, Phase::Running { .. }) {
            return Ok(state.id);
        }
        Err(Status::internal(format!(
            "unable to upgrade connection: container {name} not found in pod {}_{}",
            asked.pod, asked.namespace
        )))
    }

    /// Serves `pods/portforward`.
    pub(super) async fn port_forward(&self, asked: &Asked, request: Request) -> Result<Response<Body>> {
        let (pod, _) = self.running(&asked.namespace, &asked.pod)?;
        if meta::string(&pod, &["status", "phase"]) != "Running" {
            let phase = meta::string(&pod, &["status", "phase"]);
            return Err(Status::bad_request(format!(
                "unable to forward port because pod is not running. Current status={phase}"
            )));
        }
        let ports: Vec<u16> =
            asked.query.all("ports").flat_map(|p| p.split(',')).filter_map(|p| p.parse().ok()).collect();
        let (engine, uid) = (self.engine.clone(), meta::uid(&pod).to_owned());
        sockets::upgrade(request, FORWARD, move |socket: WebSocket, _: String| async move {
            forward(socket, engine, uid, ports).await;
        })
        .await
    }
}

/// Carries the streams of a process until its end.
async fn serve(socket: WebSocket, protocol: &str, session: std::result::Result<Session, String>, exec: bool) {
    let (sender, mut receiver) = socket.split();
    let sender = Mutex::new(sender);
    let mut session = match session {
        Ok(session) => session,
        Err(words) => return sockets::finish(&sender, &failure(&words)).await,
    };
    let v5 = protocol == "v5.channel.k8s.io";
    let (stdout, stderr, mut stdin) = (session.stdout.take(), session.stderr.take(), session.stdin.take());
    let read = stdout.is_some() || stderr.is_some();
    let resize = session.resize;
    let incoming = async {
        while let Some((channel, bytes)) = sockets::next(&mut receiver).await {
            match channel {
                STDIN => {
                    if let Some(input) = stdin.as_mut()
                        && (input.write_all(&bytes).await.is_err() || input.flush().await.is_err())
                    {
                        stdin = None;
                    }
                }
                RESIZE => {
                    if let Ok(size) = serde_json::from_slice::<Value>(&bytes) {
                        let side =
                            |name| size.get(name).and_then(Value::as_u64).and_then(|n| u16::try_from(n).ok());
                        if let (Some(rows), Some(columns)) = (side("Height"), side("Width")) {
                            resize(rows, columns);
                        }
                    }
                }
                CLOSE if v5 && bytes.first() == Some(&STDIN) => {
                    if let Some(mut input) = stdin.take() {
                        let _ = input.shutdown().await;
                    }
                }
                _ => {}
            }
        }
    };
    let ended = session.ended;
    let outgoing = async {
        tokio::join!(sockets::pump(stdout, STDOUT, &sender), sockets::pump(stderr, STDERR, &sender));
        // Without output there is nothing to read to its end.
        if exec || read { Some(ended.await) } else { ended.await.into() }
    };
    tokio::select! {
        exit = outgoing => {
            let status = match exit {
                Some(exit) if exec => outcome(exit),
                _ => json!({"metadata": {}, "status": "Success"}),
            };
            sockets::finish(&sender, &status).await;
        }
        () = incoming => {}
    }
}

fn outcome(exit: Exit) -> Value {
    if exit.code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: error executing command, exit code {}", exit.code),
        "details": {"causes": [{"reason": "ExitCode", "message": exit.code.to_string()}]},
    })
}

fn failure(words: &str) -> Value {
    json!({
        "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
        "message": format!("Internal error occurred: {}", words.trim_start_matches("Internal error occurred: ")),
        "details": {"causes": [{"message": words}]},
    })
}

/// Carries ports: two channels each, for data and for errors, which begin with the port's number.
async fn forward<E: Engine>(socket: WebSocket, engine: Arc<E>, uid: String, ports: Vec<u16>) {
    let (sender, mut receiver) = socket.split();
    let sender = Arc::new(Mutex::new(sender));
    let mut inputs = Vec::new();
    let mut readers = tokio::task::JoinSet::new();
    for (at, port) in ports.iter().enumerate() {
        let Ok(data) = u8::try_from(at * 2) else { break };
        for channel in [data, data + 1] {
            let _ = sender.lock().await.send(sockets::message(channel, &port.to_le_bytes())).await;
        }
        match engine.connect(&uid, *port).await {
            Ok(stream) => {
                let (mut reader, writer) = tokio::io::split(stream);
                inputs.push(Some(writer));
                let sender = sender.clone();
                readers.spawn(async move {
                    let mut buffer = vec![0; 32 * 1024];
                    while let Ok(length @ 1..) = reader.read(&mut buffer).await {
                        let bytes = buffer.get(..length).unwrap_or_default();
                        if sender.lock().await.send(sockets::message(data, bytes)).await.is_err() {
                            return;
                        }
                    }
                });
            }
            Err(trouble) => {
                inputs.push(None);
                let words = format!("an error occurred forwarding {port} -> {port}: {}", trouble.message);
                let _ = sender.lock().await.send(sockets::message(data + 1, words.as_bytes())).await;
            }
        }
    }
    let incoming = async {
        while let Some((channel, bytes)) = sockets::next(&mut receiver).await {
            let Some(slot) = inputs.get_mut(usize::from(channel / 2)).filter(|_| channel % 2 == 0) else {
                continue;
            };
            if let Some(writer) = slot.as_mut()
                && writer.write_all(&bytes).await.is_err()
            {
                *slot = None;
            }
        }
    };
    let outgoing = async { while readers.join_next().await.is_some() {} };
    tokio::select! {
        () = incoming => {}
        () = outgoing => {}
    }
    let _ = sender.lock().await.close().await;
}
