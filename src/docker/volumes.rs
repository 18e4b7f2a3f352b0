//! `/volumes`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bollard_stubs::models::VolumeCreateRequest;
use serde_json::{Value, json};

use super::body::{Json, JsonBody};
use super::error::Result;
use super::filters::Filters;
use super::query::Query;
use super::version::ApiVersion;
use d2k_common::fault::Fault;
use d2k_daemon::Daemon;
use d2k_translate::volume;

type Claim = k8s_openapi::api::core::v1::PersistentVolumeClaim;

/// The routes.
pub fn router() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/volumes", get(list))
        .route("/volumes/create", post(create).get(show_called).delete(remove_called))
        .route("/volumes/prune", post(prune).get(show_called).delete(remove_called))
        .route("/volumes/{name}", get(show).delete(remove).put(update))
}

fn answer(claim: &Claim) -> Value {
    let mut value = serde_json::to_value(volume::volume(claim)).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        let nothing = |v: Option<&Value>| v.and_then(Value::as_object).is_none_or(serde_json::Map::is_empty);
        if nothing(fields.get("Labels")) {
            let labels = if volume::unlabelled(claim) { Value::Null } else { json!({}) };
            fields.insert("Labels".into(), labels);
        }
        if nothing(fields.get("Options")) {
            fields.insert("Options".into(), Value::Null);
        }
    }
    value
}

fn suits(filters: &Filters, claim: &Claim) -> bool {
    let labels = volume::labels(claim);
    filters.name(&volume::name(claim))
        && filters.exact("driver", "local")
        && filters.labels(|key| labels.get(key).map(String::as_str))
}

async fn list(State(daemon): State<Arc<Daemon>>, query: Query) -> Result<Response> {
    let filters = query.filters()?;
    filters.check(&["dangling", "driver", "label", "name"])?;
    let dangling = filters.bool("dangling")?;
    let volumes: Vec<Value> = daemon
        .volumes()
        .iter()
        .filter(|claim| suits(&filters, &claim.object))
        .filter(|claim| dangling.is_none_or(|wanted| daemon.volume_users(&claim.object).is_empty() == wanted))
        .map(|claim| answer(&claim.object))
        .collect();
    Ok(Json(json!({"Volumes": volumes, "Warnings": null})).into_response())
}

async fn show(State(daemon): State<Arc<Daemon>>, Path(name): Path<String>) -> Result<Response> {
    Ok(Json(answer(&daemon.volume(&name)?.object)).into_response())
}

async fn create(State(daemon): State<Arc<Daemon>>, body: JsonBody<VolumeCreateRequest>) -> Result<Response> {
    let claim = daemon.create_volume(body.value).await?;
    Ok((StatusCode::CREATED, Json(answer(&claim.object))).into_response())
}

async fn remove(
    State(daemon): State<Arc<Daemon>>,
    Path(name): Path<String>,
    query: Query,
) -> Result<StatusCode> {
    daemon.remove_volume(&name, query.flag("force")).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn last(uri: &Uri) -> Path<String> {
    Path(uri.path().rsplit('/').next().unwrap_or_default().to_owned())
}

/// A volume may be called as a path is.
async fn show_called(daemon: State<Arc<Daemon>>, uri: Uri) -> Result<Response> {
    show(daemon, last(&uri)).await
}

async fn remove_called(daemon: State<Arc<Daemon>>, uri: Uri, query: Query) -> Result<StatusCode> {
    remove(daemon, last(&uri), query).await
}

/// Only volumes of a swarm can be changed.
async fn update() -> Result<StatusCode> {
    Err(Fault::unavailable(
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to \
         swarm and try again.",
    )
    .into())
}

/// From 1.42 on only anonymous volumes go, unless `all` is given.
async fn prune(State(daemon): State<Arc<Daemon>>, version: ApiVersion, query: Query) -> Result<Response> {
    let filters = query.filters()?;
    filters.check(&["label", "label!", "all"])?;
    let all = version.below(42) || filters.bool("all")? == Some(true);
    let (mut deleted, mut reclaimed) = (Vec::new(), 0);
    for claim in daemon.volumes() {
        let claim = &claim.object;
        let ours =
            claim.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(d2k_translate::keys::NAME));
        let labels = volume::labels(claim);
        let fits = filters.labels(|key| labels.get(key).map(String::as_str));
        if !ours || !fits || !(all || volume::is_anonymous(claim)) || !daemon.volume_users(claim).is_empty() {
            continue;
        }
        let name = volume::name(claim);
        daemon.remove_volume(&name, false).await?;
        reclaimed += volume::size(claim).unwrap_or(0);
        deleted.push(name);
    }
    Ok(Json(json!({"VolumesDeleted": deleted, "SpaceReclaimed": reclaimed})).into_response())
}
