//! `/containers/{id}/stats`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::StreamExt;

use super::body::Json;
use super::error::Result;
use super::peer::Peer;
use super::query::Query;
use super::stream::{Newline, json_lines};
use d2k_daemon::{Daemon, stats as daemon_stats};

/// Between the two samples of a call without stream, so that it has a difference.
const APART: Duration = Duration::from_secs(1);

/// The routes.
pub fn router() -> Router<Arc<Daemon>> {
    Router::new().route("/containers/{id}/stats", get(stats))
}

async fn stats(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    query: Query,
    peer: Peer,
) -> Result<Response> {
    let container = daemon.container(&id)?;
    if query.flag_or("stream", true) {
        let stopping = peer.stopping.clone().cancelled_owned();
        let samples = daemon_stats::stream(daemon, container.record.id.clone()).take_until(stopping);
        return Ok(json_lines("application/json", Newline::Lf, samples));
    }
    let first = daemon.sample(&container, None).await?;
    if query.flag("one-shot") || !container.state().running() {
        return Ok(Json(first.json()).into_response());
    }
    tokio::time::sleep(APART).await;
    let second = daemon.sample(&container, Some(&first)).await?;
    Ok(Json(second.json()).into_response())
}
