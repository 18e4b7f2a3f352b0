//! Ports and names in the network of d2k's own, which no other program makes.

use std::net::UdpSocket;
use std::time::Duration;

use serde_json::json;

use crate::own::Own;
use crate::support::{Image, UDP_ECHO, eventually, free_port, free_udp_port, http_get, static_program};

#[d2k_suite::test]
fn udp_passes_both_ways() {
    let Some(own) = Own::start() else { return };
    let image = format!("udp-{}", std::process::id());
    let program = static_program(UDP_ECHO, own.folder().path());
    Image::empty(&image).file("echo", program, 0o755).config(json!({"Cmd": ["/echo"]})).push();
    let port = free_udp_port();
    own.docker(format!("run -d --name echo -p {port}:9000/udp {image}")).success();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    eventually("the datagram comes back", || {
        socket.send_to(b"ping", ("127.0.0.1", port)).unwrap();
        let mut bytes = [0; 100];
        socket.recv(&mut bytes).is_ok_and(|length| &bytes[..length] == b"pong: ping")
    });
}

#[d2k_suite::test]
fn a_published_port_answers_at_once_and_is_closed_with_the_container() {
    let Some(own) = Own::start() else { return };
    let port = free_port();
    own.docker(format!("run -d --name web -p {port}:80 nginx")).success();
    let answers =
        || http_get(("127.0.0.1", port), "/").is_some_and(|r| r.text().contains("Welcome to nginx"));
    eventually("it answers", answers);
    own.docker("rm -f web").success();
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "port {port} is open");
}

#[d2k_suite::test]
fn containers_of_a_network_find_one_another_by_name_and_others_do_not() {
    let Some(own) = Own::start() else { return };
    own.docker("network create backend").success();
    own.docker("run -d --name web --network backend --network-alias store nginx").success();
    for name in ["web", "store"] {
        let page = own.docker(format!("run --rm --network backend busybox wget -q -O - http://{name}/"));
        assert!(page.clone().success().contains("Welcome to nginx"), "{page}");
    }
    assert_ne!(own.docker("run --rm busybox wget -q -O - http://store/").status, 0);
}

#[d2k_suite::test]
fn a_container_reaches_d2k_where_it_wants_a_docker_socket() {
    let Some(own) = Own::start() else { return };
    let run = "run --rm -v /var/run/docker.sock:/var/run/docker.sock busybox";
    let script = "wget -q -O - http://${DOCKER_HOST#tcp://}/_ping";
    assert_eq!(own.docker(format!("{run} sh -c '{script}'")).success(), "OK");
}
