//! k2d over a real engine, with the clients that people use: `kubectl` and `docker`. `D2K_TEST_ENGINE` names the engine as
//! `DOCKER_HOST` does; without it there is nothing to run on, and all is skipped. The tests take turns, since k2d has its
//! engine to itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test ends where something is not as it should be"
)]

#[path = "k2d/both_programs.rs"]
mod both_programs;
#[path = "k2d/both_ways.rs"]
mod both_ways;
#[path = "k2d/crash.rs"]
mod crash;
#[path = "k2d/device.rs"]
mod device;
#[path = "k2d/devices.rs"]
mod devices;
#[path = "k2d/engine_restart.rs"]
mod engine_restart;
#[path = "k2d/entry.rs"]
mod entry;
#[path = "k2d/faults.rs"]
mod faults;
#[path = "k2d/helm.rs"]
mod helm;
#[path = "k2d/install.rs"]
mod install;
#[path = "k2d/memory_limit.rs"]
mod memory_limit;
#[path = "k2d/order.rs"]
mod order;
#[path = "k2d/outlive.rs"]
mod outlive;
#[path = "k2d/own_engine.rs"]
mod own_engine;
#[path = "k2d/pods.rs"]
mod pods;
#[path = "k2d/proxy.rs"]
mod proxy;
#[path = "k2d/rolling.rs"]
mod rolling;
#[path = "k2d/services.rs"]
mod services;
#[path = "k2d/small.rs"]
mod small;
#[allow(dead_code, unused_imports, reason = "several suites share it, and each uses a part")]
mod support;
#[path = "k2d/tokens.rs"]
mod tokens;
#[path = "k2d/volumes.rs"]
mod volumes;

fn main() -> std::process::ExitCode {
    support::suite::main()
}
