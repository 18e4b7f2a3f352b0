//! The token that a container finds in its files: it is one of the Pod's own ServiceAccount, and opens nothing. The image of the
//! tests has no client for TLS, so the token is shown from outside; tests/embedded/tokens.rs asks from inside.

use std::process::Command;
use std::time::Duration;

use crate::device::{Device, IMAGE, soon};
use crate::support::run;

const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// The status of the answer to a request from outside with a token.
fn status(device: &Device, path: &str, token: &str) -> String {
    let url = format!("https://127.0.0.1:{}{path}", device.port);
    let mut curl = Command::new("curl");
    curl.args(["-sk", "-o", "/dev/null", "-w", "%{http_code}", &url]);
    curl.args(["-H", &format!("Authorization: Bearer {token}")]);
    run(curl, &url, b"", Duration::from_secs(10)).success()
}

fn start(device: &Device, pod: &str) {
    let image = format!("--image={IMAGE}");
    device.kubectl_with(&["run", pod, &image, "--", "sleep", "1000"], "").success();
    device.until_ready(pod);
}

#[d2k_suite::test]
fn a_container_does_not_get_the_device_with_its_token() {
    let Some(device) = Device::start() else { return };
    start(&device, "one");
    let token = device.kubectl(&format!("exec one -- cat {TOKEN}")).success();
    for path in ["/version", "/healthz", "/api/v1", "/openapi/v3"] {
        assert_eq!(status(&device, path, &token), "200", "{path}");
    }
    for path in [
        "/api/v1/namespaces/default/pods",
        "/api/v1/namespaces/default/secrets",
        "/api/v1/namespaces/kube-system/secrets",
        "/api/v1/nodes/edge",
        "/apis/apps/v1/deployments?watch=true",
        "/api/v1/namespaces/default/pods/one/exec?command=sh",
    ] {
        assert_eq!(status(&device, path, &token), "403", "{path}");
    }
    assert_ne!(token, std::fs::read_to_string(device.data.join("pki/token")).unwrap());
    device.kubectl("delete pod one --grace-period=1").success();
    assert_eq!(status(&device, "/healthz", &token), "401");
    let log = device.log();
    assert!(!log.contains(&token) && !log.contains(token.rsplit('.').next().unwrap()), "the log has a token");
}

#[d2k_suite::test]
fn a_container_has_a_good_token_after_k2d_was_away() {
    let Some(mut device) = Device::start() else { return };
    start(&device, "one");
    let read = |device: &Device| device.kubectl(&format!("exec one -- cat {TOKEN}")).success();
    let (before, containers) = (read(&device), device.containers());
    device.kill();
    device.begin();
    soon("it is another one", || read(&device) != before);
    assert_eq!(device.containers(), containers);
    for (token, which) in [(read(&device), "the new one"), (before, "the old one, of the same key")] {
        assert_eq!(status(&device, "/version", &token), "200", "{which}");
    }
    device.kubectl("delete pod one --grace-period=1").success();
}
