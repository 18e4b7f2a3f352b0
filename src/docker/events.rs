//! `/events`: the past that was asked for, then what happens, until the client leaves.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use futures::StreamExt;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::broadcast::error::RecvError;

use super::error::Result;
use super::filters::Filters;
use super::peer::Peer;
use super::query::Query;
use super::stream::{Newline, json_lines};
use super::version::ApiVersion;
use crate::daemon::Daemon;
use crate::daemon::bus::Event;

const FILTERS: [&str; 14] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// The routes.
pub fn router() -> Router<Arc<Daemon>> {
    Router::new().route("/events", get(events))
}

struct Wanted {
    filters: Filters,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    legacy: bool,
}

impl Wanted {
    fn shows(&self, event: &Event) -> bool {
        self.since.is_none_or(|t| event.time >= t)
            && self.until.is_none_or(|t| event.time <= t)
            && passes(&self.filters, event)
    }
}

fn passes(filters: &Filters, event: &Event) -> bool {
    let attribute = |key: &str| event.attributes.get(key).map(String::as_str);
    let name = attribute("name").unwrap_or_default();
    let object = |key: &str, kind: &str| {
        filters.any(key, |wanted| event.kind == kind && (wanted == name || event.id.starts_with(wanted)))
    };
    let bare = |image: &str| {
        image
            .rsplit_once(':')
            .filter(|(_, tag)| !tag.contains('/'))
            .map_or(image.to_owned(), |(n, _)| n.to_owned())
    };
    filters.exact("type", event.kind)
        && filters.any("event", |wanted| {
            let prefixed = matches!(wanted, "exec_create" | "exec_start" | "health_status");
            event.action == wanted || (prefixed && event.action.starts_with(&format!("{wanted}:")))
        })
        && filters.labels(attribute)
        && object("container", "container")
        && object("network", "network")
        && object("volume", "volume")
        && object("daemon", "daemon")
        && filters.any("image", |wanted| {
            let image = if event.kind == "image" { name } else { attribute("image").unwrap_or_default() };
            (event.kind == "image" && event.id == wanted) || image == wanted || bare(image) == bare(wanted)
        })
        && filters.exact("scope", "local")
        && ["config", "node", "plugin", "secret", "service"].iter().all(|key| !filters.has(key))
}

async fn events(
    State(daemon): State<Arc<Daemon>>,
    version: ApiVersion,
    query: Query,
    peer: Peer,
) -> Result<Response> {
    let filters = query.filters()?;
    filters.check(&FILTERS)?;
    let wanted = Wanted {
        filters,
        since: query.time("since")?,
        until: query.time("until")?,
        legacy: version.below(52),
    };
    let content_type = if wanted.legacy { "application/json" } else { "application/jsonl" };
    let stopping = peer.stopping.clone().cancelled_owned();
    let lines = stream(daemon, wanted).take_until(stopping);
    Ok(json_lines(content_type, Newline::Lf, lines))
}

fn stream(daemon: Arc<Daemon>, wanted: Wanted) -> impl futures::Stream<Item = Value> + Send + 'static {
    async_stream::stream! {
        let (past, mut live) = daemon.events.subscribe();
        // Docker replays only for who asks for it.
        if wanted.since.is_some() || wanted.until.is_some_and(|t| t <= Timestamp::now()) {
            for event in daemon.history(daemon.events.began).await {
                if wanted.shows(&event) {
                    yield event.json(wanted.legacy);
                }
            }
            for event in past.iter().filter(|event| wanted.shows(event)) {
                yield event.json(wanted.legacy);
            }
        }
        loop {
            let left = wanted.until.map(|until| until.duration_since(Timestamp::now()));
            let next = match left {
                None => live.recv().await,
                Some(left) => {
                    let Ok(left) = std::time::Duration::try_from(left) else { return };
                    match tokio::time::timeout(left, live.recv()).await {
                        Ok(next) => next,
                        Err(_) => return,
                    }
                }
            };
            match next {
                Ok(event) if wanted.shows(&event) => yield event.json(wanted.legacy),
                Ok(_) => {}
                Err(RecvError::Lagged(lost)) => tracing::warn!(lost, "an events client is too slow and lost events"),
                Err(RecvError::Closed) => return,
            }
        }
    }
}
