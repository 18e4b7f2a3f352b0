//! Apps outlive k2d: it may be killed at any moment, and no container is touched.

use crate::device::{Device, IMAGE, soon};

const LOOP: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

#[d2k_suite::test]
fn containers_run_on_while_k2d_is_away() {
    let Some(mut device) = Device::start() else { return };
    let image = format!("--image={IMAGE}");
    device
        .kubectl_with(&["create", "deployment", "web", &image, "--replicas=2", "--", "sh", "-c", LOOP], "")
        .success();
    device.docker_with(&["run", "-d", "--name", "byhand", IMAGE, "sh", "-c", LOOP]).success();
    device.kubectl("rollout status deployment/web --timeout=30s").success();
    device.until_ready("byhand");
    let (before, pods) = (device.containers(), device.kubectl("get pods -o name").success());
    let started = device.docker("inspect -f {{.State.StartedAt}} byhand").success();
    for _ in 0..3 {
        device.kill();
        device.begin();
        device.kubectl("rollout status deployment/web --timeout=30s").success();
        device.until_ready("byhand");
        assert_eq!(device.containers(), before);
        assert_eq!(device.kubectl("get pods -o name").success(), pods);
        assert!(!device.kubectl("get pods").success().contains("RESTARTS   AGE\n1"));
    }
    assert_eq!(device.docker("inspect -f {{.State.StartedAt}} byhand").success(), started);
    device.docker("rm -f byhand").success();
}

#[d2k_suite::test]
fn what_happens_while_k2d_is_away_is_known_when_it_is_back() {
    let Some(mut device) = Device::start() else { return };
    let image = format!("--image={IMAGE}");
    for name in ["stopped", "removed", "stays"] {
        device.kubectl_with(&["create", "deployment", name, &image, "--", "sh", "-c", LOOP], "").success();
        device.kubectl(&format!("rollout status deployment/{name} --timeout=30s")).success();
    }
    device.docker_with(&["run", "-d", "--name", "gone", IMAGE, "sh", "-c", LOOP]).success();
    device.until_ready("gone");
    let of = |device: &Device, name: &str| {
        device.containers().into_iter().find(|one| one.starts_with(name)).unwrap_or_default()
    };
    let (stopped, removed, stays) = (of(&device, "stopped"), of(&device, "removed"), of(&device, "stays"));
    let id = |one: &str| one.split_once('=').unwrap().1.to_owned();
    device.kill();
    device.docker(&format!("stop {}", id(&stopped))).success();
    device.docker(&format!("rm -f {} gone", id(&removed))).success();
    device.begin();
    soon("what was removed is made anew", || {
        device.kubectl("get deployment removed").stdout.contains("1/1") && of(&device, "removed") != removed
    });
    assert!(device.kubectl("get deployment stopped").stdout.contains("0/1"));
    assert_eq!((of(&device, "stopped"), of(&device, "stays")), (stopped, stays));
    device.kubectl("get pod gone").failure(1, &["not found"]);
}

const OWNERS: &str = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: store, namespace: far}
spec:
  serviceName: store
  replicas: 2
  selector: {matchLabels: {app: store}}
  template:
    metadata: {labels: {app: store}}
    spec: {terminationGracePeriodSeconds: 0, containers: [{name: main, image: IMAGE, command: [sleep, '600']}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent, namespace: far}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {terminationGracePeriodSeconds: 0, containers: [{name: main, image: IMAGE, command: [sleep, '600']}]}
";

#[d2k_suite::test]
fn workloads_are_there_again_after_the_data_folder_is_lost() {
    let Some(mut device) = Device::start() else { return };
    let image = format!("--image={IMAGE}");
    device.kubectl("create namespace far").success();
    let create = ["-n", "far", "create", "deployment", "web", &image, "--replicas=2", "--", "sh", "-c", LOOP];
    device.kubectl_with(&create, "").success();
    device.kubectl("-n far rollout status deployment/web --timeout=30s").success();
    device.apply(&OWNERS.replace("IMAGE", IMAGE)).success();
    for owner in ["statefulset/store", "daemonset/agent"] {
        device.kubectl(&format!("-n far rollout status {owner} --timeout=30s")).success();
    }
    let before = device.containers();
    let uid =
        |device: &Device| device.kubectl("-n far get deployment web -o jsonpath={.metadata.uid}").success();
    let known = uid(&device);
    device.kill();
    std::fs::remove_dir_all(&device.data).unwrap();
    device.begin();
    device.kubectl("-n far rollout status deployment/web --timeout=30s").success();
    for owner in ["statefulset/store", "daemonset/agent"] {
        device.kubectl(&format!("-n far rollout status {owner} --timeout=30s")).success();
    }
    assert_eq!((device.containers(), uid(&device)), (before, known));
    device.kubectl("-n far delete statefulset/store daemonset/agent").success();
    assert!(device.log().contains("apply Services"), "{}", device.log());
    // What is applied now is served: the process for names has the new folder.
    device.kubectl("-n far expose deployment web --port=80").success();
    let name = format!("-n far run look --image={IMAGE} -- sleep 600");
    device.kubectl(&name).success();
    device.kubectl("-n far wait --for=condition=Ready --timeout=30s pod/look").success();
    let look = "-n far exec look -- nslookup web.far.svc.cluster.local";
    soon("the name is known", || device.kubectl(look).status == 0);
    device.kubectl("-n far delete pod look --now").success();
    device.kubectl("-n far scale deployment/web --replicas=0").success();
    soon("they are gone", || device.containers().is_empty());
}
