//! Streams of processes, logs, and figures.

use std::time::{Duration, SystemTime};

use d2k_engine::{AWAY, Exec, Exit, LogLine, LogQuery, LogStream, Result, Session, Trouble, Usage};
use futures::StreamExt;
use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::oneshot;

use super::Docker;
use super::client::{Connection, Error};
use super::frames::Decoder;
use super::json::{self, at, count, encode, text};

/// Bytes that a reader may be behind.
const BEHIND: usize = 64 << 10;
/// What the engine sends in place of the output of an exec whose program could not be started.
const NOT_STARTED: &[u8] = b"OCI runtime exec failed: ";
/// How long the end of an exec may be told after its streams have ended.
const END: Duration = Duration::from_secs(10);

fn trouble(error: &Error) -> Trouble {
    let reason = if error.is_away() { AWAY } else { "RunContainerError" };
    Trouble::new(reason, error.to_string())
}

/// A connection as the streams of a process.
pub(super) struct Streams {
    pub(super) stdin: Option<Box<dyn tokio::io::AsyncWrite + Send + Unpin>>,
    pub(super) stdout: Box<dyn tokio::io::AsyncRead + Send + Unpin>,
    stderr: Box<dyn tokio::io::AsyncRead + Send + Unpin>,
    /// They have ended, and nothing came but words of the runtime about a process that it could not start.
    ended: oneshot::Receiver<Option<String>>,
}

pub(super) fn streams(connection: Box<dyn Connection>, terminal: bool, stdin: bool) -> Streams {
    let (reader, writer) = tokio::io::split(connection);
    let (stdout, into_stdout) = tokio::io::simplex(BEHIND);
    let (stderr, into_stderr) = tokio::io::simplex(BEHIND);
    let (sender, ended) = oneshot::channel();
    tokio::spawn(pump(reader, terminal, into_stdout, into_stderr, sender));
    let stdin: Option<Box<dyn tokio::io::AsyncWrite + Send + Unpin>> =
        if stdin { Some(Box::new(writer)) } else { None };
    Streams { stdin, stdout: Box::new(stdout), stderr: Box::new(stderr), ended }
}

async fn pump(
    mut reader: ReadHalf<Box<dyn Connection>>,
    terminal: bool,
    mut stdout: WriteHalf<tokio::io::SimplexStream>,
    mut stderr: WriteHalf<tokio::io::SimplexStream>,
    ended: oneshot::Sender<Option<String>>,
) {
    let mut decoder = Decoder::new(terminal);
    let mut failure = None;
    let mut buffer = vec![0; 16 << 10];
    'all: while let Ok(length) = reader.read(&mut buffer).await {
        if length == 0 {
            break;
        }
        decoder.push(buffer.get(..length).unwrap_or_default());
        while let Some(frame) = decoder.next() {
            if failure.is_none() && frame.bytes.starts_with(NOT_STARTED) {
                failure = Some(String::from_utf8_lossy(&frame.bytes).trim_end().to_owned());
                continue;
            }
            let out = if frame.stderr { &mut stderr } else { &mut stdout };
            if out.write_all(&frame.bytes).await.is_err() {
                break 'all;
            }
        }
    }
    let _ = stdout.shutdown().await;
    let _ = stderr.shutdown().await;
    // Nobody may wait for it.
    let _ = ended.send(failure);
}

impl Docker {
    /// Connects to the first process of a container.
    pub(super) async fn attach_to(&self, id: &str, stdin: bool) -> Result<Session> {
        let inspected = self.inspect(id).await?;
        let terminal = json::flag(&inspected, &["Config", "Tty"]);
        let path = format!("/containers/{id}/attach?stream=1&stdout=1&stderr=1&stdin={}", u8::from(stdin));
        let connection = self.inner.client.hijack(&path, None).await.map_err(|error| trouble(&error))?;
        let streams = streams(connection, terminal, stdin);
        let (runs, container) = (self.inner.runs.clone(), id.to_owned());
        let ended = async move {
            let unknown = Exit { code: 0, oom_killed: false, at: SystemTime::now() };
            Ok(runs.wait(&container).await.unwrap_or(unknown))
        };
        Ok(Session {
            stdin: streams.stdin,
            stdout: Some(streams.stdout),
            stderr: Some(streams.stderr).filter(|_| !terminal),
            resize: self.resizer(format!("/containers/{id}/resize")),
            ended: Box::pin(ended),
        })
    }

    /// Runs a command in a container.
    pub(super) async fn exec_in(&self, id: &str, exec: Exec) -> Result<Session> {
        let body = json!({
            "Cmd": exec.command, "Tty": exec.tty, "AttachStdin": exec.stdin, "AttachStdout": true, "AttachStderr": !exec.tty,
            "ConsoleSize": exec.size.map(|(rows, columns)| [rows, columns]),
        });
        let made = self.inner.client.post(&format!("/containers/{id}/exec"), Some(&body)).await;
        let made = made.map_err(|error| trouble(&error))?;
        let number = text(&made, &["Id"]).to_owned();
        let told = self.inner.runs.exec(&number);
        let body = json!({"Detach": false, "Tty": exec.tty, "ConsoleSize": exec.size.map(|(r, c)| [r, c])});
        let begun = self.inner.client.hijack(&format!("/exec/{number}/start"), Some(&body)).await;
        let connection = begun.map_err(|error| {
            self.inner.runs.forget_exec(&number);
            trouble(&error)
        })?;
        let streams = streams(connection, exec.tty, exec.stdin);
        let this = self.clone();
        let resize = self.resizer(format!("/exec/{number}/resize"));
        let ended = async move {
            let failure = streams.ended.await.ok().flatten();
            let code = match tokio::time::timeout(END, told).await {
                Ok(Ok(code)) => Ok(code),
                // The events were cut off.
                _ => this.exec_code(&number).await,
            };
            this.inner.runs.forget_exec(&number);
            let code = code?;
            match failure.filter(|_| matches!(code, 126 | 127)) {
                Some(words) => Err(Trouble::new("RunContainerError", words)),
                None => Ok(Exit { code, oom_killed: false, at: SystemTime::now() }),
            }
        };
        Ok(Session {
            stdin: streams.stdin,
            stdout: Some(streams.stdout).filter(|_| exec.stdout),
            stderr: Some(streams.stderr).filter(|_| exec.stderr && !exec.tty),
            resize,
            ended: Box::pin(ended),
        })
    }

    async fn exec_code(&self, exec: &str) -> Result<i32> {
        let inspected = self.inner.client.get(&format!("/exec/{exec}/json")).await;
        let inspected = inspected.map_err(|error| trouble(&error))?;
        Ok(json::number(&inspected, &["ExitCode"]).and_then(|code| i32::try_from(code).ok()).unwrap_or(-1))
    }

    fn resizer(&self, path: String) -> Box<dyn Fn(u16, u16) + Send + Sync> {
        let this = self.clone();
        Box::new(move |rows, columns| {
            let (this, path) = (this.clone(), format!("{path}?h={rows}&w={columns}"));
            tokio::spawn(async move {
                // A process that has ended has no terminal.
                let _ = this.inner.client.post(&path, None).await;
            });
        })
    }

    /// What the engine knows of a container.
    pub(super) async fn inspect(&self, id: &str) -> Result<Value> {
        let inspected = self.inner.client.get(&format!("/containers/{id}/json")).await;
        inspected.map_err(|error| Trouble::new("NotFound", error.to_string()))
    }

    /// What a container uses now.
    pub(super) async fn figures(&self, id: &str) -> Result<Usage> {
        let path = format!("/containers/{id}/stats?stream=false&one-shot=true");
        let stats = self.inner.client.get(&path).await.map_err(|error| trouble(&error))?;
        let cached = ["inactive_file", "total_inactive_file"]
            .map(|name| count(&stats, &["memory_stats", "stats", name]));
        let networks = at(&stats, &["networks"]).as_object();
        let sum = |field: &str| networks.into_iter().flatten().map(|(_, one)| count(one, &[field])).sum();
        Ok(Usage {
            cpu_nanos: count(&stats, &["cpu_stats", "cpu_usage", "total_usage"]),
            memory: count(&stats, &["memory_stats", "usage"])
                .saturating_sub(cached.into_iter().max().unwrap_or(0)),
            processes: count(&stats, &["pids_stats", "current"]),
            received: sum("rx_bytes"),
            sent: sum("tx_bytes"),
        })
    }

    /// The log of a container.
    pub(super) fn log_of(&self, id: &str, query: LogQuery) -> LogStream {
        let (this, id) = (self.clone(), id.to_owned());
        let lines = async_stream::try_stream! {
            let terminal = json::flag(&this.inspect(&id).await?, &["Config", "Tty"]);
            let path = log_path(&id, &query);
            let mut chunks =
                this.inner.client.stream(Method::GET, &path, &[]).await.map_err(|error| trouble(&error))?;
            let mut decoder = Decoder::new(terminal);
            let mut text = Vec::new();
            while let Some(chunk) = chunks.next().await {
                decoder.push(&chunk.map_err(|error| trouble(&error))?);
                while let Some(frame) = decoder.next() {
                    // A frame is a line, or a part of a long one; of a terminal there are no frames.
                    text.extend_from_slice(&frame.bytes);
                    for line in cut(&mut text, terminal) {
                        let line = read_line(line, frame.stderr);
                        if wanted(&line, &query) {
                            yield line;
                        }
                    }
                }
            }
            if !text.is_empty() {
                yield read_line(text, false);
            }
        };
        lines.boxed()
    }
}

fn log_path(id: &str, query: &LogQuery) -> String {
    let seconds = |time: SystemTime| {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        format!("{}.{:09}", since.as_secs(), since.subsec_nanos())
    };
    let mut path = format!(
        "/containers/{id}/logs?stdout=true&stderr=true&timestamps=true&follow={}&tail={}",
        query.follow,
        query.tail.map_or_else(|| "all".to_owned(), |tail| tail.to_string()),
    );
    for (name, time) in [("since", query.since), ("until", query.until)] {
        if let Some(time) = time {
            path.push_str(&format!("&{name}={}", encode(&seconds(time))));
        }
    }
    path
}

/// Takes whole lines, or of frames each as it is.
fn cut(text: &mut Vec<u8>, terminal: bool) -> Vec<Vec<u8>> {
    if !terminal {
        return vec![std::mem::take(text)];
    }
    let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let whole: Vec<u8> = text.drain(..end).collect();
    whole.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// A line that begins with its time.
fn read_line(line: Vec<u8>, stderr: bool) -> LogLine {
    let space = line.iter().position(|byte| *byte == b' ').unwrap_or(0);
    let time = String::from_utf8_lossy(line.get(..space).unwrap_or_default()).into_owned();
    LogLine { time, stderr, text: line.get(space + 1..).unwrap_or_default().to_vec() }
}

/// Engines differ in whether a line at the very time counts.
fn wanted(line: &LogLine, query: &LogQuery) -> bool {
    let Some(time) = json::time(&line.time) else { return true };
    query.since.is_none_or(|since| time >= since) && query.until.is_none_or(|until| time <= until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_their_time_and_the_span_is_kept() {
        let line = read_line(b"2026-01-02T03:04:05.5Z a b\n".to_vec(), true);
        assert_eq!((line.time.as_str(), line.text.as_slice()), ("2026-01-02T03:04:05.5Z", &b"a b\n"[..]));
        let at = json::time("2026-01-02T03:04:05.5Z");
        let later = at.map(|at| at + Duration::from_nanos(1));
        assert!(wanted(&line, &LogQuery { since: at, until: at, ..LogQuery::default() }));
        assert!(!wanted(&line, &LogQuery { since: later, ..LogQuery::default() }));
        let path = log_path("c", &LogQuery { since: at, tail: Some(3), ..LogQuery::default() });
        assert!(path.ends_with("follow=false&tail=3&since=1767323045%2E500000000"), "{path}");
    }

    #[test]
    fn a_terminal_is_cut_into_lines() {
        let mut text = b"one\ntwo\nthr".to_vec();
        assert_eq!(cut(&mut text, true), [b"one\n".to_vec(), b"two\n".to_vec()]);
        assert_eq!(text, b"thr");
        assert_eq!(cut(&mut text, false), [b"thr".to_vec()]);
    }
}
