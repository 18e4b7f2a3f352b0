//! `d2k serve --embedded -- COMMAND…`: one command with a Docker engine and a cluster of its own, which
//! are gone when it ends.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use tokio::process::Command;

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
        let folder =
            std::env::temp_dir().join(format!("d2k-{}-{:08x}", std::process::id(), rand::random::<u32>()));
        std::fs::create_dir_all(&folder)
            .map_err(|e| format!("{}: {e}; choose a folder (D2K_DATA_DIR)", folder.display()))?;
        Ok(Self { words, folder: Some(folder) })
    }
}

/// Runs the command to its end; its exit code, 128 + N after signal N, 127 if it cannot be found.
pub async fn run(words: &[String], docker_host: &str, kubeconfig: &Path) -> u8 {
    let Some((program, arguments)) = words.split_first() else { return 0 };
    let mut command = Command::new(program);
    command.args(arguments).env("DOCKER_HOST", docker_host).env("KUBECONFIG", kubeconfig);
    // What would lead a Docker client elsewhere.
    for name in ["DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"] {
        command.env_remove(name);
    }
    match command.status().await {
        Ok(status) => code(status),
        Err(error) => {
            eprintln!("d2k: cannot run {program}: {error}");
            if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 }
        }
    }
}

fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(u8::MAX)
}
