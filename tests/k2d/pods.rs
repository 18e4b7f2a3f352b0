//! Workloads as containers: their start and end, logs, exec, volumes, failures.

use std::process::Command;
use std::time::Duration;

use crate::device::{Device, IMAGE, soon};
use crate::support::{Running, free_port, http_get, run, signal_process};

#[d2k_suite::test]
fn nobody_gets_in_without_a_certificate_or_the_token() {
    let Some(device) = Device::start() else { return };
    let ask = |path: &str, token: &str| {
        let (url, header) =
            (format!("https://127.0.0.1:{}{path}", device.port), format!("Authorization: Bearer {token}"));
        let mut curl = Command::new("curl");
        curl.args(["-sk", &url]);
        if !token.is_empty() {
            curl.args(["-H", &header]);
        }
        run(curl, &url, b"", Duration::from_secs(10))
    };
    for path in ["/version", "/healthz", "/api", "/api/v1/pods", "/openapi/v3"] {
        for token in ["wrong", ""] {
            let answer = ask(path, token);
            assert!(answer.stdout.contains("Unauthorized"), "{path} with {token:?}: {answer}");
        }
    }
    let token = std::fs::read_to_string(device.data.join("pki/token")).unwrap();
    assert!(ask("/version", &token).success().contains("gitVersion"));
    for secret in ["kubeconfig", "pki/token", "pki/admin.key", "journal"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(device.data.join(secret)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{secret} is {mode:o}");
    }
}

#[d2k_suite::test]
fn a_deployment_is_containers_of_the_engine() {
    let Some(device) = Device::start() else { return };
    let node = device.kubectl("get nodes -o wide").success();
    assert!(node.contains("Ready") && node.contains("127.0.0.1") && node.contains("docker://"), "{node}");
    device.kubectl_with(
        &[
            "create",
            "deployment",
            "web",
            &format!("--image={IMAGE}"),
            "--replicas=3",
            "--",
            "httpd",
            "-f",
            "-p",
            "8080",
        ],
        "",
    );
    device.kubectl("rollout status deployment/web --timeout=30s").success();
    assert_eq!(device.containers().len(), 3);
    let listed = device.docker("ps --filter label=k2d.io/container --format {{.Image}}").lines();
    assert_eq!(listed, [IMAGE; 3]);
    device.kubectl("scale deployment/web --replicas=1").success();
    soon("two are gone", || device.containers().len() == 1);
    device.kubectl("delete deployment web").success();
    soon("all are gone", || device.containers().is_empty());
}

#[d2k_suite::test]
fn logs_and_commands_are_those_of_the_container() {
    let Some(device) = Device::start() else { return };
    let script = "echo zero; echo one; echo two >&2; trap 'exit 0' TERM; while :; do sleep 0.1; done";
    device
        .kubectl_with(&["run", "talker", &format!("--image={IMAGE}"), "--", "sh", "-c", script], "")
        .success();
    device.until_ready("talker");
    let lines = || {
        let mut lines = device.kubectl("logs talker").lines();
        // The engine reads the two streams side by side: which one comes first is left to chance.
        lines.sort();
        lines
    };
    soon("it talks", || lines() == ["one", "two", "zero"]);
    let last = device.kubectl("logs talker --tail=1").success();
    assert_eq!(device.kubectl("logs talker").lines().last(), Some(&last));
    assert_eq!(device.kubectl_with(&["exec", "-i", "talker", "--", "cat"], "input").success(), "input");
    let code = device.kubectl_with(&["exec", "talker", "--", "sh", "-c", "echo err >&2; exit 7"], "");
    code.failure(7, &["err"]);
    let missing = device.kubectl("exec talker -- nothing");
    missing.failure(1, &["Internal error occurred", "executable file not found"]);
    device.kubectl("delete pod talker --grace-period=5").success();
    assert!(device.containers().is_empty());
}

#[d2k_suite::test]
fn a_pod_of_many_parts_shares_what_pods_share() {
    let Some(device) = Device::start() else { return };
    device.kubectl("create configmap config --from-literal=a=1 --from-literal=b=2").success();
    device.kubectl("create secret generic secret --from-literal=key=hidden").success();
    device.apply(&MANY.replace("IMAGE", IMAGE)).success();
    device.until_ready("many");
    let exec = |container: &str, script: &str| {
        device.kubectl_with(&["exec", "many", "-c", container, "--", "sh", "-c", script], "").success()
    };
    assert_eq!(exec("one", "cat /scratch/init"), "made by init");
    assert_eq!(exec("one", "cat /config/renamed; cat /secret-key; cat /about/name"), "1hiddenmany");
    exec("one", "echo shared > /memory/file");
    assert_eq!(exec("two", "cat /memory/file"), "shared");
    assert!(exec("two", "mount | grep ' /memory '").contains("tmpfs"));
    // One network: a port of one is at the other's loopback.
    assert_eq!(exec("two", "wget -q -O- http://127.0.0.1:8080/"), "a page");
    assert_eq!(exec("one", "hostname"), "many");
    assert_eq!(device.kubectl("logs many -c prepare").success(), "preparing");
    device.kubectl("delete pod many --grace-period=1").success();
    let left = device.docker("volume ls -q --filter label=k2d.io/uid").success();
    assert_eq!(
        (left.as_str(), device.docker("ps -aq --filter label=k2d.io/uid").success().as_str()),
        ("", "")
    );
}

const MANY: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: many}
spec:
  terminationGracePeriodSeconds: 1
  volumes:
  - {name: work, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  - {name: config, configMap: {name: config, items: [{key: a, path: renamed}]}}
  - {name: secret, secret: {secretName: secret}}
  - {name: about, downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}
  initContainers:
  - name: prepare
    image: IMAGE
    command: [sh, -c, "echo preparing; echo made by init > /scratch/init"]
    volumeMounts: [{name: work, mountPath: /scratch}]
  containers:
  - name: one
    image: IMAGE
    command: [httpd, -f, -p, "8080", -h, /www]
    readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}
    volumeMounts:
    - {name: work, mountPath: /scratch}
    - {name: memory, mountPath: /memory}
    - {name: config, mountPath: /config}
    - {name: secret, mountPath: /secret-key, subPath: key}
    - {name: about, mountPath: /about}
  - name: two
    image: IMAGE
    command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
    volumeMounts: [{name: memory, mountPath: /memory}]
"#;

#[d2k_suite::test]
fn failures_are_told_in_kubernetes_words() {
    let Some(device) = Device::start() else { return };
    device.kubectl("run missing --image=localhost:1/none:1").success();
    let waiting = || device.field("pod/missing", ".status.containerStatuses[0].state.waiting");
    let quoted = "connection refused";
    soon("the pull fails", || waiting().contains("\"ErrImagePull\"") && waiting().contains(quoted));
    soon("it is tried again later", || {
        waiting().contains("\"ImagePullBackOff\"")
            && waiting().contains("Back-off pulling image \\\"localhost:1/none:1")
    });
    assert!(waiting().contains(quoted), "{}", waiting());
    device
        .kubectl_with(&["run", "wrong", &format!("--image={IMAGE}"), "--", "no-such-program"], "")
        .success();
    soon("the start fails", || {
        device.kubectl("get pod wrong -o json").stdout.contains("executable file not found")
    });
    let script = "echo last words; exit 3";
    device
        .kubectl_with(&["run", "crash", &format!("--image={IMAGE}"), "--", "sh", "-c", script], "")
        .success();
    soon("it crashes again and again", || {
        device.kubectl("get pod crash").stdout.contains("CrashLoopBackOff")
    });
    assert_eq!(device.kubectl("logs crash --previous").success(), "last words");
    assert_eq!(device.containers().iter().filter(|name| name.starts_with("crash")).count(), 1);
    device.kubectl_with(
        &["run", "once", &format!("--image={IMAGE}"), "--restart=Never", "--", "sh", "-c", "exit 4"],
        "",
    );
    soon("it has failed", || device.field("pod/once", ".status.phase") == "Failed");
    assert_eq!(device.field("pod/once", ".status.containerStatuses[0].state.terminated.exitCode"), "4");
    let pod = "apiVersion: v1\nkind: Pod\n";
    let empty = format!("{pod}metadata: {{name: empty}}\nspec: {{containers: []}}\n");
    device.apply(&empty).failure(1, &["spec.containers: Required value"]);
    device.apply(&format!("{pod}spec: {{}}\n")).failure(1, &["resource name may not be empty"]);
}

#[d2k_suite::test]
fn a_port_on_loopback_alone_is_forwarded() {
    let Some(device) = Device::start() else { return };
    let serve = [
        "run",
        "shy",
        &format!("--image={IMAGE}"),
        "--",
        "httpd",
        "-f",
        "-p",
        "127.0.0.1:8080",
        "-h",
        "/www",
    ];
    device.kubectl_with(&serve, "").success();
    device.until_ready("shy");
    let own = free_port();
    let mut kubectl = Command::new("kubectl");
    kubectl.env("KUBECONFIG", device.data.join("kubeconfig"));
    kubectl.args(["port-forward", "pod/shy", &format!("{own}:8080")]);
    let forward = Running::spawn(kubectl, "kubectl port-forward");
    soon("it listens", || forward.stdout().contains("Forwarding from"));
    for _ in 0..3 {
        let answer = http_get(("127.0.0.1", own), "/").unwrap();
        assert!(String::from_utf8_lossy(&answer.body).contains("a page"));
    }
    signal_process(forward.id(), "TERM");
    soon("nothing is left", || device.docker("ps -aq --filter label=k2d.io/role").lines().len() == 1);
}
