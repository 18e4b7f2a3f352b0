//! The process between daemon and helper: it makes the helper the first process of a PID namespace, and
//! when either is gone it sees to it that nothing of the other is left.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::runtime::cgroups::Cgroups;
use crate::runtime::wire::{Notice, Options, send};

/// Runs the helper until it or the daemon has gone, and removes the cgroups.
pub fn keep(options: &Options, socket: &OwnedFd) -> Result<(), String> {
    // Signals of the daemon's terminal are the daemon's.
    let _ = rustix::process::setsid();
    let kept = lock(&options.data).and_then(|lock| {
        let cgroups = Cgroups::detect(&options.name)?;
        // What a killed helper of the same name has left.
        cgroups.remove_all()?;
        cgroups.make_room();
        let ran = run(options, socket);
        let removed = cgroups.remove_all();
        drop(lock);
        ran.and(removed)
    });
    // Nobody hears it if the daemon has gone, which is as it should be.
    kept.or_else(|words| send(socket, &Notice::Failed(words), &[]).or(Ok(())))
}

/// What a daemon leaves ends before the next one begins. This process holds it, as it is the last to go.
fn lock(folder: &Path) -> Result<File, String> {
    let path = folder.join("run.lock");
    let file = File::options().create(true).append(true).open(&path);
    let file = file.map_err(|error| format!("{} cannot be opened: {error}", path.display()))?;
    for _ in 0..100 {
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Ok(file);
        }
        // The processes of a daemon that has just been killed are on their way out.
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(format!(
        "what another d2k has run in the folder {} does not end; end it, or choose another folder",
        folder.display()
    ))
}

fn run(options: &Options, socket: &OwnedFd) -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWPID).map_err(|error| {
        format!(
            "no PID namespace can be made: {error}; run as root, or allow unprivileged user namespaces \
             (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)"
        )
    })?;
    let handed = socket.try_clone().map_err(|error| error.to_string())?;
    let mut arguments = super::arguments("inner").to_vec();
    arguments.push(serde_json::to_string(options).map_err(|error| error.to_string())?);
    let mut helper = Command::new("/proc/self/exe")
        .args(arguments)
        .stdin(Stdio::from(handed))
        .spawn()
        .map_err(|error| format!("the helper cannot be started: {error}"))?;
    let pid = i32::try_from(helper.id()).ok().and_then(Pid::from_raw).ok_or("the helper has no number")?;
    let end = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| error.to_string())?;
    loop {
        // Without a wanted event, the daemon's end of the socket is told when it is closed.
        let mut files = [PollFd::new(&end, PollFlags::IN), PollFd::new(socket, PollFlags::empty())];
        match poll(&mut files, None) {
            Ok(1..) => break,
            _ => continue,
        }
    }
    let _ = helper.kill();
    helper.wait().map(|_| ()).map_err(|error| error.to_string())
}
