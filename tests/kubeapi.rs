//! The API server of `src/kubeapi` against a real one: the same requests to both, and the same answers.
//! `D2K_TEST_KUBECONFIG` names the kubeconfig of a real cluster; without it there is nothing to compare with,
//! and all is skipped. `D2K_TEST_EMBEDDED_KUBECONFIG` may name that of an embedded one that runs already, or of a k2d whose Node
//! has the name `d2k`; otherwise an embedded one is started.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test ends where something is not as it should be"
)]

#[path = "kubeapi/answer.rs"]
mod answer;
#[path = "kubeapi/case.rs"]
mod case;
#[path = "kubeapi/side.rs"]
mod side;
#[allow(dead_code, unused_imports, reason = "several suites share it, and each uses a part")]
mod support;

/// One test for each file of `tests/kubeapi/cases`.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        $(#[d2k_suite::test] fn $name() { case::check(stringify!($name)); })*
        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

cases![
    apply,
    claims,
    cron_jobs,
    daemon_sets,
    deletes,
    leases,
    patches,
    pods,
    reads,
    refusals,
    services,
    stateful_sets,
    streams,
    tokens,
    warnings,
    watches,
    workloads,
    writes,
];

#[d2k_suite::test]
fn every_case_is_run() {
    for entry in std::fs::read_dir(case::folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(NAMES.contains(&name), "{name} is not in the list of tests/kubeapi.rs");
    }
}

fn main() -> std::process::ExitCode {
    support::suite::main()
}
