//! Logs of containers have a greatest size, and are one log to whoever reads them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::own::Own;
use crate::support::eventually;

/// Files of container logs below a folder, with their sizes.
fn log_files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(log_files(&path));
        } else if path.file_name().is_some_and(|name| name.to_string_lossy().contains(".log")) {
            found.push((path, entry.metadata().map_or(0, |status| status.len())));
        }
    }
    found
}

/// Memory of a process that is in use, in KiB.
fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[d2k_suite::test]
fn a_container_that_says_much_fills_no_disk_and_no_memory() {
    let Some(mut own) = Own::start() else { return };
    let line = "x".repeat(1023);
    let script = format!("yes {line} | head -c 83886080; echo one; echo two; echo three; sleep 1000");
    own.docker(format!("run -d --name loud busybox sh -c '{script}'")).success();
    let pods = own.data().join("pods");
    eventually("all is said", || own.kubectl("logs deployment/loud --tail=1").stdout == "three\n");
    let files = log_files(&pods);
    let size: u64 = files.iter().map(|(_, size)| size >> 10).sum();
    assert!(files.len() == 5 && (40 << 10..=52 << 10).contains(&size), "{size} KiB in {files:?}");
    assert_eq!(own.docker("logs --tail 3 loud").success(), "one\ntwo\nthree");
    // The same work once before, so that what is kept for the next time is there.
    let pid = own.daemon().pid();
    let read = |own: &Own| own.kubectl("logs deployment/loud --tail=30000 --limit-bytes=64000000").success();
    assert_eq!(read(&own).lines().count(), 30_000);
    let before = resident(pid);
    for _ in 0..3 {
        read(&own);
        assert_eq!(own.kubectl("logs deployment/loud --tail=3").success(), "one\ntwo\nthree");
    }
    let grown = resident(pid).saturating_sub(before);
    assert!(grown < 8 << 10, "{grown} KiB more after reading 90 MB");
    own.docker("rm -f loud").success();
    eventually("nothing of it is left", || log_files(&pods).is_empty());
}

/// The lines of `seq FROM 900000`.
fn numbers(from: u32) -> String {
    (from..=900_000).map(|number| format!("{number}\n")).collect()
}

#[track_caller]
fn assert_same(text: &str, wanted: &str) {
    let differs = text.lines().zip(wanted.lines()).find(|(line, wanted)| line != wanted);
    assert_eq!((text.len(), differs), (wanted.len(), None));
}

#[d2k_suite::test]
fn a_log_is_followed_across_files_without_losing_or_repeating_a_line() {
    let Some(own) = Own::start() else { return };
    // About 44 MB of log: five files, none of which is removed while it is followed.
    let script = "until [ -e /go ]; do sleep 0.1; done; seq 1 900000; sleep 1000";
    own.docker(format!("run -d --name count busybox sh -c '{script}'")).success();
    let followed = own.folder().path().join("followed");
    let follower = own.start_line(&format!("docker logs -f count > {}", followed.display()));
    own.docker("exec count touch /go").success();
    eventually("the last line has come", || {
        let size = fs::metadata(&followed).map_or(0, |status| status.len());
        size >= numbers(1).len() as u64
    });
    follower.stop();
    assert_same(&fs::read_to_string(&followed).unwrap(), &numbers(1));
    assert_same(&own.kubectl("logs deployment/count").stdout, &numbers(1));
    assert_same(&own.docker("logs count").stdout, &numbers(1));
    assert_same(&own.docker("logs --tail 500000 count").stdout, &numbers(400_001));
    let files = log_files(&own.data().join("pods"));
    assert!(files.len() >= 4, "{files:?}");
}

#[d2k_suite::test]
fn logs_of_earlier_runs_go_but_for_the_one_before() {
    let Some(own) = Own::start() else { return };
    own.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: again}
spec:
  volumes: [{name: runs, emptyDir: {}}]
  containers:
  - name: a
    image: busybox
    # Each run lasts until it is told to end, by a file with its number.
    command: [sh, -c, 'n=$(ls /d | wc -l); cat /proc/uptime; while [ ! -e /d/$n ]; do sleep 0.1; done']
    volumeMounts: [{name: runs, mountPath: /d}]
"#,
    );
    let restarts = || own.field("pod/again", ".status.containerStatuses[0].restartCount");
    let pods = own.data().join("pods");
    eventually("it has run", || !own.kubectl("logs again").stdout.is_empty());
    let first = own.kubectl("logs again").success();
    own.kubectl("exec again -- touch /d/0").success();
    eventually("it runs again", || restarts() == "1" && !own.kubectl("logs again").stdout.is_empty());
    assert_eq!(own.kubectl("logs again --previous").success(), first);
    assert_eq!(log_files(&pods).len(), 2);
    own.kubectl("exec again -- touch /d/1").success();
    eventually("it runs once more", || restarts() == "2" && !own.kubectl("logs again").stdout.is_empty());
    assert_eq!(log_files(&pods).len(), 2);
}
