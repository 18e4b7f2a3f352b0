//! `docker pause`: all processes of the container are stopped until they are let go. A stop signal
//! does it for all but the first one, which the kernel shields from signals of its own container:
//! that one is held as a debugger holds it, by this process, which stays until it is told to end.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Gid, Pid, Uid, setgid, setuid};

use crate::gate::set_name;
use crate::protocol::{HELD, HOLDING, NOT_PERMITTED, STAYING, WAITING};
use crate::{processes, signals};

/// Processes that begin while others are being stopped are stopped in a further round.
const ROUNDS: usize = 100;
/// How long the holder may take to let go.
const PATIENCE: Duration = Duration::from_secs(5);

/// Stops all processes, says so, and holds them until it is told to end.
pub fn hold() -> u8 {
    signals::block_all();
    set_name(HOLDING);
    let mut stopped = BTreeSet::new();
    stop_new(&mut stopped);
    let first = match hold_first() {
        Ok(threads) => threads,
        Err(error) => {
            go_on(&stopped);
            println!("the container's first process cannot be held: {}", error.desc());
            return NOT_PERMITTED;
        }
    };
    stop_new(&mut stopped);
    println!("{HELD}");
    let _ = std::io::stdout().flush();
    let mut end = SigSet::empty();
    end.add(Signal::SIGTERM);
    while !matches!(end.wait(), Ok(Signal::SIGTERM)) {}
    go_on(&stopped);
    for thread in first {
        let _ = ptrace::detach(thread, None);
    }
    0
}

/// Names of the node's runtime while it enters the container for an exec, before it becomes the command. The node waits
/// for it without a deadline: stopped, it would block every later exec and stop of the container.
const RUNTIMES: [&str; 3] = ["runc:[", "youki:[", "crun"];

/// Whether a process is the container's, and not one of the helper's own or of the node's runtime.
fn is_theirs(pid: Pid) -> bool {
    let name = processes::name(pid.as_raw()).unwrap_or_default();
    pid != Pid::this() && is_of_container(&name)
}

fn is_of_container(name: &str) -> bool {
    ![HOLDING, STAYING, WAITING].contains(&name) && !RUNTIMES.iter().any(|runtime| name.starts_with(runtime))
}

fn stop_new(stopped: &mut BTreeSet<Pid>) {
    for _ in 0..ROUNDS {
        let new: Vec<Pid> = processes::pids()
            .map(Pid::from_raw)
            .filter(|pid| pid.as_raw() != 1 && !stopped.contains(pid) && is_theirs(*pid))
            .collect();
        if new.is_empty() {
            return;
        }
        for pid in new {
            let _ = kill(pid, Signal::SIGSTOP);
            stopped.insert(pid);
        }
    }
}

fn go_on(stopped: &BTreeSet<Pid>) {
    for pid in stopped {
        let _ = kill(*pid, Signal::SIGCONT);
    }
}

/// Holds all threads of the first process, unless that is the helper itself.
fn hold_first() -> nix::Result<Vec<Pid>> {
    let first = Pid::from_raw(1);
    if !is_theirs(first) {
        return Ok(Vec::new());
    }
    let mut held = Vec::new();
    for round in 0..ROUNDS {
        let new: Vec<Pid> = threads(first).filter(|thread| !held.contains(thread)).collect();
        if new.is_empty() {
            return Ok(held);
        }
        for thread in new {
            match ptrace::seize(thread, ptrace::Options::empty()) {
                Ok(()) => {}
                // One that has just ended.
                Err(nix::errno::Errno::ESRCH) => continue,
                Err(error) if round == 0 && held.is_empty() => {
                    as_its_user(first, thread, error, ptrace::Options::empty())?;
                }
                Err(error) => return Err(error),
            }
            ptrace::interrupt(thread)?;
            let _ = waitpid(thread, Some(WaitPidFlag::__WALL));
            held.push(thread);
        }
    }
    Ok(held)
}

/// A process that has given up its rights may be held by one of the same user only.
fn as_its_user(
    first: Pid,
    thread: Pid,
    error: nix::errno::Errno,
    options: ptrace::Options,
) -> nix::Result<()> {
    let status = fs::read_to_string(format!("/proc/{first}/status")).unwrap_or_default();
    let number = |key: &str| -> Option<u32> {
        status.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
    };
    let (Some(uid), Some(gid)) = (number("Uid:"), number("Gid:")) else { return Err(error) };
    setgid(Gid::from_raw(gid)).and_then(|()| setuid(Uid::from_raw(uid))).map_err(|_| error)?;
    ptrace::seize(thread, options)
}

/// Has the kernel kill a process when this one ends. That is the only KILL that reaches the first process
/// of a container from inside.
pub fn end_with_this_process(first: Pid) -> nix::Result<()> {
    let options = ptrace::Options::PTRACE_O_EXITKILL;
    match ptrace::seize(first, options) {
        Err(error @ nix::errno::Errno::EPERM) => as_its_user(first, first, error, options),
        result => result,
    }
}

fn threads(process: Pid) -> impl Iterator<Item = Pid> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| task.file_name().to_str()?.parse().ok()).map(Pid::from_raw)
}

/// Ends the holder, and lets everything go on that may still be stopped.
pub fn let_go() -> u8 {
    let holders = || {
        processes::pids().filter(|pid| processes::name(*pid).as_deref() == Some(HOLDING)).map(Pid::from_raw)
    };
    for pid in processes::pids().map(Pid::from_raw).filter(|pid| pid.as_raw() != 1 && is_theirs(*pid)) {
        let _ = kill(pid, Signal::SIGCONT);
    }
    for holder in holders() {
        let _ = kill(holder, Signal::SIGTERM);
    }
    let begin = Instant::now();
    while holders().any(|pid| !processes::has_ended(pid.as_raw())) {
        if begin.elapsed() > PATIENCE {
            return NOT_PERMITTED;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtime_and_the_helper_are_not_stopped() {
        for name in ["runc:[2:INIT]", "runc:[1:CHILD]", "youki:[2:INIT]", "crun", HOLDING, WAITING] {
            assert!(!is_of_container(name), "{name}");
        }
        assert!(is_of_container("nginx"));
    }
}
