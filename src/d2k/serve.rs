//! Wires the parts together and serves until it is told to stop.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::embedded::{self, Embedded, Prepared};
use crate::telemetry;
use d2k_cluster::{Cluster, Connection, connect};
use d2k_daemon::{Daemon, Options, keeper};
use d2k_docker::guard::{Callers, Guard};
use d2k_docker::server::{Server, stop_signal};
use d2k_docker::tls::Tls;
use d2k_docker::{self as docker, version};
use d2k_policy::settings::Entry;
use d2k_policy::{self as policy, Policies};
use d2k_registry::{Platform, Registry, RegistrySettings};

/// What is said when the process that runs the containers has been killed.
const LOST: &str =
    "the engine's helper process has ended, and all containers with it; start d2k again: it knows what ran";

/// A cluster that is brought along, and the command that it is for.
pub struct Own {
    /// The helper process and its folder.
    pub prepared: Prepared,
    /// Program and arguments; none to serve until told to stop.
    pub command: Vec<String>,
}

/// Serves the Docker API until Ctrl-C or SIGTERM, or until the command has ended: its exit code.
///
/// # Errors
/// One line on what could not be started.
pub async fn serve(mut settings: Settings, own: Option<Own>) -> Result<u8, String> {
    let stopping = CancellationToken::new();
    let (mut front, address) = listen(&settings, &stopping).await?;
    let admin = listen_for_admin(&settings, &stopping).await?;
    let connected = Arc::new(OnceLock::new());
    let deciding = Arc::new(OnceLock::new());
    let admin = tokio::spawn(admin.run(telemetry::admin(readiness(connected.clone(), deciding.clone()))));
    let command_runs = CancellationToken::new();
    tokio::spawn(end_on_signal(stopping.clone(), command_runs.clone()));
    // The cluster outlives what uses it.
    let below = CancellationToken::new();
    let (options_of_policies, program) = (policy_options(&settings), std::env::current_exe().ok());
    let policies = tokio::task::spawn_blocking(move || {
        Policies::new(policy::Options { program, ..options_of_policies })
    });
    let (embedded, command) = bring(own, &mut settings, address, &below).await?;
    if let Some(embedded) = &embedded {
        front.pods(embedded.docker_listener(address.port()).await?);
    }
    let kubeconfig = settings.kubeconfig.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
    let connecting =
        connect(&kubeconfig, &settings.namespace, embedded.as_ref().map(Embedded::reach), &stopping);
    let connection = tokio::select! {
        connection = connecting => connection.map_err(|e| e.to_string())?,
        () = stopping.cancelled() => return Ok(0),
    };
    let Connection { cluster, changes, source } = connection;
    let _ = connected.set(cluster.clone());
    let policies = policies.await.map_err(|e| e.to_string())?.map_err(|e| format!("policies: {e}"))?;
    let _ = deciding.set(policies.clone());
    tokio::spawn(policies.clone().watch(stopping.clone()));
    let registry = registry(&settings)?;
    tracing::info!(
        %address, namespace = settings.namespace, server = cluster.server(), kubernetes = cluster.version(), %source,
        "serving the Docker API"
    );
    warn_of_openness(&settings, address);
    let options = Options {
        local: embedded.as_ref().map(Embedded::images),
        warnings: embedded.as_ref().map(Embedded::warnings).unwrap_or_default(),
        ..options(&settings)
    };
    let daemon = Daemon::new(cluster, policies, registry, options, stopping.clone());
    let keeping = tokio::spawn(keeper::run(daemon.clone(), changes));
    daemon.probe_metrics().await;
    let routes = version::front(docker::routes(daemon.clone()), guard(&settings, daemon));
    let job = job(&command, address, &settings, (&stopping, &command_runs));
    let gone = embedded.as_ref().map(Embedded::gone);
    if let Some(gone) = gone.clone() {
        tokio::spawn(end_with_engine(gone, stopping.clone()));
    }
    let (code, (), _) = tokio::join!(job, front.run(routes), admin);
    let lost = gone.is_some_and(|gone| gone.is_cancelled());
    keeping.abort();
    below.cancel();
    if let Some(embedded) = embedded {
        embedded.ended().await;
    }
    if lost { Err(LOST.into()) } else { Ok(code) }
}

/// Opens the listeners of the Docker API; the address of that for TCP.
async fn listen(settings: &Settings, stopping: &CancellationToken) -> Result<(Server, SocketAddr), String> {
    let tls = settings.tls.clone().map(Tls::load).transpose().map_err(|e| e.to_string())?;
    let mut front = Server::new(stopping.clone());
    let address = SocketAddr::new(settings.listen, settings.port);
    let address = front.tcp(address, tls).await.map_err(|e| e.to_string())?;
    if let Some(path) = &settings.socket {
        front.unix(path).map_err(|e| e.to_string())?;
    }
    Ok((front, address))
}

async fn listen_for_admin(settings: &Settings, stopping: &CancellationToken) -> Result<Server, String> {
    let mut admin = Server::new(stopping.clone());
    if let Some(port) = settings.admin_port {
        let address = SocketAddr::new(settings.admin_listen, port);
        admin.tcp(address, None).await.map_err(|e| e.to_string())?;
    }
    Ok(admin)
}

/// Stops at Ctrl-C and at SIGTERM, unless a command runs: it needs the daemon until it has ended, and gets the
/// signal, too.
async fn end_on_signal(stopping: CancellationToken, command_runs: CancellationToken) {
    let _ = stop_signal().await;
    if !command_runs.is_cancelled() {
        stopping.cancel();
    }
}

/// Without its engine a cluster only pretends: who has started d2k is to know it, and starts it again.
async fn end_with_engine(gone: CancellationToken, stopping: CancellationToken) {
    gone.cancelled().await;
    if !stopping.is_cancelled() {
        tracing::error!("{LOST}");
        stopping.cancel();
    }
}

/// Starts the cluster that is brought along, and points the settings at it.
async fn bring(
    own: Option<Own>,
    settings: &mut Settings,
    address: SocketAddr,
    below: &CancellationToken,
) -> Result<(Option<Embedded>, Vec<String>), String> {
    let Some(Own { prepared, command }) = own else { return Ok((None, Vec::new())) };
    let registry = registry(settings)?;
    let started = embedded::start(prepared, registry, &settings.namespace, below.clone()).await?;
    settings.kubeconfig = Some(started.kubeconfig().to_owned());
    if !settings.is_given("D2K_DOCKER_HOST") {
        settings.docker_host = embedded::docker_host(address.port());
    }
    Ok((Some(started), command))
}

/// Runs the command, if there is one, and ends the daemon with it; `runs` is cancelled when it does.
async fn job(
    command: &[String],
    address: SocketAddr,
    settings: &Settings,
    (stopping, runs): (&CancellationToken, &CancellationToken),
) -> u8 {
    if command.is_empty() || stopping.is_cancelled() {
        return 0;
    }
    runs.cancel();
    let kubeconfig = settings.kubeconfig.as_deref().unwrap_or(Path::new(""));
    let code = embedded::run_command(command, &format!("tcp://{address}"), kubeconfig).await;
    stopping.cancel();
    code
}

/// The guard of the front.
fn guard(settings: &Settings, daemon: Arc<Daemon>) -> Guard {
    let callers: Callers = Arc::new(move |from, pods_only| {
        let daemon = daemon.clone();
        async move { daemon.admit(from, pods_only).await }.boxed()
    });
    let Settings { namespace, cluster_domain, docker_host, hosts, .. } = settings;
    Guard::new(namespace, cluster_domain, docker_host, hosts, callers)
}

/// Says what it means that others can reach the API without a certificate.
fn warn_of_openness(settings: &Settings, address: SocketAddr) {
    let verified = settings.tls.as_ref().is_some_and(|files| files.authority.is_some());
    if !address.ip().is_loopback() && !verified {
        tracing::warn!(
            %address,
            "[SECURITY] the Docker API is open to everyone who reaches this address: they can run containers with all \
             rights of d2k in the namespace. Set D2K_TLS_CERT, D2K_TLS_KEY and D2K_TLS_CA so that only clients with a \
             certificate are served, or listen on 127.0.0.1 or a unix socket"
        );
    }
}

/// Ready: the caches are filled, the API server was reached a moment ago, and every policy that is
/// required decides.
fn readiness(
    connected: Arc<OnceLock<Cluster>>,
    deciding: Arc<OnceLock<Arc<Policies>>>,
) -> impl Fn() -> Result<(), String> + Clone + Send + Sync + 'static {
    move || match (connected.get(), deciding.get()) {
        (None, _) => Err("not connected to the cluster yet".to_owned()),
        (_, None) => Err("the policies are not loaded yet".to_owned()),
        (Some(cluster), Some(policies)) => {
            let missing = || policies.missing().map(|words| format!("policies: {words}"));
            cluster.trouble().or_else(missing).map_or(Ok(()), Err)
        }
    }
}

/// Size and class of volumes have settings of d2k's own, which are settings of the built-in policy.
pub(crate) fn policy_options(settings: &Settings) -> policy::Options {
    let mut volumes = vec![("size".to_owned(), settings.volume_size.clone())];
    if !settings.storage_class.is_empty() {
        volumes.push(("storage-class".to_owned(), settings.storage_class.clone()));
    }
    policy::Options {
        directory: settings.policy_dir.clone(),
        settings: settings.policy_settings.clone(),
        cache: settings.policy_cache.clone(),
        program: None,
        base: [("volumes".to_owned(), Entry { settings: volumes, ..Entry::default() })].into(),
    }
}

/// The client of registries.
pub(crate) fn registry(settings: &Settings) -> Result<Registry, String> {
    Registry::new(&registry_settings(settings)).map_err(|fault| fault.message)
}

fn registry_settings(settings: &Settings) -> RegistrySettings {
    RegistrySettings {
        mirrors: settings.registry_mirrors.iter().map(|(host, url)| format!("{host}={url}")).collect(),
        insecure: settings.insecure_registries.clone(),
        timeout: Duration::from_secs(10),
        platform: Platform::default(),
    }
}

pub(crate) fn options(settings: &Settings) -> Options {
    Options {
        start_timeout: settings.start_timeout,
        publish_service: settings.publish_service,
        publish_proxy: settings.publish_proxy,
        listen: settings.listen,
        foreign: settings.foreign,
        own_pod: settings.own_pod.clone(),
        cluster_domain: settings.cluster_domain.clone(),
        docker_host: settings.docker_host.clone(),
        local: None,
        warnings: Vec::new(),
    }
}
