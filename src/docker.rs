//! The HTTP front: routes, API versions and wire formats of the Docker Engine API. Knows nothing
//! of the Kubernetes client.

pub mod body;
pub mod error;
pub mod filters;
pub mod frames;
pub mod hijack;
pub mod peer;
pub mod query;
pub mod server;
pub mod stream;
pub mod swarm;
pub mod tls;
pub mod version;
