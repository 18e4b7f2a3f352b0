//! What clients send by mistake or malice: Docker's status and words, and a d2k that goes on.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{World, eventually, http_get};

#[d2k_suite::test]
fn an_unknown_container_is_not_found_on_every_route() {
    let Some(world) = World::new() else { return };
    let gets = ["json", "logs?stdout=1", "top", "stats?stream=0", "changes", "export", "archive?path=/"];
    let posts = [
        "start",
        "stop",
        "restart",
        "kill",
        "pause",
        "wait",
        "rename?name=x",
        "update",
        "attach",
        "resize?h=1&w=1",
    ];
    let replies = gets.map(|path| world.get(&format!("/containers/nosuch/{path}")));
    let posted = posts.map(|path| world.post(&format!("/containers/nosuch/{path}"), json!({})));
    for reply in replies.into_iter().chain(posted) {
        let error = reply.error(404);
        let error = error.strip_prefix("cannot kill container: nosuch: ").unwrap_or(&error);
        assert_eq!(error, "No such container: nosuch");
    }
    let reply = world.http("DELETE", "/containers/nosuch", &[], b"");
    assert_eq!(reply.error(404), "No such container: nosuch");
}

#[d2k_suite::test]
fn an_ambiguous_prefix_is_refused() {
    let Some(world) = World::new() else { return };
    let mut first = std::collections::HashMap::new();
    let digit = loop {
        let id = world.docker("create busybox true").success();
        let digit = id[..1].to_owned();
        if first.insert(digit.clone(), id).is_some() {
            break digit;
        }
    };
    let error = world.get(&format!("/containers/{digit}/json")).error(400);
    assert_eq!(error, format!("multiple IDs found with provided prefix: {digit}"));
}

#[d2k_suite::test]
fn malformed_json_and_wrong_types_are_refused() {
    let Some(world) = World::new() else { return };
    let json_type = [("Content-Type", "application/json")];
    for path in ["/containers/create", "/volumes/create", "/networks/create", "/containers/x/exec", "/auth"] {
        for body in ["{", "[1, 2", "not json", "{\"Image\": }"] {
            let reply = world.http("POST", path, &json_type, body.as_bytes());
            assert!(reply.status == 400 || reply.status == 404, "{path} {body}: {}", reply.status);
            assert!(!reply.json()["message"].as_str().unwrap().is_empty());
        }
    }
    for body in [
        json!({"Image": 1}),
        json!({"Image": "busybox", "Cmd": {"a": 1}}),
        json!({"Image": "busybox", "Env": "A=b"}),
        json!({"Image": "busybox", "HostConfig": []}),
        json!({"Image": "busybox", "HostConfig": {"Memory": "64m"}}),
        json!({"Image": "busybox", "HostConfig": {"PortBindings": [1]}}),
        json!([]),
    ] {
        world.post("/containers/create", body).error(400);
    }
}

#[d2k_suite::test]
fn an_empty_body_and_another_type_than_json_are_refused() {
    let Some(world) = World::new() else { return };
    let error =
        world.http("POST", "/containers/create", &[("Content-Type", "application/json")], b"").error(400);
    assert!(!error.is_empty());
    let error = world.post("/containers/create", json!({})).error(400);
    assert!(!error.is_empty());
    let reply = world.http("POST", "/containers/create", &[("Content-Type", "text/plain")], b"{}");
    reply.error(400);
    let body = json!({"Image": "busybox", "Cmd": ["true"]}).to_string();
    let kind = [("Content-Type", "application/json; charset=utf-8")];
    assert_eq!(world.http("POST", "/containers/create", &kind, body.as_bytes()).status, 201);
}

#[d2k_suite::test]
fn a_body_of_ten_megabytes_is_refused_and_the_next_request_is_answered() {
    let Some(world) = World::new() else { return };
    let body = json!({"Image": "busybox", "Cmd": ["x".repeat(10 << 20)]}).to_string();
    let reply =
        world.http("POST", "/containers/create", &[("Content-Type", "application/json")], body.as_bytes());
    assert!(reply.status == 400 || reply.status == 413, "{}", reply.status);
    assert_eq!(world.get("/_ping").status, 200);
    assert!(world.names("deployments").is_empty());
}

#[d2k_suite::test]
fn bad_filters_are_refused() {
    let Some(world) = World::new() else { return };
    for path in ["/containers/json", "/volumes", "/networks", "/images/json", "/events"] {
        world.get(&format!("{path}?until=1&filters=nonsense")).error(400);
        world.get(&format!("{path}?until=1&filters=[1]")).error(400);
        let error = world.get(&format!("{path}?until=1&filters={{\"nosuch\":[\"1\"]}}")).error(400);
        assert!(error.contains("invalid filter 'nosuch'"), "{path}: {error}");
    }
    world.get("/containers/json?filters={\"exited\":[\"x\"]}").error(400);
    world.get("/containers/json?limit=x").error(400);
}

#[d2k_suite::test]
fn invalid_names_are_refused_in_dockers_words() {
    let Some(world) = World::new() else { return };
    for name in ["-bad", "a", ".x", "a b", "a/b", "ünïcode", "x;y"] {
        let encoded: String = name.bytes().map(|b| format!("%{b:02X}")).collect();
        let body = json!({"Image": "busybox", "Cmd": ["true"]});
        let error = world.post(&format!("/containers/create?name={encoded}"), body).error(400);
        assert!(
            error.contains("Invalid container name") && error.contains("[a-zA-Z0-9][a-zA-Z0-9_.-]"),
            "{error}"
        );
    }
    world.post("/volumes/create", json!({"Name": "a b"})).error(400);
    world.post("/networks/create", json!({"Name": ""})).error(400);
    assert!(world.names("deployments,persistentvolumeclaims").is_empty());
}

#[d2k_suite::test]
fn names_that_docker_allows_and_kubernetes_does_not_work() {
    let Some(world) = World::new() else { return };
    let long = "a".repeat(120);
    for name in ["My_App.1", "my_app.1", "1st", "UPPER", long.as_str()] {
        world.docker(format!("run -d --name {name} busybox sleep 1000")).success();
        assert_eq!(world.docker(format!("exec {name} echo hello")).success(), "hello");
        assert_eq!(world.field(name, ".Name"), format!("/{name}"));
    }
    assert_eq!(world.names("deployments").len(), 5);
}

#[d2k_suite::test]
fn numbers_out_of_range_are_refused() {
    let Some(world) = World::new() else { return };
    for host in [
        json!({"NanoCpus": -1}),
        json!({"RestartPolicy": {"Name": "sometimes"}}),
        json!({"RestartPolicy": {"Name": "always", "MaximumRetryCount": 3}}),
        json!({"PortBindings": {"99999/tcp": [{"HostPort": "1"}]}}),
        json!({"PortBindings": {"80/tcp": [{"HostPort": "99999"}]}}),
        json!({"ShmSize": -1}),
    ] {
        let body = json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": host});
        world.post("/containers/create", body).error(400);
    }
    world.docker("run --rm -m 1 busybox true").failure(125, &["inimum memory limit"]);
    assert!(world.names("deployments,jobs,services").is_empty());
}

#[d2k_suite::test]
fn garbage_on_the_wire_does_no_harm() {
    let Some(world) = World::new() else { return };
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\n\r\n",
        b"GET /containers/%zz/json HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /containers/../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{",
    ] {
        world.connect().send(bytes).half_close().rest();
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(1 << 20));
    world.connect().send(long).half_close().rest();
    assert_eq!(world.get("/_ping").status, 200);
}

#[d2k_suite::test]
fn half_a_hijack_leaves_nothing_behind() {
    let Some(world) = World::new() else { return };
    world.docker("run -d -i --name web busybox cat").success();
    for _ in 0..5 {
        let mut attach = world.connect();
        attach.hijack("/containers/web/attach?stream=1&stdin=1&stdout=1", "");
        attach.head();
        drop(attach);
        let mut never = world.connect();
        never.send("POST /containers/web/attach?stream=1&stdin=1 HTTP/1.1\r\nUpgrade: tcp\r\n");
        drop(never);
        let body = json!({"AttachStdout": true, "Cmd": ["sleep", "300"]});
        let exec = world.post("/containers/web/exec", body).json()["Id"].as_str().unwrap().to_owned();
        let mut start = world.connect();
        start.hijack(&format!("/exec/{exec}/start"), "{\"Detach\":false");
        drop(start);
    }
    assert_eq!(world.field("web", ".State.Status"), "running");
    assert_eq!(world.docker("exec web echo still").success(), "still");
}

/// How many sockets d2k has open.
fn sockets(world: &mut World) -> usize {
    let descriptors = format!("/proc/{}/fd", world.daemon().pid());
    let links = std::fs::read_dir(descriptors).unwrap().flatten();
    links
        .filter(|entry| {
            std::fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))
        })
        .count()
}

#[d2k_suite::test]
fn clients_that_vanish_in_the_middle_of_streams_leave_none_open() {
    let Some(mut world) = World::new() else {
        return;
    };
    world.docker("run -d --name web busybox sh -c 'while :; do echo tick; sleep 0.1; done'").success();
    world.sh("docker exec web head -c 1 /dev/zero >/dev/null; docker logs --tail 1 web").success();
    std::thread::sleep(Duration::from_secs(2));
    let before = sockets(&mut world);
    for _ in 0..4 {
        let clients = [
            world.docker_spawn("logs -f web"),
            world.docker_spawn("exec web sh -c 'while :; do echo tock; sleep 0.1; done'"),
            world.docker_spawn("attach --no-stdin web"),
            world.docker_spawn("cp web:/bin ./bin"),
            world.docker_spawn("pull busybox"),
            world.docker_spawn("events"),
            world.docker_spawn("stats"),
            world.docker_spawn("wait web"),
        ];
        std::thread::sleep(Duration::from_millis(700));
        for client in clients {
            client.stop();
        }
    }
    eventually("the streams are closed", || sockets(&mut world) <= before + 2);
    assert_eq!(world.field("web", ".State.Status"), "running");
}

#[d2k_suite::test]
fn a_client_that_vanishes_between_create_and_start_leaves_a_created_container() {
    let Some(world) = World::new() else { return };
    let mut client = world.connect();
    let body = json!({"Image": "busybox", "Cmd": ["sleep", "1000"]}).to_string();
    client.send(format!(
        "POST /containers/create?name=web HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    drop(client);
    eventually("it was made whole or not at all", || {
        let listed = world.docker("ps -aq").lines().len();
        listed == world.names("deployments").len()
    });
}

#[d2k_suite::test]
fn a_run_whose_client_is_killed_goes_on_without_it() {
    let Some(world) = World::new() else { return };
    let run = world.docker_spawn("run --name web busybox sh -c 'echo up; sleep 3; echo done'");
    run.wait_for("up");
    run.stop();
    eventually("it ended by itself", || world.field("web", ".State.Status") == "exited");
    assert!(world.docker("logs web").success().contains("done"));
}

#[d2k_suite::test]
fn many_requests_at_once_are_all_answered() {
    let Some(world) = World::new() else { return };
    world.docker("create --name web busybox true").success();
    let port = world.port();
    let threads: Vec<_> = (0..50)
        .map(|_| {
            std::thread::spawn(move || {
                http_get(("127.0.0.1", port), "/containers/json?all=1").map(|r| r.status)
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), Some(200));
    }
}

#[d2k_suite::test]
fn query_booleans_are_dockers() {
    let Some(world) = World::new() else { return };
    world.docker("create --name web busybox true").success();
    for (value, count) in
        [("1", 1), ("True", 1), ("yes", 1), ("0", 0), ("false", 0), ("no", 0), ("None", 0), ("", 0)]
    {
        let list: Value = world.get(&format!("/containers/json?all={value}")).json();
        assert_eq!(list.as_array().unwrap().len(), count, "all={value}");
    }
}

#[d2k_suite::test]
fn posts_without_a_need_for_a_body_ignore_the_one_they_get() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web --stop-timeout 1 busybox sleep 1000").success();
    assert_eq!(world.post("/containers/web/stop?t=1", json!({"t": 0})).status, 204);
    assert_eq!(world.post("/containers/web/start", json!({})).status, 204);
}

#[d2k_suite::test]
fn what_is_refused_with_much_to_send_is_refused_in_words() {
    let Some(world) = World::new() else { return };
    world.sh("mkdir context && head -c 20000000 /dev/urandom > context/file && echo FROM busybox > context/Dockerfile").success();
    for _ in 0..5 {
        world
            .sh(format!("DOCKER_BUILDKIT=0 docker -H {} build context", world.host()))
            .failure(1, &["no build engine"]);
    }
}
