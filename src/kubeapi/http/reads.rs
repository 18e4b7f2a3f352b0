//! Requests that read: one object, a list (in pieces if asked), a watch.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{Front, Path, Query};
use crate::changes::Action;
use crate::kinds::Kind;
use crate::meta;
use crate::reply::{Form, Reply};
use crate::selectors::Selector;
use crate::status::{Cause, Result, Status};
use crate::store::List;
use crate::verbs::scale_of;
use crate::watch;

impl Front {
    pub(super) async fn read(
        &self,
        kind: &'static Kind,
        path: &Path,
        query: &Query,
        form: &Form,
    ) -> Result<Response<Body>> {
        if path.name.is_empty() {
            let selector = Selector::parse(query.get("labelSelector"), query.get("fieldSelector"), kind)?;
            check(query)?;
            if query.is("watch") {
                return watch::serve(self.api.clone(), kind, &path.namespace, selector, query, form);
            }
            return self.list(kind, path, query, &selector, form);
        }
        if kind.namespaced && path.namespace.is_empty() {
            return Err(Status::no_resource());
        }
        let ephemeral = kind.name == "Pod" && path.subresource == "ephemeralcontainers";
        if !path.subresource.is_empty() && !kind.has(&path.subresource) && !ephemeral {
            return Err(Status::no_resource());
        }
        let object = self.api.get(kind, &path.namespace, &path.name)?;
        if path.subresource == "scale" {
            return Ok(Reply::json(200, &scale_of(&object)).response(form));
        }
        Ok(Reply::object(200, kind, &object, form).response(form))
    }

    fn list(
        &self,
        kind: &'static Kind,
        path: &Path,
        query: &Query,
        selector: &Selector,
        form: &Form,
    ) -> Result<Response<Body>> {
        let (token, exact) = (query.get("continue"), query.get("resourceVersionMatch") == "Exact");
        let mut list = self.api.list(kind, &path.namespace);
        let wanted = match query.get("resourceVersion") {
            "" | "0" => None,
            text => Some(text.parse::<u64>().map_err(|_| {
                Status::bad_request(format!(
                    "invalid resource version: resourceVersion: Invalid value: {text:?}: \
                     strconv.ParseUint: parsing {text:?}: invalid syntax"
                ))
            })?),
        };
        let mut after = None;
        if !token.is_empty() && !matches!(query.get("resourceVersion"), "" | "0") {
            let words = "specifying resource version is not allowed when using continue";
            return Err(Status::bad_request(words));
        }
        if !token.is_empty() {
            let (version, key) = read_token(token)?;
            self.go_back(kind, &path.namespace, &mut list, version)
                .map_err(|_| Status::continue_expired())?;
            after = Some(key);
        } else if let Some(version) = wanted {
            if version > list.version {
                return Err(Status::too_large_version(version, list.version));
            }
            if exact {
                self.go_back(kind, &path.namespace, &mut list, version)?;
            }
        }
        list.items.retain(|object| {
            after.as_ref().is_none_or(|key| key_of(object) > *key) && selector.matches(object)
        });
        let limit = query.number("limit").and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
        let mut next = None;
        if let Some(limit) = limit.filter(|limit| *limit < list.items.len()) {
            let rest = list.items.len() - limit;
            list.items.truncate(limit);
            let last = list.items.last().map(|object| key_of(object)).unwrap_or_default();
            let count = selector.is_empty().then_some(rest);
            next = Some((write_token(list.version, &last), count));
        }
        Ok(Reply::list(kind, &list.items, &list.version.to_string(), next, form).response(form))
    }

    /// Undoes what has happened after a version.
    fn go_back(&self, kind: &Kind, namespace: &str, list: &mut List, version: u64) -> Result<()> {
        let (changes, _) = self.api.store.since(kind, version)?;
        let mut items: BTreeMap<Key, Arc<Value>> =
            list.items.drain(..).map(|object| (key_of(&object), object)).collect();
        for change in changes.into_iter().rev().filter(|change| change.version <= list.version) {
            if !namespace.is_empty() && meta::namespace(&change.object) != namespace {
                continue;
            }
            let key = key_of(&change.object);
            match (change.action, change.previous) {
                (Action::Added, _) | (_, None) => items.remove(&key),
                (_, Some(before)) => items.insert(key, before),
            };
        }
        list.items = items.into_values().collect();
        list.version = version;
        Ok(())
    }
}

/// Parameters of a list, or of a watch, that cannot be, or contradict each other.
pub fn check(query: &Query) -> Result<()> {
    for name in ["limit", "timeoutSeconds"] {
        let text = query.get(name);
        if !text.is_empty() && query.number(name).is_none() {
            return Err(Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")));
        }
    }
    let causes = if query.is("watch") { wrong_watch(query) } else { wrong_list(query) };
    if causes.is_empty() { Ok(()) } else { Err(Status::options("ListOptions", &causes)) }
}

fn wrong_list(query: &Query) -> Vec<Cause> {
    let (how, version) = (query.get("resourceVersionMatch"), query.get("resourceVersion"));
    let mut causes = Vec::new();
    let mut forbid = |field: &str, words: &str| causes.push(Cause::forbidden(field, words));
    if !how.is_empty() && version.is_empty() {
        forbid(
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        );
    }
    if !how.is_empty() && !query.get("continue").is_empty() {
        forbid("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided");
    }
    if how == "Exact" && version == "0" {
        let words = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
        forbid("resourceVersionMatch", words);
    }
    if !query.get("sendInitialEvents").is_empty() {
        forbid("sendInitialEvents", "sendInitialEvents is forbidden for list");
    }
    if !matches!(how, "" | "Exact" | "NotOlderThan") {
        causes.push(Cause::unsupported("resourceVersionMatch", &how.into(), &["Exact", "NotOlderThan", ""]));
    }
    causes
}

fn wrong_watch(query: &Query) -> Vec<Cause> {
    let (how, initial) = (query.get("resourceVersionMatch"), query.get("sendInitialEvents"));
    let mut causes = Vec::new();
    let field = "resourceVersionMatch";
    if !initial.is_empty() && how != "NotOlderThan" {
        let words = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        causes.push(Cause::forbidden(field, words));
    }
    if !how.is_empty() {
        if initial.is_empty() {
            let words = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            causes.push(Cause::forbidden(field, words));
        }
        if how != "NotOlderThan" {
            causes.push(Cause::unsupported(field, &how.into(), &["NotOlderThan"]));
        }
    }
    causes
}

type Key = (String, String);

fn key_of(object: &Value) -> Key {
    (meta::namespace(object).to_owned(), meta::name(object).to_owned())
}

fn write_token(version: u64, (namespace, name): &Key) -> String {
    URL_SAFE_NO_PAD.encode(json!([version, namespace, name]).to_string())
}

fn read_token(token: &str) -> Result<(u64, Key)> {
    let wrong = |words: &str| {
        Status::bad_request(format!("invalid continue token: continue key is not valid: {words}"))
    };
    let bytes = URL_SAFE_NO_PAD
        .decode(token.trim_end_matches('='))
        .map_err(|_| wrong("illegal base64 data at input byte 0"))?;
    let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
    super::json::read(&text, &mut Vec::new()).map_err(|error| wrong(&error.to_string()))?;
    let (version, namespace, name) =
        serde_json::from_slice(&bytes).map_err(|_| wrong("it is none of this server"))?;
    Ok((version, (namespace, name)))
}
