//! Finds and reaches the cluster: by a kubeconfig or the ServiceAccount of the Pod that d2k runs in, with a
//! clear message when neither leads to an API server.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::errors::words;
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

/// Why there is no connection. `origin` is where the address and the credentials came from; `server` is the address
/// with it.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ConnectError {
    /// d2k runs in a Pod, whose account does not lead to the cluster.
    #[error("the Pod's ServiceAccount cannot be used: {0}")]
    ServiceAccount(#[source] InClusterError),
    /// No kubeconfig is named, and the usual one is not there or is wrong.
    #[error(
        "no cluster: {path} cannot be used: {source}; name a kubeconfig (--kubeconfig or KUBECONFIG), or run `d2k serve \
         --embedded`, which brings a cluster of its own"
    )]
    UsualKubeconfig { path: String, source: KubeconfigError },
    /// The kubeconfig that is named cannot be read.
    #[error("kubeconfig {path}: {source}")]
    Kubeconfig { path: String, source: KubeconfigError },
    /// The kubeconfig does not say how to reach its cluster.
    #[error("{origin}: {source}")]
    Context { origin: String, source: KubeconfigError },
    /// The credentials or the proxy cannot be used.
    #[error("{origin}: {source}")]
    Client { origin: String, source: Box<kube::Error> },
    /// The first request has no answer.
    #[error("the API server {server} did not answer within {FIRST_ANSWER:?}")]
    NoAnswer { server: String },
    /// The first request fails.
    #[error("the API server {server} cannot be used: {}", words(.source))]
    Answer { server: String, source: Box<kube::Error> },
    /// The first lists take too long.
    #[error("{server}: the caches were not filled within {FIRST_LIST:?}")]
    Caches { server: String },
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
) -> Result<Connection, ConnectError> {
    let (mut config, origin) = configuration(kubeconfig).await?;
    config.connect_timeout = Some(Duration::from_secs(5));
    let url = config.cluster_url.to_string();
    let server = format!("{url} ({origin})");
    let client = match Client::try_from(config) {
        Ok(client) => client,
        Err(error) => return Err(ConnectError::Client { origin, source: Box::new(error) }),
    };
    let version = match tokio::time::timeout(FIRST_ANSWER, client.apiserver_version()).await {
        Ok(Ok(version)) => version,
        Ok(Err(error)) => return Err(ConnectError::Answer { server, source: Box::new(error) }),
        Err(_) => return Err(ConnectError::NoAnswer { server }),
    };
    let (cluster, feed, changes) =
        Cluster::new(client, namespace.to_owned(), url, version.git_version, reach, stopping.clone());
    feed.start_and_sync(FIRST_LIST).await.map_err(|_| ConnectError::Caches { server })?;
    Ok(Connection { cluster, changes, source: origin })
}

pub(super) async fn configuration(kubeconfig: &str) -> Result<(Config, String), ConnectError> {
    if kubeconfig.is_empty() && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        let config = Config::incluster().map_err(ConnectError::ServiceAccount)?;
        return Ok((config, "the Pod's ServiceAccount".to_owned()));
    }
    let (file, path) = match kubeconfig {
        "" => usual_file()?,
        path => {
            let path = path.to_owned();
            match Kubeconfig::read_from(Path::new(&path)) {
                Ok(file) => (file, path),
                Err(source) => return Err(ConnectError::Kubeconfig { path, source }),
            }
        }
    };
    let origin = match &file.current_context {
        Some(context) => format!("context {context} of {path}"),
        None => path,
    };
    match Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await {
        Ok(config) => Ok((config, origin)),
        Err(source) => Err(ConnectError::Context { origin, source }),
    }
}

/// The file that every Kubernetes tool uses: `KUBECONFIG`, which may list several, else `~/.kube/config`.
fn usual_file() -> Result<(Kubeconfig, String), ConnectError> {
    let listed = std::env::var_os("KUBECONFIG").filter(|paths| !paths.is_empty());
    let path = match &listed {
        Some(paths) => paths.to_string_lossy().into_owned(),
        None => "~/.kube/config".to_owned(),
    };
    match Kubeconfig::read() {
        Ok(file) => Ok((file, path)),
        Err(source) => Err(ConnectError::UsualKubeconfig { path, source }),
    }
}
