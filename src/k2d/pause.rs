//! `k2d pause`: the first process of the container that holds the network of a Pod. It waits, and takes the ends of processes
//! that nobody else takes, since the Pod's containers may share its processes.

use rustix::process::{WaitOptions, wait};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits until it is told to end.
///
/// # Errors
/// One line if the process cannot have signals.
pub fn run() -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    runtime.block_on(async {
        let take = |kind| signal(kind).map_err(|error| format!("no signals: {error}"));
        let (terminate, interrupt) = (take(SignalKind::terminate())?, take(SignalKind::interrupt())?);
        until(terminate, interrupt, take(SignalKind::child())?).await;
        Ok(())
    })
}

async fn until(mut terminate: Signal, mut interrupt: Signal, mut child: Signal) {
    loop {
        tokio::select! {
            _ = terminate.recv() => return,
            _ = interrupt.recv() => return,
            _ = child.recv() => while matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {},
        }
    }
}
