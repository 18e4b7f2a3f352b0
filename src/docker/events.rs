//! `/events`: the past that was asked for, then what happens, until the client leaves.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use futures::StreamExt;
use jiff::Timestamp;
use serde_json::Value;

use super::error::Result;
use super::filters::Filters;
use super::peer::Peer;
use super::query::Query;
use super::stream::{Newline, json_lines};
use super::version::ApiVersion;
use d2k_common::fault::Fault;
use d2k_daemon::Daemon;
use d2k_daemon::bus::Event;

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

/// An image's name without its tag or digest.
fn untagged(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(image, |(name, _)| name)
}

fn passes(filters: &Filters, event: &Event) -> bool {
    let attribute = |key: &str| event.attributes.get(key).map(String::as_str);
    let name = attribute("name").unwrap_or_default();
    let object = |key: &str, kind: &str| {
        filters.any(key, |wanted| event.kind == kind && (wanted == name || event.id.starts_with(wanted)))
    };
    filters.exact("type", &event.kind)
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
            [image, untagged(image), &event.id, untagged(&event.id)].contains(&wanted)
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
    if let (Some(since), Some(until)) = (wanted.since, wanted.until)
        && until < since
    {
        let said = |key| query.get(key).unwrap_or_default();
        let words =
            format!("`since` time ({}) cannot be after `until` time ({})", said("since"), said("until"));
        return Err(Fault::invalid(words).into());
    }
    let content_type = if wanted.legacy { "application/json" } else { "application/jsonl" };
    let stopping = peer.stopping.clone().cancelled_owned();
    let lines = stream(daemon, wanted).take_until(stopping);
    Ok(json_lines(content_type, Newline::Lf, lines))
}

fn stream(daemon: Arc<Daemon>, wanted: Wanted) -> impl futures::Stream<Item = Value> + Send + 'static {
    async_stream::stream! {
        let (past, mut live) = daemon.events.subscribe();
        // Docker replays only where a time is named.
        if wanted.since.is_some() || wanted.until.is_some() || daemon.replays_always() {
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
                None => daemon.events.next(&mut live).await,
                Some(left) => {
                    let Ok(left) = std::time::Duration::try_from(left) else { return };
                    match tokio::time::timeout(left, daemon.events.next(&mut live)).await {
                        Ok(next) => next,
                        Err(_) => return,
                    }
                }
            };
            let (event, lost) = next;
            if lost > 0 {
                tracing::warn!(lost, "an events client is too slow and lost events");
            }
            if wanted.shows(&event) {
                yield event.json(wanted.legacy);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &'static str, action: &str, attributes: &[(&str, &str)]) -> Event {
        let attributes = attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Event {
            kind: kind.into(),
            action: action.into(),
            id: "abc123".into(),
            attributes,
            time: Timestamp::UNIX_EPOCH,
        }
    }

    fn shown(filters: &str, event: &Event) -> bool {
        passes(&Filters::parse(filters).unwrap(), event)
    }

    #[test]
    fn an_image_is_named_with_its_tag_or_without() {
        let start = event("container", "start", &[("image", "localhost:5000/team/web:1.2"), ("name", "web")]);
        assert!(shown(r#"{"image":["localhost:5000/team/web:1.2"]}"#, &start));
        assert!(shown(r#"{"image":["localhost:5000/team/web"]}"#, &start));
        assert!(!shown(r#"{"image":["localhost:5000/team/web:1.3"]}"#, &start));
        assert!(!shown(r#"{"image":["localhost"]}"#, &start));
        let pull = event("image", "pull", &[("name", "web@sha256:00")]);
        assert!(shown(r#"{"image":["web"]}"#, &pull) && shown(r#"{"image":["abc123"]}"#, &pull));
    }

    #[test]
    fn actions_with_words_behind_them_are_found_by_their_name() {
        let exec = event("container", "exec_create: sh -c true", &[("name", "web")]);
        assert!(shown(r#"{"event":["exec_create"]}"#, &exec));
        assert!(!shown(r#"{"event":["exec"]}"#, &exec));
        let health = event("container", "health_status: healthy", &[("name", "web")]);
        assert!(shown(r#"{"event":["health_status"]}"#, &health));
        assert!(shown(r#"{"event":["health_status: healthy"]}"#, &health));
        assert!(!shown(r#"{"event":["health_status: unhealthy"]}"#, &health));
    }

    #[test]
    fn an_object_is_named_by_its_name_or_the_beginning_of_its_id() {
        let start = event("container", "start", &[("name", "web"), ("tier", "db")]);
        assert!(shown(r#"{"container":{"web":true},"label":["tier=db"]}"#, &start));
        assert!(shown(r#"{"container":["abc"],"scope":["local"]}"#, &start));
        assert!(!shown(r#"{"container":["other"]}"#, &start));
        assert!(!shown(r#"{"network":["web"]}"#, &start));
        assert!(!shown(r#"{"label":["tier=web"]}"#, &start) && !shown(r#"{"scope":["swarm"]}"#, &start));
    }
}
