//! `docker inspect` of a container: Docker's fields with true values, also after the Pod is gone.

use serde_json::{Value, json};

use crate::support::{World, eventually, free_port};

#[d2k_suite::test]
fn a_running_container_shows_its_state_and_its_pods_address() {
    let Some(world) = World::new() else { return };
    let id = world.docker("run -d --name web --label a.b/c='D e=f' nginx").success();
    let inspect = world.inspect("web");
    assert_eq!(inspect["Id"], id);
    assert_eq!(inspect["Name"], "/web");
    assert_eq!(inspect["Path"], "nginx");
    assert_eq!(inspect["Args"], json!(["-g", "daemon off;"]));
    assert_eq!(inspect["Config"]["Image"], "nginx");
    assert_eq!(inspect["Config"]["Labels"]["a.b/c"], "D e=f");
    assert!(inspect["Image"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(inspect["Platform"], "linux");
    assert_eq!(inspect["RestartCount"], 0);
    assert!(inspect["Created"].as_str().unwrap().ends_with('Z'));
    let state = &inspect["State"];
    assert_eq!(state["Status"], "running");
    assert_eq!(state["Running"], true);
    for flag in ["Paused", "Restarting", "OOMKilled", "Dead"] {
        assert_eq!(state[flag], false, "{flag}");
    }
    assert_eq!(state["ExitCode"], 0);
    assert!(state["StartedAt"].as_str().unwrap() > inspect["Created"].as_str().unwrap());
    assert_eq!(state["FinishedAt"], "0001-01-01T00:00:00Z");
    assert!(state.get("Health").is_none());
    let pod = &world.object("pods")["items"][0];
    let network = &inspect["NetworkSettings"]["Networks"]["bridge"];
    assert_eq!(network["IPAddress"], pod["status"]["podIP"]);
}

#[d2k_suite::test]
fn a_created_container_shows_that_it_never_ran() {
    let Some(world) = World::new() else { return };
    world.docker("create --name idle busybox sleep 7").success();
    let state = world.inspect("idle")["State"].clone();
    assert_eq!(state["Status"], "created");
    assert_eq!(state["Running"], false);
    assert_eq!(state["StartedAt"], "0001-01-01T00:00:00Z");
    assert_eq!(state["FinishedAt"], "0001-01-01T00:00:00Z");
    assert_eq!(world.inspect("idle")["NetworkSettings"]["Ports"], json!({}));
}

#[d2k_suite::test]
fn exit_code_and_times_survive_the_pod_and_d2k() {
    let Some(mut world) = World::new() else {
        return;
    };
    world.docker("run -d --name brief busybox sh -c 'sleep 1; exit 5'").success();
    world.until_status("brief", "exited");
    let before = world.inspect("brief")["State"].clone();
    assert_eq!(before["ExitCode"], 5);
    assert!(before["FinishedAt"].as_str().unwrap() > before["StartedAt"].as_str().unwrap());
    let replicas = |world: &World| world.object("deployments")["items"][0]["spec"]["replicas"].clone();
    eventually("the end is written down", || replicas(&world) == 0);
    world.kubectl("delete pods --all --grace-period=1").success();
    world.restart_d2k();
    assert_eq!(world.inspect("brief")["State"], before);
}

#[d2k_suite::test]
fn an_end_that_was_seen_is_not_changed_by_a_pod_in_its_place() {
    let Some(world) = World::new() else { return };
    for round in 0..3 {
        let name = format!("brief{round}");
        world.docker(format!("run -d --name {name} busybox sh -c 'sleep 1; exit 5'")).success();
        world.until_status(&name, "exited");
        let before = world.inspect(&name)["State"].clone();
        // Kubernetes replaces the Pod while d2k still writes its end down.
        world.kubectl("delete pods --all --grace-period=1").success();
        eventually("the Pods are gone", || {
            world.object("pods")["items"].as_array().is_some_and(Vec::is_empty)
        });
        assert_eq!(world.inspect(&name)["State"], before);
    }
}

#[d2k_suite::test]
fn config_and_host_config_echo_the_request() {
    let Some(world) = World::new() else { return };
    let port = free_port();
    world
        .docker(format!(
            "create --name web -p {port}:80 -e A=b -w /tmp -u 1000 --hostname host1 --entrypoint sh \
             --memory 64m --cpus 0.5 --restart unless-stopped --cap-add NET_ADMIN --read-only \
             --stop-timeout 7 --stop-signal INT -v data:/data busybox -c 'sleep 9'"
        ))
        .success();
    let inspect = world.inspect("web");
    let config = &inspect["Config"];
    assert!(config["Env"].as_array().unwrap().contains(&json!("A=b")));
    assert_eq!(config["WorkingDir"], "/tmp");
    assert_eq!(config["User"], "1000");
    assert_eq!(config["Hostname"], "host1");
    assert_eq!(config["Entrypoint"], json!(["sh"]));
    assert_eq!(config["Cmd"], json!(["-c", "sleep 9"]));
    assert_eq!(config["StopTimeout"], 7);
    assert_eq!(config["StopSignal"], "INT");
    let host = &inspect["HostConfig"];
    assert_eq!(host["Memory"], 64 * 1024 * 1024);
    assert_eq!(host["NanoCpus"], 500_000_000);
    assert_eq!(host["RestartPolicy"], json!({"Name": "unless-stopped", "MaximumRetryCount": 0}));
    assert_eq!(host["CapAdd"], json!(["CAP_NET_ADMIN"]));
    assert_eq!(host["ReadonlyRootfs"], true);
    assert_eq!(host["Binds"], json!(["data:/data"]));
    assert_eq!(host["PortBindings"]["80/tcp"][0]["HostPort"], port.to_string());
    assert_eq!(inspect["Mounts"][0]["Name"], "data");
    assert_eq!(inspect["Mounts"][0]["Destination"], "/data");
    assert_eq!(inspect["Mounts"][0]["Type"], "volume");
}

#[d2k_suite::test]
fn labels_come_back_byte_for_byte() {
    let Some(world) = World::new() else { return };
    let labels = json!({
        "com.docker.compose.config-hash": "f00",
        "with space": "a b\tc\nd",
        "": "empty key",
        "ünïcode/key": "välue ✓",
        "long": "x".repeat(3000),
    });
    let body = json!({"Image": "busybox", "Cmd": ["true"], "Labels": labels});
    let reply = world.post("/containers/create?name=odd", body);
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(world.inspect("odd")["Config"]["Labels"], labels);
    assert_eq!(world.get("/containers/json?all=1").json()[0]["Labels"], labels);
}

#[d2k_suite::test]
fn the_images_own_settings_show_where_the_request_has_none() {
    let Some(world) = World::new() else { return };
    world.docker("create --name web nginx").success();
    let config = world.inspect("web")["Config"].clone();
    assert_eq!(config["Cmd"], json!(["nginx", "-g", "daemon off;"]));
    assert_eq!(config["ExposedPorts"], json!({"80/tcp": {}}));
    let env = config["Env"].as_array().unwrap();
    assert!(env.contains(&json!("NGINX_VERSION=1.22.1")), "{env:?}");
}

#[d2k_suite::test]
fn a_container_is_found_by_id_prefix_and_name_with_or_without_a_slash() {
    let Some(world) = World::new() else { return };
    let id = world.docker("create --name web busybox true").success();
    for name in [id.as_str(), &id[..12], &id[..5], "web", "%2Fweb"] {
        assert_eq!(world.get(&format!("/containers/{name}/json")).json()["Id"], id, "{name}");
    }
}

#[d2k_suite::test]
fn what_inspect_shows_can_be_created_again() {
    let Some(world) = World::new() else { return };
    let port = free_port();
    world.docker(format!("create --name old -p {port}:80 -v data:/data --label a=b nginx")).success();
    let inspect = world.inspect("old");
    let mut body = inspect["Config"].clone();
    body["HostConfig"] = inspect["HostConfig"].clone();
    body["NetworkingConfig"] = json!({"EndpointsConfig": inspect["NetworkSettings"]["Networks"]});
    world.docker("rm old").success();
    let reply = world.post("/containers/create?name=new", body);
    assert_eq!(reply.status, 201, "{}", reply.text());
    world.docker("start new").success();
    assert_eq!(world.field("new", ".State.Status"), "running");
}

#[d2k_suite::test]
fn old_clients_see_the_address_at_the_top_and_new_ones_do_not() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web busybox sleep 1000").success();
    let old = world.get("/v1.51/containers/web/json").json();
    let new = world.get("/v1.52/containers/web/json").json();
    let address = &new["NetworkSettings"]["Networks"]["bridge"]["IPAddress"];
    assert_eq!(&old["NetworkSettings"]["IPAddress"], address);
    assert!(new["NetworkSettings"].get("IPAddress").is_none(), "{}", new["NetworkSettings"]);
}

#[d2k_suite::test]
fn health_shows_its_states_and_its_log() {
    let Some(world) = World::new() else { return };
    world
        .docker(
            "run -d --name web --health-cmd 'echo looked; test -e /tmp/ok' --health-interval 1s \
             --health-retries 2 --health-start-period 30s busybox sleep 1000",
        )
        .success();
    let health = |world: &World| world.inspect("web")["State"]["Health"].clone();
    assert_eq!(health(&world)["Status"], "starting");
    world.docker("exec web touch /tmp/ok").success();
    eventually("it is healthy", || health(&world)["Status"] == "healthy");
    assert!(world.docker("ps --format '{{.Status}}'").success().ends_with("(healthy)"));
    let log = health(&world)["Log"].clone();
    let last = log.as_array().unwrap().last().unwrap();
    assert_eq!(last["ExitCode"], 0);
    assert!(last["Output"].as_str().unwrap().contains("looked"), "{last}");
    world.docker("exec web rm /tmp/ok").success();
    eventually("it is unhealthy", || health(&world)["Status"] == "unhealthy");
    assert!(health(&world)["FailingStreak"].as_i64().unwrap() >= 2);
    assert_eq!(world.field("web", ".State.Status"), "running");
}

#[d2k_suite::test]
fn a_check_that_prints_a_lot_is_judged_by_its_exit_code() {
    let Some(world) = World::new() else { return };
    world
        .docker(
            "run -d --name web --health-cmd 'head -c 2000000 /dev/zero | tr \"\\0\" x' --health-interval 1s \
             --health-timeout 10s --health-retries 1 busybox sleep 1000",
        )
        .success();
    let health = || world.inspect("web")["State"]["Health"].clone();
    eventually("a check has ended", || health()["Status"] != "starting");
    assert_eq!(health()["Status"], "healthy", "{}", health()["Log"][0]["ExitCode"]);
    assert_eq!(health()["Log"][0]["Output"].as_str().unwrap().len(), 4096);
}

#[d2k_suite::test]
fn health_is_known_soon_after_d2k_starts_again() {
    let Some(mut world) = World::new() else {
        return;
    };
    world
        .docker(
            "run -d --name web --health-cmd true --health-interval 20s --health-start-period 19s \
             --health-start-interval 1s busybox sleep 1000",
        )
        .success();
    let status = |world: &World| world.inspect("web")["State"]["Health"]["Status"].clone();
    eventually("it is healthy", || status(&world) == "healthy");
    std::thread::sleep(std::time::Duration::from_secs(20));
    world.restart_d2k();
    let asked = std::time::Instant::now();
    eventually("it is healthy again", || status(&world) == "healthy");
    assert!(asked.elapsed().as_secs() < 10, "{:?}", asked.elapsed());
}

#[d2k_suite::test]
fn inspect_of_what_does_not_exist_says_so_for_every_type() {
    let Some(world) = World::new() else { return };
    world.docker("inspect nosuch").failure(1, &["No such object: nosuch"]);
    for (kind, words) in [
        ("container", "No such container: nosuch"),
        ("image", "No such image: nosuch"),
        ("network", "network nosuch not found"),
        ("volume", "get nosuch: no such volume"),
    ] {
        world.docker(format!("inspect --type {kind} nosuch")).failure(1, &[words]);
    }
}

#[d2k_suite::test]
fn what_is_created_is_seen_at_once() {
    let Some(world) = World::new() else { return };
    for at in 0..10 {
        let body = json!({"Image": "busybox", "Cmd": ["true"]});
        let id = world.post(&format!("/containers/create?name=c{at}"), body).json()["Id"].clone();
        assert_eq!(world.get(&format!("/containers/c{at}/json")).json()["Id"], id);
        let list: Value = world.get("/containers/json?all=1").json();
        assert_eq!(list.as_array().unwrap().len(), at + 1);
    }
}
