//! Containers on this machine: a helper process, started before the daemon has threads, owns all
//! namespaces and mounts, and the daemon's side of it speaks the vocabulary of `engine`.
//!
//! The daemon starts the outer process, which starts the helper as the first process of a PID
//! namespace. So a killed daemon, outer process or helper leaves no process, mount or interface.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Resource, Signal, getrlimit, setrlimit};

use cgroups::Cgroups;
use wire::{Notice, receive};

pub use cgroups::CgroupError;
pub use handle::Runtime;
pub use wire::{Facts, Options};

mod attached;
mod binds;
mod capabilities;
mod cgroups;
mod containers;
mod devices;
mod handle;
mod handover;
mod inner;
mod link;
mod log;
mod namespaces;
mod network;
mod outer;
mod overlay;
mod process;
mod program;
mod reasons;
mod sandbox;
mod spec;
mod streams;
mod subpath;
mod threads;
mod users;
mod wire;

/// The hidden argument that makes the program a helper.
pub const HELPER_ARGUMENT: &str = "engine-helper";

/// The longest that the helper may take to get ready, and to end.
const GETTING_READY: Duration = Duration::from_secs(20);

/// Why the helper is not ready: the one step that failed, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The engine's name names cgroups, too.
    #[error("the engine's name {0:?} must be letters, digits and hyphens")]
    Name(String),
    /// The data folder.
    #[error("the folder {0} cannot be made: {1}")]
    Folder(PathBuf, #[source] io::Error),
    /// The machine's cgroups.
    #[error(transparent)]
    Cgroups(#[from] CgroupError),
    /// The connection to the helper.
    #[error("a pair of sockets cannot be made: {0}")]
    Sockets(#[source] Errno),
    /// The options have no text.
    #[error(transparent)]
    Options(serde_json::Error),
    /// The process between this one and the helper.
    #[error("the helper process cannot be started: {0}")]
    Start(#[source] io::Error),
    /// The helper or that process gives up, in its own words.
    #[error("containers cannot run on this machine: {0}")]
    Machine(String),
    /// It ended without a word.
    #[error("containers cannot run on this machine: the helper process has ended before it was ready")]
    Ended,
    /// It did not say in time that it is ready.
    #[error(
        "containers cannot run on this machine: the helper process is not ready within {seconds} s: {0}",
        seconds = GETTING_READY.as_secs()
    )]
    NotReady(#[source] io::Error),
}

/// Why a user without root gets no user namespace, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum UserNamespaceError {
    /// The shell that calls `newuidmap` and `newgidmap`.
    #[error("sh cannot be started: {0}")]
    Shell(#[source] io::Error),
    /// The namespace itself.
    #[error(
        "without root, containers need a user namespace, and none can be made: {0}; run as root, or set sysctl \
         user.max_user_namespaces and kernel.unprivileged_userns_clone=1"
    )]
    Make(#[source] nix::errno::Errno),
    /// A file that says which users are in it.
    #[error(
        "{0} cannot be written: {1}; run as root, or set sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    )]
    Map(&'static str, #[source] io::Error),
}

/// Why one of the helper's processes has not run, or has ended early.
#[derive(Debug, thiserror::Error)]
enum HelperError {
    #[error("its options: {0}")]
    Options(#[source] serde_json::Error),
    #[error(transparent)]
    Socket(Errno),
    #[error(transparent)]
    StandardInput(io::Error),
    #[error(transparent)]
    DeathSignal(Errno),
    #[error(transparent)]
    Serve(io::Error),
    #[error("no such role")]
    Role,
}

/// A helper that is ready.
#[derive(Debug)]
pub struct Helper {
    socket: OwnedFd,
    process: Child,
    options: Options,
    facts: Facts,
    cgroups: Cgroups,
}

impl Helper {
    /// What it has found out about the machine.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The daemon's folder, as an absolute path.
    pub fn data(&self) -> &Path {
        &self.options.data
    }
}

/// The words of a command line that make the program one of the helper's processes.
fn arguments(role: &str) -> [String; 2] {
    [HELPER_ARGUMENT.to_owned(), role.to_owned()]
}

/// The folder that only the helper sees what is in.
fn run_folder(options: &Options) -> PathBuf {
    options.data.join("run")
}

/// Name of the machine's `/proc` in the run folder, for containers that are to have it.
const MACHINE_PROC: &str = "machine-proc";

/// Whether this process is in a user namespace, where it is root over a part of the users only.
fn unprivileged() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let words: Vec<&str> = map.split_whitespace().collect();
    words != ["0", "0", "4294967295"]
}

/// Starts the helper. To be called on the main thread, before any other is started.
///
/// # Errors
/// The one step that failed and what to do.
pub fn prepare(options: Options) -> Result<Helper, PrepareError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if options.name.is_empty() || !options.name.chars().all(legal) {
        return Err(PrepareError::Name(options.name));
    }
    let options = Options { data: absolute(&options.data)?, ..options };
    raise_open_files();
    hand_on_no_ignored_signals();
    let cgroups = Cgroups::detect(&options.name)?;
    let (socket, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(PrepareError::Sockets)?;
    let text = serde_json::to_string(&options).map_err(PrepareError::Options)?;
    let process = Command::new("/proc/self/exe")
        .args(arguments("outer"))
        .arg(text)
        // Settings of the daemon hold secrets, and nothing of the helper reads any.
        .env_clear()
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .spawn()
        .map_err(PrepareError::Start)?;
    let limit = rustix::net::sockopt::Timeout::Recv;
    let _ = rustix::net::sockopt::set_socket_timeout(&socket, limit, Some(GETTING_READY));
    let first = receive::<Notice>(&socket);
    let _ = rustix::net::sockopt::set_socket_timeout(&socket, limit, None);
    let error = match first {
        Ok(Some((Notice::Ready(facts), _))) => {
            return Ok(Helper { socket, process, options, facts, cgroups });
        }
        Ok(Some((Notice::Failed(words), _))) => PrepareError::Machine(words),
        Ok(_) => PrepareError::Ended,
        Err(error) => PrepareError::NotReady(error),
    };
    drop(socket);
    let mut process = process;
    let _ = process.wait();
    Err(error)
}

/// Raises the soft limit of open files to the hard one, as programs in Go do: each connection and each container
/// takes some, and the usual soft limit of 1024 is kept only for programs that use `select`.
pub fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

/// What ignores a signal hands that on to every program that it starts, but what handles it does not:
/// a daemon behind `nohup` or in the background must not have containers that ignore signals.
fn hand_on_no_ignored_signals() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    for signal in (1..=31).filter(|signal| mask & (1 << (signal - 1)) != 0) {
        // Those that no program may handle are none that it may ignore.
        let _ = signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)));
    }
}

fn absolute(folder: &Path) -> Result<PathBuf, PrepareError> {
    fs::create_dir_all(folder)
        .and_then(|()| fs::canonicalize(folder))
        .map_err(|error| PrepareError::Folder(folder.to_owned(), error))
}

/// What the program does when its first argument is `HELPER_ARGUMENT`.
pub fn helper_main() -> ExitCode {
    let mut arguments = std::env::args().skip(2);
    let role = arguments.next().unwrap_or_default();
    if role == "pause" {
        inner::pause();
    }
    let done = helper(&role, &arguments.next().unwrap_or_default());
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("d2k {HELPER_ARGUMENT} {role}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn helper(role: &str, options: &str) -> Result<(), HelperError> {
    let options: Options = serde_json::from_str(options).map_err(HelperError::Options)?;
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).map_err(HelperError::Socket)?;
    // A container must never find the daemon's socket as its standard input.
    let nothing = fs::File::open("/dev/null").map_err(HelperError::StandardInput)?;
    rustix::stdio::dup2_stdin(&nothing).map_err(|error| HelperError::StandardInput(error.into()))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(containers::UMASK));
    match role {
        "outer" => {
            outer::keep(&options, &socket);
            Ok(())
        }
        "inner" => {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
                .map_err(HelperError::DeathSignal)?;
            inner::serve(options, socket).map_err(HelperError::Serve)
        }
        _ => Err(HelperError::Role),
    }
}

/// Without root, makes this process root in a user namespace of its own; nothing if it is root already.
/// To be called before any thread is started. The words of a success are a warning, if not empty.
///
/// # Errors
/// The step that failed and what to do.
pub fn enter_user_namespace() -> Result<String, UserNamespaceError> {
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if user == 0 {
        return Ok(String::new());
    }
    // The tools that give a user more than one number must be started outside of the new namespace.
    let own = std::process::id();
    let script = format!(
        "read _ && newuidmap {own} 0 {user} 1 1 $(grep -m1 -E \"^($(id -un)|{user}):\" /etc/subuid | cut -d: -f2,3 | tr : ' ') \
         && newgidmap {own} 0 {group} 1 1 $(grep -m1 -E \"^($(id -un)|{user}):\" /etc/subgid | cut -d: -f2,3 | tr : ' ')"
    );
    let mut mapper = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(UserNamespaceError::Shell)?;
    unshare(CloneFlags::CLONE_NEWUSER).map_err(UserNamespaceError::Make)?;
    if let Some(mut input) = mapper.stdin.take() {
        let _ = std::io::Write::write_all(&mut input, b"\n");
    }
    if mapper.wait().is_ok_and(|status| status.success()) {
        return Ok(String::new());
    }
    let write = |file: &'static str, text: String| {
        fs::write(file, text).map_err(|error| UserNamespaceError::Map(file, error))
    };
    write("/proc/self/uid_map", format!("0 {user} 1"))?;
    write("/proc/self/setgroups", "deny".into())?;
    write("/proc/self/gid_map", format!("0 {group} 1"))?;
    Ok("containers have one user only, root; for more, install newuidmap and give this user a range in \
        /etc/subuid and /etc/subgid"
        .into())
}
