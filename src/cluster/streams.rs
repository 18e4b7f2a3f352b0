//! The streams of a Pod: logs, exec and attach. WebSocket subprotocol v5 with half-close
//! (KEP-4006), v4 where the API server knows no better.

use std::time::Duration;

use futures::SinkExt;
use futures::channel::mpsc::Sender;
use futures::future::{BoxFuture, FutureExt, Shared};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::Api;
use kube::api::{AttachParams, AttachedProcess, LogParams};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Cluster, fault};
use d2k_common::fault::{Fault, Result};
use d2k_common::log_streams::PARAMETER;

/// Bytes that may wait between the WebSocket and its reader. The client library's default of
/// 1 KiB halves the throughput.
const BUFFER: usize = 128 * 1024;
/// How long opening a stream may take.
const OPEN: Duration = Duration::from_secs(30);

/// Which part of a container's log to read. Lines always carry their timestamps
/// (RFC 3339, nanoseconds, one space), because Docker's `until` and `since` need them.
#[derive(Debug, Clone, Default)]
pub struct LogQuery {
    /// Name of the Pod's container.
    pub container: String,
    /// Go on until the container ends.
    pub follow: bool,
    /// The log of the run before the last restart.
    pub previous: bool,
    /// Only lines at or after this time (the API cuts it to whole seconds).
    pub since: Option<Timestamp>,
    /// Only the last lines.
    pub tail: Option<i64>,
}

/// Rows and columns of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// How a process in a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessStatus {
    /// Exit code, 0 to 255; `None` if the process never ran.
    pub code: Option<i32>,
    /// The cluster's words if it did not end by itself.
    pub message: String,
}

impl ProcessStatus {
    /// The same, but a success that something else should have confirmed is none: Kubernetes says so, too,
    /// where it has lost how the process ended.
    pub fn unless_it_succeeded(self) -> Self {
        if self.code == Some(0) { lost() } else { self }
    }
}

/// A process in a container that this process is connected to. Dropping it ends the connection.
pub struct Process {
    /// Standard input, if asked for; shutting it down is its end of file.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Standard output, if asked for.
    pub stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Standard error, if asked for and no terminal is allocated.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    status: Shared<BoxFuture<'static, ProcessStatus>>,
    resize: Option<Sender<kube::api::TerminalSize>>,
    _connection: AttachedProcess,
}

/// Which streams of a process to connect.
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs)]
pub struct Wanted {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

impl Process {
    fn new(mut connection: AttachedProcess) -> Self {
        let status = connection.take_status();
        Self {
            stdin: connection.stdin().map(|s| Box::new(s) as _),
            stdout: connection.stdout().map(|s| Box::new(s) as _),
            stderr: connection.stderr().map(|s| Box::new(s) as _),
            status: async move {
                match status {
                    Some(status) => status.await.map_or_else(lost, read_status),
                    None => lost(),
                }
            }
            .boxed()
            .shared(),
            resize: connection.terminal_size(),
            _connection: connection,
        }
    }

    /// How the process ended, when it has.
    pub fn ended(&self) -> impl Future<Output = ProcessStatus> + use<> {
        self.status.clone()
    }

    /// The same process with another way to know how it ended.
    pub fn ending(mut self, end: BoxFuture<'static, ProcessStatus>) -> Self {
        self.status = end.shared();
        self
    }

    /// A handle that sends terminal sizes, to be used beside the streams. Can be taken once.
    pub fn resizer(&mut self) -> Option<Resizer> {
        self.resize.take().map(Resizer)
    }
}

/// Sends terminal sizes to a process.
pub struct Resizer(Sender<kube::api::TerminalSize>);

impl Resizer {
    /// Tells the process the size of its terminal.
    pub async fn send(&mut self, size: TerminalSize) {
        let _ = self.0.send(kube::api::TerminalSize { height: size.height, width: size.width }).await;
    }
}

fn lost() -> ProcessStatus {
    ProcessStatus { code: None, message: "the connection to the container was lost".into() }
}

/// Reads the status object of the remote command protocol: success, an exit code, or words.
fn read_status(status: Status) -> ProcessStatus {
    if status.status.as_deref() == Some("Success") {
        return ProcessStatus { code: Some(0), message: String::new() };
    }
    let code = status
        .details
        .iter()
        .flat_map(|d| d.causes.iter().flatten())
        .find(|c| c.reason.as_deref() == Some("ExitCode"))
        .and_then(|c| c.message.as_deref()?.parse().ok());
    ProcessStatus { code, message: status.message.unwrap_or_default() }
}

fn parameters(container: &str, wanted: Wanted) -> AttachParams {
    AttachParams {
        container: Some(container.to_owned()),
        stdin: wanted.stdin,
        stdout: wanted.stdout,
        stderr: wanted.stderr && !wanted.tty,
        tty: wanted.tty,
        max_stdin_buf_size: Some(BUFFER),
        max_stdout_buf_size: Some(BUFFER),
        max_stderr_buf_size: Some(BUFFER),
    }
}

async fn in_time<T>(what: String, open: impl Future<Output = kube::Result<T>>) -> Result<T> {
    match tokio::time::timeout(OPEN, open).await {
        Ok(opened) => opened.map_err(|e| fault(&what, &e)),
        Err(_) => Err(Fault::unavailable(format!("Kubernetes did not {what} within {OPEN:?}"))),
    }
}

impl Cluster {
    /// Runs a command in a running container.
    ///
    /// # Errors
    /// The cluster's words; a command that cannot be started is told by [`Process::status`].
    pub async fn exec(
        &self,
        pod: &str,
        container: &str,
        command: &[String],
        wanted: Wanted,
    ) -> Result<Process> {
        let api: Api<Pod> = self.api();
        let what = format!("open exec in Pod {pod}");
        let process = in_time(what, api.exec(pod, command, &parameters(container, wanted))).await?;
        Ok(Process::new(process))
    }

    /// Connects to the main process of a running container.
    ///
    /// # Errors
    /// The cluster's words, among them that the container has ended.
    pub async fn attach(&self, pod: &str, container: &str, wanted: Wanted) -> Result<Process> {
        let api: Api<Pod> = self.api();
        let what = format!("attach to Pod {pod}");
        let process = in_time(what, api.attach(pod, &parameters(container, wanted))).await?;
        Ok(Process::new(process))
    }

    /// Reads the log of a container as a byte stream of lines with timestamps. Those of standard error
    /// have [`d2k_common::log_streams::STDERR_ZONE`] at the end of theirs where the cluster tells the streams apart.
    ///
    /// # Errors
    /// The cluster's words, among them that the container has not started or is gone.
    pub async fn logs(
        &self,
        pod: &str,
        query: &LogQuery,
    ) -> Result<impl futures::AsyncBufRead + Send + use<>> {
        let parameters = LogParams {
            container: Some(query.container.clone()),
            follow: query.follow,
            previous: query.previous,
            // The client library rounds to the nearest second: half of the times to one too late.
            since_time: query.since.and_then(|t| Timestamp::from_second(t.as_second()).ok()),
            tail_lines: query.tail,
            timestamps: true,
            ..Default::default()
        };
        let what = format!("read the log of Pod {pod}");
        let api: Api<Pod> = self.api();
        let mut request = kube::core::Request::new(api.resource_url())
            .logs(pod, &parameters)
            .map_err(|e| fault(&what, &kube::Error::BuildRequest(e)))?;
        let uri = format!("{}&{PARAMETER}=true", request.uri());
        if let Ok(uri) = uri.parse() {
            *request.uri_mut() = uri;
        }
        let client = self.inner.client.clone();
        in_time(what, async move { client.request_stream(request).await }).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(value: serde_json::Value) -> ProcessStatus {
        read_status(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn an_exit_code_is_read_from_the_causes_of_the_status() {
        let failed = status(json!({
            "status": "Failure", "reason": "NonZeroExitCode", "message": "command terminated with exit code 7",
            "details": {"causes": [{"reason": "ExitCode", "message": "7"}]}
        }));
        assert_eq!(failed.code, Some(7));
    }

    #[test]
    fn success_is_zero_and_words_without_a_code_are_kept() {
        assert_eq!(status(json!({"status": "Success"})).code, Some(0));
        let failed = status(json!({"status": "Failure", "message": "no such file"}));
        assert_eq!((failed.code, failed.message.as_str()), (None, "no such file"));
    }
}
