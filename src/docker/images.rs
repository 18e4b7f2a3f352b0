//! `/images`, `/auth` and `/distribution`. Image names contain slashes: their routes are one
//! wildcard, told apart by their last word.

mod archives;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::body::{Json, OptionalJson};
use super::containers::{credentials, or_null};
use super::error::{Error, Result, page_not_found};
use super::peer::Peer;
use super::query::Query;
use super::stream::{Newline, json_lines};
use super::version::ApiVersion;
use d2k_common::fault::Fault;
use d2k_daemon::Daemon;
use d2k_daemon::images::{Image, repo_digest};
use d2k_registry::{Credentials, Platform, Reference};

/// The routes.
pub fn router() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/auth", post(login))
        .route("/images/json", get(list).delete(remove_called))
        .route("/images/create", post(create).delete(remove_called))
        .route("/images/prune", post(prune).delete(remove_called))
        .route("/images/search", get(search).delete(remove_called))
        .route("/images/load", post(archives::load).delete(remove_called))
        .route("/images/get", get(archives::save).delete(remove_called))
        .route("/images/{*rest}", get(read).post(write).delete(remove))
        .route("/distribution/{*rest}", get(distribution))
}

async fn login(State(daemon): State<Arc<Daemon>>, body: OptionalJson<Value>) -> Result<Response> {
    let raw = body.0.map(|b| b.raw.to_string()).unwrap_or_default();
    let credentials = Credentials::from_json(raw.as_bytes()).ok_or_else(|| {
        Fault::invalid("invalid credentials: a JSON object with username and password is expected")
    })?;
    let answer = match daemon.registry.login(&credentials).await {
        Ok(answer) => json!({"Status": answer.status, "IdentityToken": answer.identity_token}),
        Err(error) if error.is_unreachable() => {
            tracing::warn!(registry = credentials.host(), %error, "the credentials could not be checked");
            json!({"Status": "Login Succeeded", "IdentityToken": ""})
        }
        Err(error) => return Err(Error(error.into())),
    };
    Ok(Json(answer).into_response())
}

async fn create(
    State(daemon): State<Arc<Daemon>>,
    query: Query,
    headers: HeaderMap,
    peer: Peer,
    body: Body,
) -> Result<Response> {
    match query.text("fromImage") {
        Some(name) => pull(daemon, name, &query, &headers, &peer).await,
        None => archives::import(daemon, &query, body).await,
    }
}

async fn pull(
    daemon: Arc<Daemon>,
    name: &str,
    query: &Query,
    headers: &HeaderMap,
    peer: &Peer,
) -> Result<Response> {
    let mut reference = Reference::parse(name)?;
    if let Some(tag) = query.text("tag") {
        reference = reference.with_suffix(tag)?;
    }
    let platform = match query.text("platform") {
        Some(text) => Some(text.parse::<Platform>()?),
        None => None,
    };
    let lines = daemon.pull(reference, credentials(headers), platform, peer.identity().to_owned()).await?;
    Ok(json_lines("application/json", Newline::CrLf, lines))
}

fn created(image: &Image) -> i64 {
    image.facts.created.parse::<Timestamp>().map_or(0, Timestamp::as_second)
}

fn familiar(name: &str) -> String {
    Reference::parse(name).map_or_else(|_| name.to_owned(), |r| r.familiar())
}

/// One line an image ID, with all of its names.
pub(super) fn summaries(daemon: &Daemon, version: ApiVersion) -> Vec<Value> {
    group(daemon.images()).into_values().map(|names| summary(daemon, &names, version)).collect()
}

pub(super) fn group(images: Vec<Image>) -> BTreeMap<String, Vec<Image>> {
    let mut by_id: BTreeMap<String, Vec<Image>> = BTreeMap::new();
    for image in images {
        by_id.entry(image.facts.id.clone()).or_default().push(image);
    }
    by_id
}

fn digests(names: &[Image]) -> Vec<String> {
    let mut all: Vec<String> = names
        .iter()
        .filter_map(|image| {
            let full = repo_digest(image)?;
            Reference::parse(&full).ok().map(|r| format!("{}@{}", r.familiar_name(), image.facts.digest))
        })
        .collect();
    all.sort();
    all.dedup();
    all
}

fn tags(names: &[Image]) -> Vec<String> {
    let is_tag = |name: &str| !name.contains('@') && !name.starts_with("sha256:");
    names.iter().filter(|i| is_tag(&i.name)).map(|i| familiar(&i.name)).collect()
}

/// Null without any, as in the image's own configuration.
fn labels(image: &Image) -> Value {
    let labels = &image.facts.labels;
    if labels.is_empty() { Value::Null } else { json!(labels) }
}

fn summary(daemon: &Daemon, names: &[Image], version: ApiVersion) -> Value {
    let Some(image) = names.first() else {
        return Value::Null;
    };
    let users = daemon.containers().iter().filter(|c| c.record.image.id == image.facts.id).count();
    let mut tags = tags(names);
    if tags.is_empty() && version.below(43) {
        tags.push("<none>:<none>".into());
    }
    let mut value = json!({
        "Id": image.facts.id,
        "ParentId": "",
        "RepoTags": tags,
        "RepoDigests": digests(names),
        "Created": created(image),
        "Size": image.facts.size,
        "SharedSize": -1,
        "Labels": labels(image),
        "Containers": if version.below(51) { -1 } else { i64::try_from(users).unwrap_or(-1) },
    });
    if version.below(44)
        && let Some(fields) = value.as_object_mut()
    {
        fields.insert("VirtualSize".into(), json!(image.facts.size));
    }
    value
}

async fn list(State(daemon): State<Arc<Daemon>>, version: ApiVersion, query: Query) -> Result<Response> {
    let filters = query.filters()?;
    filters.check(&["before", "dangling", "label", "reference", "since", "until"])?;
    let dangling = filters.bool("dangling")?;
    let until = filters.until(Timestamp::now())?;
    let border = |key: &str| -> Result<Option<i64>> {
        Ok(match filters.get(key).first() {
            Some(name) => Some(created(&daemon.image(name)?)),
            None => None,
        })
    };
    let (before, since) = (border("before")?, border("since")?);
    let mut images = daemon.images();
    images.retain(|image| {
        let labels = &image.facts.labels;
        let time = created(image);
        dangling != Some(true)
            && filters.labels(|key| labels.get(key).map(String::as_str))
            && filters.any("reference", |pattern| {
                Reference::parse(&image.name).is_ok_and(|r| r.matches(pattern).unwrap_or(false))
            })
            && before.is_none_or(|t| time < t)
            && since.is_none_or(|t| time > t)
            && until.is_none_or(|t| time < t.as_second())
    });
    let mut lines: Vec<Value> =
        group(images).into_values().map(|names| summary(&daemon, &names, version)).collect();
    lines.sort_by_key(|line| -line.get("Created").and_then(Value::as_i64).unwrap_or(0));
    Ok(Json(lines).into_response())
}

/// Splits `library/busybox/json` into the name and the last word.
fn split(rest: &str) -> (&str, &str) {
    rest.rsplit_once('/').unwrap_or(("", rest))
}

async fn read(
    State(daemon): State<Arc<Daemon>>,
    Path(rest): Path<String>,
    version: ApiVersion,
) -> Result<Response> {
    match split(&rest) {
        (name, "json") => Ok(Json(inspect(&daemon, name, version)?).into_response()),
        (name, "history") => {
            let image = daemon.image(name)?;
            Ok(Json(history(&daemon, &image)).into_response())
        }
        (name, "get") => archives::of_names(&daemon, &[name.to_owned()]),
        (_, "attestations") => Err(Fault::not_implemented("d2k: attestations are not read").into()),
        _ => Err(page_not_found()),
    }
}

/// The configuration of a container that an image was not made of.
fn no_config() -> Value {
    json!({
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": false,
        "AttachStderr": false, "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": null, "Cmd": null,
        "Image": "", "Volumes": null, "WorkingDir": "", "Entrypoint": null, "OnBuild": null, "Labels": null,
    })
}

fn inspect(daemon: &Daemon, name: &str, version: ApiVersion) -> Result<Value> {
    let image = daemon.image(name)?;
    let facts = &image.facts;
    let names = daemon.image_names(&facts.id);
    let set = |list: &[String]| -> Value {
        if list.is_empty() {
            return Value::Null;
        }
        list.iter().map(|key| (key.clone(), json!({}))).collect::<serde_json::Map<_, _>>().into()
    };
    let list = |list: &[String]| {
        if list.is_empty() { Value::Null } else { json!(list) }
    };
    let mut config = json!({
        "Hostname": "", "Domainname": "", "User": facts.user, "AttachStdin": false, "AttachStdout": false,
        "AttachStderr": false, "Tty": false, "OpenStdin": false, "StdinOnce": false,
        "Env": list(&facts.env), "Cmd": list(&facts.cmd), "Image": "", "Volumes": set(&facts.volumes),
        "WorkingDir": facts.working_dir, "Entrypoint": list(&facts.entrypoint), "OnBuild": null,
        "Labels": labels(&image),
    });
    if let Some(fields) = config.as_object_mut() {
        if !facts.exposed_ports.is_empty() {
            fields.insert("ExposedPorts".into(), set(&facts.exposed_ports));
        }
        if !facts.stop_signal.is_empty() {
            fields.insert("StopSignal".into(), json!(facts.stop_signal));
        }
        if let Some(check) = &facts.healthcheck {
            fields.insert("Healthcheck".into(), json!(check));
        }
        if !facts.shell.is_empty() {
            fields.insert("Shell".into(), json!(facts.shell));
        }
    }
    let mut value = json!({
        "Id": facts.id, "RepoTags": tags(&names), "RepoDigests": digests(&names), "Parent": "", "Comment": "",
        "Created": facts.created, "DockerVersion": "", "Author": facts.author, "Config": config,
        "Architecture": facts.architecture, "Os": facts.os, "Size": facts.size,
        "GraphDriver": {"Name": "kubernetes", "Data": null},
        "RootFS": {"Type": "layers", "Layers": facts.layers},
        "Metadata": {"LastTagTime": image.tagged.map_or("0001-01-01T00:00:00Z".to_owned(), |at| at.to_string())},
    });
    if let Some(fields) = value.as_object_mut() {
        if version.below(44) {
            fields.insert("VirtualSize".into(), json!(facts.size));
        }
        if version.below(45) {
            fields.insert("Container".into(), json!(""));
            fields.insert("ContainerConfig".into(), no_config());
        }
    }
    Ok(value)
}

/// Newest first, as Docker has it; only the newest step carries the ID and the names.
fn history(daemon: &Daemon, image: &Image) -> Value {
    let facts = &image.facts;
    let names = daemon.image_names(&facts.id);
    let steps: Vec<Value> = facts
        .history
        .iter()
        .rev()
        .enumerate()
        .map(|(at, step)| {
            json!({
                "Id": if at == 0 { facts.id.clone() } else { "<missing>".into() },
                "Created": step.created.parse::<Timestamp>().map_or(0, Timestamp::as_second),
                "CreatedBy": step.created_by,
                "Tags": if at == 0 { json!(tags(&names)) } else { Value::Null },
                "Size": step.size,
                "Comment": step.comment,
            })
        })
        .collect();
    if !steps.is_empty() {
        return json!(steps);
    }
    json!([{
        "Id": facts.id, "Created": created(image), "CreatedBy": "", "Tags": tags(&names), "Size": facts.size,
        "Comment": "the registry tells no history of this image",
    }])
}

async fn write(
    State(daemon): State<Arc<Daemon>>,
    Path(rest): Path<String>,
    query: Query,
) -> Result<Response> {
    match split(&rest) {
        (name, "tag") => {
            let repo = query.text("repo").ok_or_else(|| Fault::invalid("invalid reference format"))?;
            let mut target = Reference::parse(repo)?;
            if let Some(tag) = query.text("tag") {
                target = target.with_suffix(tag)?;
            }
            daemon.tag_image(name, &target).await?;
            Ok(StatusCode::CREATED.into_response())
        }
        (_, "push") => Ok(super::swarm::image_push().await.into_response()),
        _ => Err(page_not_found()),
    }
}

/// An image may be called as a path is.
async fn remove_called(daemon: State<Arc<Daemon>>, uri: Uri, query: Query) -> Result<Response> {
    remove(daemon, Path(split(uri.path()).1.to_owned()), query).await
}

async fn remove(
    State(daemon): State<Arc<Daemon>>,
    Path(name): Path<String>,
    query: Query,
) -> Result<Response> {
    let (untagged, deleted) = daemon.remove_image(&name, query.flag("force")).await?;
    let mut lines: Vec<Value> = untagged.into_iter().map(|name| json!({"Untagged": name})).collect();
    lines.extend(deleted.map(|id| json!({"Deleted": id})));
    Ok(Json(lines).into_response())
}

/// `dangling=false` (`-a`) prunes every image that no container uses; d2k has no untagged ones.
async fn prune(State(daemon): State<Arc<Daemon>>, query: Query) -> Result<Response> {
    let filters = query.filters()?;
    filters.check(&["dangling", "label", "label!", "until"])?;
    let until = filters.until(Timestamp::now())?;
    let all = filters.bool("dangling")? == Some(false);
    let restricted = ["label", "label!", "until"].iter().any(|key| filters.has(key));
    if !restricted && let Some((deleted, reclaimed)) = daemon.prune_local_images(all).await? {
        return Ok(
            Json(json!({"ImagesDeleted": or_null(deleted), "SpaceReclaimed": reclaimed})).into_response()
        );
    }
    let (mut deleted, mut reclaimed) = (Vec::new(), 0);
    if all {
        let used: Vec<String> = daemon.containers().iter().map(|c| c.record.image.id.clone()).collect();
        for image in daemon.images() {
            let labels = &image.facts.labels;
            let fits = filters.labels(|key| labels.get(key).map(String::as_str))
                && until.is_none_or(|t| created(&image) < t.as_second());
            if used.contains(&image.facts.id) || !fits {
                continue;
            }
            let (untagged, id) = daemon.remove_image(&image.name, false).await?;
            deleted.extend(untagged.into_iter().map(|name| json!({"Untagged": name})));
            if let Some(id) = id {
                deleted.push(json!({"Deleted": id}));
                reclaimed += image.facts.size;
            }
        }
    }
    Ok(Json(json!({"ImagesDeleted": or_null(deleted), "SpaceReclaimed": reclaimed})).into_response())
}

/// Registries have no search that d2k could ask: what is known here is looked through.
async fn search(State(daemon): State<Arc<Daemon>>, query: Query) -> Result<Response> {
    let term = query.text("term").ok_or_else(|| Fault::invalid("the search term (term) is missing"))?;
    let mut names: Vec<String> = daemon
        .images()
        .iter()
        .filter_map(|image| Reference::parse(&image.name).ok().map(|r| r.familiar_name()))
        .filter(|name| name.contains(term))
        .collect();
    names.dedup();
    let found: Vec<Value> = names
        .into_iter()
        .map(|name| {
            json!({"name": name, "description": "known to d2k", "star_count": 0, "is_official": false, "is_automated": false})
        })
        .collect();
    Ok(Json(found).into_response())
}

async fn distribution(
    State(daemon): State<Arc<Daemon>>,
    Path(rest): Path<String>,
    headers: HeaderMap,
) -> Result<Response> {
    let (name, "json") = split(&rest) else {
        return Err(page_not_found());
    };
    let reference = Reference::parse(name)?;
    let answer = daemon.registry.distribution(&reference, credentials(&headers).as_ref()).await;
    Ok(Json(answer.map_err(Fault::from)?).into_response())
}
