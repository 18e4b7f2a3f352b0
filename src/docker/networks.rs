//! `/networks`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bollard_stubs::models::{EndpointSettings, NetworkCreateRequest};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{Json, JsonBody};
use super::containers::or_null;
use super::error::Result;
use super::query::Query;
use d2k_common::fault::{Fault, Kind};
use d2k_daemon::Daemon;
use d2k_translate::network::{Network, is_predefined};

/// The routes.
pub fn router() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/networks", get(list))
        .route("/networks/create", post(create).get(show_called).delete(remove_called))
        .route("/networks/prune", post(prune).get(show_called).delete(remove_called))
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

async fn create(State(daemon): State<Arc<Daemon>>, body: JsonBody<Value>) -> Result<Response> {
    let mut raw = body.raw;
    // The generated type insists on a name; that there is none is said in Docker's words later.
    if let Some(fields) = raw.as_object_mut()
        && fields.get("Name").is_none_or(Value::is_null)
    {
        fields.insert("Name".into(), json!(""));
    }
    let wrong = |error: serde_json::Error| Fault::invalid(format!("invalid JSON: {error}"));
    let request: NetworkCreateRequest = serde_json::from_value(raw).map_err(wrong)?;
    let (network, warning) = daemon.create_network(request).await?;
    let answer = Json(json!({"Id": network.id, "Warning": warning}));
    Ok((StatusCode::CREATED, answer).into_response())
}

async fn remove(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>) -> Result<StatusCode> {
    daemon.remove_network(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn last(uri: &Uri) -> Path<String> {
    Path(uri.path().rsplit('/').next().unwrap_or_default().to_owned())
}

/// A network may be called as a path is.
async fn show_called(daemon: State<Arc<Daemon>>, uri: Uri, query: Query) -> Result<Response> {
    show(daemon, last(&uri), query).await
}

async fn remove_called(daemon: State<Arc<Daemon>>, uri: Uri) -> Result<StatusCode> {
    remove(daemon, last(&uri)).await
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
    let force = body.value.force.unwrap_or(false);
    daemon.disconnect_network(&id, &container).await.map_err(|fault| match fault.kind {
        // `--force` is for endpoints whose container is gone, which are not left behind here.
        Kind::NotFound if force && daemon.network(&id).is_ok() => {
            Fault::not_found(format!("endpoint {container} not found"))
        }
        _ => fault,
    })?;
    Ok(StatusCode::OK)
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
    Ok(Json(json!({"NetworksDeleted": or_null(deleted)})).into_response())
}
