//! What the tests on the real cluster stand on: a [`World`] of one namespace, one d2k and the real
//! `docker` beside it, plus images made on the spot and raw HTTP for what the CLI never sends.

mod daemon;
mod fixture;
mod http;
mod kube;
mod process;
mod registry;
mod world;

pub use daemon::command;
pub use fixture::{free_port, free_udp_port, static_program};
pub use http::{frames, get as http_get};
pub use kube::{admin_kubeconfig, manifest};
pub use process::{Running, run};
pub use registry::{GuardedRegistry, Image};
pub use world::{World, eventually};
