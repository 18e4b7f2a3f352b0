//! Images as archives: load, import and save. They need images on this machine; where the nodes of a
//! cluster have them, the answer is 501 with what to do instead.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::early;
use crate::error::Result;
use crate::query::Query;
use crate::stream::{Newline, json_lines};
use d2k_common::fault::Kind;
use d2k_daemon::Daemon;
use d2k_registry::Reference;
use d2k_registry::pull::error_line;

/// POST `/images/load`.
pub(super) async fn load(State(daemon): State<Arc<Daemon>>, body: Body) -> Result<Response> {
    let mut archive = early::reader(body);
    let loaded = daemon.load_images(&mut archive).await;
    if loaded.is_err() {
        early::drain(&mut archive).await;
    }
    let lines = match loaded {
        Ok(lines) => lines,
        Err(fault) if fault.kind == Kind::NotImplemented => return Err(fault.into()),
        // Docker has begun its answer by then: clients look for the error in it.
        Err(fault) => vec![error_line(&fault.message)],
    };
    Ok(json_lines("application/json", Newline::CrLf, futures::stream::iter(lines)))
}

/// POST `/images/create?fromSrc=`.
pub(super) async fn import(daemon: Arc<Daemon>, query: &Query, body: Body) -> Result<Response> {
    let reference = match query.text("repo") {
        Some(repo) => {
            let reference = Reference::parse(repo)?;
            Some(match query.text("tag") {
                Some(tag) => reference.with_suffix(tag)?,
                None => reference,
            })
        }
        None => None,
    };
    if let Some(url) = query.text("fromSrc").filter(|from| *from != "-") {
        return Err(d2k_common::fault::Fault::invalid(format!(
            "d2k does not fetch {url}: give the archive itself, for example `curl URL | docker import - NAME`"
        ))
        .into());
    }
    let changes = query.all("changes").map(str::to_owned).collect();
    let message = query.text("message").unwrap_or_default().to_owned();
    let mut archive = early::reader(body);
    let imported = daemon.import_image(&mut archive, reference, changes, message).await;
    if imported.is_err() {
        early::drain(&mut archive).await;
    }
    let id = imported?;
    let line = json!({"status": id});
    Ok(json_lines("application/json", Newline::CrLf, futures::stream::iter([line])))
}

/// GET `/images/get`.
pub(super) async fn save(State(daemon): State<Arc<Daemon>>, query: Query) -> Result<Response> {
    let names: Vec<String> = query.all("names").flat_map(|n| n.split(',')).map(str::to_owned).collect();
    of_names(&daemon, &names)
}

/// The archive of images.
pub(super) fn of_names(daemon: &Daemon, names: &[String]) -> Result<Response> {
    let chunks = daemon.save_images(names)?;
    Ok(([(CONTENT_TYPE, "application/x-tar")], Body::from_stream(chunks)).into_response())
}
