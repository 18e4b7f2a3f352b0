//! The program d2k: the Docker Engine API over one Kubernetes namespace. This crate has the command line and the settings,
//! and connects the other crates.
//!
//! Data flows in one direction: `d2k_docker` (HTTP front) asks `d2k_daemon` (the behaviour of dockerd), which asks
//! `d2k_policy` (decisions), `d2k_translate` (pure mapping) and `d2k_cluster` (the only Kubernetes client). `embedded` starts
//! a Kubernetes for those who have none: `d2k_kubeapi`, whose Pods run on `d2k_engine_local`. It needs Linux.

pub mod cli;
pub mod config;
#[cfg(target_os = "linux")]
pub mod embedded;
#[cfg(not(target_os = "linux"))]
#[path = "no_embedded.rs"]
pub mod embedded;
pub mod serve;
pub mod telemetry;
