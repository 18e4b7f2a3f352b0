//! Updates of a Deployment under requests.

use crate::device::{Device, IMAGE};
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

/// Takes minutes.
#[d2k_suite::test(ignored)]
fn no_request_fails_in_a_hundred_updates() {
    update(100);
}
