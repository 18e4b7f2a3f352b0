//! `/containers/{id}/archive`, `export` and `top`.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::{ReaderStream, StreamReader};

use super::body::Json;
use super::error::Result;
use super::query::Query;
use super::stream::bytes as stream_bytes;
use crate::daemon::Daemon;
use crate::fault::Fault;
use crate::translate::archive::Stat;

const STAT: &str = "X-Docker-Container-Path-Stat";

/// The routes.
pub fn router() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/containers/{id}/archive", get(read).head(stat).put(write))
        .route("/containers/{id}/export", get(export))
        .route("/containers/{id}/top", get(top))
}

fn path(query: &Query) -> Result<&str> {
    Ok(query.text("path").ok_or_else(|| Fault::invalid("bad parameter: path cannot be empty"))?)
}

fn with_stat(mut response: Response, stat: &Stat) -> Response {
    if let Ok(value) = HeaderValue::from_str(&STANDARD.encode(stat.json().to_string())) {
        response.headers_mut().insert(STAT, value);
    }
    response
}

async fn stat(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>, query: Query) -> Result<Response> {
    let path = path(&query)?;
    let container = daemon.container(&id)?;
    let stat = daemon.path_stat(&container, path).await?;
    Ok(with_stat(StatusCode::OK.into_response(), &stat))
}

async fn read(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>, query: Query) -> Result<Response> {
    let path = path(&query)?;
    let container = daemon.container(&id)?;
    let (stat, stream) = daemon.read_archive(&container, path).await?;
    Ok(with_stat(stream_bytes("application/x-tar", ReceiverStream::new(stream)), &stat))
}

async fn export(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>) -> Result<Response> {
    let container = daemon.container(&id)?;
    let stream = daemon.export(&container).await?;
    Ok(stream_bytes("application/octet-stream", ReceiverStream::new(stream)))
}

/// A request's body as blocks.
type Blocks = futures::stream::BoxStream<'static, std::io::Result<bytes::Bytes>>;

/// How much of a refused archive is read, so that its client gets to read the refusal.
const DRAIN: usize = 64 * 1024 * 1024;

async fn write(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    query: Query,
    body: Body,
) -> Result<Response> {
    let mut blocks: Blocks = body.into_data_stream().map_err(std::io::Error::other).boxed();
    let result = unpack(&daemon, &id, &query, &mut blocks).await;
    if result.is_err() {
        let mut left = DRAIN;
        while let Some(Ok(block)) = blocks.next().await {
            left = left.saturating_sub(block.len());
            if left == 0 {
                break;
            }
        }
    }
    result.map(|()| StatusCode::OK.into_response())
}

/// Compressed archives are told by their first bytes, whatever their headers say, as dockerd does.
async fn unpack(daemon: &Daemon, id: &str, query: &Query, blocks: &mut Blocks) -> Result<()> {
    let path = path(query)?;
    let container = daemon.container(id)?;
    let first = blocks.next().await.transpose();
    let first = first.map_err(|e| Fault::invalid(format!("no archive arrived: {e}")))?.unwrap_or_default();
    let kinds: [(&[u8], &str); 3] = [(b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zstd")];
    if let Some((_, kind)) = kinds.iter().find(|(magic, _)| first.starts_with(magic)) {
        return Err(Fault::not_implemented(format!(
            "d2k: archives compressed with {kind} are not unpacked; send tar or gzip"
        ))
        .into());
    }
    // Whether a directory and a file may take each other's place.
    let keep_kinds = query.flag("noOverwriteDirNonDir");
    let gzip = first.starts_with(b"\x1f\x8b");
    let whole = futures::stream::once(async move { Ok(first) }).chain(blocks).boxed();
    if gzip {
        let reader = async_compression::tokio::bufread::GzipDecoder::new(StreamReader::new(whole));
        let plain = ReaderStream::with_capacity(reader, 65_536);
        daemon.write_archive(&container, path, keep_kinds, plain).await?;
    } else {
        daemon.write_archive(&container, path, keep_kinds, whole).await?;
    }
    Ok(())
}

async fn top(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>, query: Query) -> Result<Response> {
    let table = daemon.top(&id, query.get("ps_args").unwrap_or_default()).await?;
    Ok(Json(json!({"Titles": table.titles, "Processes": table.processes})).into_response())
}
