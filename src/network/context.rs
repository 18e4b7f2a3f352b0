//! What the tasks of all listeners share: sockets, limits and the end of it all.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::limits::Limits;
use crate::sockets::Sockets;

/// After an error of a listener, so that one that lasts does not take the processor.
pub const PAUSE: Duration = Duration::from_millis(100);

/// What a listener's tasks need.
#[derive(Clone)]
pub(super) struct Context {
    pub sockets: Arc<dyn Sockets>,
    pub stopping: CancellationToken,
    pub tasks: TaskTracker,
    pub limits: Arc<Limits>,
    /// Connections that there may still be.
    pub places: Arc<Semaphore>,
}
