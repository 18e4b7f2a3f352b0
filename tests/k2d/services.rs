//! Names and Services: from Pods, from the machine, and while k2d is away.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::device::{Device, IMAGE, soon};

#[d2k_suite::test]
fn services_are_reached_by_name_address_and_node_port() {
    let Some(mut device) = Device::start() else { return };
    let image = format!("--image={IMAGE}");
    let serve = [
        "create",
        "deployment",
        "web",
        &image,
        "--replicas=2",
        "--",
        "httpd",
        "-f",
        "-p",
        "8080",
        "-h",
        "/www",
    ];
    device.kubectl_with(&serve, "").success();
    device.kubectl("expose deployment web --port=80 --target-port=8080 --type=NodePort").success();
    device.kubectl("create namespace other").success();
    device.kubectl_with(&["-n", "other", "run", "client", &image, "--", "sleep", "600"], "").success();
    device.kubectl("rollout status deployment/web --timeout=30s").success();
    device.kubectl("-n other wait --for=condition=Ready --timeout=30s pod/client").success();
    let port = device.field("service/web", ".spec.ports[0].nodePort");
    let address = device.field("service/web", ".spec.clusterIP");
    let from_pod = |device: &Device, host: &str| {
        let url = format!("http://{host}/");
        let words = ["-n", "other", "exec", "client", "--", "wget", "-q", "-O-", &url];
        device.kubectl_with(&words, "").stdout
    };
    let hosts = ["web.default", "web.default.svc", "web.default.svc.cluster.local", address.as_str()];
    for host in hosts {
        soon(host, || from_pod(&device, host) == "a page\n");
    }
    let from_machine = || page(&port).unwrap_or_default().contains("a page");
    soon("the node port", from_machine);
    let names = ["-n", "other", "exec", "client", "--", "nslookup", "web.default.svc.cluster.local"];
    assert!(device.kubectl_with(&names, "").both().contains(&address));
    // Pods go on without k2d; ports of the machine are its own.
    device.kill();
    let container = device.docker("ps -q --filter label=k2d.io/pod=client").success();
    let alone = format!("exec {container} wget -q -O- http://web.default/");
    assert_eq!(device.docker(&alone).success(), "a page");
    device.begin();
    soon("the node port again", from_machine);
    // What is not ready gets nothing.
    device.kubectl("scale deployment/web --replicas=0").success();
    soon("nobody serves", || from_pod(&device, "web.default").is_empty());
    let shown = device.docker("ps --format {{.Names}}").success();
    assert!(
        shown.contains("k2d-net") && !device.kubectl("get pods -A").success().contains("k2d-net"),
        "{shown}"
    );
}

/// What the machine's port answers to a browser.
fn page(port: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}"))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
