//! What d2k tells about itself: the log, and the routes of the admin port, which has no login.

use std::io::IsTerminal;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use tracing_subscriber::EnvFilter;

use d2k_common::metrics::render;

/// Routes of the admin port: `/metrics`, `/healthz` (the process lives), `/readyz` (`ready` says
/// what is missing, or nothing).
pub fn admin<F>(ready: F) -> Router
where
    F: Fn() -> Result<(), String> + Clone + Send + Sync + 'static,
{
    let readiness = move || {
        let answer = match ready() {
            Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
            Err(missing) => (StatusCode::SERVICE_UNAVAILABLE, missing + "\n"),
        };
        std::future::ready(answer)
    };
    let metrics = async || ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], render());
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readiness))
}

/// Minimum log level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

impl LogLevel {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// Log format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// Begins to log to standard error. Called once; a second call changes nothing.
pub fn log(level: LogLevel, format: LogFormat) {
    let level = level.as_str();
    // What libraries tell matters only when something is being searched.
    let libraries = if level == "debug" { "info" } else { "warn" };
    let filter = EnvFilter::new(format!("{libraries},hyper=warn,tower=warn,d2k={level}"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
