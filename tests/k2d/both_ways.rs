//! People use `docker` and `kubectl` on the same containers: each sees at once what the other does.

use crate::device::{Device, IMAGE, for_a_moment, soon};

const LOOP: &str = "trap 'exit 0' TERM; echo runs; while :; do sleep 0.1; done";

#[d2k_suite::test]
fn a_container_that_was_run_by_hand_is_a_pod() {
    let Some(device) = Device::start() else { return };
    let run = ["run", "-d", "--name", "plc_1", "--label", "app=plc", "-p", "0:502", IMAGE, "sh", "-c", LOOP];
    device.docker_with(&run).success();
    soon("it is shown", || device.kubectl("get pod plc-1").stdout.contains("1/1     Running"));
    soon("it talks", || device.kubectl("logs plc-1").stdout == "runs\n");
    assert_eq!(device.kubectl("get pods -l app=plc -o name").success(), "pod/plc-1");
    assert_eq!(device.kubectl_with(&["exec", "plc-1", "--", "echo", "inside"], "").success(), "inside");
    device.docker("stop plc_1").success();
    soon("it has ended", || device.kubectl("get pod plc-1").stdout.contains("0/1"));
    device.docker("start plc_1").success();
    soon("it runs again", || device.kubectl("get pod plc-1").stdout.contains("1/1     Running"));
    device.kubectl("delete pod plc-1").success();
    device.docker("inspect plc_1").failure(1, &["o such object: plc_1"]);
    device.docker_with(&run).success();
    soon("it is shown again", || device.kubectl("get pod plc-1").stdout.contains("1/1     Running"));
    device.docker("rm -f plc_1").success();
    soon("it is gone", || device.kubectl("get pod plc-1").status == 1);
}

#[d2k_suite::test]
fn the_images_of_the_engine_are_those_of_the_node() {
    let Some(device) = Device::start() else { return };
    let has = |name: &str| device.field("node/edge", ".status.images[*].names").contains(name);
    soon("the image is told", || has(IMAGE));
    let sizes = device.field("node/edge", ".status.images[*].sizeBytes");
    let sizes: Vec<u64> = sizes.split(' ').map(|size| size.parse().unwrap()).collect();
    assert!(sizes.is_sorted_by(|one, other| one >= other) && sizes.iter().all(|size| *size > 0), "{sizes:?}");
    device.docker(&format!("tag {IMAGE} k2d-test:another")).success();
    soon("another name is told", || has("k2d-test:another"));
    device.docker("rmi k2d-test:another").success();
    soon("it is gone", || !has("k2d-test:another"));
}

#[d2k_suite::test]
fn what_docker_does_to_a_container_of_a_pod_is_seen() {
    let Some(device) = Device::start() else { return };
    let image = format!("--image={IMAGE}");
    device.kubectl_with(&["create", "deployment", "web", &image, "--", "sh", "-c", LOOP], "").success();
    device.kubectl("rollout status deployment/web --timeout=30s").success();
    let one = device.containers().pop().unwrap();
    let (name, _) = one.split_once('=').unwrap();
    device.docker(&format!("stop {name}")).success();
    soon("it is not ready", || device.kubectl("get deployment web").stdout.contains("0/1"));
    for_a_moment();
    assert_eq!(device.containers(), std::slice::from_ref(&one), "what a person has stopped stays so");
    let told = device.kubectl("get events").success();
    assert!(told.contains("was stopped on the engine"), "{told}");
    device.docker(&format!("start {name}")).success();
    soon("it is ready", || device.kubectl("get deployment web").stdout.contains("1/1"));
    device.docker(&format!("rm -f {name}")).success();
    soon("there is another one", || {
        let now = device.containers();
        now.len() == 1 && now != [one.clone()] && device.kubectl("get deployment web").stdout.contains("1/1")
    });
}
