//! Bad times: an engine that is away, slow, full, or does not answer; ports that are taken. Nothing that was answered is lost, the Pods say
//! what is wrong in the engine's words, and all goes on by itself when the engine is well.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::device::{Device, IMAGE, soon};
use crate::proxy::Proxy;
use crate::support::{Output, free_port, run};

const DEADLINE: Duration = Duration::from_secs(60);
/// What an engine says whose disk is full.
const FULL: &str = "mkdir /var/lib/docker/overlay2/l: no space left on device";

/// A device whose k2d reaches its engine through a proxy.
fn start() -> Option<(Device, Proxy)> {
    let mut device = Device::start()?;
    device.kill();
    let proxy = Proxy::start(device.engine(), free_port());
    device.begin_through(&proxy.address());
    Some((device, proxy))
}

fn deploy(device: &Device, name: &str) {
    let image = format!("--image={IMAGE}");
    let words =
        ["create", "deployment", name, &image, "--", "sh", "-c", "trap 'exit 0' TERM; sleep 600 & wait"];
    device.kubectl_with(&words, "").success();
}

fn is_rolled_out(device: &Device, name: &str) {
    device.kubectl(&format!("rollout status deployment/{name} --timeout=45s")).success();
}

/// Runs k2d to its end, with a folder of its own.
fn serve_elsewhere(device: &Device, port: u16, engine: &str) -> Output {
    let data = device.data.with_extension("other");
    let mut command = Command::new(device.program());
    command.args(["serve", "--port", &port.to_string(), "--engine", engine, "--data-path"]).arg(&data);
    let ended = run(command, "k2d serve", b"", DEADLINE);
    let _ = std::fs::remove_dir_all(data);
    ended
}

#[d2k_suite::test]
fn a_port_that_is_taken_is_named_and_who_has_it_goes_on() {
    let Some(device) = Device::start() else { return };
    let net = || device.docker("inspect -f {{.Id}} k2d-net").success();
    let before = net();
    let ended = serve_elsewhere(&device, device.port, device.engine());
    let port = format!("0.0.0.0:{}", device.port);
    ended.failure(1, &["cannot listen on", &port, "os error 98", "K2D_PORT"]);
    assert_eq!(net(), before, "the container of the network is that of the first k2d");
    device.kubectl("get nodes").success();
}

#[d2k_suite::test]
fn an_engine_that_is_away_at_the_start_is_named() {
    let Some(device) = Device::start() else { return };
    let nobody = format!("tcp://127.0.0.1:{}", free_port());
    let ended = serve_elsewhere(&device, free_port(), &nobody);
    ended.failure(1, &["the engine at", &nobody, "cannot be reached", "Connection refused"]);
}

#[d2k_suite::test]
fn the_api_answers_while_the_engine_is_away_and_work_goes_on_when_it_is_back() {
    let Some((device, mut proxy)) = start() else { return };
    deploy(&device, "web");
    deploy(&device, "short");
    is_rolled_out(&device, "web");
    is_rolled_out(&device, "short");
    let (before, process) = (device.containers_of("web"), device.process());
    assert!(device.health().success().ends_with("the engine answers"));
    proxy.away();
    let said = device.health().success();
    assert!(said.contains("the engine is away") && said.contains("Connection refused"), "{said}");
    device.kubectl("get nodes").success();
    deploy(&device, "late");
    device.kubectl("create configmap told --from-literal=key=value").success();
    device.kubectl("delete deployment short").success();
    let pod = device.kubectl("get pods -l app=short -o name").success();
    device.kubectl(&format!("delete {pod} --grace-period=0 --force --wait=false"));
    let why = || device.kubectl("describe pods -l app=late").stdout.contains("Connection refused");
    soon("a Pod says why it waits", why);
    assert_eq!(device.containers_of("web"), before);
    proxy.back();
    is_rolled_out(&device, "late");
    soon("what was deleted meanwhile is gone", || device.containers_of("short").is_empty());
    assert_eq!(device.field("configmap/told", ".data.key"), "value");
    assert_eq!((device.containers_of("web"), device.process()), (before, process));
    soon("the engine answers", || device.health().success().ends_with("the engine answers"));
}

#[d2k_suite::test]
fn a_slow_engine_keeps_nobody_but_its_pods_waiting() {
    let Some((device, proxy)) = start() else { return };
    proxy.slow(Duration::from_millis(700));
    deploy(&device, "web");
    let begin = Instant::now();
    for _ in 0..3 {
        device.kubectl("get pods").success();
    }
    // Each starts a process; a call of the engine in between would add as much as three of them take.
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    is_rolled_out(&device, "web");
    assert_eq!(device.containers_of("web").len(), 1);
}

const PAIR: &str = "
apiVersion: v1
kind: Pod
metadata: {name: pair}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: one, image: IMAGE, command: [sleep, '600']}
  - {name: two, image: IMAGE, command: [sleep, '600']}
";

#[d2k_suite::test]
fn an_engine_whose_disk_is_full_is_quoted_and_asked_again() {
    let Some((device, proxy)) = start() else { return };
    deploy(&device, "web");
    is_rolled_out(&device, "web");
    let before = device.containers_of("web");
    proxy.refuse("/containers/create", FULL);
    device.kubectl(&format!("run alone --image={IMAGE} -- sleep 600")).success();
    device.apply(&PAIR.replace("IMAGE", IMAGE)).success();
    for pod in ["alone", "pair"] {
        let told =
            || device.kubectl(&format!("get events --field-selector involvedObject.name={pod}")).stdout;
        soon("an Event quotes the engine", || {
            told().lines().any(|line| line.contains("Warning") && line.contains(FULL))
        });
        assert!(device.kubectl(&format!("get pod {pod}")).stdout.contains("0/"));
    }
    let state = device.field("pod/alone", ".status.containerStatuses[0].state.waiting");
    assert!(state.contains("CreateContainerError") && state.contains(FULL), "{state}");
    assert_eq!(device.containers_of("web"), before);
    proxy.heal();
    for pod in ["alone", "pair"] {
        device.until_ready(pod);
    }
    assert_eq!((device.containers_of("alone").len(), device.containers_of("one.pair").len()), (1, 1));
    device.kubectl("delete pod alone pair --now").success();
    soon("nothing is left of them", || device.containers() == before);
}

#[d2k_suite::test]
fn a_container_whose_creation_was_never_answered_is_not_made_twice() {
    let Some((device, proxy)) = start() else { return };
    proxy.lose_answer("/containers/create");
    device.kubectl(&format!("run alone --image={IMAGE} -- sleep 600")).success();
    device.until_ready("alone");
    let found = device.docker("ps -a --filter label=k2d.io/pod=alone --format {{.Names}}:{{.State}}").lines();
    assert_eq!(found, ["alone.default:running"]);
}

#[d2k_suite::test]
fn a_probe_that_the_engine_cannot_run_ends_no_container() {
    let Some((device, mut proxy)) = start() else { return };
    device.apply(&PROBED.replace("IMAGE", IMAGE)).success();
    device.until_ready("probed");
    proxy.away();
    // More failures than the probe forgives.
    std::thread::sleep(Duration::from_secs(5));
    proxy.back();
    soon("the engine answers", || device.health().success().ends_with("the engine answers"));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(device.field("pod/probed", ".status.containerStatuses[0].restartCount"), "0");
    // It is still probed.
    device.kubectl("exec probed -- rm /alive").success();
    soon("it is started again", || {
        device.field("pod/probed", ".status.containerStatuses[0].restartCount") == "1"
    });
}

const PROBED: &str = "
apiVersion: v1
kind: Pod
metadata: {name: probed}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: IMAGE
    command: [sh, -c, 'touch /alive; trap \"exit 0\" TERM; sleep 600 & wait']
    livenessProbe: {exec: {command: [test, -e, /alive]}, periodSeconds: 1, failureThreshold: 3, timeoutSeconds: 5}
";

#[d2k_suite::test]
fn the_namespaces_of_kubernetes_stay() {
    let Some(device) = Device::start() else { return };
    let words = "namespaces \"default\" is forbidden: this namespace may not be deleted";
    device.kubectl("delete namespace default").failure(1, &["Forbidden", words]);
    device.kubectl(&format!("run after --image={IMAGE} -- sleep 600")).success();
    device.until_ready("after");
}
