//! Exec and attach: the streams of a process over a WebSocket, or over SPDY for older clients.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::extract::ws::WebSocket;
use axum::http::Response;
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::sync::Mutex;
use tokio::sync::mpsc::Receiver;

use super::Kubelet;
use super::sockets::{self, CLOSE, RESIZE, STDERR, STDIN, STDOUT};
use super::spdy;
use super::state::Phase;
use crate::http::Asked;
use crate::meta;
use crate::status::{Result, Status};
use d2k_engine::{Engine, Exec, Exit, Result as EngineResult, Session, Trouble};

/// Protocols of exec and attach, the best first.
const COMMAND: &[&str] =
    &["v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
/// Those over SPDY.
const COMMAND_SPDY: &[&str] =
    &["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
/// How long a client may take to open the streams that it has asked for.
const OPENING: Duration = Duration::from_secs(30);
/// How long a command with a terminal waits for the size of the client's.
const SIZE: Duration = Duration::from_millis(200);

/// Why a client gets no streams, in the words of the status at the end.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    /// The engine has not begun it.
    #[error("{}", .0.message)]
    Engine(#[from] Trouble),
    /// No container runs that it could be with; in the words of the API.
    #[error("{0}")]
    NoContainer(String),
}

type Begun = std::result::Result<Session, SessionError>;

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
            size: None,
        };
        let tty = exec.tty;
        let engine = self.engine.clone();
        let expected = 1 + usize::from(exec.stdin) + usize::from(exec.stdout) + usize::from(exec.stderr);
        if spdy::is_asked(&request) {
            let expected = expected + usize::from(exec.tty);
            return spdy::upgrade(request, COMMAND_SPDY, move |streams, protocol| async move {
                let session = move |size| async move {
                    engine.exec(&id, Exec { size, ..exec }).await.map_err(SessionError::Engine)
                };
                serve_spdy(streams, expected, &protocol, tty, session, true).await;
            });
        }
        sockets::upgrade(request, COMMAND, move |socket: WebSocket, protocol: String| async move {
            let (sender, receiver) = socket.split();
            let mut receiver = Incoming::new(receiver);
            let size = if tty { receiver.first_size().await } else { None };
            let session = engine.exec(&id, Exec { size, ..exec }).await;
            serve(sender, receiver, &protocol, session.map_err(SessionError::Engine), true, false).await;
        })
        .await
    }

    /// Serves `pods/attach`.
    pub(super) async fn attach(&self, asked: &Asked, request: Request) -> Result<Response<Body>> {
        let query = asked.query.clone();
        // As with Kubernetes, the upgrade comes before the node is asked.
        let found = self.running_container(asked);
        let leaves = self.container_of(asked).is_ok_and(|(pod, name)| !closes(&pod, &name));
        let engine = self.engine.clone();
        let expected = ["stdin", "stdout", "stderr", "tty"].iter().filter(|name| query.is(name)).count();
        let session = async move {
            let session = match found {
                Ok(id) => engine.attach(&id, query.is("stdin")).await.map_err(SessionError::Engine),
                Err(status) => Err(SessionError::NoContainer(status.message)),
            };
            session.map(|mut session| {
                session.stdout = session.stdout.filter(|_| query.is("stdout"));
                session.stderr = session.stderr.filter(|_| query.is("stderr"));
                session
            })
        };
        if spdy::is_asked(&request) {
            return spdy::upgrade(request, COMMAND_SPDY, move |streams, protocol| async move {
                serve_spdy(streams, expected + 1, &protocol, false, |_| session, false).await;
            });
        }
        sockets::upgrade(request, COMMAND, move |socket: WebSocket, protocol: String| async move {
            let (sender, receiver) = socket.split();
            serve(sender, Incoming::new(receiver), &protocol, session.await, false, leaves).await;
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
}

/// What a client sends, and what of it came before the process was there.
struct Incoming {
    receiver: sockets::Receiver,
    early: VecDeque<(u8, Bytes)>,
}

impl Incoming {
    fn new(receiver: sockets::Receiver) -> Self {
        Self { receiver, early: VecDeque::new() }
    }

    async fn next(&mut self) -> Option<(u8, Bytes)> {
        match self.early.pop_front() {
            Some(message) => Some(message),
            None => sockets::next(&mut self.receiver).await,
        }
    }

    /// The size that clients with a terminal tell first; none if it does not come soon.
    async fn first_size(&mut self) -> Option<(u16, u16)> {
        let found = async {
            loop {
                match sockets::next(&mut self.receiver).await? {
                    (RESIZE, bytes) => return size(&bytes),
                    message => self.early.push_back(message),
                }
            }
        };
        tokio::time::timeout(SIZE, found).await.ok().flatten()
    }
}

/// Whether the input of a container ends with the first client's; otherwise only the client leaves.
fn closes(pod: &Value, name: &str) -> bool {
    let mut all = meta::items(pod, &["spec", "containers"]).iter();
    let one = all.find(|container| meta::name_of(container) == name);
    one.is_some_and(|container| meta::at(container, &["stdinOnce"]).as_bool() == Some(true))
}

/// Carries the streams of a process until its end, or until a client that `leaves` has no more input.
async fn serve(
    sender: sockets::Sender,
    mut receiver: Incoming,
    protocol: &str,
    session: Begun,
    exec: bool,
    leaves: bool,
) {
    let sender = Mutex::new(sender);
    let mut session = match session {
        Ok(session) => session,
        Err(error) => return sockets::finish(&sender, &failure(&error.to_string())).await,
    };
    let v5 = protocol == "v5.channel.k8s.io";
    let (stdout, stderr, mut stdin) = (session.stdout.take(), session.stderr.take(), session.stdin.take());
    let read = stdout.is_some() || stderr.is_some();
    let resize = session.resize;
    let incoming = async {
        while let Some((channel, bytes)) = receiver.next().await {
            match channel {
                STDIN => {
                    if let Some(input) = stdin.as_mut()
                        && (input.write_all(&bytes).await.is_err() || input.flush().await.is_err())
                    {
                        stdin = None;
                    }
                }
                RESIZE => {
                    if let Some((rows, columns)) = size(&bytes) {
                        resize(rows, columns);
                    }
                }
                CLOSE if v5 && leaves && bytes.first() == Some(&STDIN) => return true,
                CLOSE if v5 && bytes.first() == Some(&STDIN) => {
                    if let Some(mut input) = stdin.take() {
                        let _ = input.shutdown().await;
                    }
                }
                _ => {}
            }
        }
        false
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
                _ => success(),
            };
            sockets::finish(&sender, &status).await;
        }
        left = incoming => {
            if left {
                sockets::finish(&sender, &success()).await;
            }
        }
    }
}

/// Rows and columns of a client's terminal.
fn size(bytes: &[u8]) -> Option<(u16, u16)> {
    let size: Value = serde_json::from_slice(bytes).ok()?;
    let side = |name| size.get(name).and_then(Value::as_u64).and_then(|n| u16::try_from(n).ok());
    Some((side("Height")?, side("Width")?))
}

/// The same over SPDY: a stream for each that was asked for, and one for the status at the end.
async fn serve_spdy<R>(
    mut streams: Receiver<spdy::Stream>,
    expected: usize,
    protocol: &str,
    sized: bool,
    session: impl FnOnce(Option<(u16, u16)>) -> R,
    exec: bool,
) where
    R: Future<Output = Begun>,
{
    let mut named = HashMap::new();
    let opened = async {
        while named.len() < expected {
            let Some(stream) = streams.recv().await else { return };
            named.insert(stream.header("streamtype").to_owned(), stream);
        }
    };
    let _ = tokio::time::timeout(OPENING, opened).await;
    let Some(error) = named.remove("error") else { return };
    let first = match named.get_mut("resize").filter(|_| sized) {
        Some(sizes) => tokio::time::timeout(SIZE, sizes.input.recv()).await.ok().flatten(),
        None => None,
    };
    let mut session = match session(first.and_then(|bytes| size(&bytes))).await {
        Ok(session) => session,
        Err(refused) => {
            error.output.send(failure(&refused.to_string()).to_string().as_bytes()).await;
            return error.output.end().await;
        }
    };
    let (stdout, stderr, mut stdin) = (session.stdout.take(), session.stderr.take(), session.stdin.take());
    let (resize, ended) = (session.resize, session.ended);
    let read = stdout.is_some() || stderr.is_some();
    let output = |name| named.get(name).map(|stream: &spdy::Stream| stream.output.clone());
    let (out, err) = (output("stdout"), output("stderr"));
    let outgoing = async {
        tokio::join!(copy(out, stdout), copy(err, stderr));
        if exec || read { Some(ended.await) } else { ended.await.into() }
    };
    let (input, sizes) = (named.remove("stdin"), named.remove("resize"));
    let write = async {
        if let Some(mut input) = input {
            while let Some(bytes) = input.input.recv().await {
                let Some(writer) = stdin.as_mut() else { return };
                if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
                    stdin = None;
                }
            }
        }
        if let Some(mut writer) = stdin.take() {
            let _ = writer.shutdown().await;
        }
    };
    let follow = async {
        let mut sizes = sizes;
        while let Some(stream) = sizes.as_mut() {
            match stream.input.recv().await {
                Some(bytes) => drop(size(&bytes).map(|(rows, columns)| resize(rows, columns))),
                None => sizes = None,
            }
        }
    };
    // The error stream ends with the connection: the client sends nothing more on it.
    let gone = async { while streams.recv().await.is_some() {} };
    let exit = tokio::select! {
        exit = outgoing => exit,
        () = async { tokio::join!(write, follow, gone); } => return,
    };
    finish_spdy(&error.output, protocol, exit.filter(|_| exec)).await;
}

async fn copy(output: Option<spdy::Output>, reader: Option<Box<dyn AsyncRead + Send + Unpin>>) {
    match output {
        Some(output) => output.copy(reader).await,
        None => drop(reader),
    }
}

/// The last words: an object since version 4, nothing or an error before.
async fn finish_spdy(output: &spdy::Output, protocol: &str, exit: Option<EngineResult<Exit>>) {
    let status = exit.map_or_else(success, outcome);
    if protocol == "v4.channel.k8s.io" {
        output.send(status.to_string().as_bytes()).await;
    } else if meta::string(&status, &["status"]) != "Success" {
        output.send(meta::string(&status, &["message"]).as_bytes()).await;
    }
    output.end().await;
}

fn success() -> Value {
    json!({"metadata": {}, "status": "Success"})
}

fn outcome(exit: EngineResult<Exit>) -> Value {
    let exit = match exit {
        Ok(exit) if exit.code == 0 => return success(),
        Ok(exit) => exit,
        Err(trouble) => return failure(&trouble.message),
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_without_streams_gets_the_words_alone() {
        let error = SessionError::from(Trouble::new("NotFound", "no such container"));
        assert_eq!(error.to_string(), "no such container");
        let error = SessionError::NoContainer("the pod is gone".into());
        assert_eq!(error.to_string(), "the pod is gone");
    }
}
