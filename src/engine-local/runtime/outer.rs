//! The process between daemon and helper: it makes the helper the first process of a PID namespace, and
//! when either is gone it sees to it that nothing of the other is left.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::runtime::cgroups::{CgroupError, Cgroups};
use crate::runtime::wire::{Notice, Options, send};

/// Why the helper has not run, or why something of it is left.
#[derive(Debug, thiserror::Error)]
enum OuterError {
    #[error("{0} cannot be opened: {1}")]
    Lock(PathBuf, #[source] io::Error),
    #[error("what another d2k has run in the folder {0} does not end; end it, or choose another folder")]
    Taken(PathBuf),
    #[error(transparent)]
    Cgroups(#[from] CgroupError),
    #[error(
        "no PID namespace can be made: {0}; run as root, or allow unprivileged user namespaces \
         (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)"
    )]
    Namespace(#[source] nix::errno::Errno),
    #[error(transparent)]
    Socket(io::Error),
    #[error(transparent)]
    Options(serde_json::Error),
    #[error("the helper cannot be started: {0}")]
    Start(#[source] io::Error),
    #[error("the helper has no number")]
    NoNumber,
    #[error(transparent)]
    Watch(Errno),
    #[error(transparent)]
    Wait(io::Error),
}

/// Runs the helper until it or the daemon has gone, and removes the cgroups.
pub fn keep(options: &Options, socket: &OwnedFd) {
    // Signals of the daemon's terminal are the daemon's.
    let _ = rustix::process::setsid();
    let kept = lock(&options.data).and_then(|lock| {
        let cgroups = Cgroups::detect(&options.name)?;
        // What a killed helper of the same name has left.
        cgroups.remove_all()?;
        cgroups.make_room();
        let ran = run(options, socket);
        let removed = cgroups.remove_all().map_err(OuterError::from);
        drop(lock);
        ran.and(removed)
    });
    if let Err(error) = kept {
        // Nobody hears it if the daemon has gone, which is as it should be.
        let _ = send(socket, &Notice::Failed(error.to_string()), &[]);
    }
}

/// What a daemon leaves ends before the next one begins. This process holds it, as it is the last to go.
fn lock(folder: &Path) -> Result<File, OuterError> {
    let path = folder.join("run.lock");
    let file = File::options().create(true).append(true).open(&path);
    let file = file.map_err(|error| OuterError::Lock(path, error))?;
    for _ in 0..100 {
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Ok(file);
        }
        // The processes of a daemon that has just been killed are on their way out.
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(OuterError::Taken(folder.to_owned()))
}

fn run(options: &Options, socket: &OwnedFd) -> Result<(), OuterError> {
    unshare(CloneFlags::CLONE_NEWPID).map_err(OuterError::Namespace)?;
    let handed = socket.try_clone().map_err(OuterError::Socket)?;
    let mut arguments = super::arguments("inner").to_vec();
    arguments.push(serde_json::to_string(options).map_err(OuterError::Options)?);
    let mut helper = Command::new("/proc/self/exe")
        .args(arguments)
        .stdin(Stdio::from(handed))
        .spawn()
        .map_err(OuterError::Start)?;
    let pid = i32::try_from(helper.id()).ok().and_then(Pid::from_raw).ok_or(OuterError::NoNumber)?;
    let end = pidfd_open(pid, PidfdFlags::empty()).map_err(OuterError::Watch)?;
    loop {
        // Without a wanted event, the daemon's end of the socket is told when it is closed.
        let mut files = [PollFd::new(&end, PollFlags::IN), PollFd::new(socket, PollFlags::empty())];
        match poll(&mut files, None) {
            Ok(1..) => break,
            _ => continue,
        }
    }
    let _ = helper.kill();
    helper.wait().map(|_| ()).map_err(OuterError::Wait)
}
