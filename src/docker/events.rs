//! Stub, replaced on merge.
use crate::daemon::Daemon;
use axum::Router;
use std::sync::Arc;
/// The routes.
pub fn router() -> Router<Arc<Daemon>> {
    Router::new()
}
