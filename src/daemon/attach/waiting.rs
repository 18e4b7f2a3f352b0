//! Clients of a container whose process waits for them: they are connected before it runs, so each of
//! its streams arrives apart and whole, from the first byte on.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::super::Daemon;
use super::super::gates::Place;
use super::super::logs::{Query, run_of};
use super::super::pipe::{Chunk, Pipe};
use super::super::release::Attempt;
use super::rest::Received;
use super::{Options, pod_uid};
use d2k_cluster::Wanted;
use d2k_common::fault::Result;
use d2k_translate::container::Container;
use d2k_translate::state::Phase;

impl Daemon {
    /// Connects a client with the next run of a container.
    pub(super) async fn attach_waiting(
        self: &Arc<Self>,
        container: Container,
        place: Place,
        options: Options,
        pipe: Pipe,
    ) -> Result<()> {
        let Some((container, attempt)) = self.attempt_of_next_run(&container, &pipe).await else {
            return Ok(());
        };
        let record = &container.record;
        let wanted = Wanted {
            // Leave to run goes in by it, also where the client sends nothing.
            stdin: (options.stdin && record.open_stdin()) || !record.open_stdin(),
            stdout: true,
            stderr: true,
            tty: record.tty(),
        };
        let connected = tokio::select! {
            connected = self.connect(&container, &attempt, wanted) => connected,
            () = pipe.output.closed() => return Ok(()),
            () = self.stopping.cancelled() => return Ok(()),
        };
        let Ok(mut process) = connected else {
            drop(place);
            return self.rest_of_log(&container, &attempt, &pipe.output).await;
        };
        let whole = self.take_turn(place, &container, &attempt, &mut process).await;
        let takes_input = options.stdin && record.open_stdin() && !record.tty();
        let received = (whole && takes_input).then(|| Received::of(&mut process));
        let output = pipe.output.clone();
        let id = record.id.clone();
        let mut ran = false;
        let over = self.cluster.until(|| {
            let Some(now) = self.container_by_id(&id) else { return Some(()) };
            let same = now.pod().is_some_and(|pod| Attempt::of(&now.record, pod) == attempt);
            let runs = same && now.state().phase == Phase::Running;
            ran |= runs;
            (!same || (ran && !runs) || now.state().phase == Phase::Exited).then_some(())
        });
        self.carry_attached(record, options, process, pipe, over).await;
        let now = self.container_by_id(&record.id);
        let same = now.is_some_and(|now| now.pod().is_some_and(|p| Attempt::of(&now.record, p) == attempt));
        if let Some(received) = received.filter(|_| same && !output.is_closed()) {
            self.send_rest(&container, &attempt, &received, options, &output).await;
        }
        Ok(())
    }

    /// Waits for the Pod of the next run to have a node.
    async fn attempt_of_next_run(&self, container: &Container, pipe: &Pipe) -> Option<(Container, Attempt)> {
        let (id, old) = (container.record.id.clone(), pod_uid(container));
        let look = || match self.container_by_id(&id) {
            None if self.runs.is_replacing(&id) => None,
            None => Some(None),
            Some(now) => {
                let pod = now.pod().filter(|pod| pod.metadata.uid != old)?;
                pod.spec.as_ref()?.node_name.as_ref()?;
                let attempt = Attempt::of(&now.record, pod);
                Some(Some((now, attempt)))
            }
        };
        tokio::select! {
            found = self.cluster.until(look) => found,
            () = pipe.output.closed() => None,
            () = self.stopping.cancelled() => None,
        }
    }

    /// Sends the log of a run whose stream could not be had, or had not all.
    pub(super) async fn rest_of_log(
        &self,
        container: &Container,
        attempt: &Attempt,
        output: &mpsc::Sender<Chunk>,
    ) -> Result<()> {
        let Some(now) = self.container_by_id(&container.record.id) else { return Ok(()) };
        let same = now.pod().is_some_and(|pod| pod.metadata.uid.as_ref() == Some(&attempt.uid));
        let Some(run) = run_of(&now).filter(|_| same) else { return Ok(()) };
        let query = Query { tty: now.record.tty(), ..Query::default() };
        self.run_log(&now, &run, &query, output).await
    }
}
