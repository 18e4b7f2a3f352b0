//! The shape of every answer: the same requests that a real Docker engine was asked, and its answers.
//!
//! `tests/wire/cases` holds requests, one file a topic; `tests/wire/recorded` what a real engine answered
//! to them; `tests/wire/differences.yaml` what d2k answers otherwise, and why it must. Anything else that
//! differs is a bug of d2k. To add a case, add requests to a file (or a file, and its name below), and
//! record: `D2K_WIRE_RECORD=unix:///var/run/docker.sock cargo test --test wire`, against an engine that
//! has the images `busybox` and `nginx` and no container.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is not as it should be"
)]

#[allow(dead_code, unused_imports, reason = "several suites share it, and each uses a part")]
mod support;

#[path = "wire/answer.rs"]
mod answer;
#[path = "wire/case.rs"]
mod case;
#[path = "wire/compare.rs"]
mod compare;
#[path = "wire/endpoints.rs"]
mod endpoints;
#[path = "wire/engine.rs"]
mod engine;
#[path = "wire/traps.rs"]
mod traps;

/// One test for each file of `tests/wire/cases`.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        $(#[d2k_suite::test] fn $name() { case::check(stringify!($name)); })*
        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

cases![
    archives, binds, containers, execs, gates, images, lists, networks, output, rest, system, unknown,
    volumes,
];

#[d2k_suite::test]
fn every_case_is_run() {
    for entry in std::fs::read_dir(case::folder("cases")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(NAMES.contains(&name), "{name} is not in the list of tests/wire.rs");
    }
}

#[d2k_suite::test]
fn every_difference_is_one() {
    case::check_differences(NAMES);
}

fn main() -> std::process::ExitCode {
    support::suite::main()
}
