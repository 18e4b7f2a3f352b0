//! Updates of a Deployment under requests.

use crate::own::Own;
use crate::support::no_request_fails;

fn update(times: usize) {
    let Some(own) = Own::start() else { return };
    let quoted = |words: &[&str]| own.kubectl(format!("'{}'", words.join("' '")));
    no_request_fails("busybox", times, |manifest| own.apply(manifest), quoted);
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
