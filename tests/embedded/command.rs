//! `d2k serve --embedded -- COMMAND`: a cluster for one command, of which nothing is left.

use std::path::Path;
use std::time::Duration;

use crate::own::Folder;
use crate::support::{Running, run, signal_process};
use crate::traces;

/// What is left in the folder in which clusters of commands have theirs, and of the cluster itself.
#[track_caller]
fn left(folder: &Folder, kubeconfig: &str) -> Vec<String> {
    let data = Path::new(kubeconfig).parent().unwrap();
    assert!(data.starts_with(folder.path()), "{kubeconfig:?} is not below {}", folder.path().display());
    let mut left = traces::of(data);
    left.extend(data.exists().then(|| format!("folder {}", data.display())));
    left
}

#[d2k_suite::test]
fn its_exit_code_is_that_of_the_command() {
    let Some(folder) = Folder::new() else { return };
    for (script, code) in [("true", 0), ("exit 7", 7), ("kill -TERM $$", 143)] {
        assert_eq!(folder.run_job(script).status, code, "{script}");
    }
    let missing = run(folder.job(&["--", "nosuch-program"]), "nosuch", b"", Duration::from_secs(60));
    missing.failure(127, &["cannot run nosuch-program"]);
}

#[d2k_suite::test]
fn the_command_has_docker_and_kubernetes_whatever_its_surroundings_say() {
    let Some(folder) = Folder::new() else { return };
    let script = "docker run --rm busybox echo hello; kubectl get nodes -o name | wc -l; cat";
    let mut job = folder.job(&["--", "sh", "-ec", script]);
    job.env("DOCKER_CONTEXT", "elsewhere").env("KUBECONFIG", "/no/such/file");
    let output = run(job, script, b"what comes in", Duration::from_secs(60));
    assert_eq!(output.success(), "hello\n1\nwhat comes in");
}

#[d2k_suite::test]
fn testcontainers_is_told_that_ports_are_where_the_engine_is() {
    let Some(folder) = Folder::new() else { return };
    let said = |given: Option<&str>| {
        let mut job = folder.job(&["--", "sh", "-c", "echo $TESTCONTAINERS_CONNECTION_MODE"]);
        job.env_remove("TESTCONTAINERS_CONNECTION_MODE");
        given.map(|mode| job.env("TESTCONTAINERS_CONNECTION_MODE", mode));
        run(job, "job", b"", Duration::from_secs(60)).success()
    };
    assert_eq!(said(None), "docker_host");
    assert_eq!(said(Some("bridge_ip")), "bridge_ip");
}

#[d2k_suite::test]
fn nothing_is_left_of_it() {
    let Some(folder) = Folder::new() else { return };
    let output = folder.run_job(
        "echo $KUBECONFIG
         docker network create backend >/dev/null
         docker run -d --name web --network backend -p 0:80 -v data:/data --memory 64m nginx >/dev/null
         docker run -d --restart always busybox sh -c 'trap : TERM; while :; do sleep 1; done' >/dev/null
         exit 3",
    );
    assert_eq!(output.status, 3, "{output}");
    assert_eq!(left(&folder, output.stdout.trim()), [""; 0]);
}

#[d2k_suite::test]
fn nothing_is_left_of_one_that_is_told_to_stop() {
    let Some(folder) = Folder::new() else { return };
    let script = "docker run -d busybox sleep 1000 >/dev/null; echo $KUBECONFIG; exec sleep 1000";
    let d2k = Running::spawn(folder.job(&["--", "sh", "-ec", script]), script);
    let kubeconfig = d2k.wait_for("kubeconfig").trim().to_owned();
    signal_process(d2k.id(), "TERM");
    assert_eq!(d2k.finish().status, 143);
    assert_eq!(left(&folder, &kubeconfig), [""; 0]);
}

#[d2k_suite::test]
fn two_run_side_by_side() {
    let Some(folder) = Folder::new() else { return };
    let start = |own: &str, other: &str| {
        let script = format!(
            "docker run -d --name same --network bridge busybox echo {own} >/dev/null; touch {own}
             while [ ! -e {other} ]; do sleep 0.1; done
             docker ps -a --format '{{{{.Names}}}}'; docker logs same; touch {own}-done
             while [ ! -e {other}-done ]; do sleep 0.1; done"
        );
        Running::spawn(folder.job(&["--", "sh", "-ec", &script]), &script)
    };
    let (one, two) = (start("one", "two"), start("two", "one"));
    assert_eq!(one.finish().success(), "same\none");
    assert_eq!(two.finish().success(), "same\ntwo");
}
