//! Finds and reaches the cluster: by a kubeconfig or the ServiceAccount of the Pod that d2k runs in, with a
//! clear message when neither leads to an API server.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Change, Cluster, Reach};

/// How long the API server may take to answer the first request.
pub(super) const FIRST_ANSWER: Duration = Duration::from_secs(10);
/// How long the first list of all kinds may take.
const FIRST_LIST: Duration = Duration::from_secs(60);

/// A connected cluster with filled caches, and the changes from then on.
pub struct Connection {
    /// The cluster.
    pub cluster: Cluster,
    /// Every change of the caches, the initial objects first. Has one reader.
    pub changes: mpsc::UnboundedReceiver<Change>,
    /// Where the address and the credentials came from, such as `context dev of ~/.kube/config`.
    pub source: String,
}

/// Connects to the cluster of `kubeconfig` (empty: the ServiceAccount of the Pod that d2k runs in, elsewhere
/// the file that `kubectl` would use) and fills the caches of `namespace`, until `stopping` is cancelled. `reach` is the way to Pods where
/// the network has none.
///
/// # Errors
/// One sentence that names what was tried.
pub async fn connect(
    kubeconfig: &str,
    namespace: &str,
    reach: Option<Arc<dyn Reach>>,
    stopping: &CancellationToken,
) -> Result<Connection, String> {
    let (mut config, source) = configuration(kubeconfig).await?;
    config.connect_timeout = Some(Duration::from_secs(5));
    let server = config.cluster_url.to_string();
    let client = Client::try_from(config).map_err(|e| format!("{source}: {e}"))?;
    let version = tokio::time::timeout(FIRST_ANSWER, client.apiserver_version())
        .await
        .map_err(|_| format!("the API server {server} ({source}) did not answer within {FIRST_ANSWER:?}"))?
        .map_err(|e| {
            format!("the API server {server} ({source}) cannot be used: {}", super::errors::words(&e))
        })?;
    let (cluster, feed, changes) = Cluster::new(
        client,
        namespace.to_owned(),
        server.clone(),
        version.git_version,
        reach,
        stopping.clone(),
    );
    feed.start_and_sync(FIRST_LIST).await.map_err(|e| format!("{server} ({source}): {e}"))?;
    Ok(Connection { cluster, changes, source })
}

pub(super) async fn configuration(kubeconfig: &str) -> Result<(Config, String), String> {
    if kubeconfig.is_empty() && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        let config =
            Config::incluster().map_err(|e| format!("the Pod's ServiceAccount cannot be used: {e}"))?;
        return Ok((config, "the Pod's ServiceAccount".to_owned()));
    }
    let (file, path) = match kubeconfig {
        "" => usual_file()?,
        path => {
            let file =
                Kubeconfig::read_from(Path::new(path)).map_err(|e| format!("kubeconfig {path}: {e}"))?;
            (file, path.to_owned())
        }
    };
    let source = match &file.current_context {
        Some(context) => format!("context {context} of {path}"),
        None => path,
    };
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .map_err(|e| format!("{source}: {e}"))?;
    Ok((config, source))
}

/// The file that every Kubernetes tool uses: `KUBECONFIG`, which may list several, else `~/.kube/config`.
fn usual_file() -> Result<(Kubeconfig, String), String> {
    let listed = std::env::var_os("KUBECONFIG").filter(|paths| !paths.is_empty());
    let path = match &listed {
        Some(paths) => paths.to_string_lossy().into_owned(),
        None => "~/.kube/config".to_owned(),
    };
    let file = Kubeconfig::read().map_err(|error| {
        format!(
            "no cluster: {path} cannot be used: {error}; name a kubeconfig (--kubeconfig or KUBECONFIG), or run \
             `d2k serve --embedded`, which brings a cluster of its own"
        )
    })?;
    Ok((file, path))
}
