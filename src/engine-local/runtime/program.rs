//! The last step of a container's or a command's start: finding its program inside and becoming it.
//! `libcontainer` calls it there; the words for what goes wrong are those that users know from runc.

use std::fs::{self, File};
use std::io::Write;
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
        find(spec).map(|_| ()).map_err(|words| {
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
            Err(words) => words,
        };
        self.tell(&words);
        Err(ExecutorError::Other(words))
    }
}

/// The program's path inside.
fn find(spec: &Spec) -> Result<PathBuf, String> {
    let process = spec.process().as_ref().ok_or("no process is said")?;
    let name = process.args().as_ref().and_then(|all| all.first()).ok_or("no program is said")?;
    if name.contains('/') {
        let path = PathBuf::from(name);
        let about =
            fs::metadata(&path).map_err(|error| format!("exec: {name:?}: stat {name}: {}", plain(&error)))?;
        return executable(&about).map(|()| path).map_err(|words| format!("exec: {name:?}: {words}"));
    }
    let path = process.env().as_ref().and_then(|env| env.iter().find_map(|pair| pair.strip_prefix("PATH=")));
    let mut refused = None;
    for folder in path.unwrap_or_default().split(':') {
        let path = Path::new(if folder.is_empty() { "." } else { folder }).join(name);
        match fs::metadata(&path).map(|about| executable(&about)) {
            Ok(Ok(())) => return Ok(path),
            Ok(Err(words)) => refused = Some(words),
            Err(_) => {}
        }
    }
    // As the shells do: a file that cannot be run says so only if nothing else is found.
    match refused {
        Some("permission denied") => Err(format!("exec: {name:?}: permission denied")),
        _ => Err(format!("exec: {name:?}: executable file not found in $PATH")),
    }
}

fn executable(about: &fs::Metadata) -> Result<(), &'static str> {
    if about.is_dir() {
        Err("is a directory")
    } else if about.permissions().mode() & 0o111 == 0 {
        Err("permission denied")
    } else {
        Ok(())
    }
}

/// The kernel's words without Rust's number, in lower case as runc has them.
fn plain(error: &std::io::Error) -> String {
    let words = error.to_string();
    words.split(" (os error").next().unwrap_or(&words).to_lowercase()
}
