//! Signals: those that are sent to the container's first process, and the mask that a process
//! begins with.

use std::fs;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use crate::arguments::Arguments;
use crate::hold;
use crate::protocol::{NO_SUCH_SIGNAL, NOT_PERMITTED, STAYING};

/// Holds all signals back, so that they are read one by one (`signalfd`).
pub fn block_all() {
    let _ = SigSet::all().thread_block();
}

/// Lets all signals through, as a process expects that has just begun.
pub fn unblock_all() {
    let _ = SigSet::empty().thread_set_mask();
}

/// Sends the signal of a number to the container's process. Real-time signals (above 31) have no
/// name in the library that this is made of.
pub fn kill_first(mut arguments: Arguments) -> u8 {
    let number = arguments.word().and_then(|word| word.parse().ok());
    let Some(signal) = number.and_then(|n: i32| Signal::try_from(n).ok()) else {
        return NO_SUCH_SIGNAL;
    };
    let first = first_process(signal);
    let sent = match signal {
        // The kernel keeps it from a container's first process, if it comes from inside.
        Signal::SIGKILL if first == Pid::from_raw(1) => hold::end_with_this_process(first),
        _ => kill(first, signal),
    };
    match sent {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("signal {signal} cannot be sent: {}", error.desc());
            NOT_PERMITTED
        }
    }
}

/// The first process of the container; behind a helper that stays, what cannot be handed on goes to
/// its child itself.
fn first_process(signal: Signal) -> Pid {
    let staying = fs::read_to_string("/proc/1/comm").is_ok_and(|name| name.trim_end() == STAYING);
    if staying && matches!(signal, Signal::SIGSTOP | Signal::SIGKILL) {
        let children = fs::read_to_string("/proc/1/task/1/children").unwrap_or_default();
        let first = children.split_whitespace().next().and_then(|word| word.parse().ok());
        return Pid::from_raw(first.unwrap_or(1));
    }
    Pid::from_raw(1)
}
