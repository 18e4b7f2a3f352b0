//! Updates of a Deployment under requests.

use crate::device::{Device, IMAGE, soon};
use crate::support::no_request_fails;

fn update(times: usize) {
    let Some(device) = Device::start() else { return };
    let apply = |manifest: &str| drop(device.apply(manifest).success());
    no_request_fails(IMAGE, times, apply, |words| device.kubectl_with(words, ""));
}

#[d2k_suite::test]
fn no_request_fails_while_a_deployment_is_updated() {
    update(5);
}

#[d2k_suite::test]
fn an_update_to_an_image_that_is_not_there_keeps_the_old_pod_serving() {
    let Some(device) = Device::start() else { return };
    let image = format!("--image={IMAGE}");
    let serve = ["create", "deployment", "web", &image, "--", "httpd", "-f", "-p", "8080", "-h", "/www"];
    device.kubectl_with(&serve, "").success();
    device.kubectl("rollout status deployment/web --timeout=30s").success();
    device.kubectl("expose deployment web --port=80 --target-port=8080").success();
    device.kubectl(&format!("run client {image} -- sleep 600")).success();
    device.until_ready("client");
    let page = || device.kubectl("exec client -- wget -q -O- http://web").stdout == "a page\n";
    soon("the Service answers", page);
    let before = device.containers_of("web");
    device.kubectl("set image deployment/web *=localhost:1/none:1").success();
    soon("the new Pod has no image", || {
        device.kubectl("get pods -l app=web").stdout.contains("ImagePullBackOff")
    });
    for _ in 0..5 {
        assert!(page(), "the old Pod does not serve");
    }
    assert_eq!(device.containers_of("web"), before);
    assert_eq!(device.field("deployment/web", ".status.availableReplicas"), "1");
    device.kubectl("rollout status deployment/web --timeout=1s").failure(1, &["timed out"]);
    device.kubectl("rollout undo deployment/web").success();
    device.kubectl("rollout status deployment/web --timeout=30s").success();
    assert!(page());
    assert_eq!(device.containers_of("web"), before);
}

/// Takes minutes.
#[d2k_suite::test(ignored)]
fn no_request_fails_in_a_hundred_updates() {
    update(100);
}
