//! Access to the Docker API of a d2k that Pods can connect to: containers that asked for the Docker socket, and
//! no others. On an embedded cluster the Pods' way to d2k is its own; `tests/embedded/access.rs` has that.

use serde_json::{Value, json};

use crate::support::{Connection, World, free_port, http_get, run};

/// A d2k that listens where Pods reach it, and its address for them.
fn open_world() -> Option<(World, String)> {
    let world = World::on_cluster_with(
        "its Pods do not reach a d2k of another process",
        &[("D2K_LISTEN", "0.0.0.0")],
    )?;
    let node = world.kubectl("get nodes -o jsonpath='{.items[0].status.addresses[0].address}'").success();
    let address = format!("{node}:{}", world.port());
    Some((world, address))
}

/// A line of shell that asks for the containers and prints what it got.
fn ask(address: &str) -> String {
    format!("wget -q -O - http://{address}/containers/json 2>&1; echo done")
}

fn is_refused(output: &str) -> bool {
    output.contains("403 Forbidden") && output.contains("done")
}

#[d2k_suite::test]
fn a_container_reaches_the_api_only_if_it_asked_for_the_socket() {
    let Some((world, address)) = open_world() else { return };
    let script = ask(&address);
    let socket = "-v /var/run/docker.sock:/var/run/docker.sock";
    // A container asks as soon as it runs, when its address is not yet known everywhere.
    for round in 0..5 {
        let output = world.docker(format!("run --rm busybox sh -c '{script}'")).success();
        assert!(is_refused(&output), "round {round}: {output}");
        let output = world.docker(format!("run --rm {socket} busybox sh -c '{script}'")).success();
        assert!(output.starts_with("[{") && output.ends_with("done"), "round {round}: {output}");
    }
    world.docker("run -d --name plain --restart always busybox sleep 1000").success();
    let output = world.docker(format!("exec plain sh -c '{script}'")).success();
    assert!(is_refused(&output), "{output}");
    let words =
        world.docker(format!("exec plain sh -c 'wget -S -O - http://{address}/info 2>&1; true'")).success();
    assert!(words.contains("403"), "{words}");
}

#[d2k_suite::test]
fn many_containers_that_start_at_once_are_all_refused() {
    let Some((world, address)) = open_world() else { return };
    let script = ask(&address);
    let runs: Vec<_> =
        (0..6).map(|_| world.docker_spawn(format!("run --rm busybox sh -c '{script}'"))).collect();
    for run in runs {
        let output = run.finish();
        assert!(is_refused(&output.both()), "{output}");
    }
}

#[d2k_suite::test]
fn a_compose_service_that_mounts_the_socket_still_reaches_the_api_after_a_restart() {
    let Some((world, address)) = open_world() else { return };
    let script = ask(&address);
    world
        .docker("run -d --name agent --restart always -v /var/run/docker.sock:/var/run/docker.sock busybox sleep 1000")
        .success();
    for _ in 0..2 {
        let output = world.docker(format!("exec agent sh -c '{script}'")).success();
        assert!(output.starts_with("[{"), "{output}");
        world.docker("restart -t 1 agent").success();
    }
}

#[d2k_suite::test]
fn a_pod_of_somebody_else_needs_the_label() {
    let Some((world, address)) = open_world() else { return };
    for (name, labels) in [("with", json!({"d2k.io/docker": "true"})), ("without", json!({"app": "db"}))] {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "main", "image": "busybox", "command": ["sleep", "1000"]}],
            },
        });
        world.apply(&pod.to_string());
        world.kubectl(format!("wait --for=condition=Ready pod/{name} --timeout=60s")).success();
    }
    let output = |pod: &str| world.kubectl(format!("exec {pod} -- sh -c '{}'", ask(&address))).success();
    assert!(output("with").starts_with('['), "{}", output("with"));
    assert!(is_refused(&output("without")), "{}", output("without"));
}

#[d2k_suite::test]
fn in_the_cluster_a_container_reaches_the_service_only_if_it_asked_for_the_socket() {
    let Some(world) = World::on_cluster("it has no Roles, and d2k is not one of its Pods") else { return };
    let host = crate::deployed::deploy(&world);
    let docker = |words: &str| world.sh(format!("DOCKER_HOST={host} docker {words}"));
    let script = "wget -q -O - http://d2k:2375/containers/json 2>&1; echo done";
    let output = docker(&format!("run --rm busybox sh -c '{script}'")).success();
    assert!(is_refused(&output), "{output}");
    let socket = "-v /var/run/docker.sock:/var/run/docker.sock";
    let asks = "wget -q -O - http://${DOCKER_HOST#tcp://}/containers/json; echo done";
    let output = docker(&format!("run --rm {socket} busybox sh -c '{asks}'")).success();
    assert!(output.starts_with("[{"), "{output}");
    let refused = docker("run --rm --privileged busybox true");
    assert_ne!(refused.status, 0, "{refused}");
    assert!(refused.stderr.contains("violates PodSecurity"), "{refused}");
    let policy: Value = world.object("networkpolicy/d2k");
    let from = policy["spec"]["ingress"][0]["from"].to_string();
    assert!(from.contains(r#""d2k.io/docker":"true""#), "{from}");
}

#[d2k_suite::test]
fn a_name_that_a_web_page_could_rebind_is_refused_with_and_without_an_origin() {
    let settings =
        [("D2K_HOSTS", "builds.example.org"), ("D2K_DOCKER_HOST", "tcp://engine.example.net:2375")];
    let Some(world) = World::with(&settings) else { return };
    let status = |method: &str, path: &str, headers: &str| {
        let request =
            format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: 0\r\n{headers}\r\n");
        let answer = world.connect().send(request).rest();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    for headers in [
        "Host: evil.example:2375\r\n",
        "Host: evil.example:2375\r\nOrigin: http://evil.example:2375\r\n",
        "Host: 127.0.0.1.evil.example\r\n",
        "Host: d2k\r\nOrigin: http://evil.example\r\n",
        "Host: d2k\r\nSec-Fetch-Site: cross-site\r\n",
    ] {
        for (method, path) in
            [("GET", "/info"), ("GET", "/_ping"), ("POST", "/containers/create"), ("OPTIONS", "/info")]
        {
            assert_eq!(status(method, path, headers), "403", "{method} {path} {headers}");
        }
    }
    for host in [
        "127.0.0.1:2375",
        "[::1]:2375",
        "localhost",
        "dind",
        "docker.example.com",
        "builds.example.org",
        "engine.example.net:2375",
    ] {
        assert_eq!(status("GET", "/info", &format!("Host: {host}\r\n")), "200", "{host}");
    }
    let service = format!("d2k.{}.svc.cluster.local:2375", world.name());
    assert_eq!(status("GET", "/info", &format!("Host: {service}\r\n")), "200");
}

#[d2k_suite::test]
fn over_a_unix_socket_any_name_is_served_and_the_operator_lists_decisions() {
    let socket = std::env::temp_dir().join(format!("d2k-access-{}.sock", std::process::id()));
    let path = socket.display().to_string();
    let Some(world) = World::with(&[("D2K_SOCKET", path.as_str())]) else { return };
    let answer = Connection::unix(&socket)
        .send("GET /_ping HTTP/1.1\r\nHost: any.example\r\nConnection: close\r\n\r\n")
        .rest();
    assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 200"));
    world.docker("create --name web busybox echo hunter2").success();
    let mut record = world.d2k();
    record.args(["policy", "record", "--last", "50"]);
    let listed = run(record, "d2k policy record", b"", std::time::Duration::from_secs(30)).success();
    assert!(listed.contains("name: web"), "{listed}");
}

#[d2k_suite::test]
fn the_admin_port_has_an_address_of_its_own_and_tells_nothing_of_what_was_run() {
    let admin = free_port();
    let port = admin.to_string();
    let Some(world) = World::with(&[("D2K_LISTEN", "0.0.0.0"), ("D2K_ADMIN_PORT", port.as_str())]) else {
        return;
    };
    world.docker("run --rm -e TOKEN=hunter2 busybox true hunter2").success();
    assert!(http_get(("127.0.0.1", admin), "/metrics").unwrap().text().contains("d2k_requests_total"));
    for path in ["/policies/decisions", "/policies/decisions?last=100", "/metrics", "/readyz", "/"] {
        let reply = http_get(("127.0.0.1", admin), path).unwrap();
        assert!(!reply.text().contains("hunter2"), "{path}: {}", reply.text());
        assert_eq!(reply.status == 404, !matches!(path, "/metrics" | "/readyz"), "{path}");
    }
    let listens = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let everywhere = format!("00000000:{admin:04X}");
    assert!(!listens.contains(&everywhere), "the admin port is open beyond loopback");
    assert!(world.log().contains("[SECURITY] the Docker API is open to everyone who reaches this address"));
    let shown = world.get("/policies/decisions?last=100").text();
    assert!(shown.contains("\"hook\":\"workload\"") && !shown.contains("hunter2"), "{shown}");
}
