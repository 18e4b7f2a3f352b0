//! The HTTP front: routes, API versions and wire formats of the Docker Engine API. Knows nothing
//! of the Kubernetes client.

#![recursion_limit = "256"]

pub mod archive;
pub mod attach;
pub mod body;
pub mod containers;
pub mod decisions;
pub mod detach;
pub mod early;
pub mod error;
pub mod events;
pub mod exec;
pub mod filters;
pub mod frames;
pub mod guard;
mod heads;
pub mod hijack;
pub mod images;
pub mod lifecycle;
pub mod limits;
mod moment;
pub mod networks;
pub mod peer;
pub mod plugins;
pub mod query;
mod request_line;
pub mod server;
pub mod stats;
pub mod stream;
pub mod swarm;
pub mod system;
pub mod tls;
pub mod version;
pub mod volumes;

use std::sync::Arc;

use axum::Router;

use d2k_daemon::Daemon;

/// All routes of the API.
pub fn routes(daemon: Arc<Daemon>) -> Router {
    Router::new()
        .merge(archive::router())
        .merge(attach::router())
        .merge(containers::router())
        .merge(decisions::router())
        .merge(events::router())
        .merge(exec::router())
        .merge(images::router())
        .merge(lifecycle::router())
        .merge(networks::router())
        .merge(plugins::router())
        .merge(stats::router())
        .merge(system::router())
        .merge(volumes::router())
        .with_state(daemon)
        .merge(swarm::router())
}
