//! `d2k serve --embedded -- COMMAND…`: one command with a Docker engine and a cluster of its own, which
//! are gone when it ends.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use super::folder;

/// How long a command may take to end when it is told to.
const ENDING: Duration = Duration::from_secs(30);

/// The command and where its cluster keeps what it has.
#[derive(Debug, Clone)]
pub struct Job {
    /// Program and arguments.
    pub words: Vec<String>,
    /// Folder to be removed at the end; none if one was given.
    pub folder: Option<PathBuf>,
}

impl Job {
    /// A job; without a folder of its own it gets one that is removed at the end.
    ///
    /// # Errors
    /// One line where none can be made.
    pub fn new(words: Vec<String>, given: Option<&Path>) -> Result<Self, String> {
        if given.is_some() {
            return Ok(Self { words, folder: None });
        }
        Ok(Self { words, folder: Some(folder::temporary()?) })
    }
}

/// Runs the command to its end, and ends it where d2k is told to stop; its exit code, 128 + N after signal N, 127 if it cannot be found.
pub async fn run(words: &[String], docker_host: &str, kubeconfig: &Path) -> u8 {
    let Some((program, arguments)) = words.split_first() else { return 0 };
    let mut command = Command::new(program);
    command.args(arguments).env("DOCKER_HOST", docker_host).env("KUBECONFIG", kubeconfig);
    // Testcontainers for Python takes a client in a container with an engine on the loopback address for one
    // beside the engine's containers, and connects to their bridge. Ports are where the engine is, as elsewhere.
    if std::env::var_os("TESTCONTAINERS_CONNECTION_MODE").is_none() {
        command.env("TESTCONTAINERS_CONNECTION_MODE", "docker_host");
    }
    // What would lead a Docker client elsewhere.
    for name in ["DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"] {
        command.env_remove(name);
    }
    match command.kill_on_drop(true).spawn() {
        Ok(child) => wait(child).await.map_or_else(
            |error| {
                eprintln!("d2k: {program} cannot be waited for: {error}");
                1
            },
            code,
        ),
        Err(error) => {
            eprintln!("d2k: cannot run {program}: {error}");
            if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 }
        }
    }
}

async fn wait(mut child: Child) -> std::io::Result<ExitStatus> {
    let (mut stop, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        status = child.wait() => return status,
        _ = stop.recv() => {
            let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
            let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        }
        // The terminal tells the command, too, and to be told twice means haste to many.
        _ = interrupt.recv() => {}
    }
    if let Ok(status) = tokio::time::timeout(ENDING, child.wait()).await {
        return status;
    }
    child.start_kill()?;
    child.wait().await
}

fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(u8::MAX)
}
