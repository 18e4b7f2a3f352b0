//! The wait for leave to run. A container whose output is read from its first byte on waits until
//! its reader is there; one that must run once waits until d2k knows that it has not run before.

use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use crate::protocol::{GO, WAITING};

/// The signal by which [`release`] gives leave: one that does nothing to a process that comes too late.
const LEAVE: Signal = Signal::SIGCONT;

/// How the wait ended.
pub enum Outcome {
    /// The container's process may run.
    Go,
    /// A signal (its number) came that ends a process.
    Ended(u8),
}

/// Waits for the byte on standard input, for the signal, or until `limit` has passed. All signals
/// must be blocked.
pub fn wait(tty: bool, limit: Option<Duration>) -> Outcome {
    set_name(WAITING);
    let Ok(signals) = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC) else {
        return Outcome::Go;
    };
    let begin = Instant::now();
    let mut open = true;
    loop {
        let left = limit.map(|limit| limit.saturating_sub(begin.elapsed()));
        if left == Some(Duration::ZERO) {
            return Outcome::Go;
        }
        let (byte, signal) = await_either(&signals, open, left);
        if byte {
            match input(tty) {
                Some(true) => return Outcome::Go,
                Some(false) => {}
                None => open = false,
            }
        }
        if signal && let Ok(Some(news)) = signals.read_signal() {
            match Signal::try_from(i32::try_from(news.ssi_signo).unwrap_or(0)) {
                Ok(LEAVE) => return Outcome::Go,
                Ok(signal @ (Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT | Signal::SIGHUP)) => {
                    return Outcome::Ended(signal as u8);
                }
                _ => {}
            }
        }
    }
}

/// Whether standard input and the signals have news.
fn await_either(signals: &SignalFd, open: bool, left: Option<Duration>) -> (bool, bool) {
    let stdin = std::io::stdin();
    let mut all = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    if open {
        all.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
    }
    let timeout = left.and_then(|left| PollTimeout::try_from(left).ok()).unwrap_or(PollTimeout::NONE);
    if poll(&mut all, timeout).is_err() {
        return (false, false);
    }
    let has = |at: usize| all.get(at).and_then(PollFd::revents).is_some_and(|news| !news.is_empty());
    (has(1), has(0))
}

/// One byte of standard input: whether it is the one that gives leave; `None` at its end. Read past
/// the library's buffer: what comes behind it belongs to the container's process.
fn input(tty: bool) -> Option<bool> {
    let mut byte = [0];
    let mut stdin = fs::File::from(std::io::stdin().as_fd().try_clone_to_owned().ok()?);
    match stdin.read(&mut byte) {
        // A terminal in canonical mode takes the byte as the end of an empty line.
        Ok(0) => tty.then_some(true),
        Ok(_) => Some(byte == [GO]),
        Err(_) => None,
    }
}

/// Gives leave to the container's first process if it waits; else there is nothing to do.
pub fn release() -> u8 {
    let waits = fs::read_to_string("/proc/1/comm").is_ok_and(|name| name.trim_end() == WAITING);
    if waits && kill(Pid::from_raw(1), LEAVE).is_err() {
        return 1;
    }
    0
}

/// The name by which other commands of the helper know what this one is at.
pub fn set_name(name: &str) {
    if let Ok(name) = std::ffi::CString::new(name) {
        let _ = prctl::set_name(&name);
    }
}
