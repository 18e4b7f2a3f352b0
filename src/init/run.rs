//! The beginning of a container: looks whether its process can run, waits for leave, and becomes it.
//! What goes wrong is told by the termination message, in the words of Docker's runtime.

use std::ffi::OsString;
use std::fs;
use std::time::Duration;

use crate::arguments::Arguments;
use crate::execute::{Environment, Failure, become_program, find};
use crate::protocol::FAILURE;
use crate::{files, gate, signals, supervise, user};

#[derive(Default)]
struct Options {
    wait: bool,
    limit: Option<Duration>,
    tty: bool,
    no_input: bool,
    stay: bool,
    files: bool,
    fail_late: bool,
    user: Option<String>,
    environment: Environment,
}

fn options(arguments: &mut Arguments) -> Options {
    let mut options = Options::default();
    while let Some(option) = arguments.option() {
        match option.as_str() {
            "--wait" => options.wait = true,
            "--wait-seconds" => {
                options.wait = true;
                options.limit = arguments.word().and_then(|n| n.parse().ok()).map(Duration::from_secs);
            }
            "--tty" => options.tty = true,
            "--no-input" => options.no_input = true,
            "--init" => options.stay = true,
            "--files" => options.files = true,
            "--fail-late" => options.fail_late = true,
            "--user" => options.user = arguments.word(),
            "--unset" => options.environment.unset.extend(arguments.raw()),
            _ => {}
        }
    }
    options
}

/// `run [OPTIONS] -- PROGRAM [ARGUMENTS]`.
pub fn run(mut arguments: Arguments) -> u8 {
    let mut options = options(&mut arguments);
    let words = arguments.rest();
    signals::block_all();
    let program = prepare(&mut options, &words);
    // Where somebody reads, d2k is there at the end of a program that cannot be run, and sees it at once;
    // where nobody does, the kubelet is to see nothing else.
    if options.wait
        && (program.is_ok() || options.fail_late)
        && let gate::Outcome::Ended(signal) = gate::wait(options.tty, options.limit)
    {
        return 128 + signal;
    }
    let program = match program {
        Ok(program) => program,
        Err(failure) => return tell(&failure),
    };
    if options.no_input {
        nothing_as_input();
    }
    if options.stay {
        return supervise::supervise(&words, &options.environment);
    }
    tell(&become_program(&program, &words, &options.environment))
}

fn prepare(options: &mut Options, words: &[OsString]) -> Result<OsString, Failure> {
    if options.files {
        files::put_all()?;
    }
    if let Some(user) = &options.user {
        let home = user::become_user(user)?;
        options.environment.set.push(("HOME".into(), home.into()));
    }
    find(words, &options.environment)
}

fn nothing_as_input() {
    if let Ok(nothing) = fs::File::open("/dev/null") {
        let _ = nix::unistd::dup2_stdin(&nothing);
    }
}

/// Leaves the reason where the kubelet reads it (Pod, `terminationMessagePath`).
pub fn tell(failure: &Failure) -> u8 {
    let text = format!("{FAILURE}{}", failure.words);
    if fs::write("/dev/termination-log", &text).is_err() {
        eprintln!("{text}");
    }
    failure.code
}
