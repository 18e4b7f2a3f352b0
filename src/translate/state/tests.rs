//! How a run has ended, from Pods as kubelets report them.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::{Phase, UNKNOWN, last_end, state, status_of};
use crate::keys;
use crate::record::Record;

fn record(policy: &str) -> Record {
    let request = json!({"Image": "busybox", "HostConfig": {"RestartPolicy": {"Name": policy}}}).to_string();
    let created = "2026-01-01T00:00:00Z".to_owned();
    let notes = [
        (keys::REQUEST, request),
        (keys::ID, "1".repeat(64)),
        (keys::NAME, "web".into()),
        (keys::CREATED, created),
    ];
    Record::read(&ObjectMeta {
        name: Some("web".into()),
        annotations: Some(notes.map(|(key, value)| (key.to_owned(), value)).into()),
        ..ObjectMeta::default()
    })
    .unwrap()
}

/// A Pod whose container was started a second time and runs.
fn restarted(last: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "web-1", "uid": "u1", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "status": {"phase": "Running", "startTime": "2026-01-01T00:00:01Z", "containerStatuses": [{
            "name": "web", "image": "busybox", "imageID": "", "ready": true, "restartCount": 1,
            "state": {"running": {"startedAt": "2026-01-01T00:00:09Z"}}, "lastState": last,
        }]},
    }))
    .unwrap()
}

#[test]
fn the_first_end_of_a_process_that_runs_once_is_its_end() {
    let last =
        json!({"terminated": {"exitCode": 3, "finishedAt": "2026-01-01T00:00:05Z", "reason": "Error"}});
    let state = state(&record("no"), Some(&restarted(last)), 0);
    assert_eq!((state.phase, state.run.exit_code, state.run.error.as_str()), (Phase::Exited, 3, ""));
}

#[test]
fn a_process_that_runs_once_has_ended_although_its_end_was_cleared_away() {
    let state = state(&record("no"), Some(&restarted(json!({}))), 0);
    assert_eq!((state.phase, state.run.exit_code), (Phase::Exited, UNKNOWN));
    assert_eq!(state.run.finished.unwrap().to_string(), "2026-01-01T00:00:09Z");
    assert!(state.run.error.contains("before its exit code was read"), "{}", state.run.error);
}

#[test]
fn what_restarts_runs_again_whatever_is_known_of_its_last_end() {
    for policy in ["always", "on-failure"] {
        let state = state(&record(policy), Some(&restarted(json!({}))), 0);
        assert_eq!((state.phase, state.run.restart_count), (Phase::Running, 1), "{policy}");
    }
}

/// A container that waits for its second run, as a kubelet tells it: it is not counted up yet.
fn waiting(reason: &str) -> Pod {
    let last =
        json!({"terminated": {"exitCode": 3, "finishedAt": "2026-01-01T00:00:05Z", "reason": "Error"}});
    let mut pod = restarted(last);
    let status = &mut pod.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0];
    status.restart_count = 0;
    status.state = serde_json::from_value(json!({"waiting": {"reason": reason}})).unwrap();
    pod
}

#[test]
fn a_process_that_runs_once_has_ended_although_its_next_run_cannot_be_had() {
    let state = state(&record("no"), Some(&waiting("ImagePullBackOff")), 0);
    assert_eq!((state.phase, state.run.exit_code), (Phase::Exited, 3));
}

#[test]
fn what_runs_once_was_not_restarted_however_often_the_kubelet_tried() {
    let mut pod = waiting("CrashLoopBackOff");
    pod.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0].restart_count = 1;
    assert_eq!(state(&record("no"), Some(&pod), 0).run.restart_count, 0);
}

#[test]
fn the_last_end_is_of_the_run_that_is_counted_while_the_next_one_waits() {
    let run = |pod: Pod| last_end(status_of(&pod, "web").unwrap()).unwrap().1;
    assert_eq!(run(waiting("CrashLoopBackOff")), 0);
    let mut made = waiting("");
    made.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0].restart_count = 1;
    assert_eq!(run(made), 0);
}

#[test]
fn a_start_that_was_refused_has_dockers_exit_code() {
    for (message, code) in [
        ("error mounting \"/a\": not a directory: unknown", 127),
        ("bind source path: No such file or directory", 127),
        ("exec: permission denied", 126),
        ("violates PodSecurity", 128),
    ] {
        assert_eq!(super::refused_start_code(message), code, "{message}");
    }
}
