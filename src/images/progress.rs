//! What a pull or a load tells on its way, in the words of Docker's own progress lines.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

/// Length of a layer's short name.
const SHORT: usize = 12;
/// The least time between two numbers of one layer.
const PAUSE: Duration = Duration::from_millis(100);

/// One line: for a layer, for the name (`Pulling from …`) or for the whole (`id` is empty).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Twelve digits of the layer's digest, the tag, or nothing.
    pub id: String,
    /// Docker's words: `Pulling fs layer`, `Waiting`, `Downloading`, `Verifying Checksum`, `Download complete`,
    /// `Extracting`, `Pull complete`, `Already exists`, `Digest: …`, `Status: …`.
    pub status: String,
    /// Bytes done and bytes in all, of `Downloading` and `Extracting`.
    pub bytes: Option<(u64, u64)>,
}

/// Where progress goes, if anywhere.
#[derive(Clone)]
pub(super) struct Teller(Option<mpsc::Sender<Progress>>);

impl Teller {
    pub(super) fn new(to: Option<mpsc::Sender<Progress>>) -> Self {
        Self(to)
    }

    /// A line that must arrive. Nobody listening is no error.
    pub(super) async fn say(&self, id: &str, status: impl Into<String>) {
        if let Some(to) = &self.0 {
            let line = Progress { id: id.to_owned(), status: status.into(), bytes: None };
            let _ = to.send(line).await;
        }
    }

    /// Tells numbers now and then. They may be lost where nobody keeps up: later ones say more.
    pub(super) fn counter(&self, id: &str, status: &'static str, all: u64) -> impl FnMut(u64) + Send + use<> {
        let (to, id) = (self.0.clone(), id.to_owned());
        let mut last: Option<Instant> = None;
        move |now| {
            let Some(to) = &to else { return };
            if now >= all || last.is_none_or(|last| last.elapsed() >= PAUSE) {
                last = Some(Instant::now());
                let line = Progress { id: id.clone(), status: status.to_owned(), bytes: Some((now, all)) };
                let _ = to.try_send(line);
            }
        }
    }
}

/// The short name of a digest.
pub(super) fn short(digest: &str) -> &str {
    let hex = digest.split(':').next_back().unwrap_or_default();
    hex.get(..SHORT).unwrap_or(hex)
}
