//! `--volumes-from`: what a container takes from another is settled when it is created.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{World, eventually};

/// Creates a container that takes volumes from others; the status and the words of a refusal.
#[track_caller]
fn create(world: &World, name: &str, from: &[&str]) -> (u16, String) {
    create_with(world, name, json!({"VolumesFrom": from}))
}

#[track_caller]
fn create_with(world: &World, name: &str, host: Value) -> (u16, String) {
    let body = json!({"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": host});
    let reply = world.post(&format!("/containers/create?name={name}"), body);
    (reply.status, reply.json()["message"].as_str().unwrap_or_default().to_owned())
}

/// The names of all containers.
#[track_caller]
fn names(world: &World) -> Vec<String> {
    let reply = world.get("/containers/json?all=1");
    assert_eq!(reply.status, 200, "{}", reply.text());
    let name = |line: &Value| line["Names"][0].as_str().unwrap().trim_start_matches('/').to_owned();
    let mut all: Vec<String> = reply.json().as_array().unwrap().iter().map(name).collect();
    all.sort();
    all
}

#[track_caller]
fn rename(world: &World, from: &str, to: &str) {
    let reply = world.post(&format!("/containers/{from}/rename?name={to}"), Value::Null);
    assert_eq!(reply.status, 204, "{}", reply.text());
}

#[d2k_suite::test]
fn names_that_come_round_in_a_circle_by_renames_do_no_harm() {
    let Some(world) = World::new() else { return };
    assert_eq!(create_with(&world, "aa", json!({"Binds": ["data:/data"]})).0, 201);
    assert_eq!(create(&world, "bb", &["aa"]).0, 201);
    rename(&world, "aa", "old");
    rename(&world, "bb", "aa");
    assert_eq!(names(&world), ["aa", "old"]);
    let inspect = world.inspect("aa");
    assert_eq!(inspect["HostConfig"]["VolumesFrom"], json!(["aa"]), "as it was sent");
    assert_eq!(inspect["Mounts"][0]["Name"], "data");
    assert_eq!(inspect["Mounts"][0]["Destination"], "/data");
    world.docker("start aa").success();
    world.docker("exec aa touch /data/f").success();
}

#[d2k_suite::test]
fn a_container_takes_no_volumes_from_itself_or_nobody() {
    let Some(world) = World::new() else { return };
    for (name, from) in [("me", "me"), ("other", "nobody")] {
        let (status, message) = create(&world, name, &[from]);
        assert_eq!((status, message.as_str()), (400, format!("No such container: {from}").as_str()));
    }
    assert_eq!(create(&world, "me", &["nobody:what"]), (400, "invalid mode: what".to_owned()));
    let empty = "volumes-from specification cannot be an empty string";
    assert_eq!(create(&world, "me", &[""]), (400, empty.to_owned()));
    assert_eq!(create(&world, "me", &["nobody"; 65]).0, 400);
    assert_eq!(names(&world), Vec::<String>::new());
    assert_eq!(create(&world, "me", &[]).0, 201, "the name is free");
}

#[d2k_suite::test]
fn twenty_five_containers_that_name_the_one_before_twice_are_answered_at_once() {
    let Some(world) = World::new() else { return };
    assert_eq!(create_with(&world, "c0", json!({"Binds": ["data:/data"]})).0, 201);
    for step in 1..=25 {
        let before = format!("c{}", step - 1);
        assert_eq!(create(&world, &format!("c{step}"), &[&before, &before]).0, 201);
    }
    let begin = Instant::now();
    assert_eq!(names(&world).len(), 26);
    assert_eq!(world.get("/containers/c25/json").json()["Mounts"][0]["Name"], "data");
    assert_eq!(create(&world, "last", &["c25", "c25"]).0, 201);
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}

#[d2k_suite::test]
fn what_was_taken_stays_when_the_other_container_is_gone() {
    let Some(world) = World::new() else { return };
    world.docker("run --name one -v /data -v named:/named busybox sh -c 'echo kept > /data/f'").success();
    world.docker("create --name two --volumes-from one:ro --volumes-from one busybox cat /data/f").success();
    world.docker("create --name three --volumes-from one:ro busybox touch /data/g").success();
    world.docker("rm one").success();
    assert_eq!(world.docker("start -a two").success(), "kept");
    assert_eq!(world.docker("start -a two").success(), "kept", "also a second time");
    let refused = world.docker("start -a three");
    assert!(refused.status != 0 && refused.stderr.contains("Read-only file system"), "{refused}");
    let read_only = |name: &str| world.inspect(name)["Mounts"][0]["RW"] == json!(false);
    assert!(read_only("three") && !read_only("two"), "the last entry of a list decides");
    world.docker("volume rm named").failure(1, &["volume is in use"]);
    let anonymous = world.docker("volume ls -q").lines().into_iter().find(|name| name != "named").unwrap();
    world.docker(format!("volume rm {anonymous}")).failure(1, &["volume is in use"]);
    world.docker("rm two three").success();
    world.docker(format!("volume rm named {anonymous}")).success();
}

#[d2k_suite::test]
fn a_circle_in_records_of_an_earlier_version_is_an_error_of_those_containers_alone() {
    let Some(mut world) = World::new() else { return };
    for name in ["aa", "bb", "sound"] {
        world.docker(format!("create --restart always --name {name} busybox sleep 1000")).success();
    }
    for (name, from) in [("aa", "bb"), ("bb", "aa"), ("sound", "left")] {
        let object = world.object(&format!("deployment/{name}"));
        let request = object["metadata"]["annotations"]["d2k.io/request"].as_str().unwrap();
        let mut request: Value = serde_json::from_str(request).unwrap();
        request["HostConfig"]["VolumesFrom"] = json!([from]);
        let patch = json!({"metadata": {"annotations": {"d2k.io/request": request.to_string()}}});
        world.kubectl(format!("patch deployment {name} --type merge -p '{patch}'")).success();
    }
    world.docker("create --restart always --name left -v kept:/kept busybox true").success();
    eventually("d2k knows", || world.inspect("sound")["Mounts"][0]["Name"] == "kept");
    assert_eq!(names(&world), ["aa", "bb", "left", "sound"]);
    world.docker("start aa").failure(1, &["takes volumes from itself"]);
    world.docker("start sound").success();
    world.docker("exec sound touch /kept/f").success();
    world.docker("volume rm kept").failure(1, &["volume is in use"]);
    world.restart_d2k();
    assert_eq!(names(&world), ["aa", "bb", "left", "sound"], "the next d2k reads them, too");
    world.docker("rm -f aa bb sound left").success();
}
