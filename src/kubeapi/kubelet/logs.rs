//! Logs of containers, as clients ask for them: whole, the last lines, from a time on, followed. A kubelet
//! reads the newest file of a rotated log only; here all that is kept is one log (`log_reader`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::Value;

use super::Kubelet;
use super::engine_log;
use super::log_reader::{self, Follow, Shown, read};
use super::running::Running;
use super::state::Phase;
use crate::http::Asked;
use crate::kinds::{self, LOG_OPTIONS};
use crate::meta::{self, items, string};
use crate::reply::plain;
use crate::status::{Cause, Result, Status};
use d2k_common::log_streams;
use d2k_engine::{Engine, LogQuery, log_files};

/// What is shown of the log of a container that has failed without a message of its own, at most.
const LAST_LINES: usize = 80;
/// The same in bytes.
const LAST_BYTES: usize = 2048;

/// What is asked of a log.
struct Wanted {
    follow: bool,
    shown: Shown,
}

impl<E: Engine> Kubelet<E> {
    /// Serves `pods/log`.
    pub(super) fn log(&self, asked: &Asked) -> Result<Response<Body>> {
        let wanted = wanted(asked)?;
        let (pod, name) = self.container_of(asked)?;
        let (_, running) = self.running(&asked.namespace, &asked.pod).map_or_else(
            |_| (pod.clone(), Arc::new(Running::new(&pod, |_| None))),
            |(pod, running)| (pod, running),
        );
        let state = running.state(&name);
        let previous = asked.query.is("previous");
        if previous && state.last.is_none() {
            return Err(Status::bad_request(format!(
                "previous terminated container {name:?} in pod {:?} not found",
                asked.pod
            )));
        }
        // What waits for its next run has none but its last one.
        let waits = matches!(state.phase, Phase::Waiting { .. });
        let run = state.restarts - i64::from(previous && !waits);
        if let (Phase::Waiting { reason, message }, None) = (&state.phase, &state.last) {
            let words = if message.is_empty() { reason.clone() } else { format!("{reason}: {message}") };
            return Err(Status::bad_request(format!(
                "container {name:?} in pod {:?} is waiting to start: {words}",
                asked.pod
            )));
        }
        let follows = wanted.follow && matches!(state.phase, Phase::Running { .. });
        let query = engine_log::query(&state, previous, follows, &wanted.shown);
        if let Some(lines) = self.engine.log(&state.id, query) {
            let lines = engine_log::read(lines, wanted.shown);
            return Ok(plain(StatusCode::OK, "text/plain", Body::from_stream(lines)));
        }
        let path = self.log_path(meta::uid(&pod), &name, run);
        let lines = read(path, wanted.shown, follows.then_some(Follow { running, name, id: state.id }));
        Ok(plain(StatusCode::OK, "text/plain", Body::from_stream(lines)))
    }

    fn log_path(&self, uid: &str, container: &str, run: i64) -> PathBuf {
        self.options.folder.join(uid).join("containers").join(container).join(format!("{run}.log"))
    }

    /// The end of the log of a run, for a container that says nothing else when it fails.
    pub(super) async fn last_words(&self, id: &str, path: &Path) -> String {
        let query = LogQuery { tail: Some(LAST_LINES), ..LogQuery::default() };
        if let Some(lines) = self.engine.log(id, query) {
            return engine_log::last_words(lines, LAST_BYTES).await;
        }
        let path = path.to_owned();
        let read = move || log_reader::last_words(&path, LAST_LINES, LAST_BYTES);
        let text =
            tokio::task::spawn_blocking(read).await.ok().and_then(std::io::Result::ok).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The Pod and the name of the container that is asked about.
    pub(super) fn container_of(&self, asked: &Asked) -> Result<(Arc<Value>, String)> {
        let pod = self.api.get(&kinds::POD, &asked.namespace, &asked.pod)?;
        let lists = ["containers", "initContainers", "ephemeralContainers"];
        let all: Vec<&str> = lists
            .iter()
            .flat_map(|list| items(&pod, &["spec", list]))
            .map(|c| string(c, &["name"]))
            .collect();
        let main: Vec<&str> =
            items(&pod, &["spec", "containers"]).iter().map(|c| string(c, &["name"])).collect();
        let name = match (asked.query.get("container"), main.as_slice()) {
            ("", [one]) => (*one).to_owned(),
            ("", many) => {
                return Err(Status::bad_request(format!(
                    "a container name must be specified for pod {}, choose one of: [{}]",
                    asked.pod,
                    many.join(" ")
                )));
            }
            (name, _) if all.contains(&name) => name.to_owned(),
            (name, _) => {
                return Err(Status::bad_request(format!(
                    "container {name} is not valid for pod {}",
                    asked.pod
                )));
            }
        };
        Ok((pod, name))
    }
}

fn wanted(asked: &Asked) -> Result<Wanted> {
    let query = &asked.query;
    let number = |name: &str| -> Result<Option<i64>> {
        let text = query.get(name);
        let words = || Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"));
        if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|_| words()) }
    };
    let (tail, limit, seconds) = (number("tailLines")?, number("limitBytes")?, number("sinceSeconds")?);
    let time = query.get("sinceTime");
    let mut causes = Vec::new();
    if let Some(tail) = tail.filter(|tail| *tail < 0) {
        causes.push(Cause::invalid("tailLines", &tail.into(), "must be greater than or equal to 0"));
    }
    if let Some(limit) = limit.filter(|limit| *limit < 1) {
        causes.push(Cause::invalid("limitBytes", &limit.into(), "must be greater than 0"));
    }
    match seconds {
        Some(_) if !time.is_empty() => {
            causes.push(Cause::forbidden(
                "[]",
                "at most one of `sinceTime` or `sinceSeconds` may be specified",
            ));
        }
        Some(seconds) if seconds < 1 => {
            causes.push(Cause::invalid("sinceSeconds", &seconds.into(), "must be greater than 0"));
        }
        _ => {}
    }
    if !matches!(query.get("stream"), "" | "All") {
        causes.push(Cause::forbidden("stream", "may not be specified"));
    }
    if !causes.is_empty() {
        return Err(Status::invalid(&LOG_OPTIONS, &asked.pod, &causes));
    }
    let since = match seconds {
        Some(seconds) => Timestamp::now().checked_sub(jiff::SignedDuration::from_secs(seconds)).ok(),
        None if time.is_empty() => None,
        None => Some(
            time.parse()
                .map_err(|e| Status::bad_request(format!("sinceTime: Invalid value: {time:?}: {e}")))?,
        ),
    };
    let size = |number: Option<i64>| number.and_then(|number| usize::try_from(number).ok());
    let shown = Shown {
        timestamps: query.is("timestamps"),
        streams: query.is(log_streams::PARAMETER),
        since,
        tail: size(tail),
        limit: size(limit),
    };
    Ok(Wanted { follow: query.is("follow"), shown })
}

/// Removes the logs of the runs of a container before this one, beside the log of its current run: clients
/// can ask for the run before the current one (`previous`), and for no earlier one.
pub(super) fn forget_before(log: &Path, first_kept: i64) {
    let folder = log.parent().unwrap_or(log);
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let runs = entries.filter_map(|entry| entry.file_name().to_str()?.split('.').next()?.parse::<i64>().ok());
    let old: std::collections::BTreeSet<i64> = runs.filter(|run| *run < first_kept).collect();
    for run in old {
        if let Err(error) = log_files::remove(&folder.join(format!("{run}.log"))) {
            tracing::warn!(folder = %folder.display(), run, %error, "the log of a run was not removed");
        }
        let _ = std::fs::remove_file(folder.join(format!("{run}.termination")));
    }
}
