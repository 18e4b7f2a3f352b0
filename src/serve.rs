//! Wires the parts together and serves until it is told to stop.

use std::net::SocketAddr;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::cluster::{Connection, connect};
use crate::config::Settings;
use crate::daemon::{Daemon, Options, keeper};
use crate::docker::server::{Server, stop_signal};
use crate::docker::tls::Tls;
use crate::docker::{self, version};
use crate::policy::Policies;
use crate::registry::{Platform, Registry, RegistrySettings};
use crate::telemetry;

/// Serves the Docker API until Ctrl-C or SIGTERM.
///
/// # Errors
/// One line on what could not be started.
pub async fn serve(settings: Settings) -> Result<(), String> {
    let stopping = CancellationToken::new();
    let tls = settings.tls.clone().map(Tls::load).transpose()?;
    let mut front = Server::new(stopping.clone());
    let address = front.tcp(SocketAddr::new(settings.listen, settings.port), tls).await?;
    if let Some(path) = &settings.socket {
        front.unix(path)?;
    }
    let mut admin = Server::new(stopping.clone());
    if let Some(port) = settings.admin_port {
        admin.tcp(SocketAddr::new(settings.listen, port), None).await?;
    }
    let signalled = stopping.clone();
    tokio::spawn(async move {
        let _ = stop_signal().await;
        signalled.cancel();
    });
    let kubeconfig = settings.kubeconfig.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
    let connecting = connect(&kubeconfig, &settings.namespace);
    let connection = tokio::select! {
        connection = connecting => connection?,
        () = stopping.cancelled() => return Ok(()),
    };
    let Connection { cluster, changes } = connection;
    let registry = Registry::new(&registry_settings(&settings)).map_err(|fault| fault.message)?;
    let policies =
        Policies { volume_size: settings.volume_size.clone(), storage_class: settings.storage_class.clone() };
    tracing::info!(
        %address, namespace = settings.namespace, server = cluster.server(), kubernetes = cluster.version(),
        "serving the Docker API"
    );
    let daemon = Daemon::new(cluster, policies, registry, options(&settings), stopping.clone());
    let keeping = tokio::spawn(keeper::run(daemon.clone(), changes));
    daemon.probe_metrics().await;
    let routes = version::front(docker::routes(daemon));
    tokio::join!(front.run(routes), admin.run(telemetry::admin(|| Ok(()))));
    keeping.abort();
    Ok(())
}

fn registry_settings(settings: &Settings) -> RegistrySettings {
    RegistrySettings {
        mirrors: settings.registry_mirrors.iter().map(|(host, url)| format!("{host}={url}")).collect(),
        insecure: settings.insecure_registries.clone(),
        timeout: Duration::from_secs(10),
        platform: Platform::default(),
    }
}

fn options(settings: &Settings) -> Options {
    Options {
        start_timeout: settings.start_timeout,
        publish_service: settings.publish_service,
        publish_proxy: settings.publish_proxy,
        listen: settings.listen,
        cluster_domain: settings.cluster_domain.clone(),
        docker_host: settings.docker_host.clone(),
    }
}
