//! A whole cluster on one machine: the API server, its controllers and a kubelet over an engine, with
//! what every cluster has from the beginning.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::controllers::storage::Storage;
use super::controllers::{self, Context};
use super::credentials::{Credentials, CredentialsError, write_private};
use super::http::Front;
use super::identities::Identities;
use super::journal::{Journal, JournalError};
use super::kinds::{self, Kind};
use super::kubelet::{self, Kubelet};
use super::server;
use super::store::{Limits, Store};
use super::verbs::{Api, DeleteOptions, Settings, Target};
use d2k_engine::{Engine, Feature};

/// What a cluster is told.
#[derive(Clone)]
pub struct Options {
    /// Folder for everything that it keeps.
    pub data: PathBuf,
    /// Name of the only Node, of the cluster in its kubeconfig, and of its user there.
    pub name: String,
    /// The Node's address.
    pub address: IpAddr,
    /// Where the API server listens; port 0 is any free one.
    pub listen: SocketAddr,
    /// Addresses besides, under which Pods reach it.
    pub addresses: Vec<IpAddr>,
    /// Names and addresses besides, under which other clients reach it.
    pub names: Vec<String>,
    /// Where Pods reach the API server.
    pub inside: SocketAddr,
    /// Address of this process in the network of the Pods; the API server's port is open there.
    pub gateway: IpAddr,
    /// The DNS server's address inside.
    pub dns: IpAddr,
    /// Where the volumes of claims are.
    pub storage: Arc<dyn Storage>,
    /// The range of Services.
    pub services: Settings,
    /// Whether `/healthz` and `/version` answer anybody.
    pub anonymous: bool,
    /// The token of the administrator; a random one if none is given.
    pub token: Option<String>,
    /// How much is kept, and how safely.
    pub limits: Limits,
    /// Namespaces that are there from the beginning, besides Kubernetes' own. The first is the kubeconfig's.
    pub namespaces: Vec<String>,
}

/// A cluster that runs.
pub struct Cluster {
    /// The objects.
    pub api: Arc<Api>,
    /// Where the API server listens.
    pub address: SocketAddr,
    /// A kubeconfig for it.
    pub kubeconfig: PathBuf,
}

/// Why a cluster was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its journal cannot be opened.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Its credentials cannot be opened, or the server cannot use them.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The API server cannot listen on its address.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// The system does not say where the API server listens.
    #[error(transparent)]
    Address(std::io::Error),
    /// The kubeconfig cannot be written.
    #[error("{0}: {1}")]
    Kubeconfig(PathBuf, #[source] std::io::Error),
}

/// Domain of the cluster.
pub const DOMAIN: &str = "cluster.local";

/// Starts a cluster; it ends when `stopping` is cancelled. `prepare` sees the objects before any Pod is run, and namespaces and names of
/// Pods that were removed during the run before.
///
/// # Errors
/// One line on what could not be started.
pub async fn start<E: Engine>(
    engine: Arc<E>,
    options: Options,
    prepare: impl FnOnce(&Arc<Api>, BTreeSet<(String, String)>),
    stopping: CancellationToken,
) -> Result<Cluster, StartError> {
    let folder = |name: &str| options.data.join(name);
    let mut journal = Journal::open(&folder("journal"), options.limits.journal)?;
    let removed = journal.0.take_removed_pods();
    let lacks = Feature::ALL.into_iter().filter(|feature| !engine.has(*feature)).collect();
    let store = Store::new(Some(journal), options.limits);
    let api = Arc::new(Api::new(store, options.services.clone()).without(lacks));
    let listener =
        TcpListener::bind(options.listen).await.map_err(|error| StartError::Listen(options.listen, error))?;
    let address = listener.local_addr().map_err(StartError::Address)?;
    let own = [address.ip(), options.inside.ip(), options.address];
    let addresses = options.addresses.iter().chain(&own).map(IpAddr::to_string);
    let names: Vec<String> = addresses.chain(options.names.iter().cloned()).collect();
    let credentials = Credentials::open(&folder("pki"), &names, options.token.as_deref())?;
    let kubeconfig = folder("kubeconfig");
    let namespace = options.namespaces.first().map_or("default", String::as_str);
    let reached = SocketAddr::new(options.address, address.port());
    let text = credentials.kubeconfig(&options.name, reached, namespace)?;
    write_private(&kubeconfig, &text).map_err(|error| StartError::Kubeconfig(kubeconfig.clone(), error))?;
    let of_kubelet = kubelet::Options {
        node: options.name.clone(),
        address: options.address,
        folder: folder("pods"),
        dns: options.dns,
        domain: DOMAIN.to_owned(),
        variables: variables(options.inside),
    };
    let key = credentials.accounts_key()?;
    let identities = Arc::new(Identities::new(api.clone(), key, credentials.token.clone()));
    let kubelet = Kubelet::new(api.clone(), engine, of_kubelet, identities.clone(), stopping.clone());
    let authority = credentials.authority()?;
    begin(&api, &options, address, &authority);
    prepare(&api, removed);
    kubelet.register();
    let context = Context {
        api: api.clone(),
        storage: options.storage.clone(),
        node: options.name.clone(),
        address: options.address,
        authority,
    };
    controllers::start(&context, &stopping);
    let front = Front { api: api.clone(), node: kubelet.clone(), identities, anonymous: options.anonymous };
    tokio::spawn(server::serve(listener, credentials.server()?, Arc::new(front), stopping));
    tokio::spawn(kubelet.run());
    Ok(Cluster { api, address, kubeconfig })
}

fn variables(inside: SocketAddr) -> Vec<(String, String)> {
    let pair = |name: &str, value: String| (name.to_owned(), value);
    vec![
        pair("KUBERNETES_SERVICE_HOST", inside.ip().to_string()),
        pair("KUBERNETES_SERVICE_PORT", inside.port().to_string()),
        pair("KUBERNETES_SERVICE_PORT_HTTPS", inside.port().to_string()),
    ]
}

/// What every cluster has.
fn begin(api: &Api, options: &Options, address: SocketAddr, authority: &str) {
    let own = ["default", "kube-system", "kube-public", kubelet::LEASES].map(str::to_owned);
    for name in own.into_iter().chain(options.namespaces.clone()) {
        ensure(api, &kinds::NAMESPACE, "", json!({"metadata": {"name": name}}));
        controllers::furnish(api, &name, authority);
    }
    let class = json!({
        "metadata": {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": options.storage.provisioner(), "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate",
    });
    ensure(api, &kinds::STORAGE_CLASS, "", class);
    let service = json!({
        "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"clusterIP": options.inside.ip(), "ports": [{"name": "https", "port": options.inside.port(), "protocol": "TCP"}]},
    });
    ensure(api, &kinds::SERVICE, "default", service);
    let slice = json!({
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4", "endpoints": [{"addresses": [options.gateway], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": address.port(), "protocol": "TCP"}],
    });
    let of = &kinds::ENDPOINT_SLICE;
    let stale = Target::own(of, "default", "kubernetes");
    // The port may be another one than at the last start.
    let _ = api.delete(&stale, &DeleteOptions::default());
    ensure(api, of, "default", slice);
}

fn ensure(api: &Api, kind: &'static Kind, namespace: &str, object: Value) {
    let name = super::meta::name(&object).to_owned();
    if api.get(kind, namespace, &name).is_err()
        && let Err(status) = api.create(&Target::own(kind, namespace, ""), object)
    {
        tracing::error!(kind = kind.name, name, error = status.message, "cannot be made");
    }
}
