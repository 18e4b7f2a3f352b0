//! What users see: the real `docker` and raw HTTP against d2k on a cluster, one test a behaviour.
//!
//! `D2K_TEST_KUBECONFIG` names the admin kubeconfig of a real cluster; without it d2k's own embedded one
//! is started, and the tests that need more than it has say so and are skipped.
//! Each test has a namespace and a d2k of its own, so that they run side by side.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

#[allow(dead_code, unused_imports, reason = "two suites share it, and each uses a part")]
mod support;

#[path = "real/access.rs"]
mod access;
#[path = "real/attach.rs"]
mod attach;
#[path = "real/bad_input.rs"]
mod bad_input;
#[path = "real/binds.rs"]
mod binds;
#[path = "real/bounds.rs"]
mod bounds;
#[path = "real/command_line.rs"]
mod command_line;
#[path = "real/configuration.rs"]
mod configuration;
#[path = "real/containers_inspect.rs"]
mod containers_inspect;
#[path = "real/containers_life.rs"]
mod containers_life;
#[path = "real/containers_list.rs"]
mod containers_list;
#[path = "real/containers_run.rs"]
mod containers_run;
#[path = "real/copy.rs"]
mod copy;
#[path = "real/crash.rs"]
mod crash;
#[path = "real/create_fields.rs"]
mod create_fields;
#[path = "real/deployed.rs"]
mod deployed;
#[path = "real/events.rs"]
mod events;
#[path = "real/exec.rs"]
mod exec;
#[path = "real/foreign.rs"]
mod foreign;
#[path = "real/helper.rs"]
mod helper;
#[path = "real/images.rs"]
mod images;
#[path = "real/links.rs"]
mod links;
#[path = "real/logs.rs"]
mod logs;
#[path = "real/names.rs"]
mod names;
#[path = "real/networks.rs"]
mod networks;
#[path = "real/pause.rs"]
mod pause;
#[path = "real/policies.rs"]
mod policies;
#[path = "real/policies_kept.rs"]
mod policies_kept;
#[path = "real/ports.rs"]
mod ports;
#[path = "real/registry_logins.rs"]
mod registry_logins;
#[path = "real/system.rs"]
mod system;
#[path = "real/update.rs"]
mod update;
#[path = "real/volumes.rs"]
mod volumes;
#[path = "real/volumes_from.rs"]
mod volumes_from;

fn main() -> std::process::ExitCode {
    support::suite::main()
}
