//! `docker attach` and the foreground of `docker run`. The client attaches before the container
//! runs; what it types, and the end of it, waits in its pipe. Without input the log is the output:
//! complete from the first byte on, also for a process that lives 5 ms. With input or a terminal
//! the process itself is attached, and what it wrote before is taken from the log.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Daemon;
use super::carry::{InputEnd, feed, read, resize};
use super::gates::Place;
use super::logs::{Query, Run, run_of};
use super::pipe::{Channel, Chunk, Pipe};
use d2k_cluster::{Process, Wanted};
use d2k_common::fault::Result;
use d2k_translate::container::Container;
use d2k_translate::record::Record;
use d2k_translate::state::Phase;

mod rest;
mod waiting;

/// What `attach` asks for.
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs)]
pub struct Options {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// Send what was written before.
    pub logs: bool,
    /// Send what is written from now on.
    pub stream: bool,
}

impl Daemon {
    /// A client's place in front of a process that waits for it. Taken before the client is answered:
    /// what it does next is to start the container.
    pub fn place(&self, container: &Container, options: Options) -> Option<Place> {
        let waits = container.record.waits() && !container.state().running();
        (waits && options.stream).then(|| self.gates.enter(&container.record.id))
    }

    /// Connects a client with a container until the run ends or the client goes.
    pub async fn attach(
        self: &Arc<Self>,
        container: Container,
        options: Options,
        place: Option<Place>,
        pipe: Pipe,
    ) -> Result<()> {
        let record = container.record.clone();
        let _reader = self.attached.enter(&record.id);
        self.tell(&record, "attached", []);
        let was_running = container.state().phase == Phase::Running;
        if !options.stream && !(options.logs && (options.stdout || options.stderr)) {
            return Ok(());
        }
        if !options.stream {
            let query = Query { tty: record.tty(), ..Query::default() };
            return self.logs(&container, &query, &pipe.output).await;
        }
        if let Some(place) = place {
            return self.attach_waiting(container, place, options, pipe).await;
        }
        let Some((container, run)) = self.attached_run(&container, &pipe.output).await else {
            return Ok(());
        };
        let live = record.helper.is_some() || record.tty() || (options.stdin && record.open_stdin());
        if live && container.state().phase == Phase::Running {
            let before = options.logs || !was_running;
            return self.attach_process(&container, &run, options, before, pipe).await;
        }
        if !options.stdout && !options.stderr {
            // Only input was wanted, and nothing takes it.
            return Ok(());
        }
        let now = jiff::Timestamp::now();
        let since = (was_running && !options.logs).then_some(now);
        let first = record.state.finished.filter(|_| !was_running);
        let query = Query { follow: true, since: since.or(first), tty: record.tty(), ..Query::default() };
        self.run_log(&container, &run, &query, &pipe.output).await
    }

    /// Waits for the run that the client is attached to: the current one, else the next.
    async fn attached_run(
        &self,
        container: &Container,
        output: &mpsc::Sender<Chunk>,
    ) -> Option<(Container, Run)> {
        let id = container.record.id.clone();
        let old = (container.state().phase != Phase::Running).then(|| pod_uid(container)).flatten();
        let look = || match self.container_by_id(&id) {
            None if self.runs.is_replacing(&id) => None,
            None => Some(None),
            Some(now) => {
                let fresh = pod_uid(&now).filter(|uid| Some(uid) != old.as_ref());
                fresh?;
                let run = run_of(&now)?;
                Some(Some((now, run)))
            }
        };
        tokio::select! {
            found = self.cluster.until(look) => found,
            () = output.closed() => None,
            () = self.stopping.cancelled() => None,
        }
    }

    async fn attach_process(
        &self,
        container: &Container,
        run: &Run,
        options: Options,
        before: bool,
        pipe: Pipe,
    ) -> Result<()> {
        let record = &container.record;
        let wanted = Wanted {
            stdin: options.stdin && record.open_stdin(),
            stdout: true,
            stderr: true,
            tty: record.tty(),
        };
        let process = match self.cluster.attach(&run.pod, &container.container_name(), wanted).await {
            Ok(process) => process,
            // It ended before it could be attached: the log has all of its output.
            Err(_) => {
                let query = Query { follow: true, tty: record.tty(), ..Query::default() };
                return self.run_log(container, run, &query, &pipe.output).await;
            }
        };
        // The log is read before input is let in: what is in it was written without input.
        if before {
            let (no_stdout, no_stderr) = (!options.stdout, !options.stderr);
            let query = Query { no_stdout, no_stderr, tty: record.tty(), ..Query::default() };
            if let Err(fault) = self.written_so_far(container, run, &query, &pipe.output).await {
                tracing::debug!(container = record.name, error = fault.message, "the log could not be read");
            }
        }
        let over = self.cluster.until(|| self.run_is_over(&record.id, run).then_some(()));
        self.carry_attached(record, options, process, pipe, over).await;
        Ok(())
    }

    /// Carries bytes both ways until the process has ended or the client has gone.
    async fn carry_attached(
        &self,
        record: &Record,
        options: Options,
        mut process: Process,
        pipe: Pipe,
        over: impl Future<Output = ()>,
    ) {
        let Pipe { input, output } = pipe;
        let mut helpers = tokio::task::JoinSet::new();
        // As with Docker: the end of input that is open for one client is the process's end of file;
        // otherwise, and with a terminal, the client leaves (the CLI's detach keys arrive so).
        let (leave, left) = tokio::sync::oneshot::channel();
        let takes_input = options.stdin && record.open_stdin();
        let once = record.body.stdin_once.unwrap_or(false) && !record.tty();
        let end = if once { InputEnd::Process } else { InputEnd::Client(leave) };
        let (stdin, unused) = process.stdin.take().map_or((None, None), |stdin| match takes_input {
            true => (Some(stdin), None),
            // Its end may be the end of the other streams too.
            false => (None, Some(stdin)),
        });
        helpers.spawn(feed(input, stdin, end));
        let left = async {
            if left.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        helpers.spawn(resize(process.resizer(), self.attached.sizes(&record.id)));
        let stdout = read(process.stdout.take(), Channel::Stdout, output.clone(), options.stdout);
        let stderr = read(process.stderr.take(), Channel::Stderr, output.clone(), options.stderr);
        let whole = async {
            tokio::join!(stdout, stderr);
        };
        let over = async {
            over.await;
            // What the process wrote last is still on its way.
            tokio::time::sleep(Duration::from_secs(2)).await;
        };
        tokio::select! {
            () = whole => {}
            () = over => {}
            () = output.closed() => self.tell(record, "detached", []),
            () = left => self.tell(record, "detached", []),
            () = self.stopping.cancelled() => {}
        }
        drop(unused);
    }
}

fn pod_uid(container: &Container) -> Option<String> {
    container.pod().and_then(|p| p.metadata.uid.clone())
}
