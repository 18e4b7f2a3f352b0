//! Listens to the standard error of containers whose process waits for its leave, from their first byte
//! on, so that their logs can be told apart later (`heard`).

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::Semaphore;
use tokio_util::io::InspectReader;
use tokio_util::sync::CancellationToken;

use super::Daemon;
use super::heard::Open;
use super::release::Attempt;
use d2k_cluster::{Process, Wanted};
use d2k_common::fault::Result;
use d2k_translate::container::Container;

/// Containers that are listened to at once, each by a connection of its own to the API server.
const LISTENERS: usize = 256;
/// How much standard output is read together with it, in bytes: more than this is not carried for nothing.
const CARRIED: usize = 1024 * 1024;
/// Before a stream that was cut off is opened again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a stream is kept that nobody listens to: longer than it is looked at.
const KEPT: Duration = Duration::from_secs(4);
/// Bytes that are read at once.
const BUFFER: usize = 64 * 1024;

/// The places of those that listen.
pub struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LISTENERS)))
    }
}

/// A stream of standard error alone.
const STDERR: Wanted = Wanted { stdin: false, stdout: false, stderr: true, tty: false };

/// One start of a container's process that is listened to.
struct Listener {
    daemon: Arc<Daemon>,
    container: Container,
    pod: String,
    attempt: Attempt,
}

impl Daemon {
    /// Listens by the stream that gave leave; the token tells of its first output.
    pub(crate) fn listen_on(
        self: &Arc<Self>,
        (container, pod, attempt): (&Container, &str, &Attempt),
        process: Process,
    ) -> CancellationToken {
        let output = CancellationToken::new();
        let listener = Listener {
            daemon: self.clone(),
            container: container.clone(),
            pod: pod.to_owned(),
            attempt: attempt.clone(),
        };
        tokio::spawn(listener.listen(process, output.clone()));
        output
    }

    /// The standard error of a process that waits for its leave, listened to as it is read; and by a stream of
    /// our own when its reader has gone.
    pub(crate) fn overhear(
        self: &Arc<Self>,
        container: &Container,
        attempt: &Attempt,
        stream: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Box<dyn AsyncRead + Send + Unpin> {
        let pod = self.container_by_id(&container.record.id).and_then(|now| now.pod()?.metadata.name.clone());
        let (true, Some(pod)) = (self.hears(container), pod) else { return stream };
        let open = self.heard.lines(&pod).open();
        let listener =
            Listener { daemon: self.clone(), container: container.clone(), pod, attempt: attempt.clone() };
        let mut reader = Overheard { open: Some(open), listener: Some(listener) };
        Box::new(InspectReader::new(stream, move |bytes: &[u8]| reader.hear(bytes)))
    }

    /// Whether the streams of a container can only be told apart by listening.
    pub(crate) fn hears(&self, container: &Container) -> bool {
        !container.record.tty() && self.local.is_none()
    }
}

/// A client's stream that is listened to.
struct Overheard {
    open: Option<Open>,
    listener: Option<Listener>,
}

impl Overheard {
    fn hear(&mut self, bytes: &[u8]) {
        if let Some(open) = &mut self.open {
            open.hear(bytes);
        }
    }
}

impl Drop for Overheard {
    fn drop(&mut self) {
        self.open.take();
        let Some(listener) = self.listener.take() else { return };
        let place = listener.daemon.listening.0.clone().try_acquire_owned();
        if let (Ok(place), Ok(runtime)) = (place, tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                listener.go_on().await;
                drop(place);
            });
        }
    }
}

impl Listener {
    async fn attach(&self) -> Result<Process> {
        self.daemon.cluster.attach(&self.pod, &self.container.container_name(), STDERR).await
    }

    /// Reads a stream that carries standard output as well. One that is dropped has ended, and one that is kept
    /// unread would hold the process up.
    async fn listen(self, mut process: Process, output: CancellationToken) {
        let Some(mut stdout) = process.stdout.take() else { return };
        let place = self.daemon.listening.0.clone().try_acquire_owned();
        let (Ok(_place), Some(mut stderr)) = (place, process.stderr.take()) else {
            let _ = tokio::time::timeout(KEPT, first(&mut stdout, &output)).await;
            return;
        };
        let mut open = self.daemon.heard.lines(&self.pod).open();
        let much = async {
            first(&mut stdout, &output).await;
            if !drain(&mut stdout, CARRIED).await {
                std::future::pending::<()>().await;
            }
        };
        let ended = tokio::select! {
            () = open.read(&mut stderr) => true,
            () = much => false,
        };
        if !ended {
            let rest = async { tokio::join!(drain(&mut stdout, usize::MAX), open.read(&mut stderr)) };
            let alone = tokio::select! {
                alone = self.attach() => alone.ok(),
                _ = rest => None,
            };
            drop(process);
            if let Some(mut alone) = alone
                && let Some(stderr) = &mut alone.stderr
            {
                open.read(stderr).await;
            }
        }
        drop(open);
        self.go_on().await;
    }

    /// A stream may be cut off by what lies between, or end with a client; then the process still runs, and is
    /// listened to again.
    async fn go_on(self) {
        while self.runs() {
            if let Ok(mut process) = self.attach().await
                && let Some(stderr) = &mut process.stderr
            {
                self.daemon.heard.lines(&self.pod).open().read(stderr).await;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn runs(&self) -> bool {
        let now = self.daemon.container_by_id(&self.container.record.id);
        now.is_some_and(|now| {
            now.state().running()
                && now.pod().is_some_and(|pod| Attempt::of(&now.record, pod) == self.attempt)
        })
    }
}

/// Reads until there is something, and tells of it.
async fn first(stdout: &mut (impl AsyncRead + Unpin), output: &CancellationToken) {
    if matches!(stdout.read(&mut [0; 1]).await, Ok(1..)) {
        output.cancel();
    }
}

/// Reads more than `limit` bytes, and drops them; false where the stream ends before.
async fn drain(stdout: &mut (impl AsyncRead + Unpin), limit: usize) -> bool {
    let mut buffer = vec![0; BUFFER];
    let mut all = 0;
    while let Ok(count @ 1..) = stdout.read(&mut buffer).await {
        all += count;
        if all > limit {
            return true;
        }
    }
    false
}
