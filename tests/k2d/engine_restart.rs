//! The engine ends and starts again, by a kill or in order, with and without k2d.

use crate::device::{Device, IMAGE, soon};
use crate::own_engine::OwnEngine;

/// A container that is alone, and ones that share the network and the memory of their Pod.
const APPS: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: IMAGE, command: [httpd, -f, -p, '8080', -h, /www]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: pair}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: memory, emptyDir: {medium: Memory}}]
  initContainers:
  - {name: first, image: IMAGE, command: [echo, first]}
  containers:
  - {name: one, image: IMAGE, command: [sh, -c, LOOP], volumeMounts: [{name: memory, mountPath: /memory}]}
  - {name: two, image: IMAGE, command: [sh, -c, LOOP], volumeMounts: [{name: memory, mountPath: /memory}]}
";
const LOOP: &str = "'trap \"exit 0\" TERM; while :; do sleep 0.1; done'";

/// An engine of the test's own, with apps on it that k2d has started.
fn start() -> Option<(OwnEngine, Device)> {
    // The engine is the last to go.
    let engine = OwnEngine::start()?;
    let device = Device::on(engine.address());
    device.apply(&APPS.replace("IMAGE", IMAGE).replace("LOOP", LOOP)).success();
    until_well(&device);
    Some((engine, device))
}

fn until_well(device: &Device) {
    device.kubectl("rollout status deployment/web --timeout=45s").success();
    device.kubectl("wait --for=condition=Ready --timeout=45s pod/pair").success();
    let page = || device.kubectl("exec pair -c one -- wget -q -O- http://web").stdout == "a page\n";
    soon("the Service answers", page);
}

/// How often each container of the Pods was restarted.
fn restarts(device: &Device) -> String {
    device.kubectl("get pods -o jsonpath={.items[*].status.containerStatuses[*].restartCount}").success()
}

/// Containers of Pods that run.
fn running(device: &Device) -> usize {
    device.docker("ps -q --filter label=k2d.io/container").lines().len()
}

#[d2k_suite::test(ignored)]
fn apps_are_back_with_the_engine_and_k2d_takes_them_over() {
    let Some((mut engine, mut device)) = start() else { return };
    let before = device.containers();
    let mut told = vec![restarts(&device)];
    for signal in ["KILL", "TERM"] {
        device.kill();
        engine.end(signal);
        engine.begin();
        soon("those that are alone run without k2d", || running(&device) >= 2);
        device.begin();
        until_well(&device);
        assert_eq!(device.containers(), before, "nothing is made anew after {signal}");
        told.push(restarts(&device));
    }
    assert_eq!(told, ["0 0 0 0", "1 1 1 1", "2 2 2 2"]);
}

#[d2k_suite::test(ignored)]
fn k2d_answers_while_the_engine_starts_again_and_goes_on() {
    let Some((mut engine, device)) = start() else { return };
    let (before, process) = (device.containers(), device.process());
    let mut told = vec![restarts(&device)];
    for signal in ["KILL", "TERM"] {
        engine.end(signal);
        device.kubectl("get pods").success();
        device.kubectl(&format!("create configmap told-{}", signal.to_lowercase())).success();
        assert!(device.health().success().contains("the engine is away"));
        engine.begin();
        soon("all run", || running(&device) == 4);
        until_well(&device);
        assert_eq!((device.containers(), device.process()), (before.clone(), process), "{signal}");
        soon("the restarts are counted", || restarts(&device) != told[told.len() - 1]);
        told.push(restarts(&device));
    }
    assert_eq!(told, ["0 0 0 0", "1 1 1 1", "2 2 2 2"]);
    assert!(!device.log().contains("panicked"), "{}", device.log());
}
