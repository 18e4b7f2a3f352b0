//! `/containers`: list, create, inspect, rename, update, remove, prune, wait, changes.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::body::{Json, JsonBody, OptionalJson};
use super::error::Result;
use super::filters::Filters;
use super::peer::Peer;
use super::query::Query;
use super::stream::json_later;
use super::version::ApiVersion;
use d2k_common::fault::Fault;
use d2k_daemon::Daemon;
use d2k_daemon::create::Request;
use d2k_daemon::wait::Condition;
use d2k_registry::Credentials;
use d2k_translate::container::Container;
use d2k_translate::mounts::MountPlan;
use d2k_translate::{inspect, request};

/// Filters of `docker ps`.
const FILTERS: [&str; 18] = [
    "ancestor",
    "annotation",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "label!",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
    "until",
];

/// The routes.
pub fn router() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/containers/json", get(list).delete(remove_called))
        .route("/containers/create", post(create).delete(remove_called))
        .route("/containers/prune", post(prune).delete(remove_called))
        .route("/containers/{id}", delete(remove))
        .route("/containers/{id}/json", get(show))
        .route("/containers/{id}/rename", post(rename))
        .route("/containers/{id}/update", post(update))
        .route("/containers/{id}/changes", get(changes))
        .route("/containers/{id}/wait", post(wait))
}

/// The credentials of a request.
pub(super) fn credentials(headers: &HeaderMap) -> Option<Credentials> {
    Credentials::from_header(headers.get("X-Registry-Auth")?.to_str().ok()?)
}

/// Before 1.44 a container was created in one network, and connected to the others.
fn one_network(raw: &Value) -> Result<()> {
    let endpoints = raw.pointer("/NetworkingConfig/EndpointsConfig").and_then(Value::as_object);
    let names: Vec<&str> = endpoints.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    if names.len() < 2 {
        return Ok(());
    }
    let names = names.join(", ");
    let message = format!("Container cannot be created with multiple network endpoints: {names}");
    Err(Fault::invalid(message).into())
}

async fn create(
    State(daemon): State<Arc<Daemon>>,
    version: ApiVersion,
    query: Query,
    headers: HeaderMap,
    peer: Peer,
    body: OptionalJson<Value>,
) -> Result<Response> {
    let Some(JsonBody { raw, .. }) = body.0 else {
        return Err(Fault::invalid("Config cannot be empty in order to create a container").into());
    };
    if version.below(44) {
        one_network(&raw)?;
    }
    let request = Request {
        name: query.get("name").unwrap_or_default().to_owned(),
        platform: query.get("platform").unwrap_or_default().to_owned(),
        body: request::body(&raw)?,
        raw,
        credentials: credentials(&headers),
        client: peer.identity().to_owned(),
    };
    let created = daemon.create(request).await?;
    let answer = Json(json!({"Id": created.id, "Warnings": created.warnings}));
    Ok((StatusCode::CREATED, answer).into_response())
}

async fn list(State(daemon): State<Arc<Daemon>>, version: ApiVersion, query: Query) -> Result<Response> {
    let filters = query.filters()?;
    filters.check(&FILTERS)?;
    let limit = query.int("limit")?.filter(|n| *n > 0).and_then(|n| usize::try_from(n).ok());
    let all = query.flag("all") || limit.is_some() || filters.has("status") || filters.has("exited");
    let mut containers = selected(&daemon, &filters)?;
    containers.retain(|c| all || c.state().running());
    containers.sort_by(|a, b| b.record.created.cmp(&a.record.created).then(b.record.id.cmp(&a.record.id)));
    containers.truncate(limit.unwrap_or(usize::MAX));
    let now = Timestamp::now();
    let base = daemon.view_base(version.minor);
    let with_size = query.flag("size");
    let lines: Vec<Value> = containers
        .iter()
        .map(|container| {
            let mut line = inspect::summary(container, &daemon.view(container, &base), now);
            if let (true, Some(fields)) = (with_size, line.as_object_mut()) {
                // No SizeRw: a list leaves out what is 0.
                fields.insert("SizeRootFs".into(), json!(container.record.image.size));
            }
            line
        })
        .collect();
    Ok(Json(lines).into_response())
}

/// The containers that pass the filters.
fn selected(daemon: &Daemon, filters: &Filters) -> Result<Vec<Container>> {
    for status in filters.get("status") {
        let known = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
        if !known.contains(&status.as_str()) {
            return Err(Fault::invalid(format!(
                "invalid filter 'status={status}': use one of created, running, paused, restarting, removing, exited, dead"
            ))
            .into());
        }
    }
    for health in filters.get("health") {
        if !["none", "starting", "healthy", "unhealthy"].contains(&health.as_str()) {
            return Err(Fault::invalid(format!("invalid filter 'health={health}'")).into());
        }
    }
    for code in filters.get("exited") {
        code.parse::<i32>().map_err(|_| Fault::invalid(format!("invalid filter 'exited={code}'")))?;
    }
    for key in ["publish", "expose"] {
        for port in filters.get(key) {
            let words = || Fault::invalid(format!("error while looking up for {key} {port}: invalid port"));
            port_range(port).ok_or_else(words)?;
        }
    }
    let is_task = filters.bool("is-task")?;
    let border = |key: &str| -> Result<Option<Timestamp>> {
        let all = filters.get(key).iter();
        let mut times: Vec<Timestamp> = Vec::new();
        for name in all {
            times.push(daemon.container(name)?.record.created);
        }
        Ok(if key == "before" { times.into_iter().min() } else { times.into_iter().max() })
    };
    let (before, since) = (border("before")?, border("since")?);
    let mut containers = daemon.containers();
    containers.retain(|c| {
        is_task != Some(true)
            && before.is_none_or(|t| c.record.created < t)
            && since.is_none_or(|t| c.record.created > t)
            && passes(daemon, c, filters)
    });
    Ok(containers)
}

fn passes(daemon: &Daemon, container: &Container, filters: &Filters) -> bool {
    let record = &container.record;
    let labels = record.docker_labels();
    let quick = filters.prefix("id", &record.id)
        && filters.name(&record.name)
        && filters.labels(|key| labels.get(key).map(String::as_str));
    if !quick {
        return false;
    }
    let state = container.state();
    let status = if container.removing { "removing" } else { state.word() };
    let health = || {
        let health = daemon.health(&record.id);
        health.and_then(|h| h.get("Status")?.as_str().map(str::to_owned)).unwrap_or_else(|| "none".into())
    };
    let ports = |published: bool| -> Vec<(u16, String)> {
        if published {
            record.ports.iter().map(|p| (p.host_port, p.protocol.clone())).collect()
        } else {
            d2k_translate::bindings::exposed(record)
        }
    };
    let port = |key: &str, published: bool| {
        filters.any(key, |wanted| {
            port_range(wanted).is_some_and(|(first, last, protocol)| {
                ports(published).iter().any(|(p, proto)| (first..=last).contains(p) && *proto == protocol)
            })
        })
    };
    filters.exact("status", status)
        && (!filters.has("exited")
            || (state.phase == d2k_translate::state::Phase::Exited
                && filters.exact("exited", &state.run.exit_code.to_string())))
        && (!filters.has("health") || filters.exact("health", &health()))
        && filters.any("ancestor", |wanted| {
            d2k_registry::reference::is_ancestor(
                wanted,
                &record.image.reference,
                &record.image.id,
                &record.image.digest,
            )
        })
        && filters.any("network", |wanted| {
            record.networks.iter().any(|(name, member)| {
                name == wanted || daemon.network_id_of(name, member).starts_with(wanted)
            })
        })
        && (!filters.has("volume") || passes_volume(daemon, container, filters))
        && port("publish", true)
        && port("expose", false)
}

fn passes_volume(daemon: &Daemon, container: &Container, filters: &Filters) -> bool {
    let mounts = daemon.mounts_of(container);
    let source = |plan: &MountPlan, wanted: &str| plan.bind().is_some_and(|bind| bind.source == wanted);
    let is = |(plan, name): &(MountPlan, String), wanted: &str| {
        name == wanted || plan.target == wanted || source(plan, wanted)
    };
    filters.any("volume", |wanted| mounts.iter().any(|mount| is(mount, wanted)))
}

fn port_range(text: &str) -> Option<(u16, u16, String)> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    Some((first.parse().ok()?, last.parse().ok()?, protocol.to_ascii_lowercase()))
}

async fn show(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    version: ApiVersion,
    query: Query,
) -> Result<Response> {
    let container = daemon.container(&id)?;
    let base = daemon.view_base(version.minor);
    let mut answer = inspect::inspect(&container, &daemon.view(&container, &base));
    if let Some(fields) = answer.as_object_mut() {
        if query.flag("size") {
            fields.insert("SizeRw".into(), json!(0));
            fields.insert("SizeRootFs".into(), json!(container.record.image.size));
        } else {
            fields.remove("SizeRootFs");
        }
    }
    Ok(Json(answer).into_response())
}

async fn rename(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    query: Query,
) -> Result<StatusCode> {
    let name = query.get("name").unwrap_or_default();
    if name.is_empty() {
        return Err(Fault::invalid("Neither old nor new names may be empty").into());
    }
    daemon.rename(&id, name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn update(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    body: JsonBody<Value>,
) -> Result<Response> {
    let warnings = daemon.update(&id, &body.raw).await?;
    Ok(Json(json!({"Warnings": warnings})).into_response())
}

/// Kubernetes has no record of what a container changed in its file system.
async fn changes(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>) -> Result<Response> {
    daemon.container(&id)?;
    Ok(Json(Value::Null).into_response())
}

async fn remove(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    query: Query,
) -> Result<StatusCode> {
    if query.flag("link") {
        return Err(
            Fault::not_implemented("d2k: links between containers are not supported; use a network").into()
        );
    }
    daemon.remove(&id, query.flag("force"), query.flag("v")).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A container may be called as a path is.
async fn remove_called(daemon: State<Arc<Daemon>>, uri: Uri, query: Query) -> Result<StatusCode> {
    let name = uri.path().rsplit('/').next().unwrap_or_default().to_owned();
    remove(daemon, Path(name), query).await
}

async fn prune(State(daemon): State<Arc<Daemon>>, query: Query) -> Result<Response> {
    let filters = query.filters()?;
    filters.check(&["until", "label", "label!"])?;
    let until = filters.until(Timestamp::now())?;
    let fits = |c: &Container| {
        let labels = c.record.docker_labels();
        until.is_none_or(|t| c.record.created < t)
            && filters.labels(|key| labels.get(key).map(String::as_str))
    };
    let removed = daemon.prune(fits).await?;
    Ok(Json(json!({"ContainersDeleted": or_null(removed), "SpaceReclaimed": 0})).into_response())
}

/// What dockerd sends for a list that nothing was put into.
pub(super) fn or_null<T: serde::Serialize>(list: Vec<T>) -> Value {
    if list.is_empty() { Value::Null } else { json!(list) }
}

/// Headers go out at once, since the CLI starts the container only when it has them; below 1.30
/// they come with the answer.
async fn wait(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    version: ApiVersion,
    query: Query,
) -> Result<Response> {
    let condition = match query.get("condition").unwrap_or_default() {
        "" | "not-running" => Condition::NotRunning,
        "next-exit" => Condition::NextExit,
        "removed" => Condition::Removed,
        other => return Err(Fault::invalid(format!("invalid condition: \"{other}\"")).into()),
    };
    let container = daemon.container(&id)?;
    let answer = async move {
        let outcome = daemon.wait(&container, condition).await;
        outcome.map_or_else(
            || json!({"StatusCode": 125, "Error": {"Message": "d2k is ending"}}),
            |o| {
                let mut value = json!({"StatusCode": o.code});
                // Why a process could not be started is told by the start; the CLI would tell it twice.
                let told = o.error.is_empty() || matches!(o.code, 126..=128);
                if let (false, Some(fields)) = (told, value.as_object_mut()) {
                    fields.insert("Error".into(), json!({"Message": o.error}));
                }
                value
            },
        )
    };
    if version.below(30) {
        return Ok(Json(answer.await).into_response());
    }
    Ok(json_later(answer))
}
