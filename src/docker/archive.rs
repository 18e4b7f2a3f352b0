//! `/containers/{id}/archive`, `export` and `top`.

use std::io::Read;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::StreamExt;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::body::Json;
use super::early;
use super::error::Result;
use super::query::Query;
use super::stream::bytes as stream_bytes;
use d2k_common::compression;
use d2k_common::fault::Fault;
use d2k_daemon::Daemon;
use d2k_translate::archive::Stat;

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
    let container = daemon.managed(&id)?;
    let stat = daemon.path_stat(&container, path).await?;
    Ok(with_stat(StatusCode::OK.into_response(), &stat))
}

async fn read(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>, query: Query) -> Result<Response> {
    let path = path(&query)?;
    let container = daemon.managed(&id)?;
    let (stat, stream) = daemon.read_archive(&container, path).await?;
    Ok(with_stat(stream_bytes("application/x-tar", ReceiverStream::new(stream)), &stat))
}

async fn export(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>) -> Result<Response> {
    let container = daemon.managed(&id)?;
    let stream = daemon.export(&container).await?;
    Ok(stream_bytes("application/octet-stream", ReceiverStream::new(stream)))
}

/// A request's body as blocks.
type Blocks = futures::stream::BoxStream<'static, std::io::Result<Bytes>>;

/// Of a compressed archive, what is unpacked at a time.
const BUFFER: usize = 64 * 1024;

async fn write(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    query: Query,
    body: Body,
) -> Result<Response> {
    let mut blocks: Blocks = early::blocks(body);
    let result = unpack(&daemon, &id, &query, &mut blocks).await;
    if result.is_err() {
        early::drain(&mut StreamReader::new(blocks)).await;
    }
    result.map(|()| StatusCode::OK.into_response())
}

/// Compressed archives are told by their first bytes, whatever their headers say, as dockerd does.
async fn unpack(daemon: &Daemon, id: &str, query: &Query, blocks: &mut Blocks) -> Result<()> {
    let path = path(query)?;
    let container = daemon.managed(id)?;
    let mut first = Vec::new();
    while first.len() < compression::LONGEST_MARK
        && let Some(block) = blocks.next().await
    {
        first.extend_from_slice(&block.map_err(|e| Fault::invalid(format!("no archive arrived: {e}")))?);
    }
    // Whether a directory and a file may take each other's place.
    let keep_kinds = query.flag("noOverwriteDirNonDir");
    let compressed = compression::is_compressed(&first);
    let whole = futures::stream::once(async move { Ok(first.into()) }).chain(blocks).boxed();
    if compressed {
        let (sender, plain) = mpsc::channel(4);
        let written = daemon.write_archive(&container, path, keep_kinds, ReceiverStream::new(plain));
        tokio::join!(decompress(whole, sender), written).1?;
    } else {
        daemon.write_archive(&container, path, keep_kinds, whole).await?;
    }
    Ok(())
}

/// Sends the plain blocks of a compressed stream, or the error that ends them.
async fn decompress(
    mut blocks: futures::stream::BoxStream<'_, std::io::Result<Bytes>>,
    plain: mpsc::Sender<std::io::Result<Bytes>>,
) {
    let (mut writer, reader) = tokio::io::duplex(BUFFER);
    let decoder = tokio::task::spawn_blocking(move || {
        let result = compression::plain(SyncIoBridge::new(reader)).and_then(|mut decoder| {
            loop {
                let mut block = vec![0; BUFFER];
                let length = decoder.read(&mut block)?;
                block.truncate(length);
                if length == 0 || plain.blocking_send(Ok(block.into())).is_err() {
                    return Ok(());
                }
            }
        });
        if let Err(error) = result {
            let _ = plain.blocking_send(Err(error));
        }
    });
    // A stream that breaks off is one that ends too early, which the decoder tells.
    while let Some(Ok(block)) = blocks.next().await {
        if writer.write_all(&block).await.is_err() {
            break;
        }
    }
    drop(writer);
    let _ = decoder.await;
}

async fn top(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>, query: Query) -> Result<Response> {
    let table = daemon.top(&id, query.get("ps_args").unwrap_or_default()).await?;
    Ok(Json(json!({"Titles": table.titles, "Processes": table.processes})).into_response())
}
