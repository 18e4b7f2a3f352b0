//! Logs of an engine that keeps them itself: one log of a container holds all its runs, so a run is a span of time in it.

use std::io::{Error, Result};
use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use futures::{Stream, StreamExt};
use jiff::Timestamp;

use super::log_reader::Shown;
use super::state::{Phase, State};
use d2k_common::log_streams;
use d2k_engine::{LogLine, LogQuery, LogStream};

/// What is asked of the engine: the part of the log that is of one run.
pub(super) fn query(state: &State, previous: bool, follow: bool, shown: &Shown) -> LogQuery {
    // A line at the very time of an end is still of that run.
    let after = |time: Timestamp| time.checked_add(Duration::from_nanos(1)).ok();
    let (from, until) = match (&state.phase, &state.last) {
        (Phase::Waiting { .. }, Some(last)) => (after(last.log_since), None),
        (_, Some(last)) if previous => (after(last.log_since), Some(last.finished)),
        _ => (after(state.log_since), None),
    };
    let since = from.into_iter().chain(shown.since).max();
    LogQuery {
        since: since.map(SystemTime::from),
        until: until.map(SystemTime::from),
        tail: shown.tail,
        follow,
    }
}

/// The log as a client gets it.
pub(super) fn read(mut lines: LogStream, shown: Shown) -> impl Stream<Item = Result<Bytes>> + Send {
    async_stream::try_stream! {
        let (mut fresh, mut left) = (true, shown.limit.unwrap_or(usize::MAX));
        while let Some(line) = lines.next().await {
            let line = line.map_err(Error::other)?;
            let mut text = Vec::new();
            fresh = show(&line, &shown, fresh, &mut text);
            text.truncate(left);
            left -= text.len();
            yield Bytes::from(text);
            if left == 0 {
                return;
            }
        }
    }
}

/// One line as the client wants it; whether the next one begins a line of the program.
fn show(line: &LogLine, shown: &Shown, fresh: bool, out: &mut Vec<u8>) -> bool {
    if shown.timestamps && fresh {
        match line.time.strip_suffix('Z').filter(|_| shown.streams && line.stderr) {
            Some(time) => out.extend_from_slice([time, log_streams::STDERR_ZONE].concat().as_bytes()),
            None => out.extend_from_slice(line.time.as_bytes()),
        }
        out.push(b' ');
    }
    out.extend_from_slice(&line.text);
    line.text.ends_with(b"\n")
}

/// The last bytes of these lines.
pub(super) async fn last_words(mut lines: LogStream, bytes: usize) -> String {
    let mut text = Vec::new();
    while let Some(Ok(line)) = lines.next().await {
        text.extend_from_slice(&line.text);
        text.drain(..text.len().saturating_sub(bytes));
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::state::End;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn state(phase: Phase, id: &str) -> State {
        let end = End {
            code: 1,
            reason: String::new(),
            message: String::new(),
            started: at(10),
            finished: at(20),
            id: "a".into(),
            log_since: at(5),
        };
        State { phase, last: Some(end), id: id.into(), log_since: at(20), ..State::default() }
    }

    #[test]
    fn a_run_is_a_span_of_time_in_the_log_of_its_container() {
        let span = |state: &State, previous, since: Option<i64>| {
            let shown = Shown { since: since.map(at), ..Shown::default() };
            let query = query(state, previous, false, &shown);
            let seconds =
                |time: Option<SystemTime>| time.map(|t| t.duration_since(SystemTime::UNIX_EPOCH).unwrap());
            (seconds(query.since), seconds(query.until))
        };
        let seconds = |n| Some(Duration::from_secs(n));
        let just_after = |n| Some(Duration::new(n, 1));
        let running = state(Phase::Running { started: at(30) }, "a");
        assert_eq!(span(&running, false, None), (just_after(20), None));
        assert_eq!(span(&running, false, Some(25)), (seconds(25), None));
        assert_eq!(span(&running, true, None), (just_after(5), seconds(20)));
        assert_eq!(span(&state(Phase::default(), "a"), false, None), (just_after(5), None));
        assert_eq!(span(&State::default(), false, None), (just_after(0), None));
    }

    #[test]
    fn only_the_first_part_of_a_line_has_its_time() {
        let line =
            |text: &str| LogLine { time: "2026-01-02T03:04:05Z".into(), stderr: true, text: text.into() };
        let shown = Shown { timestamps: true, streams: true, ..Shown::default() };
        let mut out = Vec::new();
        let fresh = show(&line("one "), &shown, true, &mut out);
        assert!(!fresh && show(&line("line\n"), &shown, fresh, &mut out));
        let wanted = format!("2026-01-02T03:04:05{} one line\n", log_streams::STDERR_ZONE);
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
    }
}
