//! d2k: the Docker Engine API over one Kubernetes namespace.
//!
//! Data flows in one direction: `docker` (HTTP front) asks `daemon` (what dockerd would do),
//! which asks `policy` (decisions), `translate` (pure mapping) and `cluster` (the only holder
//! of a Kubernetes client). Beside them is a Kubernetes of d2k's own for those who have none:
//! `embedded` starts `kubeapi`, whose Pods are run by `engine`. `registry` reads images;
//! `common` is the vocabulary that all of them share; `config`, `cli` and `telemetry` are tables.

pub mod cli;
pub mod config;
#[cfg(target_os = "linux")]
pub mod embedded;
#[cfg(not(target_os = "linux"))]
#[path = "no_embedded.rs"]
pub mod embedded;
pub mod serve;
pub mod telemetry;
