//! `/containers/{id}/attach`, `attach/ws` and `logs`.

use std::sync::Arc;

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use jiff::Timestamp;

use super::detach;
use super::error::Result;
use super::hijack::{Hijack, Session, websocket};
use super::peer::Peer;
use super::query::Query;
use super::stream::output;
use super::version::ApiVersion;
use d2k_common::fault::Fault;
use d2k_daemon::Daemon;
use d2k_daemon::attach::Options;
use d2k_daemon::gates::Place;
use d2k_daemon::logs;
use d2k_daemon::pipe::Pipe;
use d2k_translate::container::Container;

/// The routes.
pub fn router() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/containers/{id}/attach", post(attach))
        .route("/containers/{id}/attach/ws", get(attach_ws))
        .route("/containers/{id}/logs", get(show_logs))
}

fn options(query: &Query) -> Options {
    Options {
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        logs: query.flag("logs"),
        stream: query.flag("stream"),
    }
}

async fn run(
    daemon: Arc<Daemon>,
    container: Container,
    options: Options,
    place: Option<Place>,
    session: Session,
) {
    let told = session.output.clone();
    let pipe = Pipe { input: session.input, output: session.output };
    if let Err(fault) = daemon.attach(container, options, place, pipe).await {
        let bytes = bytes::Bytes::from(format!("{fault}\r\n"));
        let channel = d2k_daemon::pipe::Channel::SystemError;
        let _ = told.send(d2k_daemon::pipe::Chunk { channel, bytes }).await;
    }
}

async fn attach(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    query: Query,
    hijack: Hijack,
) -> Result<Response> {
    let container = daemon.managed(&id)?;
    let options = options(&query);
    // Noted before the answer: `--rm` must not take the output away from a client that just came.
    let reader = daemon.reader(&container.record.id);
    let keys = detach::Keys::parse(query.get("detachKeys").unwrap_or_default())?;
    let place = daemon.place(&container, options);
    Ok(hijack.run(container.record.tty(), move |session| async move {
        let session = if container.record.tty() { detach::watch(session, keys) } else { session };
        run(daemon, container, options, place, session).await;
        drop(reader);
    }))
}

async fn attach_ws(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    version: ApiVersion,
    query: Query,
    peer: Peer,
    upgrade: WebSocketUpgrade,
) -> Result<Response> {
    let container = daemon.managed(&id)?;
    let mut options = options(&query);
    options.stream = true;
    let unsaid = !options.stdin && !options.stdout && !options.stderr;
    if version.below(42) || unsaid {
        (options.stdin, options.stdout, options.stderr) = (true, true, true);
    }
    let keys = detach::Keys::parse(query.get("detachKeys").unwrap_or_default())?;
    let place = daemon.place(&container, options);
    Ok(websocket(upgrade, peer, move |session| {
        let session = if container.record.tty() { detach::watch(session, keys) } else { session };
        run(daemon, container, options, place, session)
    }))
}

async fn show_logs(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    version: ApiVersion,
    query: Query,
    peer: Peer,
) -> Result<Response> {
    if !query.flag("stdout") && !query.flag("stderr") {
        return Err(Fault::invalid("Bad parameters: you must choose at least one stream").into());
    }
    let container = daemon.container(&id)?;
    let real = |time: Option<Timestamp>| time.filter(|t| *t != Timestamp::UNIX_EPOCH);
    let details = query.flag("details").then(|| logs::details(&container.record));
    let wanted = logs::Query {
        follow: query.flag("follow"),
        no_stdout: !query.flag("stdout"),
        no_stderr: !query.flag("stderr"),
        tty: container.record.tty(),
        since: real(query.time("since")?),
        until: real(query.time("until")?),
        tail: tail(query.get("tail").unwrap_or_default())?,
        timestamps: query.flag("timestamps"),
        details,
    };
    Ok(output(container.record.tty(), version, &peer, move |sender| async move {
        if let Err(fault) = daemon.logs(&container, &wanted, &sender).await {
            tracing::warn!(container = %container.record.name, error = %fault, "logs broke off");
        }
    }))
}

/// `all`, a number, or nothing for all; dockerd takes what is no number, or negative, for all.
fn tail(text: &str) -> Result<Option<usize>> {
    Ok(text.parse().ok())
}
