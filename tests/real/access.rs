//! Who reaches the Docker API of a d2k that Pods can connect to: containers that asked for the Docker socket, and
//! no others. On an embedded cluster the Pods' way to d2k is its own; `tests/embedded/access.rs` has that.

use serde_json::{Value, json};

use crate::support::World;

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

#[test]
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

#[test]
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

#[test]
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

#[test]
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

#[test]
fn in_the_cluster_a_container_reaches_the_service_only_if_it_asked_for_the_socket() {
    let Some(world) = World::on_cluster("it has no Roles, and d2k is not one of its Pods") else { return };
    let host = crate::configuration::deploy(&world);
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
