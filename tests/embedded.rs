//! What only `d2k serve --embedded` does, over the real `docker` and `kubectl`: one command with a
//! cluster of its own, a folder that is kept, limits that this machine enforces, and nothing left behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

#[allow(dead_code, unused_imports, reason = "two suites share it, and each uses a part")]
mod support;

#[path = "embedded/access.rs"]
mod access;
#[path = "embedded/binds.rs"]
mod binds;
#[path = "embedded/command.rs"]
mod command;
#[path = "embedded/devices.rs"]
mod devices;
#[path = "embedded/folder.rs"]
mod folder;
#[path = "embedded/host_path.rs"]
mod host_path;
#[path = "embedded/kubectl.rs"]
mod kubectl;
#[path = "embedded/limits.rs"]
mod limits;
#[path = "embedded/log_files.rs"]
mod log_files;
#[path = "embedded/network.rs"]
mod network;
#[path = "embedded/own.rs"]
mod own;
#[path = "embedded/pods.rs"]
mod pods;
#[path = "embedded/pods_files.rs"]
mod pods_files;
#[path = "embedded/private.rs"]
mod private;
#[path = "embedded/rolling.rs"]
mod rolling;
#[path = "embedded/soak.rs"]
mod soak;
#[path = "embedded/subpath.rs"]
mod subpath;
#[path = "embedded/tokens.rs"]
mod tokens;
#[path = "embedded/traces.rs"]
mod traces;

fn main() -> std::process::ExitCode {
    support::suite::main()
}
