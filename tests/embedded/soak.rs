//! Many containers, again and again: what the daemon and its helper hold afterwards is what they held
//! before. Run with `cargo test --release --test embedded -- --ignored --nocapture soak`.

use std::fs;
use std::path::Path;

use crate::own::Own;
use crate::support::eventually;
use crate::traces;

/// Containers at once, and how often they are started and removed.
const CONTAINERS: usize = 200;
const ROUNDS: usize = 10;
/// Commands at once.
const HANDS: usize = 6;

/// What there is of a cluster on the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    files: usize,
    files_of_helper: usize,
    processes: usize,
    mounts: usize,
    cgroups: usize,
    folders: usize,
}

/// What each container or Pod has a folder in.
const FOLDERS: [&str; 6] = ["containers", "discarded", "pods", "run/bundles", "run/state", "run/pods"];

fn entries(folder: impl AsRef<Path>) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

/// Resident memory in KiB.
fn memory(process: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// The process that runs the containers.
fn helper(data: &Path) -> u32 {
    let inner = |found: &String| found.starts_with("process ") && found.contains(" inner ");
    let found = traces::of(data).into_iter().find(inner).unwrap();
    found["process ".len()..].split(':').next().unwrap().parse().unwrap()
}

fn held(daemon: u32, helper: u32, data: &Path) -> Held {
    let found = traces::of(data);
    let count = |kind: &str| found.iter().filter(|found| found.starts_with(kind)).count();
    // What others mount on the machine comes and goes there, too.
    let mounts = fs::read_to_string(format!("/proc/{helper}/mountinfo")).unwrap();
    let own = data.to_string_lossy();
    Held {
        files: entries(format!("/proc/{daemon}/fd")),
        files_of_helper: entries(format!("/proc/{helper}/fd")),
        processes: count("process"),
        mounts: mounts.lines().filter(|line| line.contains(&*own)).count(),
        cgroups: count("cgroup"),
        folders: FOLDERS.map(|folder| entries(data.join(folder))).iter().sum(),
    }
}

fn in_parallel(work: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for hand in 0..HANDS {
            let work = &work;
            scope.spawn(move || (hand..CONTAINERS).step_by(HANDS).for_each(work));
        }
    });
}

/// Takes minutes: it starts and removes hundreds of containers.
#[d2k_suite::test(ignored)]
fn what_is_held_does_not_grow_with_what_has_been() {
    let Some(mut own) = Own::start() else { return };
    own.docker("run --rm busybox true").success();
    let (daemon, data) = (own.daemon().pid(), own.data());
    let helper = helper(&data);
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        in_parallel(|number| {
            own.docker(format!("run -d --name soak{number} busybox sleep 10000")).success();
        });
        let most = (memory(daemon), memory(helper));
        in_parallel(|number| {
            own.docker(format!("rm -f soak{number}")).success();
        });
        eventually("all Pods are gone", || own.kubectl("get pods -o name").stdout.is_empty());
        eventually("all files of containers are gone", || entries(data.join("discarded")) == 0);
        let now = held(daemon, helper, &data);
        println!("round {round}: KiB {} and {} of {most:?} at most, {now:?}", memory(daemon), memory(helper));
        // Which it is, should one stay.
        for folder in FOLDERS {
            let names = fs::read_dir(data.join(folder)).into_iter().flatten().flatten();
            names.for_each(|left| println!("    left in {folder}: {}", left.file_name().display()));
        }
        rounds.push((memory(daemon), memory(helper), now));
    }
    // The first rounds fill what is bounded.
    let (early, late) = (rounds[ROUNDS / 2 - 1], rounds[ROUNDS - 1]);
    for (before, after, whose) in [(early.0, late.0, "daemon"), (early.1, late.1, "helper")] {
        assert!(after < before + before / 10, "the {whose} has grown from {before} to {after} KiB");
    }
    // Connections that are kept for the next request come and go.
    let same = |a: usize, b: usize| a.abs_diff(b) <= 4 * HANDS;
    assert!(same(early.2.files, late.2.files), "{early:?} {late:?}");
    assert_eq!(Held { files: 0, ..early.2 }, Held { files: 0, ..late.2 });
}
