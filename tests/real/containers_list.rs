//! `docker ps`: what is listed, in which order, by which filters, with which fields.

use serde_json::{Value, json};

use crate::support::{World, eventually, free_port};

/// The names that `docker ps -a` lists with these filters, sorted.
#[track_caller]
fn names(world: &World, filters: &str) -> Vec<String> {
    let mut names = world.docker(format!("ps -a {filters} --format '{{{{.Names}}}}'")).lines();
    names.sort();
    names
}

#[d2k_suite::test]
fn ps_lists_what_runs_and_all_of_it_with_a() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name runs busybox sleep 1000").success();
    world.docker("create --name idle busybox true").success();
    assert_eq!(world.docker("ps --format '{{.Names}}'").success(), "runs");
    assert_eq!(names(&world, ""), ["idle", "runs"]);
}

#[d2k_suite::test]
fn ps_of_an_empty_namespace_is_empty() {
    let Some(world) = World::new() else { return };
    assert_eq!(world.get("/containers/json?all=1").json(), json!([]));
    assert_eq!(world.docker("ps -a").lines().len(), 1);
}

#[d2k_suite::test]
fn ps_is_newest_first_and_can_be_limited() {
    let Some(world) = World::new() else { return };
    for name in ["first", "second", "third"] {
        world.docker(format!("create --name {name} busybox true")).success();
    }
    let all = world.docker("ps -a --format '{{.Names}}'").lines();
    assert_eq!(all, ["third", "second", "first"]);
    assert_eq!(world.docker("ps -n 2 --format '{{.Names}}'").lines(), ["third", "second"]);
    assert_eq!(world.docker("ps -l --format '{{.Names}}'").lines(), ["third"]);
    assert_eq!(world.get("/containers/json?limit=-1&all=True").json().as_array().unwrap().len(), 3);
    assert_eq!(world.get("/containers/json?limit=0&all=1").json().as_array().unwrap().len(), 3);
}

#[d2k_suite::test]
fn ps_prints_every_field_of_its_format() {
    let Some(world) = World::new() else { return };
    let port = free_port();
    let id = world
        .docker(format!("run -d --name web -p {port}:80 -v data:/data --label tier=front nginx"))
        .success();
    let field = |name: &str| world.docker(format!("ps --no-trunc --format '{{{{.{name}}}}}'")).success();
    assert_eq!(field("ID"), id);
    assert_eq!(field("Image"), "nginx");
    assert_eq!(field("Command"), "\"nginx -g 'daemon off;'\"");
    assert!(field("CreatedAt").starts_with("20"));
    assert!(field("RunningFor").ends_with("ago"));
    assert!(field("Status").starts_with("Up "));
    assert_eq!(field("State"), "running");
    assert!(field("Ports").contains(&format!("0.0.0.0:{port}->80/tcp")), "{}", field("Ports"));
    assert_eq!(field("Names"), "web");
    assert_eq!(field("Labels"), "tier=front");
    assert_eq!(field("Label \"tier\""), "front");
    assert_eq!(field("Mounts"), "data");
    assert_eq!(field("LocalVolumes"), "1");
    assert_eq!(field("Networks"), "bridge");
    assert!(!world.docker("ps -s --format '{{.Size}}'").success().is_empty());
    assert_eq!(world.docker("ps -q").success(), id[..12]);
}

#[d2k_suite::test]
fn a_listed_container_has_every_field_that_sdks_read() {
    let Some(world) = World::new() else { return };
    let id = world.docker("run -d --name web --label a=b nginx").success();
    let list = world.get("/containers/json").json();
    let item = &list[0];
    assert_eq!(item["Id"], id);
    assert_eq!(item["Names"], json!(["/web"]));
    assert_eq!(item["Image"], "nginx");
    assert!(item["ImageID"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(item["Labels"], json!({"a": "b"}));
    assert_eq!(item["State"], "running");
    assert!(item["Created"].as_i64().unwrap() > 1_700_000_000);
    assert_eq!(item["Mounts"], json!([]));
    assert_eq!(item["HostConfig"]["NetworkMode"], "bridge");
    assert!(item["Ports"].as_array().is_some());
    let network = &item["NetworkSettings"]["Networks"]["bridge"];
    let pod = &world.object("pods")["items"][0];
    assert_eq!(network["IPAddress"], pod["status"]["podIP"]);
    assert!(!network["NetworkID"].as_str().unwrap().is_empty());
}

#[d2k_suite::test]
fn ps_filters_by_name_as_a_pattern_with_and_without_the_slash() {
    let Some(world) = World::new() else { return };
    for name in ["web-1", "web-2", "db"] {
        world.docker(format!("create --name {name} busybox true")).success();
    }
    assert_eq!(names(&world, "--filter name=web"), ["web-1", "web-2"]);
    assert_eq!(names(&world, "--filter name=^/web-1$"), ["web-1"]);
    assert_eq!(names(&world, "--filter name='^db$'"), ["db"]);
    assert_eq!(names(&world, "--filter name=1 --filter name=db"), ["db", "web-1"]);
}

#[d2k_suite::test]
fn ps_filters_by_id() {
    let Some(world) = World::new() else { return };
    let id = world.docker("create --name one busybox true").success();
    world.docker("create --name two busybox true").success();
    assert_eq!(names(&world, &format!("--filter id={}", &id[..10])), ["one"]);
    assert_eq!(names(&world, &format!("--filter id={id}")), ["one"]);
}

#[d2k_suite::test]
fn ps_filters_by_labels_all_of_which_must_match() {
    let Some(world) = World::new() else { return };
    world.docker("create --name one --label a=1 --label b=2 busybox true").success();
    world.docker("create --name two --label a=1 busybox true").success();
    world.docker("create --name three --label a=2 busybox true").success();
    assert_eq!(names(&world, "--filter label=a"), ["one", "three", "two"]);
    assert_eq!(names(&world, "--filter label=a=1"), ["one", "two"]);
    assert_eq!(names(&world, "--filter label=a=1 --filter label=b"), ["one"]);
}

#[d2k_suite::test]
fn ps_filters_by_status_and_exit_code() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name runs busybox sleep 1000").success();
    world.docker("create --name idle busybox true").success();
    world.docker("run --name well busybox true").success();
    assert_eq!(world.docker("run --name ill busybox sh -c 'exit 3'").status, 3);
    let status = |filter: &str| {
        // Without -a: a filter by status looks at all of them.
        let mut names = world.docker(format!("ps --filter {filter} --format '{{{{.Names}}}}'")).lines();
        names.sort();
        names
    };
    assert_eq!(status("status=running"), ["runs"]);
    assert_eq!(status("status=created"), ["idle"]);
    assert_eq!(status("status=exited"), ["ill", "well"]);
    assert_eq!(names(&world, "--filter exited=3"), ["ill"]);
    assert_eq!(names(&world, "--filter exited=0"), ["well"]);
    let error = world.get("/containers/json?filters={\"status\":[\"nosuch\"]}").error(400);
    assert!(error.contains("nosuch"), "{error}");
}

#[d2k_suite::test]
fn ps_filters_by_the_image_it_came_from() {
    let Some(world) = World::new() else { return };
    world.docker("create --name box busybox true").success();
    world.docker("create --name web nginx").success();
    assert_eq!(names(&world, "--filter ancestor=busybox"), ["box"]);
    assert_eq!(names(&world, "--filter ancestor=nginx:latest"), ["web"]);
    assert_eq!(names(&world, "--filter ancestor=busybox --filter ancestor=nginx"), ["box", "web"]);
}

#[d2k_suite::test]
fn ps_filters_by_what_was_created_before_and_since() {
    let Some(world) = World::new() else { return };
    for name in ["first", "second", "third"] {
        world.docker(format!("create --name {name} busybox true")).success();
    }
    assert_eq!(names(&world, "--filter before=second"), ["first"]);
    assert_eq!(names(&world, "--filter since=second"), ["third"]);
}

#[d2k_suite::test]
fn ps_filters_by_volume_and_network() {
    let Some(world) = World::new() else { return };
    world.docker("network create backend").success();
    world.docker("create --name one -v data:/data busybox true").success();
    world.docker("create --name two --network backend busybox true").success();
    assert_eq!(names(&world, "--filter volume=data"), ["one"]);
    assert_eq!(names(&world, "--filter volume=/data"), ["one"]);
    assert_eq!(names(&world, "--filter network=backend"), ["two"]);
    assert_eq!(names(&world, "--filter network=bridge"), ["one"]);
}

#[d2k_suite::test]
fn ps_filters_by_published_and_exposed_ports() {
    let Some(world) = World::new() else { return };
    let port = free_port();
    world.docker(format!("run -d --name open -p {port}:80 nginx")).success();
    world.docker("create --name told --expose 81 busybox true").success();
    assert_eq!(names(&world, &format!("--filter publish={port}")), ["open"]);
    assert_eq!(names(&world, "--filter expose=81"), ["told"]);
    assert_eq!(names(&world, "--filter expose=80-81"), ["open", "told"]);
    assert_eq!(names(&world, "--filter expose=82"), [""; 0]);
}

#[d2k_suite::test]
fn ps_filters_by_health() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name none busybox sleep 1000").success();
    world.docker("run -d --name well --health-cmd true --health-interval 1s busybox sleep 1000").success();
    eventually("it is healthy", || names(&world, "--filter health=healthy") == ["well"]);
    assert_eq!(names(&world, "--filter health=none"), ["none"]);
    assert_eq!(names(&world, "--filter is-task=true"), [""; 0]);
}

#[d2k_suite::test]
fn filters_come_as_lists_and_as_maps_and_unknown_ones_are_refused() {
    let Some(world) = World::new() else { return };
    world.docker("create --name one --label a=1 busybox true").success();
    let count = |filters: &str| -> usize {
        let reply = world.get(&format!("/containers/json?all=1&filters={filters}"));
        reply.json().as_array().unwrap().len()
    };
    assert_eq!(count(r#"{"label":["a=1"]}"#), 1);
    assert_eq!(count(r#"{"label":{"a=1":true}}"#), 1);
    assert_eq!(count(r#"{"label":{"a=2":true}}"#), 0);
    assert_eq!(count("%7B%22name%22%3A%5B%22one%22%5D%7D"), 1);
    assert_eq!(count(""), 1);
    world.docker("ps --filter nosuch=1").failure(1, &["invalid filter 'nosuch'"]);
}

#[d2k_suite::test]
fn older_clients_get_the_fields_that_they_know() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web --health-cmd true busybox sleep 1000").success();
    let old: Value = world.get("/v1.41/containers/json").json();
    assert_eq!(old[0]["Names"], json!(["/web"]));
    assert!(old[0].get("Health").is_none(), "{old}");
}
