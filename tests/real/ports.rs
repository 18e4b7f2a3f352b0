//! Published ports: which Service they become, and that they are reachable on d2k's own host.

use std::net::UdpSocket;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Image, UDP_ECHO, World, eventually, free_port, free_ports, free_udp_port, http_get, static_program,
};

/// Waits until nginx answers on a port of this machine.
#[track_caller]
fn until_welcome(port: u16) {
    eventually(&format!("nginx answers on port {port}"), || {
        http_get(("127.0.0.1", port), "/").is_some_and(|reply| reply.text().contains("Welcome to nginx"))
    });
}

#[d2k_suite::test]
fn a_published_port_is_a_load_balancer_and_answers_on_d2ks_host() {
    let Some(world) = World::new() else { return };
    let port = free_port();
    world.docker(format!("run -d --name web -p {port}:80 nginx")).success();
    let page = world.sh(format!("curl -fsS --retry 5 --retry-connrefused localhost:{port}")).success();
    assert!(page.contains("Welcome to nginx"), "{page}");
    world.kubectl("rollout status deployment web --timeout=30s").success();
    let service = world.object("service/web");
    assert_eq!(service["spec"]["type"], "LoadBalancer");
    assert_eq!(service["spec"]["ports"][0]["port"], port);
    assert_eq!(service["spec"]["ports"][0]["targetPort"], 80);
    let balancer = || {
        let ingress = &world.object("service/web")["status"]["loadBalancer"]["ingress"][0]["ip"];
        ingress.as_str().and_then(|ip| http_get((ip, port), "/")).is_some_and(|reply| reply.status == 200)
    };
    eventually("the load balancer answers", balancer);
}

#[d2k_suite::test]
fn a_published_port_shows_in_port_ps_and_inspect_while_it_is_open() {
    let Some(world) = World::new() else { return };
    let port = free_port();
    world.docker(format!("run -d --name web -p {port}:80 nginx")).success();
    assert!(world.docker("port web").lines().contains(&format!("80/tcp -> 0.0.0.0:{port}")));
    assert!(world.docker("port web 80").lines().contains(&format!("0.0.0.0:{port}")));
    world.docker("port web 81").failure(1, &["o public port '81"]);
    let ports = world.inspect("web")["NetworkSettings"]["Ports"].clone();
    assert_eq!(ports["80/tcp"][0], json!({"HostIp": "0.0.0.0", "HostPort": port.to_string()}));
    world.docker("stop -t 1 web").success();
    assert_eq!(world.docker("port web").success(), "");
    assert_eq!(world.inspect("web")["NetworkSettings"]["Ports"], json!({}));
    assert!(http_get(("127.0.0.1", port), "/").is_none(), "the port of a stopped container answers");
    world.docker("start web").success();
    until_welcome(port);
}

#[d2k_suite::test]
fn publishing_all_is_a_node_port_for_what_the_image_exposes() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web -P nginx").success();
    let service = world.object("service/web");
    assert_eq!(service["spec"]["type"], "NodePort");
    let node_port = u16::try_from(service["spec"]["ports"][0]["nodePort"].as_u64().unwrap()).unwrap();
    until_welcome(node_port);
    let shown = world.inspect("web")["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"].clone();
    until_welcome(shown.as_str().unwrap().parse().unwrap());
}

#[d2k_suite::test]
fn publishing_all_takes_what_the_client_exposes_as_well() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web -P --expose 8081 busybox httpd -f -p 8081 -h /etc").success();
    let service = world.object("service/web");
    assert_eq!(service["spec"]["ports"][0]["targetPort"], 8081);
    let port = world.docker("port web 8081").lines()[0].rsplit(':').next().unwrap().parse().unwrap();
    eventually("httpd answers", || {
        http_get(("127.0.0.1", port), "/passwd").is_some_and(|reply| reply.text().contains("root:"))
    });
}

#[d2k_suite::test]
fn nothing_published_is_no_service() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web nginx").success();
    world.docker("run -d --name all -P busybox sleep 1000").success();
    assert!(world.names("services").is_empty());
    assert_eq!(world.inspect("web")["NetworkSettings"]["Ports"], json!({"80/tcp": null}));
    assert_eq!(world.docker("ps --filter name=web --format '{{.Ports}}'").success(), "80/tcp");
    assert_eq!(world.docker("port web").success(), "");
}

#[d2k_suite::test]
fn a_host_address_is_ignored_with_a_warning() {
    let Some(world) = World::new() else { return };
    let port = free_port();
    let run = world.docker(format!("run -d --name web -p 127.0.0.1:{port}:80 nginx"));
    assert!(run.stderr.contains("WARNING") && run.stderr.contains("127.0.0.1"), "{run}");
    run.success();
    until_welcome(port);
    assert!(world.log().contains("127.0.0.1"), "the warning is not in the log");
}

#[d2k_suite::test]
fn a_random_port_is_known_at_once_and_answers() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web -p 80 nginx").success();
    let shown = world.inspect("web");
    let port = shown["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"].as_str().unwrap();
    let port: u16 = port.parse().unwrap();
    assert!(port > 1023, "{port}");
    assert_eq!(shown["HostConfig"]["PortBindings"]["80/tcp"][0]["HostPort"], "");
    until_welcome(port);
}

#[d2k_suite::test]
fn a_range_of_ports_is_published_one_to_one() {
    let Some(world) = World::new() else { return };
    let first = free_ports(3);
    let last = first + 2;
    world.docker(format!("run -d --name web -p {first}-{last}:80-82 nginx")).success();
    let ports = world.inspect("web")["NetworkSettings"]["Ports"].clone();
    for (at, container) in ["80/tcp", "81/tcp", "82/tcp"].into_iter().enumerate() {
        assert_eq!(ports[container][0]["HostPort"], (usize::from(first) + at).to_string());
    }
    assert_eq!(world.object("service/web")["spec"]["ports"].as_array().unwrap().len(), 3);
    until_welcome(first);
}

#[d2k_suite::test]
fn one_port_of_a_range_is_taken_for_one_container_port() {
    let Some(world) = World::new() else { return };
    let first = free_ports(11);
    let body = json!({
        "Image": "nginx",
        "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": format!("{first}-{}", first + 9)}]}},
    });
    world.post("/containers/create?name=web", body);
    world.docker("start web").success();
    let port = world.inspect("web")["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"].clone();
    let port: u16 = port.as_str().unwrap().parse().unwrap();
    assert!((first..=first + 9).contains(&port), "{port}");
    until_welcome(port);
}

#[d2k_suite::test]
fn udp_passes_both_ways() {
    let Some(world) =
        World::on_cluster("its Pods are reached by UDP only from its own process, see tests/embedded")
    else {
        return;
    };
    let image = format!("{}-udp", world.name());
    let program = static_program(UDP_ECHO, world.directory());
    Image::empty(&image).file("echo", program, 0o755).config(json!({"Cmd": ["/echo"]})).push();
    let port = free_udp_port();
    world.docker(format!("run -d --name echo -p {port}:9000/udp {image}")).success();
    assert_eq!(world.object("service/echo")["spec"]["ports"][0]["protocol"], "UDP");
    assert!(world.docker("port echo").lines().contains(&format!("9000/udp -> 0.0.0.0:{port}")));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    eventually("the datagram comes back", || {
        socket.send_to(b"ping", ("127.0.0.1", port)).unwrap();
        let mut bytes = [0; 100];
        socket.recv(&mut bytes).is_ok_and(|length| &bytes[..length] == b"pong: ping")
    });
}

#[d2k_suite::test]
fn a_port_in_use_is_refused_in_dockers_words_and_nothing_is_left_running() {
    let Some(world) = World::new() else { return };
    let port = free_port();
    world.docker(format!("run -d --name one -p {port}:80 nginx")).success();
    let second = world.docker(format!("run -d --name two -p {port}:80 nginx"));
    second.failure(125, &["port is already allocated"]);
    assert_eq!(world.docker("ps --format '{{.Names}}'").success(), "one");
    world.docker("rm -f one").success();
    world.docker("rm -f two").success();
    world.docker(format!("run -d --name three -p {port}:80 nginx")).success();
    until_welcome(port);
}

#[d2k_suite::test]
fn removing_the_container_removes_the_service_and_closes_the_port() {
    let Some(world) = World::new() else { return };
    let port = free_port();
    world.docker(format!("run -d --name web -p {port}:80 nginx")).success();
    until_welcome(port);
    world.docker("rm -f web").success();
    assert!(http_get(("127.0.0.1", port), "/").is_none(), "the port still answers");
    eventually("the Service has gone", || world.names("services").is_empty());
}

#[d2k_suite::test]
fn a_published_port_survives_d2k() {
    let Some(mut world) = World::new() else {
        return;
    };
    let port = free_port();
    world.docker(format!("run -d --name web -p {port}:80 nginx")).success();
    until_welcome(port);
    world.restart_d2k();
    until_welcome(port);
}

#[d2k_suite::test]
fn publishing_can_be_left_to_the_service_alone_or_to_d2k_alone() {
    let port = free_port();
    let Some(world) = World::with(&[("D2K_PUBLISH", "service")]) else {
        return;
    };
    world.docker(format!("run -d --name web -p {port}:80 nginx")).success();
    assert_eq!(world.names("services"), ["service/web"]);
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    drop(world);
    let Some(world) = World::with(&[("D2K_PUBLISH", "proxy")]) else {
        return;
    };
    world.docker(format!("run -d --name web -p {port}:80 nginx")).success();
    until_welcome(port);
    assert!(world.names("services").is_empty());
}

#[d2k_suite::test]
fn a_port_out_of_range_is_refused() {
    let Some(world) = World::new() else { return };
    for (container, host) in [("80/tcp", "70000"), ("70000/tcp", "80"), ("80/nosuch", "80"), ("80/tcp", "x")]
    {
        let body: Value = json!({
            "Image": "nginx",
            "HostConfig": {"PortBindings": {container: [{"HostPort": host}]}},
        });
        world.post("/containers/create", body).error(400);
    }
    assert!(world.names("deployments,services").is_empty());
}

#[d2k_suite::test]
fn a_port_is_free_as_soon_as_its_container_is_removed() {
    let Some(world) = World::new() else { return };
    let port = free_port();
    for _ in 0..8 {
        world.docker(format!("run -d --name web -p {port}:80 busybox sleep 1000")).success();
        world.docker("rm -f web").success();
    }
}
