//! `docker exec`: sessions in memory, processes by the cluster's exec. Environment, directory and
//! user have no field there: the helper, or without it the image's own shell, sets them in front of the command.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::Daemon;
use super::carry::{InputEnd, feed, read, resize};
use super::networks::random_id;
use super::pipe::{Channel, Chunk, Pipe};
use d2k_cluster::{Process, ProcessStatus, Wanted};
use d2k_common::fault::{Fault, Result};
use d2k_translate::container::Container;
use d2k_translate::exec::{Command, command_line, failure};

/// How long the record of a finished exec is kept; Docker keeps it about five minutes.
const KEPT: Duration = Duration::from_secs(600);
/// How long an exec may wait for its start.
const UNSTARTED_TIME: Duration = Duration::from_secs(300);
/// Bytes of the commands and environments of all execs. The oldest that do not run make room.
const EXEC_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long a command run by d2k itself may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// How much output of a command run by d2k itself is read.
const QUIET: usize = 256 * 1024;

/// One exec.
#[derive(Debug, Clone)]
pub struct Exec {
    /// 64 hex digits.
    pub id: String,
    /// ID of its container.
    pub container: String,
    /// What it runs.
    pub command: Command,
    /// Which streams the client asked for.
    pub streams: Streams,
    /// What a client types in its terminal to leave; empty for the default.
    pub detach_keys: String,
    /// It has been started.
    pub started: bool,
    /// There was a process, which has ended.
    pub ran: bool,
    /// It is running.
    pub running: bool,
    /// How it ended, if it has.
    pub exit_code: Option<i32>,
    created: Instant,
    finished: Option<Instant>,
}

impl Exec {
    fn is_over(&self) -> bool {
        match self.finished {
            Some(at) => at.elapsed() >= KEPT,
            None => !self.started && self.created.elapsed() >= UNSTARTED_TIME,
        }
    }

    /// Bytes that its record takes in memory, about.
    fn size(&self) -> usize {
        let words = self.command.argv.iter().chain(&self.command.env);
        words.map(|word| word.len() + 24).sum::<usize>() + 1024
    }
}

/// Which streams of an exec are attached.
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// All execs of this process's life, the finished ones for a while.
#[derive(Default)]
pub struct Execs(Mutex<HashMap<String, Exec>>);

impl Execs {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<String, Exec>) -> T) -> T {
        act(&mut self.0.lock())
    }

    /// Adds an exec; the oldest ones that do not run are forgotten where all take too much memory.
    fn add(&self, exec: Exec) -> Result<()> {
        self.with(|all| {
            all.retain(|_, exec| !exec.is_over());
            let mut bytes = all.values().map(Exec::size).sum::<usize>() + exec.size();
            while bytes > EXEC_BYTES_MAX {
                let idle = all.values().filter(|exec| !exec.running);
                let oldest = idle.min_by_key(|exec| (exec.finished.is_none(), exec.created));
                let Some(id) = oldest.map(|exec| exec.id.clone()) else {
                    return Err(Fault::unavailable("too many execs run: end some, then try it again"));
                };
                bytes -= all.remove(&id).map_or(0, |exec| exec.size());
            }
            all.insert(exec.id.clone(), exec);
            Ok(())
        })
    }

    /// IDs of the running execs of a container.
    pub fn running(&self, container: &str) -> Vec<String> {
        self.with(|all| {
            let runs = |e: &&Exec| e.running && e.container == container;
            all.values().filter(runs).map(|e| e.id.clone()).collect()
        })
    }
}

impl Daemon {
    /// Prepares an exec.
    ///
    /// # Errors
    /// 400 without a command, 404 for an unknown container, 409 if it does not run.
    pub fn create_exec(
        &self,
        key: &str,
        command: Command,
        streams: Streams,
        detach_keys: String,
    ) -> Result<String> {
        if command.argv.is_empty() {
            return Err(Fault::invalid("No exec command specified"));
        }
        let container = self.managed(key)?;
        if container.running_pod().is_none() {
            return Err(super::lifecycle::not_running(&container));
        }
        if container.state().paused {
            return Err(Fault::conflict(format!(
                "Container {} is paused, unpause the container before exec",
                container.record.id
            )));
        }
        command_line(&command, &container.record, container.has_helper())?;
        let id = random_id();
        let words = command.argv.join(" ");
        self.execs.add(Exec {
            id: id.clone(),
            container: container.record.id.clone(),
            command,
            streams,
            detach_keys,
            started: false,
            ran: false,
            running: false,
            exit_code: None,
            created: Instant::now(),
            finished: None,
        })?;
        self.tell(&container.record, "exec-created", [("execID", id.clone()), ("command", words)]);
        Ok(id)
    }

    /// The exec of an ID.
    ///
    /// # Errors
    /// 404 in Docker's words.
    pub fn exec(&self, id: &str) -> Result<Exec> {
        let found = self.execs.with(|all| all.get(id).filter(|exec| !exec.is_over()).cloned());
        found.ok_or_else(|| Fault::not_found(format!("No such exec instance: {id}")))
    }

    /// Marks an exec as started and returns it with its container.
    ///
    /// # Errors
    /// 409 if it was started before or its container no longer runs.
    pub fn begin_exec(&self, id: &str) -> Result<(Exec, Container)> {
        let exec = self.exec(id)?;
        let container =
            self.container_by_id(&exec.container).ok_or_else(|| Fault::no_such_container(&exec.container))?;
        if container.running_pod().is_none() {
            return Err(super::lifecycle::not_running(&container));
        }
        let fresh = self.execs.with(|all| {
            let Some(exec) = all.get_mut(id).filter(|e| !e.started) else {
                return false;
            };
            exec.started = true;
            exec.running = true;
            true
        });
        if !fresh {
            return Err(Fault::conflict(format!("exec {id} has already been started")));
        }
        let words = [("execID", exec.id.clone()), ("command", exec.command.argv.join(" "))];
        self.tell(&container.record, "exec-started", words);
        Ok((exec, container))
    }

    /// Runs a begun exec to its end, between a client's pipe and the container.
    pub async fn run_exec(self: Arc<Self>, exec: Exec, container: Container, pipe: Option<Pipe>) {
        let code = match self.open_exec(&exec, &container, pipe.is_some()).await {
            Ok(process) => {
                let status = match pipe {
                    Some(pipe) => self.carry(&exec, process, pipe).await,
                    None => drain(process).await,
                };
                let ran = status.code.is_some();
                if !ran {
                    tracing::debug!(exec = %exec.id, words = %status.message, "an exec ended without an exit code");
                }
                self.execs.with(|all| all.get_mut(&exec.id).map(|exec| exec.ran = ran));
                status.code.unwrap_or_else(|| failure(&status.message).0)
            }
            Err(fault) => {
                let (code, words) = failure(&fault.message);
                if let Some(pipe) = pipe {
                    let bytes = Bytes::from(format!("{words}\r\n"));
                    let _ = pipe.output.send(Chunk { channel: Channel::Stdout, bytes }).await;
                    self.end_exec(&exec, &container, code);
                    return;
                }
                code
            }
        };
        self.end_exec(&exec, &container, code);
    }

    fn end_exec(&self, exec: &Exec, container: &Container, code: i32) {
        self.execs.with(|all| {
            if let Some(exec) = all.get_mut(&exec.id) {
                exec.running = false;
                exec.exit_code = Some(code);
                exec.finished = Some(Instant::now());
            }
        });
        self.attached.forget(&exec.id);
        let extra = [("execID", exec.id.clone()), ("exitCode", code.to_string())];
        self.tell(&container.record, "exec-ended", extra);
    }

    async fn open_exec(&self, exec: &Exec, container: &Container, attached: bool) -> Result<Process> {
        let pod = container.running_pod().ok_or_else(|| super::lifecycle::not_running(container))?;
        let argv = command_line(&exec.command, &container.record, container.has_helper())?;
        let wanted = Wanted {
            stdin: exec.streams.stdin && attached,
            // At least one stream must be open for the cluster to run the command.
            stdout: true,
            stderr: !exec.streams.tty,
            tty: exec.streams.tty,
        };
        match wanted.stdin {
            true => self.exec_with_input(container, &pod, argv, wanted).await,
            false => self.cluster.exec(&pod, &container.container_name(), &argv, wanted).await,
        }
    }

    /// Carries bytes both ways until the process has ended and all of its output is sent, or the
    /// client has gone.
    async fn carry(&self, exec: &Exec, mut process: Process, pipe: Pipe) -> ProcessStatus {
        let Pipe { input, output } = pipe;
        let stdin = process.stdin.take();
        let resizer = process.resizer();
        let sizes = self.attached.sizes(&exec.id);
        let mut helpers = tokio::task::JoinSet::new();
        helpers.spawn(feed(input, stdin, InputEnd::Process));
        helpers.spawn(resize(resizer, sizes));
        let stdout = read(process.stdout.take(), Channel::Stdout, output.clone(), exec.streams.stdout);
        let stderr = read(process.stderr.take(), Channel::Stderr, output.clone(), exec.streams.stderr);
        let ended = process.ended();
        let whole = async {
            let ((), (), status) = tokio::join!(stdout, stderr, ended);
            status
        };
        let status = tokio::select! {
            status = whole => status,
            // The process goes on without its client, as with Docker; its output goes nowhere.
            () = output.closed() => ProcessStatus { code: Some(0), message: String::new() },
            () = self.stopping.cancelled() => ProcessStatus { code: Some(137), message: String::new() },
        };
        if status.code.is_none() && !status.message.is_empty() {
            let (_, words) = failure(&status.message);
            let _ = output
                .send(Chunk { channel: Channel::Stdout, bytes: Bytes::from(format!("{words}\r\n")) })
                .await;
        }
        status
    }

    /// Runs a command of d2k's own and returns its exit code and output. What runs in a container may
    /// be made to write without end: it has a deadline.
    ///
    /// # Errors
    /// The cluster's words, or that it did not end in time.
    pub(crate) async fn run_quietly(
        &self,
        pod: &str,
        container: &str,
        command: &[String],
    ) -> Result<(i32, String)> {
        let late = |_| {
            let name = command.first().map(String::as_str).unwrap_or_default();
            Fault::internal(format!("{name} in Pod {pod} did not end within {} s", DEADLINE.as_secs()))
        };
        let run = self.run_to_the_end(pod, container, command);
        tokio::time::timeout(DEADLINE, run).await.map_err(late)?
    }

    /// The same for a caller that has a deadline of its own.
    pub(crate) async fn run_to_the_end(
        &self,
        pod: &str,
        container: &str,
        command: &[String],
    ) -> Result<(i32, String)> {
        let wanted = Wanted { stdout: true, stderr: true, ..Wanted::default() };
        let mut process = self.cluster.exec(pod, container, command, wanted).await?;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let ended = process.ended();
        let stdout = collect(process.stdout.take(), &mut out);
        let stderr = collect(process.stderr.take(), &mut err);
        let ((), (), status) = tokio::join!(stdout, stderr, ended);
        let mut text = String::from_utf8_lossy(&out).into_owned();
        text.push_str(&String::from_utf8_lossy(&err));
        match status.code {
            Some(code) => Ok((code, text)),
            None => Err(Fault::internal(failure(&status.message).1)),
        }
    }
}

async fn collect(stream: Option<Box<dyn AsyncRead + Send + Unpin>>, into: &mut Vec<u8>) {
    if let Some(mut stream) = stream {
        let _ = (&mut stream).take(QUIET as u64).read_to_end(into).await;
        // What nobody reads blocks the exit code, which comes behind it on the same connection.
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
}

async fn drain(mut process: Process) -> ProcessStatus {
    let ended = process.ended();
    let (from_stdout, from_stderr) = (process.stdout.take(), process.stderr.take());
    let (mut out, mut err) = (tokio::io::sink(), tokio::io::sink());
    let stdout = async {
        if let Some(mut stream) = from_stdout {
            let _ = tokio::io::copy(&mut stream, &mut out).await;
        }
    };
    let stderr = async {
        if let Some(mut stream) = from_stderr {
            let _ = tokio::io::copy(&mut stream, &mut err).await;
        }
    };
    let ((), (), status) = tokio::join!(stdout, stderr, ended);
    status
}

/// Docker's inspect answer of an exec.
pub fn inspect(exec: &Exec) -> serde_json::Value {
    let (entrypoint, arguments) =
        exec.command.argv.split_first().map_or(("", [].as_slice()), |(e, a)| (e.as_str(), a));
    let mut process = BTreeMap::from([
        ("tty", serde_json::json!(exec.streams.tty)),
        ("entrypoint", serde_json::json!(entrypoint)),
        ("arguments", serde_json::json!(arguments)),
        ("privileged", serde_json::json!(exec.command.privileged)),
    ]);
    if !exec.command.user.is_empty() {
        process.insert("user", serde_json::json!(exec.command.user));
    }
    serde_json::json!({
        "ID": exec.id,
        "Running": exec.running,
        "ExitCode": exec.exit_code,
        "ProcessConfig": process,
        "OpenStdin": exec.streams.stdin,
        "OpenStderr": exec.streams.stderr,
        "OpenStdout": exec.streams.stdout,
        "CanRemove": false,
        "ContainerID": exec.container,
        "DetachKeys": "",
        "Pid": i32::from(exec.running || exec.ran),
    })
}
