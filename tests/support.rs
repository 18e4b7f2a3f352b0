//! What the tests on a cluster stand on: the cluster, which is embedded where none is given, and a
//! [`World`] of one namespace, one d2k and the real `docker` beside it, plus images made on the spot and raw HTTP for what the CLI never sends.

mod base;
mod cluster;
mod daemon;
mod fixture;
mod http;
mod kube;
mod process;
mod registry;
mod rolling;
mod store;
pub mod suite;
mod world;

pub use base::{busybox, push as push_base_images};
pub use cluster::{admin_kubeconfig, can_embed, embedded_kubeconfig, is_embedded};
pub use daemon::{Daemon, command};
pub use fixture::{UDP_ECHO, fetch, free_port, free_ports, free_udp_port, static_program};
pub use http::{Connection, Reply, frames, get as http_get, parse as http_parse};
pub use kube::manifest;
pub use process::{Output, Running, find, run, signal_process};
pub use registry::{GuardedRegistry, Image, push_archive, registry};
pub use rolling::no_request_fails;
pub use world::{World, eventually, has_all, within_patience};
