//! `--link`: names that one container gives to others, their variables, and what happens to them later.

use serde_json::json;

use crate::support::{World, eventually, fetch};

/// A container that answers `http://…/` with its own word.
fn serve(world: &World, options: &str, word: &str) {
    let script =
        format!("mkdir /tmp/www; echo {word} > /tmp/www/index.html; exec httpd -f -p 80 -h /tmp/www");
    world.docker(format!("run -d {options} --expose 80 -e WORD={word} busybox sh -c '{script}'")).success();
}

#[d2k_suite::test]
fn a_link_names_the_other_container_for_this_one_alone() {
    let Some(world) = World::new() else { return };
    serve(&world, "--name db", "one");
    for name in ["data", "db"] {
        assert_eq!(world.docker(format!("run --rm --link db:data {}", fetch(name))).success(), "one");
    }
    let stranger = world.docker("run --rm busybox wget -q -O- http://data");
    stranger.failure(1, &["bad address 'data'"]);
}

#[d2k_suite::test]
fn a_link_of_the_default_network_brings_the_other_ones_variables() {
    let Some(world) = World::new() else { return };
    serve(&world, "--name db", "one");
    let env = world.docker("run --name web --link db:the-data -e THE_DATA_ENV_WORD=mine busybox env").lines();
    let address = world.field("db", ".NetworkSettings.IPAddress");
    for wanted in [
        "THE_DATA_NAME=/web/the-data".to_owned(),
        "THE_DATA_ENV_WORD=mine".to_owned(),
        format!("THE_DATA_PORT=tcp://{address}:80"),
        format!("THE_DATA_PORT_80_TCP=tcp://{address}:80"),
        format!("THE_DATA_PORT_80_TCP_ADDR={address}"),
        "THE_DATA_PORT_80_TCP_PORT=80".to_owned(),
        "THE_DATA_PORT_80_TCP_PROTO=tcp".to_owned(),
    ] {
        assert!(env.contains(&wanted), "no {wanted} in {env:?}");
    }
    assert_eq!(world.inspect("web")["HostConfig"]["Links"], json!(["/db:/web/the-data"]));
}

#[d2k_suite::test]
fn a_link_follows_its_container_and_goes_with_the_one_that_has_it() {
    let Some(mut world) = World::new() else { return };
    serve(&world, "--name db", "one");
    world.docker("run -d --name web --link db:data busybox sleep 1000").success();
    assert_eq!(world.docker(format!("exec web {}", fetch("data"))).success(), "one");
    let before = world.field("db", ".NetworkSettings.IPAddress");
    world.docker("restart -t 1 db").success();
    assert_ne!(world.field("db", ".NetworkSettings.IPAddress"), before);
    assert_eq!(world.docker(format!("exec web {}", fetch("data"))).success(), "one");
    // Another d2k knows of it, too.
    world.restart_d2k();
    world.docker("restart -t 1 db").success();
    assert_eq!(world.docker(format!("exec web {}", fetch("data"))).success(), "one");
    world.docker("rm -f web").success();
    eventually("its objects have gone", || {
        world.names("services,endpointslices -l d2k.io/role=links").is_empty()
    });
}

#[d2k_suite::test]
fn a_link_on_a_network_is_for_this_container_alone() {
    let Some(world) = World::new() else { return };
    world.docker("network create backend").success();
    serve(&world, "--name one --network backend --network-alias db", "one");
    serve(&world, "--name two --network backend", "two");
    let linked = format!("run --rm --network backend --link two:db {}", fetch("db"));
    assert_eq!(world.docker(linked).success(), "two");
    assert_eq!(world.docker(format!("run --rm --network backend {}", fetch("db"))).success(), "one");
}

#[d2k_suite::test]
fn a_link_to_nothing_is_refused() {
    let Some(world) = World::new() else { return };
    let refused = world.docker("run --rm --link nosuch:db busybox true");
    refused.failure(125, &["could not get container for nosuch: No such container: nosuch"]);
    let body = json!({"Image": "busybox", "HostConfig": {"Links": ["a:b:c"]}});
    let error = world.post("/containers/create", body).error(400);
    assert!(error.contains("bad format for links: a:b:c"), "{error}");
    let refused = world.docker("run --rm --network host --link db:db busybox true");
    assert_eq!(refused.status, 125, "{refused}");
}
