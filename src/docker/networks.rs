//! `/networks`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bollard_stubs::models::{EndpointSettings, NetworkCreateRequest};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{Json, JsonBody};
use super::error::Result;
use super::query::Query;
use crate::daemon::Daemon;
use crate::fault::Fault;
use crate::translate::network::{Network, is_predefined};

/// The routes.
pub fn router() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/networks", get(list))
        .route("/networks/create", post(create))
        .route("/networks/prune", post(prune))
        .route("/networks/{id}", get(show).delete(remove))
        .route("/networks/{id}/connect", post(connect))
        .route("/networks/{id}/disconnect", post(disconnect))
}

/// Body of connect and disconnect.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Endpoint {
    container: Option<String>,
    endpoint_config: Option<EndpointSettings>,
    force: Option<bool>,
}

fn label<'a>(network: &'a Network, key: &str) -> Option<&'a str> {
    network.request.labels.as_ref()?.get(key).map(String::as_str)
}

async fn list(State(daemon): State<Arc<Daemon>>, query: Query) -> Result<Response> {
    let filters = query.filters()?;
    filters.check(&["dangling", "driver", "id", "label", "name", "scope", "type"])?;
    let dangling = filters.bool("dangling")?;
    for kind in filters.get("type") {
        if !matches!(kind.as_str(), "custom" | "builtin") {
            return Err(Fault::invalid(format!("invalid filter: 'type'='{kind}'")).into());
        }
    }
    let mut all = daemon.networks();
    all.retain(|network| {
        let kind = if is_predefined(&network.name) { "builtin" } else { "custom" };
        // Docker matches a part of the name here, without regular expressions.
        filters.any("name", |part| network.name.contains(part))
            && filters.prefix("id", &network.id)
            && filters.exact("driver", &network.driver)
            && filters
                .exact("scope", network.request.scope.as_deref().filter(|s| !s.is_empty()).unwrap_or("local"))
            && filters.exact("type", kind)
            && filters.labels(|key| label(network, key))
            && dangling.is_none_or(|wanted| {
                let unused = !is_predefined(&network.name) && daemon.members(network).is_empty();
                unused == wanted
            })
    });
    // A list does not tell the members, as with Docker.
    let all: Vec<Value> = all.iter().map(|network| network.inspect(json!({}))).collect();
    Ok(Json(all).into_response())
}

async fn show(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>, query: Query) -> Result<Response> {
    let network = daemon.network(&id)?;
    if let Some(scope) = query.text("scope")
        && scope != network.request.scope.as_deref().filter(|s| !s.is_empty()).unwrap_or("local")
    {
        return Err(Fault::not_found(format!("network {id} not found")).into());
    }
    Ok(Json(network.inspect(daemon.network_containers(&network))).into_response())
}

async fn create(State(daemon): State<Arc<Daemon>>, body: JsonBody<NetworkCreateRequest>) -> Result<Response> {
    let (network, warning) = daemon.create_network(body.value).await?;
    let answer = Json(json!({"Id": network.id, "Warning": warning}));
    Ok((StatusCode::CREATED, answer).into_response())
}

async fn remove(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>) -> Result<StatusCode> {
    daemon.remove_network(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn connect(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    body: JsonBody<Endpoint>,
) -> Result<StatusCode> {
    let container = body.value.container.unwrap_or_default();
    daemon.connect_network(&id, &container, body.value.endpoint_config).await?;
    Ok(StatusCode::OK)
}

async fn disconnect(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    body: JsonBody<Endpoint>,
) -> Result<StatusCode> {
    let container = body.value.container.unwrap_or_default();
    match daemon.disconnect_network(&id, &container).await {
        // `--force` is for containers that are gone.
        Err(fault) if body.value.force == Some(true) && fault.kind == crate::fault::Kind::NotFound => {
            daemon.network(&id)?;
            Ok(StatusCode::OK)
        }
        result => {
            result?;
            Ok(StatusCode::OK)
        }
    }
}

async fn prune(State(daemon): State<Arc<Daemon>>, query: Query) -> Result<Response> {
    let filters = query.filters()?;
    filters.check(&["until", "label", "label!"])?;
    let until = filters.until(Timestamp::now())?;
    let mut deleted = Vec::new();
    for network in daemon.networks() {
        let old = until.is_none_or(|t| network.created < t);
        let unused = !is_predefined(&network.name) && daemon.members(&network).is_empty();
        if unused && old && filters.labels(|key| label(&network, key)) {
            daemon.remove_network(&network.id).await?;
            deleted.push(network.name);
        }
    }
    Ok(Json(json!({"NetworksDeleted": deleted})).into_response())
}
