//! A container that runs, as the daemon has it: its streams are read, logged and given to attached
//! clients, and its end is told when all of that is done.

use std::fs::OpenOptions;
use std::io::Result;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::unix::pipe;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::runtime::attached::{BUFFER, Clients};
use crate::runtime::link::End;
use crate::runtime::log::{Channel, Log};
use crate::runtime::streams::{Input, Output, Terminal};
use d2k_engine::{Exit, Session};

/// Read at once.
const PIECE: usize = 64 << 10;
/// How long a session's streams may be left unread after its end.
const UNREAD: Duration = Duration::from_secs(10);
/// What a process is told to have ended with when the helper has gone: SIGKILL.
const KILLED: End = (137, false);

/// Which streams a process has with the daemon; the others lead nowhere.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

/// The daemon's ends.
#[derive(Debug, Default)]
pub struct Ends {
    stdin: Option<Input>,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    terminal: Option<Terminal>,
}

impl Ends {
    /// Makes the pipes; the process's ends come beside.
    pub fn pipes(wanted: Wanted) -> Result<(Self, Vec<OwnedFd>)> {
        let nowhere = || OpenOptions::new().read(true).write(true).open("/dev/null").map(OwnedFd::from);
        let mut ends = Self::default();
        let mut theirs = Vec::with_capacity(3);
        if wanted.stdin {
            let (read, write) = std::io::pipe()?;
            ends.stdin = Some(Input::pipe(pipe::Sender::from_owned_fd(write.into())?));
            theirs.push(read.into());
        } else {
            theirs.push(nowhere()?);
        }
        for (wanted, end) in [(wanted.stdout, &mut ends.stdout), (wanted.stderr, &mut ends.stderr)] {
            if wanted {
                let (read, write) = std::io::pipe()?;
                *end = Some(pipe::Receiver::from_owned_fd(read.into())?);
                theirs.push(write.into());
            } else {
                theirs.push(nowhere()?);
            }
        }
        Ok((ends, theirs))
    }

    /// The terminal that has come back.
    pub fn terminal(files: Vec<OwnedFd>, stdin: bool) -> Result<Self> {
        let file =
            files.into_iter().next().ok_or_else(|| std::io::Error::other("the terminal is missing"))?;
        let terminal = Terminal::new(file)?;
        let typed = if stdin { Some(Input::terminal(&terminal)?) } else { None };
        Ok(Self { stdin: typed, stdout: Some(terminal.reader()?), stderr: None, terminal: Some(terminal) })
    }
}

/// A container of the daemon's.
#[derive(Debug)]
pub struct Process {
    /// Its Pod.
    pub pod: String,
    stdin: Arc<tokio::sync::Mutex<Option<Input>>>,
    stdin_once: bool,
    terminal: Option<Terminal>,
    output: Arc<Clients>,
    error: Arc<Clients>,
    exit: watch::Receiver<Option<Exit>>,
}

impl Process {
    /// Begins to read what a container says.
    pub fn new(pod: String, ends: Ends, stdin_once: bool, log: Log, end: oneshot::Receiver<End>) -> Self {
        let (told, ended) = watch::channel(None);
        let (exit_told, exit) = watch::channel(None);
        let log = Arc::new(Mutex::new(log));
        let (output, error) = (Arc::new(Clients::default()), Arc::new(Clients::default()));
        let pumps = [(ends.stdout, Channel::Output, &output), (ends.stderr, Channel::Error, &error)];
        let pumps = pumps.map(|(source, channel, clients)| {
            let source = source.map(|source| Output::new(source, told_by(&ended)).0);
            tokio::spawn(pump(source, channel, Arc::clone(&log), Arc::clone(clients), ended.clone()))
        });
        tokio::spawn(async move {
            let (code, oom_killed) = end.await.unwrap_or(KILLED);
            let at = SystemTime::now();
            let _ = told.send(Some(Instant::now()));
            futures::future::join_all(pumps).await;
            let _ = exit_told.send(Some(Exit { code, oom_killed, at }));
        });
        let stdin = Arc::new(tokio::sync::Mutex::new(ends.stdin));
        Self { pod, stdin, stdin_once, terminal: ends.terminal, output, error, exit }
    }

    /// Its end, if it has come.
    pub fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Its end, when it comes.
    pub fn ended(&self) -> BoxFuture<'static, Exit> {
        let mut exit = self.exit.clone();
        Box::pin(async move {
            let known = exit.wait_for(Option::is_some).await.ok().and_then(|exit| *exit);
            known.unwrap_or(Exit { code: KILLED.0, oom_killed: false, at: SystemTime::now() })
        })
    }

    /// Connects a client.
    pub fn attach(&self, stdin: bool) -> Session {
        let typed = stdin.then(|| {
            let (theirs, ours) = duplex(BUFFER);
            tokio::spawn(feed(ours, Arc::clone(&self.stdin), self.stdin_once));
            Box::new(theirs) as _
        });
        Session {
            stdin: typed,
            stdout: Some(Box::new(self.output.join())),
            stderr: self.terminal.is_none().then(|| Box::new(self.error.join()) as _),
            resize: resizing(self.terminal.clone()),
            ended: Box::pin(self.ended().map(Ok)),
        }
    }
}

fn resizing(terminal: Option<Terminal>) -> Box<dyn Fn(u16, u16) + Send + Sync> {
    Box::new(move |rows, columns| {
        if let Some(terminal) = &terminal {
            terminal.resize(rows, columns);
        }
    })
}

fn told_by(ended: &watch::Receiver<Option<Instant>>) -> BoxFuture<'static, Instant> {
    let mut ended = ended.clone();
    Box::pin(async move {
        let known = ended.wait_for(Option::is_some).await.ok().and_then(|at| *at);
        known.unwrap_or_else(Instant::now)
    })
}

/// Reads a stream to its end.
async fn pump(
    source: Option<Output>,
    channel: Channel,
    log: Arc<Mutex<Log>>,
    clients: Arc<Clients>,
    ended: watch::Receiver<Option<Instant>>,
) {
    if let Some(mut source) = source {
        let mut here = Vec::new();
        let mut buffer = vec![0; PIECE];
        while let Ok(count @ 1..) = source.read(&mut buffer).await {
            let piece = buffer.get(..count).unwrap_or_default();
            note(&log, |log| log.write(channel, piece));
            clients.give(&mut here, piece, &ended).await;
        }
        note(&log, |log| log.end(channel));
    }
    clients.end();
}

fn note(log: &Mutex<Log>, write: impl FnOnce(&mut Log) -> Result<()>) {
    let mut log = log.lock();
    let written = write(&mut log);
    if let (Err(error), false) = (&written, log.failed) {
        tracing::warn!(%error, "the log of a container cannot be written; what it says until it can is lost");
    }
    log.failed = written.is_err();
}

/// Carries what a client types to the process.
async fn feed(mut from: DuplexStream, to: Arc<tokio::sync::Mutex<Option<Input>>>, once: bool) {
    let mut buffer = vec![0; PIECE];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let piece = buffer.get(..count).unwrap_or_default();
        let written = match to.lock().await.as_mut() {
            Some(input) => input.write_all(piece).await,
            None => break,
        };
        if written.is_err() {
            break;
        }
    }
    if once && let Some(input) = to.lock().await.as_mut() {
        let _ = input.shutdown().await;
    }
}

/// The session of a command.
pub fn session(ends: Ends, end: oneshot::Receiver<End>) -> Session {
    let (told, ended) = watch::channel(None);
    let mut done = Vec::new();
    let mut open = |source: Option<pipe::Receiver>| {
        source.map(|source| {
            let (output, end) = Output::new(source, told_by(&ended));
            done.push(end);
            Box::new(output) as _
        })
    };
    let (stdout, stderr) = (open(ends.stdout), open(ends.stderr));
    let (exit_told, exit) = oneshot::channel();
    tokio::spawn(async move {
        let (code, oom_killed) = end.await.unwrap_or(KILLED);
        let at = SystemTime::now();
        let _ = told.send(Some(Instant::now()));
        let _ = tokio::time::timeout(UNREAD, futures::future::join_all(done)).await;
        let _ = exit_told.send(Exit { code, oom_killed, at });
    });
    Session {
        stdin: ends.stdin.map(|input| Box::new(input) as _),
        stdout,
        stderr,
        resize: resizing(ends.terminal),
        ended: Box::pin(async move {
            Ok(exit.await.unwrap_or(Exit { code: KILLED.0, oom_killed: false, at: SystemTime::now() }))
        }),
    }
}
