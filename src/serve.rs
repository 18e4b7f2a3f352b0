//! Wires the parts together and serves until it is told to stop.

use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::docker::server::{Server, stop_signal};
use crate::docker::tls::Tls;
use crate::docker::{swarm, version};
use crate::telemetry;

/// Serves the Docker API until Ctrl-C or SIGTERM.
///
/// # Errors
/// One line on what could not be started.
pub async fn serve(settings: Settings) -> Result<(), String> {
    let stopping = CancellationToken::new();
    let mut docker = Server::new(stopping.clone());
    let tls = settings.tls.clone().map(Tls::load).transpose()?;
    let address = docker
        .tcp(SocketAddr::new(settings.listen, settings.port), tls)
        .await?;
    if let Some(path) = &settings.socket {
        docker.unix(path)?;
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
    tracing::info!(%address, namespace = settings.namespace, "serving the Docker API");
    let routes = Router::new().route("/_ping", get(async || ([("Builder-Version", "1")], "OK")));
    let front = version::front(routes.merge(swarm::router()));
    tokio::join!(docker.run(front), admin.run(telemetry::admin(|| Ok(()))));
    Ok(())
}
