//! `/policies/decisions`: the last decisions of the policies, for `d2k policy record`. It is not part of Docker's
//! API. It is served here and not on the admin port, because decisions tell what was run, with its arguments:
//! only those may read them who may use the API.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use serde_json::Value;

use super::body::Json;
use super::error::Result;
use super::query::Query;
use d2k_daemon::Daemon;
use d2k_policy::record;

/// Decisions that are told if the request does not say how many.
const LAST: usize = 20;

/// The routes.
pub fn router() -> Router<Arc<Daemon>> {
    Router::new().route("/policies/decisions", get(decisions))
}

async fn decisions(query: Query) -> Result<Json<Value>> {
    let last = query.int("last")?.and_then(|last| usize::try_from(last).ok()).unwrap_or(LAST);
    Ok(Json(Value::from(record::last(last))))
}
