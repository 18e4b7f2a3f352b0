//! Watches: what is there (if asked), then every change, bookmarks in between (API concepts,
//! "Efficient detection of changes", "Streaming lists").

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Response, StatusCode};
use futures::Stream;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::changes::{Action, Change};
use super::http::Query;
use super::kinds::Kind;
use super::meta;
use super::packed::{self, Wire};
use super::reply::{Form, Shape, plain};
use super::selectors::Selector;
use super::status::{Result, Status};
use super::table::{self, Include};
use super::verbs::Api;

/// Between two bookmarks.
const BOOKMARKS: Duration = Duration::from_secs(60);
/// Between the last bookmark and the end.
const LAST: Duration = Duration::from_secs(2);
/// The longest watch that asked for no time: 30 minutes and up to as much again.
const LONGEST: u64 = 1800;
/// A watch that asked for more time ends after a year.
const ENDLESS: u64 = 365 * 86_400;

struct Watch {
    api: Arc<Api>,
    kind: &'static Kind,
    namespace: String,
    selector: Selector,
    shape: Shape,
    include: Include,
    /// A table has its columns only once.
    headed: bool,
}

/// The answer to a watch.
///
/// # Errors
/// 400, and 410 where the version is too old.
pub fn serve(
    api: Arc<Api>,
    kind: &'static Kind,
    namespace: &str,
    selector: Selector,
    query: &Query,
    form: &Form,
) -> Result<Response<Body>> {
    let wanted = wanted(query)?;
    let watch = Watch {
        api,
        kind,
        namespace: namespace.to_owned(),
        selector,
        shape: form.shape,
        include: form.include,
        headed: false,
    };
    Ok(plain(StatusCode::OK, "application/json", Body::from_stream(events(watch, wanted))))
}

/// The events of a watch, a line each.
fn events(mut watch: Watch, wanted: Wanted) -> impl Stream<Item = std::result::Result<Bytes, Infallible>> {
    let Wanted { initial, lists, from, timeout, bookmarks } = wanted;
    async_stream::stream! {
        // Before the list, so that no change falls between.
        let mut bell = watch.api.store.bell(&[watch.kind]);
        let mut version = from.unwrap_or_default();
        if lists {
            let list = watch.api.list(watch.kind, &watch.namespace);
            version = list.version;
            for object in list.items {
                if watch.selector.matches(&object) {
                    yield Ok(watch.line("ADDED", &object));
                }
            }
            if initial && bookmarks {
                yield Ok(watch.bookmark(version, true));
            }
        } else if from.is_none() {
            version = watch.api.store.version();
        }
        let end = Instant::now() + Duration::from_secs(timeout.min(ENDLESS));
        let mut next = next_bookmark(end);
        loop {
            bell.hush();
            match watch.api.store.since(watch.kind, version) {
                Ok((changes, now)) => {
                    for change in &changes {
                        if let Some(line) = watch.news(change) {
                            yield Ok(line);
                        }
                    }
                    version = now.max(version);
                }
                Err(status) => {
                    yield Ok(line("ERROR", status.object()));
                    return;
                }
            }
            let now = Instant::now();
            if now >= end {
                return;
            }
            if now >= next {
                if bookmarks {
                    yield Ok(watch.bookmark(version, false));
                }
                next = next_bookmark(end);
            }
            tokio::select! {
                rings = bell.rings() => if !rings { return },
                () = tokio::time::sleep_until(next.min(end)) => {}
            }
        }
    }
}

/// When the next bookmark is due: now and then, and shortly before the end.
fn next_bookmark(end: Instant) -> Instant {
    let (now, last) = (Instant::now(), end.checked_sub(LAST).unwrap_or(end));
    if now < last { last.min(now + BOOKMARKS) } else { end }
}

/// What a watch is asked to do.
struct Wanted {
    /// The end of what is there is marked.
    initial: bool,
    /// It begins with what is there.
    lists: bool,
    from: Option<u64>,
    timeout: u64,
    bookmarks: bool,
}

fn wanted(query: &Query) -> Result<Wanted> {
    let initial = query.is("sendInitialEvents");
    let from = match query.get("resourceVersion") {
        "" | "0" => None,
        text => Some(text.parse::<u64>().map_err(|_| {
            Status::plain(format!(
                "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
            ))
        })?),
    };
    let timeout = query.number("timeoutSeconds").and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0);
    let timeout = timeout.unwrap_or_else(|| LONGEST + rand::random_range(0..LONGEST));
    Ok(Wanted {
        initial,
        lists: initial || (from.is_none() && query.get("sendInitialEvents") != "false"),
        from,
        timeout,
        bookmarks: query.is("allowWatchBookmarks"),
    })
}

/// One event of a watch.
#[derive(Serialize)]
struct Line<'a, T> {
    #[serde(rename = "type")]
    action: &'a str,
    object: T,
}

fn line(action: &str, object: impl Serialize) -> Bytes {
    // Objects have no keys but strings, so this cannot fail.
    let mut text = serde_json::to_vec(&Line { action, object }).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

impl Watch {
    fn line(&mut self, action: &str, object: &Value) -> Bytes {
        let headed = std::mem::replace(&mut self.headed, true);
        match self.shape {
            Shape::Object => line(action, Wire::whole(object)),
            Shape::Metadata => line(action, packed::metadata_only(object)),
            Shape::Table => {
                let version = meta::text(object, "resourceVersion");
                line(action, table::of(self.kind, &[object], version, !headed, self.include))
            }
        }
    }

    /// A change as this watch sees it: an object that is not selected any more is gone for it.
    fn news(&mut self, change: &Change) -> Option<Bytes> {
        if !self.namespace.is_empty() && meta::namespace(&change.object) != self.namespace {
            return None;
        }
        let before = change.previous.as_ref().is_some_and(|object| self.selector.matches(object));
        let now = change.action != Action::Deleted && self.selector.matches(&change.object);
        match (before, now) {
            (false, true) => Some(self.line("ADDED", &change.object)),
            (true, true) => Some(self.line("MODIFIED", &change.object)),
            (true, false) => {
                // It is gone for who watches: as it was, at the version at which it went.
                let last = match (&change.previous, change.action) {
                    (Some(previous), Action::Added | Action::Modified) => previous,
                    _ => &change.object,
                };
                let mut last = Value::clone(last);
                meta::set(&mut last, "resourceVersion", change.version.to_string());
                Some(self.line("DELETED", &last))
            }
            (false, false) => None,
        }
    }

    fn bookmark(&self, version: u64, end_of_list: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if end_of_list {
            meta::map(&mut metadata)
                .insert("annotations".into(), json!({"k8s.io/initial-events-end": "true"}));
        }
        let object =
            json!({"kind": self.kind.name, "apiVersion": self.kind.api_version(), "metadata": metadata});
        line("BOOKMARK", self.shape.bookmark(&object))
    }
}
