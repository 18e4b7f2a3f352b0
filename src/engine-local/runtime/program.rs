//! The last step of a container's or a command's start: finding its program inside and becoming it.
//! `libcontainer` calls it there; the words for what goes wrong are those that users know from runc.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::runtime::reasons;

/// Why a file is not a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Unfit {
    #[error("is a directory")]
    Folder,
    #[error("permission denied")]
    Mode,
}

/// Why there is no program to become.
#[derive(Debug, thiserror::Error)]
enum FindError {
    #[error("no process is said")]
    NoProcess,
    #[error("no program is said")]
    NoName,
    #[error("exec: {0:?}: stat {0}: {words}", words = plain(.1))]
    Look(String, #[source] io::Error),
    #[error("exec: {0:?}: {1}")]
    Unfit(String, #[source] Unfit),
    #[error("exec: {0:?}: executable file not found in $PATH")]
    NotFound(String),
}

/// Becomes the program of the OCI configuration.
#[derive(Clone)]
pub struct Program {
    /// Closed by a success, since a new program does not have it; else the words are written to it.
    report: Arc<OwnedFd>,
}

impl Program {
    /// Writes to that pipe what goes wrong.
    pub fn new(report: OwnedFd) -> Self {
        Self { report: Arc::new(report) }
    }

    fn tell(&self, words: &str) {
        if let Ok(copy) = self.report.try_clone() {
            let _ = File::from(copy).write_all(reasons::program(words).as_bytes());
        }
    }
}

impl Executor for Program {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        find(spec).map(|_| ()).map_err(|error| {
            let words = error.to_string();
            self.tell(&words);
            ExecutorValidationError::ArgValidationError(words)
        })
    }

    fn setup_envs(&self, _: std::collections::HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        // The environment goes with the program's start, so that this process's own stays as it is.
        Ok(())
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let words = match find(spec) {
            Ok(program) => {
                let process = spec.process().as_ref();
                // Before the program can ask: a size that comes later is a change for it, or too late.
                if let Some(size) = process.and_then(|p| p.console_size()) {
                    let side = |length: u64| u16::try_from(length).unwrap_or(0);
                    let size = Winsize {
                        ws_row: side(size.height()),
                        ws_col: side(size.width()),
                        ws_xpixel: 0,
                        ws_ypixel: 0,
                    };
                    let _ = tcsetwinsize(std::io::stdin(), size);
                }
                let mut arguments = process.and_then(|p| p.args().clone()).unwrap_or_default().into_iter();
                let name = arguments.next().unwrap_or_default();
                let env = process.and_then(|p| p.env().clone()).unwrap_or_default();
                let error = Command::new(&program)
                    .arg0(&name)
                    .args(arguments)
                    .env_clear()
                    .envs(env.iter().filter_map(|pair| pair.split_once('=')))
                    .exec();
                format!("exec {}: {}", program.display(), plain(&error))
            }
            Err(error) => error.to_string(),
        };
        self.tell(&words);
        Err(ExecutorError::Other(words))
    }
}

/// The program's path inside.
fn find(spec: &Spec) -> Result<PathBuf, FindError> {
    let process = spec.process().as_ref().ok_or(FindError::NoProcess)?;
    let name = process.args().as_ref().and_then(|all| all.first()).ok_or(FindError::NoName)?;
    if name.contains('/') {
        let path = PathBuf::from(name);
        let about = fs::metadata(&path).map_err(|error| FindError::Look(name.clone(), error))?;
        return executable(&about).map(|()| path).map_err(|why| FindError::Unfit(name.clone(), why));
    }
    let path = process.env().as_ref().and_then(|env| env.iter().find_map(|pair| pair.strip_prefix("PATH=")));
    let mut refused = None;
    for folder in path.unwrap_or_default().split(':') {
        let path = Path::new(if folder.is_empty() { "." } else { folder }).join(name);
        match fs::metadata(&path).map(|about| executable(&about)) {
            Ok(Ok(())) => return Ok(path),
            Ok(Err(why)) => refused = Some(why),
            Err(_) => {}
        }
    }
    // As the shells do: a file that cannot be run says so only if nothing else is found.
    match refused {
        Some(Unfit::Mode) => Err(FindError::Unfit(name.clone(), Unfit::Mode)),
        _ => Err(FindError::NotFound(name.clone())),
    }
}

fn executable(about: &fs::Metadata) -> Result<(), Unfit> {
    if about.is_dir() {
        Err(Unfit::Folder)
    } else if about.permissions().mode() & 0o111 == 0 {
        Err(Unfit::Mode)
    } else {
        Ok(())
    }
}

/// The kernel's words without Rust's number, in lower case as runc has them.
fn plain(error: &io::Error) -> String {
    let words = error.to_string();
    words.split(" (os error").next().unwrap_or(&words).to_lowercase()
}
