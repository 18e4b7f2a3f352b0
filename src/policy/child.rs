//! Compiling in a child: it leaves no memory behind in the daemon, and a component that would take
//! the compiler minutes or gigabytes ends the child alone.

use std::io::{self, Read, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, setrlimit};

use super::component::engine;

/// The hidden command of this program that compiles: component on its input, code on its output.
pub const COMMAND: &str = "compile-policy";
/// Seconds that the child may take, by the clock and of the processor. The largest component of
/// ordinary code takes less than ten on a slow machine.
const SECONDS: u64 = 30;
/// Bytes of address space of the child. One of 1.6 MB with a JavaScript engine takes a quarter.
const ADDRESS_SPACE: u64 = 1 << 30;
/// Bytes of code that are taken from the child: many times what a component has.
const LARGEST_CODE: u64 = 128 << 20;
/// Bytes of the child's words that are read.
const WORDS: u64 = 4 << 10;

/// Why the child ends without having written code.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It compiles nothing without them.
    #[error("the limits of the compiler cannot be set: {0}")]
    Limits(#[source] rustix::io::Errno),
    /// The component cannot be read from its input.
    #[error(transparent)]
    Input(io::Error),
    /// The component is bad.
    #[error("{}", first_line(&format!("{:#}", .0)))]
    Compiler(#[source] wasmtime::Error),
    /// The code cannot be written to its output.
    #[error(transparent)]
    Output(io::Error),
}

/// Why a component that was given to the child has no code.
#[derive(Debug, thiserror::Error)]
pub enum NoCode {
    /// So many seconds have passed by the clock.
    #[error("compiling it takes more than {0} s")]
    Time(u64),
    /// A signal has ended the child: the processor's time is up, or an allocation failed.
    #[error("compiling it takes more than {SECONDS} s or {mib} MiB ({0})", mib = ADDRESS_SPACE >> 20)]
    Limit(ExitStatus),
    /// The component is bad, in the child's words.
    #[error("{0}")]
    Refused(String),
}

/// The child's part: reads a component, writes its code.
///
/// # Errors
/// One line that says why the bytes are no component.
pub fn child(mut input: impl Read, mut output: impl io::Write) -> Result<(), ChildError> {
    limit(ADDRESS_SPACE).map_err(ChildError::Limits)?;
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes).map_err(ChildError::Input)?;
    let code = engine().precompile_component(&bytes).map_err(ChildError::Compiler)?;
    output.write_all(&code).map_err(ChildError::Output)
}

fn limit(address_space: u64) -> rustix::io::Result<()> {
    let at = |most: u64| Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(Resource::As, at(address_space))?;
    setrlimit(Resource::Cpu, at(SECONDS))?;
    // It writes pipes alone, and no image of its memory either.
    setrlimit(Resource::Fsize, at(0))?;
    setrlimit(Resource::Core, at(0))
}

/// The parent's part: the code of a component; none if there was no child that does this work.
///
/// # Errors
/// The component is bad, or the child passed a limit.
pub(super) fn compile(program: &Path, bytes: &[u8]) -> Result<Option<Vec<u8>>, NoCode> {
    compile_within(Duration::from_secs(SECONDS), program, bytes)
}

fn compile_within(limit: Duration, program: &Path, bytes: &[u8]) -> Result<Option<Vec<u8>>, NoCode> {
    let spawned = Command::new(program)
        .arg(COMMAND)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = spawned else { return Ok(None) };
    let begin = Instant::now();
    let said = converse(&mut child, bytes, limit);
    // Its output is closed, so that it ends now, or it has had its time.
    let mut ended = child.try_wait();
    while matches!(ended, Ok(None)) && said.is_some() && begin.elapsed() < limit {
        thread::sleep(Duration::from_millis(1));
        ended = child.try_wait();
    }
    if !matches!(ended, Ok(Some(_))) {
        let _ = child.kill();
        let _ = child.wait();
    }
    let (Some((code, words)), Ok(Some(ended))) = (said, ended) else {
        return Err(NoCode::Time(limit.as_secs()));
    };
    match ended.code() {
        Some(0) if !code.is_empty() => Ok(Some(code)),
        Some(1) => Err(NoCode::Refused(first_line(&words))),
        Some(_) => Ok(None),
        None => Err(NoCode::Limit(ended)),
    }
}

/// Hands over the component and takes code and words, which end with the child; none if that takes
/// too long. The threads end with the child, whose end closes the pipes.
fn converse(child: &mut Child, bytes: &[u8], limit: Duration) -> Option<(Vec<u8>, String)> {
    let (mut stdin, stdout, stderr) = (child.stdin.take()?, child.stdout.take()?, child.stderr.take()?);
    let (sender, receiver) = mpsc::channel();
    let component = bytes.to_vec();
    // Where it ends before it has read all, its words tell why.
    thread::spawn(move || stdin.write_all(&component));
    thread::spawn(move || {
        let code = read_at_most(stdout, LARGEST_CODE);
        let words = String::from_utf8_lossy(&read_at_most(stderr, WORDS)).into_owned();
        let _ = sender.send((code, words));
    });
    receiver.recv_timeout(limit).ok()
}

fn read_at_most(from: impl Read, most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = from.take(most).read_to_end(&mut bytes);
    bytes
}

pub(super) fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// A program that does not compile but what a shell script says.
    fn script(name: &str, text: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("d2k-child-{}-{name}", std::process::id()));
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        path
    }

    fn refusal(name: &str, text: &str) -> String {
        let program = script(name, text);
        let result = compile_within(Duration::from_secs(1), &program, &[0; 1 << 20]);
        std::fs::remove_file(program).unwrap();
        match result {
            Err(error) => error.to_string(),
            Ok(None) => "no such child".into(),
            Ok(Some(code)) => format!("{} bytes of code", code.len()),
        }
    }

    #[test]
    fn a_child_that_takes_too_long_is_ended() {
        let begin = Instant::now();
        assert_eq!(refusal("hangs", "exec sleep 60"), "compiling it takes more than 1 s");
        assert_eq!(refusal("closes", "exec sleep 60 >&- 2>&-"), "compiling it takes more than 1 s");
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    }

    #[test]
    fn a_child_that_a_limit_has_ended_refuses_the_component() {
        assert!(refusal("killed", "kill -ABRT $$").contains("30 s or 1024 MiB (signal: 6"));
    }

    #[test]
    fn the_words_and_the_code_of_a_child_are_taken() {
        assert_eq!(refusal("says", "cat >/dev/null; echo it is bad >&2; exit 1"), "it is bad");
        assert_eq!(refusal("code", "cat"), "1048576 bytes of code");
        assert_eq!(refusal("other", "cat >/dev/null; exit 7"), "no such child");
    }
}
