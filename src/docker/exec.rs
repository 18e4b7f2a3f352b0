//! `/containers/{id}/exec` and `/exec/{id}`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{Json, JsonBody};
use super::detach;
use super::error::Result;
use super::hijack::Hijack;
use super::query::Query;
use d2k_common::fault::Fault;
use d2k_daemon::Daemon;
use d2k_daemon::exec::{Streams, inspect};
use d2k_daemon::pipe::{Pipe, TerminalSize};
use d2k_translate::exec::Command;

/// The routes.
pub fn router() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/containers/{id}/exec", post(create))
        .route("/exec/{id}/start", post(start))
        .route("/exec/{id}/resize", post(resize))
        .route("/exec/{id}/json", get(show))
}

/// Body of a create call (Docker API, `ContainerExec`). Every field may be null.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ExecConfig {
    attach_stdin: Option<bool>,
    attach_stdout: Option<bool>,
    attach_stderr: Option<bool>,
    tty: Option<bool>,
    env: Option<Vec<String>>,
    cmd: Option<Value>,
    privileged: Option<bool>,
    user: Option<String>,
    working_dir: Option<String>,
    console_size: Option<Vec<u16>>,
    /// docker-py writes it with a small letter, which is the same to Docker.
    #[serde(alias = "detachKeys")]
    detach_keys: Option<String>,
}

/// Body of a start call (Docker API, `ExecStart`).
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ExecStart {
    detach: Option<bool>,
    tty: Option<bool>,
    console_size: Option<Vec<u16>>,
}

/// A command as a list, or as one word.
fn argv(cmd: Option<Value>) -> Result<Vec<String>> {
    match cmd {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(word)) => Ok(vec![word]),
        Some(list) => {
            Ok(serde_json::from_value(list).map_err(|e| Fault::invalid(format!("invalid JSON: Cmd: {e}")))?)
        }
    }
}

fn console(size: Option<&Vec<u16>>) -> Option<TerminalSize> {
    match size?.as_slice() {
        [height, width] if *height > 0 && *width > 0 => Some(TerminalSize { height: *height, width: *width }),
        _ => None,
    }
}

async fn create(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    body: JsonBody<ExecConfig>,
) -> Result<Response> {
    let config = body.value;
    let command = Command {
        argv: argv(config.cmd)?,
        env: config.env.unwrap_or_default(),
        working_dir: config.working_dir.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        privileged: config.privileged.unwrap_or(false),
    };
    let flag = |value: Option<bool>| value.unwrap_or(false);
    let streams = Streams {
        stdin: flag(config.attach_stdin),
        stdout: flag(config.attach_stdout),
        stderr: flag(config.attach_stderr),
        tty: flag(config.tty),
    };
    let detach_keys = config.detach_keys.unwrap_or_default();
    detach::Keys::parse(&detach_keys)?;
    let exec = daemon.create_exec(&id, command, streams, detach_keys)?;
    if let Some(size) = console(config.console_size.as_ref()) {
        daemon.resize_exec(&exec, size)?;
    }
    Ok((StatusCode::CREATED, Json(json!({"Id": exec}))).into_response())
}

async fn start(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    mut hijack: Hijack,
) -> Result<Response> {
    let options: ExecStart = hijack.json().await?;
    daemon.exec(&id)?;
    if let Some(size) = console(options.console_size.as_ref()) {
        daemon.resize_exec(&id, size)?;
    }
    let (exec, container) = daemon.begin_exec(&id)?;
    if options.detach.unwrap_or(false) {
        tokio::spawn(daemon.run_exec(exec, container, None));
        return Ok(StatusCode::OK.into_response());
    }
    let tty = options.tty.unwrap_or(exec.streams.tty);
    let keys = detach::Keys::parse(&exec.detach_keys)?;
    Ok(hijack.run(tty, move |session| async move {
        let session = if tty { detach::watch(session, keys) } else { session };
        let pipe = Pipe { input: session.input, output: session.output };
        // A task of its own: the exec is brought to its end, and on record, also without its client.
        let _ = tokio::spawn(daemon.run_exec(exec, container, Some(pipe))).await;
    }))
}

async fn resize(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    query: Query,
) -> Result<StatusCode> {
    daemon.resize_exec(&id, super::lifecycle::size(&query)?)?;
    Ok(StatusCode::OK)
}

async fn show(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>) -> Result<Response> {
    Ok(Json(inspect(&daemon.exec(&id)?)).into_response())
}
