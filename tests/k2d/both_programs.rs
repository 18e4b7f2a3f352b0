//! d2k over k2d over an engine: what is asked of Docker's API comes through Kubernetes' API to Docker's API again, and works.

use std::process::Command;
use std::time::Duration;

use crate::device::{Device, soon};
use crate::support::{Daemon, Output, free_port, http_get, push_base_images, registry, run};

const DEADLINE: Duration = Duration::from_secs(60);

#[d2k_suite::test]
fn docker_runs_containers_through_both() {
    let Some(device) = Device::start() else { return };
    // Both sides find the image under one name: the registry of the tests is on loopback, which engines take without TLS.
    push_base_images().unwrap();
    let image = format!("{}/library/busybox", registry());
    let kubeconfig = device.data.join("kubeconfig").display().to_string();
    let settings = [
        ("D2K_KUBECONFIG", kubeconfig.as_str()),
        ("D2K_NAMESPACE", "default"),
        ("D2K_ADMIN_PORT", "0"),
        // k2d has the ports of this machine.
        ("D2K_PUBLISH", "service"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let log = device.data.with_extension("d2k.log");
    let d2k = Daemon::start(free_port(), &settings, &log);
    let docker = |words: &[&str]| -> Output {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", format!("tcp://127.0.0.1:{}", d2k.port)).args(words);
        run(command, &format!("docker {}", words.join(" ")), b"", DEADLINE)
    };
    let ended = docker(&["run", "--rm", &image, "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((ended.status, ended.stdout.trim(), ended.stderr.trim()), (7, "out", "err"), "{ended}");
    docker(&["run", "--rm", "-v", "kept:/data", &image, "sh", "-c", "echo word >/data/file"]).success();
    assert_eq!(docker(&["run", "--rm", "-v", "kept:/data", &image, "cat", "/data/file"]).success(), "word");
    docker(&["network", "create", "inner"]).success();
    let port = free_port();
    let publish = format!("{port}:80");
    let serve = "mkdir /page && echo served >/page/index.html && exec httpd -f -p 80 -h /page";
    docker(&["run", "-d", "--name", "web", "--network", "inner", "-p", &publish, &image, "sh", "-c", serve])
        .success();
    soon("the port answers", || {
        http_get(("127.0.0.1", port), "/").is_some_and(|page| page.text().contains("served"))
    });
    let fetch = ["run", "--rm", "--network", "inner", &image, "wget", "-q", "-O", "-", "http://web"];
    assert_eq!(docker(&fetch).success(), "served");
    assert_eq!(docker(&["exec", "web", "cat", "/page/index.html"]).success(), "served");
    // The engine itself has it, as a container of a Pod.
    assert_eq!(device.docker("ps -q --filter label=k2d.io/namespace=default").success().lines().count(), 1);
    docker(&["rm", "-f", "web"]).success();
    docker(&["volume", "rm", "kept"]).success();
    docker(&["network", "rm", "inner"]).success();
    soon("nothing is left", || device.containers().is_empty());
    drop(d2k);
    let _ = std::fs::remove_file(log);
}
