//! `--init`: the helper stays the container's first process, hands signals on to its child, buries
//! what the child leaves behind, and ends with the child's exit code.

use std::ffi::OsString;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::execute::Environment;
use crate::gate::set_name;
use crate::protocol::STAYING;

/// Runs the words as a child. All signals must be blocked.
pub fn supervise(words: &[OsString], environment: &Environment) -> u8 {
    set_name(STAYING);
    let Ok(signals) = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC) else {
        return 125;
    };
    let begun = environment.command("/proc/self/exe".as_ref()).arg("begin").arg("--").args(words).spawn();
    let child = match begun {
        Ok(child) => Pid::from_raw(i32::try_from(child.id()).unwrap_or(0)),
        Err(error) => {
            eprintln!("d2k-init: the container's process cannot be started: {error}");
            return 126;
        }
    };
    loop {
        let Ok(Some(news)) = signals.read_signal() else { continue };
        match Signal::try_from(i32::try_from(news.ssi_signo).unwrap_or(0)) {
            Ok(Signal::SIGCHLD) => {
                if let Some(code) = bury(child) {
                    return code;
                }
            }
            // What a process does to itself is not handed on, nor what a terminal says to its group.
            Ok(
                Signal::SIGSEGV
                | Signal::SIGBUS
                | Signal::SIGFPE
                | Signal::SIGILL
                | Signal::SIGTRAP
                | Signal::SIGSYS
                | Signal::SIGTTIN
                | Signal::SIGTTOU,
            )
            | Err(_) => {}
            Ok(signal) => {
                let _ = kill(child, signal);
            }
        }
    }
}

/// Takes all processes that have ended; the exit code of the child if it is among them.
fn bury(child: Pid) -> Option<u8> {
    let mut code = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == child => code = u8::try_from(status & 0xff).ok(),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => code = Some(128 + signal as u8),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return code,
            Ok(_) | Err(_) => {}
        }
    }
}
