//! Sees changes of the policy folder: files that are written, the swap of a ConfigMap's `..data`, a
//! folder that is replaced as a whole. What watching misses, a slow look finds.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Policies;

/// Files of one change come one after the other: so long after the last one it is whole.
const SETTLED: Duration = Duration::from_millis(100);
/// So long a change may go on before it is looked at all the same.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two looks without any notice.
const LOOK: Duration = Duration::from_secs(10);

impl Policies {
    /// Reloads whenever the configured files change, until `stopping`.
    pub async fn watch(self: Arc<Self>, stopping: CancellationToken) {
        let paths = [self.options.directory.clone(), self.options.settings.clone()];
        let paths: Vec<_> = paths.into_iter().flatten().collect();
        if paths.is_empty() {
            return;
        }
        let (notices, mut noticed) = mpsc::channel(1);
        let mut watching = watcher(&paths, notices.clone());
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                _ = noticed.recv() => settle(&mut noticed).await,
                () = tokio::time::sleep(LOOK) => {}
            }
            // Made anew after each change, since a folder that was replaced is another one; and before
            // the files are read and the old one goes, so that no change falls between the two.
            let anew = watcher(&paths, notices.clone());
            drop(std::mem::replace(&mut watching, anew));
            let policies = self.clone();
            let _ = tokio::task::spawn_blocking(move || policies.reload()).await;
        }
    }
}

async fn settle(noticed: &mut mpsc::Receiver<()>) {
    let quiet = async { while let Ok(Some(())) = tokio::time::timeout(SETTLED, noticed.recv()).await {} };
    let _ = tokio::time::timeout(PATIENCE, quiet).await;
}

fn watcher(paths: &[std::path::PathBuf], notices: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let ours: Vec<std::path::PathBuf> = paths.to_vec();
    let notify = move |event: notify::Result<notify::Event>| {
        // Reading the files is no change of them, and what else is in the folder above is not ours.
        let matters = |event: &notify::Event| {
            let is_ours = |path: &std::path::PathBuf| ours.iter().any(|our| path.starts_with(our));
            !event.kind.is_access() && (event.paths.is_empty() || event.paths.iter().any(is_ours))
        };
        if event.as_ref().map_or(true, matters) {
            let _ = notices.try_send(());
        }
    };
    let mut watcher = notify::recommended_watcher(notify)
        .inspect_err(|error| tracing::warn!(%error, "the policy folder is looked at every {LOOK:?} only"))
        .ok()?;
    for path in paths {
        for path in [Some(path.as_path()), path.parent()].into_iter().flatten() {
            let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            // What is not there yet is noticed through its folder, or by the slow look.
            let _ = watcher.watch(path, RecursiveMode::NonRecursive);
        }
    }
    Some(watcher)
}
