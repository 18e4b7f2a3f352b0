//! Requests that read: one object, a list (in pieces if asked), a watch.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{Front, Path, Query};
use crate::kubeapi::kinds::Kind;
use crate::kubeapi::meta;
use crate::kubeapi::reply::{Form, Reply};
use crate::kubeapi::selectors::Selector;
use crate::kubeapi::status::{Cause, Result, Status};
use crate::kubeapi::store::{Action, List};
use crate::kubeapi::verbs::scale_of;
use crate::kubeapi::watch;

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
            if query.is("watch") {
                return watch::serve(self.api.clone(), kind, &path.namespace, selector, query, form);
            }
            return self.list(kind, path, query, &selector, form);
        }
        if kind.namespaced && path.namespace.is_empty() {
            return Err(Status::no_resource());
        }
        if !path.subresource.is_empty() && !kind.has(&path.subresource) {
            return Err(Status::no_resource());
        }
        let object = self.api.get(kind, &path.namespace, &path.name)?;
        if query.is("watch") {
            let only = Selector::parse("", &format!("metadata.name={}", path.name), kind)?;
            return watch::serve(self.api.clone(), kind, &path.namespace, only, query, form);
        }
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
        check(query)?;
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

/// Parameters of a list that contradict each other.
fn check(query: &Query) -> Result<()> {
    let (how, version) = (query.get("resourceVersionMatch"), query.get("resourceVersion"));
    let forbidden =
        |field: &str, words: &str| Err(Status::options("ListOptions", &Cause::forbidden(field, words)));
    let limit = query.get("limit");
    if !limit.is_empty() && query.number("limit").is_none() {
        return Err(Status::bad_request(format!("strconv.ParseInt: parsing {limit:?}: invalid syntax")));
    }
    if !query.get("sendInitialEvents").is_empty() {
        return forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list");
    }
    if !query.get("continue").is_empty() && !matches!(version, "" | "0") {
        return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
    }
    match how {
        "" => Ok(()),
        _ if version.is_empty() => forbidden(
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        "Exact" if version == "0" => forbidden(
            "resourceVersionMatch",
            "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
        ),
        "Exact" | "NotOlderThan" => Ok(()),
        other => {
            let cause =
                Cause::unsupported("resourceVersionMatch", &other.into(), &["Exact", "NotOlderThan", ""]);
            Err(Status::options("ListOptions", &cause))
        }
    }
}

type Key = (String, String);

fn key_of(object: &Value) -> Key {
    (meta::namespace(object).to_owned(), meta::name(object).to_owned())
}

fn write_token(version: u64, (namespace, name): &Key) -> String {
    URL_SAFE_NO_PAD.encode(json!([version, namespace, name]).to_string())
}

fn read_token(token: &str) -> Result<(u64, Key)> {
    let wrong = || Status::bad_request("continue key is not valid");
    let bytes = URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).map_err(|_| wrong())?;
    let (version, namespace, name) = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
    Ok((version, (namespace, name)))
}
