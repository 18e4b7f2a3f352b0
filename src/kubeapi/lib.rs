//! A small, honest Kubernetes API server with its controllers and kubelet, over two things: a store
//! of objects ([`store`]) and an engine that runs Pods ([`d2k_engine`]). What it serves, it serves
//! as Kubernetes does; what it does not serve is the 404 or 405 that Kubernetes gives.

mod access;
mod admission;
pub mod changes;
pub mod cluster;
mod conditions;
pub mod controllers;
pub mod credentials;
mod cron;
mod defaults;
mod discovery;
mod events;
pub mod http;
mod identities;
pub mod journal;
pub mod kinds;
pub mod kubelet;
mod label_syntax;
mod meta;
mod openapi;
mod packed;
mod patch;
mod path;
mod protobuf;
mod reply;
mod reviews;
mod schema;
mod selectors;
pub mod server;
pub mod status;
pub mod store;
mod table;
mod tokens;
mod validate;
pub mod verbs;
pub mod warnings;
mod watch;

pub use meta::new_uid;

/// Kubernetes' word for this machine's architecture.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
