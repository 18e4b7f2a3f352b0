//! Logs of containers, from the files that the engine writes (CRI logging format): whole, the last
//! lines, from a time on, followed.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::Value;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::Kubelet;
use super::pod::Running;
use super::state::Phase;
use crate::engine::Engine;
use crate::kubeapi::http::{Asked, plain};
use crate::kubeapi::kinds::LOG_OPTIONS;
use crate::kubeapi::log_streams;
use crate::kubeapi::meta::{self, items, string};
use crate::kubeapi::status::{Cause, Result, Status};

/// How soon what a file has got is sent to who follows it.
const LOOK: Duration = Duration::from_millis(20);

/// What is shown of the log of a container that has failed without a message of its own, at most.
const LAST_LINES: usize = 80;
/// The same in bytes.
const LAST_BYTES: usize = 2048;

/// What is asked of a log.
#[derive(Default)]
struct Wanted {
    follow: bool,
    timestamps: bool,
    /// The times of standard error are marked.
    streams: bool,
    since: Option<Timestamp>,
    tail: Option<usize>,
    limit: Option<usize>,
}

impl<E: Engine> Kubelet<E> {
    /// Serves `pods/log`.
    pub(super) fn log(&self, asked: &Asked) -> Result<Response<Body>> {
        let wanted = wanted(asked)?;
        let (pod, name) = self.container_of(asked)?;
        let (_, running) = self
            .running(&asked.namespace, &asked.pod)
            .map_or_else(|_| (pod.clone(), Arc::new(Running::new(&pod))), |(pod, running)| (pod, running));
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
        let path = self.log_path(meta::uid(&pod), &name, run);
        let follows = wanted.follow && matches!(state.phase, Phase::Running { .. });
        let lines = read(path, wanted, follows.then_some((running, name, state.id)));
        Ok(plain(StatusCode::OK, "text/plain", Body::from_stream(lines)))
    }

    fn log_path(&self, uid: &str, container: &str, run: i64) -> PathBuf {
        self.options.folder.join(uid).join("containers").join(container).join(format!("{run}.log"))
    }

    /// The Pod and the name of the container that is asked about.
    pub(super) fn container_of(&self, asked: &Asked) -> Result<(Arc<Value>, String)> {
        let pod = self.api.get(crate::kubeapi::controllers::kind("", "Pod"), &asked.namespace, &asked.pod)?;
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
    Ok(Wanted {
        follow: query.is("follow"),
        timestamps: query.is("timestamps"),
        streams: query.is(log_streams::PARAMETER),
        since,
        tail: size(tail),
        limit: size(limit),
    })
}

/// Whoever follows a log reads until this run has ended.
type Follow = Option<(Arc<Running>, String, String)>;

fn read(
    path: PathBuf,
    wanted: Wanted,
    follow: Follow,
) -> impl futures::Stream<Item = std::result::Result<Bytes, std::io::Error>> + Send {
    async_stream::try_stream! {
        let Ok(file) = File::open(&path).await else { return };
        let skip = match wanted.tail {
            Some(tail) => offset_of_tail(&path, tail).await?,
            None => 0,
        };
        let mut reader = BufReader::with_capacity(256 * 1024, file);
        tokio::io::AsyncSeekExt::seek(&mut reader, std::io::SeekFrom::Start(skip)).await?;
        let (mut line, mut out) = (Vec::new(), Vec::new());
        let (mut sent, mut fresh) = (0_usize, true);
        loop {
            // Before the file is read to its end, so that nothing written meanwhile is missed.
            let over = follow.as_ref().is_none_or(|(running, name, id)| {
                let state = running.state(name);
                state.id != *id || !matches!(state.phase, Phase::Running { .. })
            });
            while reader.read_until(b'\n', &mut line).await? > 0 {
                if line.last() != Some(&b'\n') {
                    break;
                }
                fresh = show(&line, &wanted, fresh, &mut out);
                line.clear();
                if out.len() > 64 * 1024 {
                    let chunk = cut(std::mem::take(&mut out), &mut sent, wanted.limit);
                    yield chunk;
                }
            }
            if !out.is_empty() {
                let chunk = cut(std::mem::take(&mut out), &mut sent, wanted.limit);
                yield chunk;
            }
            if over || wanted.limit.is_some_and(|limit| sent >= limit) {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn cut(mut out: Vec<u8>, sent: &mut usize, limit: Option<usize>) -> Bytes {
    if let Some(limit) = limit {
        out.truncate(limit.saturating_sub(*sent));
    }
    *sent += out.len();
    out.into()
}

/// One line of the file as the client wants it; whether the next one begins a line of the program.
fn show(line: &[u8], wanted: &Wanted, fresh: bool, out: &mut Vec<u8>) -> bool {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let (Some(time), Some(stream), Some(tag), Some(text)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return true;
    };
    let whole = tag == b"F";
    let early = wanted.since.is_some_and(|since| {
        std::str::from_utf8(time).ok().and_then(|t| t.parse::<Timestamp>().ok()).is_some_and(|t| t < since)
    });
    if early {
        return whole;
    }
    if wanted.timestamps && fresh {
        match time.strip_suffix(b"Z") {
            Some(time) if wanted.streams && stream == b"stderr" => {
                out.extend_from_slice(time);
                out.extend_from_slice(log_streams::STDERR_ZONE.as_bytes());
            }
            _ => out.extend_from_slice(time),
        }
        out.push(b' ');
    }
    let text = if whole { text } else { text.strip_suffix(b"\n").unwrap_or(text) };
    out.extend_from_slice(text);
    whole
}

/// The end of a log, for a container that says nothing else when it fails.
pub(super) async fn last_words(path: &Path) -> String {
    let mut text = Vec::new();
    let read = async {
        let mut reader = BufReader::new(File::open(path).await?);
        let begin = offset_of_tail(path, LAST_LINES).await?;
        tokio::io::AsyncSeekExt::seek(&mut reader, std::io::SeekFrom::Start(begin)).await?;
        let (mut line, mut fresh) = (Vec::new(), true);
        while reader.read_until(b'\n', &mut line).await? > 0 {
            fresh = show(&line, &Wanted::default(), fresh, &mut text);
            line.clear();
        }
        std::io::Result::Ok(())
    };
    let _ = read.await;
    let from = text.len().saturating_sub(LAST_BYTES);
    String::from_utf8_lossy(text.get(from..).unwrap_or_default()).into_owned()
}

/// Where the last lines of a file begin. Parts of one long line are one.
async fn offset_of_tail(path: &Path, tail: usize) -> std::io::Result<u64> {
    let mut reader = BufReader::with_capacity(256 * 1024, File::open(path).await?);
    let mut begins: VecDeque<u64> = VecDeque::with_capacity(tail.min(4096) + 1);
    let (mut at, mut fresh, mut line) = (0_u64, true, Vec::new());
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line).await?;
        if length == 0 {
            break;
        }
        if fresh {
            begins.push_back(at);
            if begins.len() > tail {
                begins.pop_front();
            }
        }
        let tag = line.splitn(4, |byte| *byte == b' ').nth(2);
        fresh = tag != Some(b"P");
        at += u64::try_from(length).unwrap_or(0);
    }
    Ok(begins.front().copied().unwrap_or(at))
}
