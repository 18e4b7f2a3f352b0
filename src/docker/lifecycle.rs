//! `/containers/{id}/start`, `stop`, `restart`, `kill`, `pause`, `unpause`, `resize`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;

use super::error::Result;
use super::query::Query;
use super::version::ApiVersion;
use d2k_common::fault::Fault;
use d2k_common::signal;
use d2k_daemon::Daemon;
use d2k_daemon::pipe::TerminalSize;

/// The routes.
pub fn router() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/containers/{id}/start", post(start))
        .route("/containers/{id}/stop", post(stop))
        .route("/containers/{id}/restart", post(restart))
        .route("/containers/{id}/kill", post(kill))
        .route("/containers/{id}/pause", post(pause))
        .route("/containers/{id}/unpause", post(unpause))
        .route("/containers/{id}/resize", post(resize))
}

/// Since API 1.24 a start takes no host configuration; dockerd lets only a bare `{}` pass.
fn refuse_body(headers: &HeaderMap) -> Result<()> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|n| n > 7) {
        return Err(Fault::invalid(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        )
        .into());
    }
    Ok(())
}

async fn start(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode> {
    refuse_body(&headers)?;
    // A client that leaves does not undo what it asked for.
    outlive(async move { daemon.start(&id).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Runs an operation to its end, also when the client leaves: half a stop is worse than a whole one.
pub(super) async fn outlive<T: Send + 'static>(
    work: impl Future<Output = d2k_common::fault::Result<T>> + Send + 'static,
) -> Result<T> {
    match tokio::spawn(work).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(Fault::internal(format!("the operation broke off: {error}")).into()),
    }
}

/// Signal and timeout of a stop or restart; below 1.42 the signal is ignored.
fn stop_options(query: &Query, version: ApiVersion) -> Result<(Option<i64>, Option<i32>)> {
    let text = query.text("signal").filter(|_| !version.below(42));
    let signal = text.map(signal::number).transpose()?;
    Ok((query.int("t")?, signal))
}

async fn stop(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    version: ApiVersion,
    query: Query,
) -> Result<StatusCode> {
    let (timeout, signal) = stop_options(&query, version)?;
    outlive(async move { daemon.stop(&id, timeout, signal).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn restart(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    version: ApiVersion,
    query: Query,
) -> Result<StatusCode> {
    let (timeout, signal) = stop_options(&query, version)?;
    outlive(async move { daemon.restart(&id, timeout, signal).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn kill(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>, query: Query) -> Result<StatusCode> {
    let name = id.clone();
    let worded = |fault: Fault| {
        let message = format!("cannot kill container: {name}: {}", fault.message);
        Fault { message, ..fault }
    };
    let signal = signal::number(query.text("signal").unwrap_or("KILL")).map_err(worded)?;
    outlive(async move { daemon.kill(&id, signal).await }).await.map_err(|error| worded(error.0))?;
    Ok(StatusCode::NO_CONTENT)
}

async fn pause(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>) -> Result<StatusCode> {
    outlive(async move { daemon.pause(&id).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn unpause(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>) -> Result<StatusCode> {
    outlive(async move { daemon.unpause(&id).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The size that a resize call gives, rows and columns.
pub(super) fn size(query: &Query) -> Result<TerminalSize> {
    let number = |key: &str| -> Result<u16> {
        let missing = || Fault::invalid("strconv.Atoi: parsing \"\": invalid syntax");
        let value = query.int(key)?.ok_or_else(missing)?;
        Ok(u16::try_from(value).map_err(|_| Fault::invalid(format!("invalid {key}: {value}")))?)
    };
    Ok(TerminalSize { height: number("h")?, width: number("w")? })
}

async fn resize(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    query: Query,
) -> Result<StatusCode> {
    let size = size(&query)?;
    let container = daemon.managed(&id)?;
    if !container.state().running() && !daemon.is_starting(&container.record.id) {
        return Err(Fault::conflict(format!("container {} is not running", container.record.id)).into());
    }
    daemon.resize(&container.record, size);
    Ok(StatusCode::OK)
}
