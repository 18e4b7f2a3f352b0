//! The token that a container finds in its files: it is one of the Pod's own ServiceAccount, and opens nothing.

use std::process::Command;
use std::time::Duration;

use crate::device::{Device, IMAGE, soon};
use crate::support::run;

const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Asks the API from inside of a Pod with the token of its files.
fn asked(device: &Device, pod: &str, path: &str) -> String {
    let script = format!(
        "wget -q -O - --no-check-certificate --header \"Authorization: Bearer $(cat {TOKEN})\" \
         \"https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT{path}\" 2>&1; true"
    );
    device.kubectl_with(&["exec", pod, "--", "sh", "-c", &script], "").success()
}

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
    soon("the API is there", || asked(&device, "one", "/version").contains("gitVersion"));
    assert!(asked(&device, "one", "/api/v1").contains("\"serviceaccounts/token\""));
    for path in [
        "/api/v1/namespaces/default/pods",
        "/api/v1/namespaces/default/secrets",
        "/api/v1/namespaces/kube-system/secrets",
        "/api/v1/nodes/edge",
        "/apis/apps/v1/deployments?watch=true",
    ] {
        let said = asked(&device, "one", path);
        assert!(said.contains("403 Forbidden"), "{path}: {said}");
    }
    let token = device.kubectl(&format!("exec one -- cat {TOKEN}")).success();
    assert_ne!(token, std::fs::read_to_string(device.data.join("pki/token")).unwrap());
    assert_eq!(status(&device, "/healthz", &token), "200");
    assert_eq!(status(&device, "/api/v1/namespaces/default/pods/one/exec?command=sh", &token), "403");
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
    soon("it is good", || asked(&device, "one", "/version").contains("gitVersion"));
    assert_eq!(status(&device, "/version", &before), "200", "the key is the same one");
    device.kubectl("delete pod one --grace-period=1").success();
}
