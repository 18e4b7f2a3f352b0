//! What is refused at the start, and what of a cluster outlives its daemon.

use std::time::Duration;

use crate::own::{Folder, Own};
use crate::support::{eventually, run, signal_process};
use crate::traces;

#[d2k_suite::test]
fn it_listens_on_loopback_only() {
    let Some(folder) = Folder::new() else { return };
    let output = run(folder.d2k(&["--listen", "0.0.0.0"]), "d2k", b"", Duration::from_secs(30));
    output.failure(2, &["D2K_LISTEN", "0.0.0.0", "loopback", "D2K_SOCKET"]);
}

#[d2k_suite::test]
fn it_takes_no_other_cluster() {
    let Some(folder) = Folder::new() else { return };
    std::fs::write(folder.path().join("config"), "").unwrap();
    let output = run(folder.d2k(&["--kubeconfig", "config"]), "d2k", b"", Duration::from_secs(30));
    output.failure(2, &["D2K_KUBECONFIG", "config", "--embedded brings a cluster of its own"]);
}

#[d2k_suite::test]
fn a_folder_in_use_is_refused_and_its_user_goes_on() {
    let Some(own) = Own::start() else { return };
    let data = own.data().display().to_string();
    let second = own.folder().d2k(&["--data-dir", &data, "--port", "0", "--admin-port", "0"]);
    let output = run(second, "a second d2k", b"", Duration::from_secs(30));
    output.failure(1, &["another d2k uses the folder", &data]);
    assert_eq!(own.docker("run --rm busybox echo hello").success(), "hello");
}

#[d2k_suite::test]
fn containers_and_volumes_are_there_again_after_a_stop_and_a_start() {
    let Some(mut own) = Own::start() else { return };
    own.docker("run -d --name web --restart always -v data:/data busybox sleep 1000").success();
    own.docker("run --name done busybox sh -c 'echo hello; exit 7'").failure(7, &[]);
    own.docker("exec web sh -c 'echo kept > /data/file'").success();
    let status = own.daemon().end("TERM", Duration::from_secs(20));
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    assert_eq!(traces::of(&own.data()), [""; 0]);
    own.start_again();
    eventually("the container runs again", || own.docker("exec web cat /data/file").stdout == "kept\n");
    let state = own.docker("inspect --format '{{.State.Status}} {{.State.ExitCode}}' done").success();
    assert_eq!(state, "exited 7");
    assert_eq!(own.docker("logs done").success(), "hello");
    own.docker("run --rm -v data:/data busybox cat /data/file").success();
}

#[d2k_suite::test]
fn a_killed_one_leaves_no_process_and_starts_again_with_what_it_had() {
    let Some(mut own) = Own::start() else { return };
    own.docker("run -d --name web --restart always -v data:/data busybox sleep 1000").success();
    own.docker("exec web sh -c 'echo kept > /data/file'").success();
    own.daemon().kill();
    let data = own.data();
    let processes = || traces::of(&data).into_iter().filter(|found| found.starts_with("process"));
    eventually("its processes have ended", || processes().next().is_none());
    own.start_again();
    eventually("the container runs again", || own.docker("exec web cat /data/file").stdout == "kept\n");
    own.docker("rm -f web").success();
    own.daemon().end("TERM", Duration::from_secs(20)).unwrap();
    assert_eq!(traces::of(&data), [""; 0]);
}

#[d2k_suite::test]
fn its_kubernetes_is_there_for_kubectl() {
    let Some(own) = Own::start() else { return };
    own.docker("run -d --name web nginx").success();
    own.kubectl("wait --for=condition=available deployment/web --timeout=30s").success();
    assert!(own.kubectl("get pods").success().contains("1/1     Running"));
    own.kubectl("scale deployment web --replicas 0").success();
    eventually("it is stopped for docker, too", || own.docker("ps -q").success().is_empty());
}

#[d2k_suite::test]
fn it_ends_with_its_engine_and_says_so() {
    let Some(mut own) = Own::start() else { return };
    own.docker("run -d --name web --restart always busybox sleep 1000").success();
    let data = own.data();
    let helper = traces::of(&data).into_iter().find_map(|found| {
        let number =
            found.strip_prefix("process ")?.split_once(": ").filter(|(_, c)| c.contains(" inner "))?.0;
        number.parse().ok()
    });
    signal_process(helper.unwrap(), "KILL");
    let status = own.daemon().end("0", Duration::from_secs(20));
    assert_eq!(status.and_then(|status| status.code()), Some(1));
    assert!(own.daemon().log_tail().contains("the engine's helper process has ended"));
    assert_eq!(traces::of(&data), [""; 0]);
    own.start_again();
    eventually("the container runs again", || own.docker("exec web echo here").stdout == "here\n");
}
