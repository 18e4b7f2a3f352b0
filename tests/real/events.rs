//! `docker events`: the history, then what happens, in Docker's order and by filters.

use serde_json::Value;

use crate::support::{Running, World, eventually};

const LINE: &str = "{{.Type}} {{.Action}} {{or .Actor.Attributes.name .Actor.ID}}";
/// One second ahead, since events of the second that runs would be cut off.
const HISTORY: &str = "events --since 10m --until $(($(date +%s) + 1))";

/// Starts listening. Nothing is missed, whenever the client connects: what happens from now on is
/// replayed to it.
#[track_caller]
fn listen(world: &World, filters: &str) -> Running {
    world.docker_spawn(format!("events --since {} {filters} --format '{LINE}'", now()))
}

/// The seconds since 1970.
fn now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// Whether the words come in this order, other lines between them.
fn in_order(text: &str, words: &[&str]) -> bool {
    let mut lines = text.lines();
    words.iter().all(|word| lines.any(|line| line.starts_with(word)))
}

#[d2k_suite::test]
fn every_stream_begins_with_the_past_where_the_policy_says_so() {
    let file = std::env::temp_dir().join(format!("d2k-events-{}.yaml", std::process::id()));
    std::fs::write(&file, "events: {settings: {replay: always}}").unwrap();
    let Some(world) = World::with(&[("D2K_POLICY_SETTINGS", file.to_str().unwrap())]) else { return };
    world.docker("create --name web busybox true").success();
    let events = world.docker_spawn("events --format '{{.Type}} {{.Action}} {{.Actor.Attributes.name}}'");
    eventually("the past is told", || events.stdout().contains("container create web"));
    events.stop();
    std::fs::remove_file(file).unwrap();
}

#[d2k_suite::test]
fn a_foreground_run_is_told_in_dockers_order() {
    let Some(world) = World::new() else { return };
    let events = listen(&world, "");
    assert_eq!(world.docker("run --rm --name once busybox sh -c 'exit 3'").status, 3);
    let seen = events.wait_for("container destroy once");
    let order = [
        "container create once",
        "container attach once",
        "container start once",
        "container die once",
        "container destroy once",
    ];
    assert!(in_order(&seen, &order), "{seen}");
}

#[d2k_suite::test]
fn stop_start_restart_and_kill_are_told_as_docker_tells_them() {
    let Some(world) = World::new() else { return };
    let events = listen(&world, "--filter type=container");
    world.docker("run -d --name web --stop-timeout 1 busybox sleep 1000").success();
    world.docker("stop web").success();
    let seen = events.wait_for("container stop web");
    assert!(
        in_order(
            &seen,
            &["container create web", "container start web", "container kill web", "container die web"]
        ),
        "{seen}"
    );
    world.docker("start web").success();
    world.docker("restart -t 1 web").success();
    let seen = events.wait_for("container restart web");
    assert!(
        in_order(
            &seen,
            &[
                "container stop",
                "container start",
                "container kill",
                "container die",
                "container start",
                "container restart"
            ]
        ),
        "{seen}"
    );
    world.docker("kill web").success();
    eventually("its end is told", || {
        let seen = events.stdout();
        let after = seen.rsplit("container restart web").next().unwrap();
        in_order(after, &["container kill web", "container die web"]) && !after.contains("container stop")
    });
    world.docker("rm web").success();
    let seen = events.wait_for("container destroy web");
    let count = |words: &str| seen.lines().filter(|line| *line == words).count();
    assert_eq!((count("container create web"), count("container destroy web")), (1, 1), "{seen}");
    assert_eq!((count("container start web"), count("container die web")), (3, 3), "{seen}");
}

#[d2k_suite::test]
fn the_end_of_a_container_carries_its_exit_code_and_labels() {
    let Some(world) = World::new() else { return };
    assert_eq!(world.docker("run --name once --label a.b/c=d busybox sh -c 'exit 7'").status, 7);
    let history = world.docker(format!("{HISTORY} --format '{{{{json .}}}}' --filter event=die")).success();
    let event: Value = serde_json::from_str(history.lines().next().unwrap()).unwrap();
    let attributes = &event["Actor"]["Attributes"];
    assert_eq!(attributes["exitCode"], "7");
    assert_eq!(attributes["name"], "once");
    assert_eq!(attributes["image"], "busybox");
    assert_eq!(attributes["a.b/c"], "d");
    assert_eq!(event["Actor"]["ID"], world.field("once", ".Id"));
    assert_eq!(event["scope"], "local");
    assert!(event["timeNano"].as_i64().unwrap() / 1_000_000_000 == event["time"].as_i64().unwrap());
}

#[d2k_suite::test]
fn the_history_is_replayed_and_a_past_end_closes_the_stream() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web --stop-timeout 1 busybox sleep 1000").success();
    world.docker("stop web").success();
    world.docker("volume create data").success();
    world.docker("network create backend").success();
    let script = format!("{HISTORY} --format '{LINE}'");
    eventually("all is in the history", || {
        let history = world.docker(&script).success();
        [
            "container create web",
            "container start web",
            "container die web",
            "volume create",
            "network create backend",
        ]
        .iter()
        .all(|words| history.contains(words))
    });
    assert_eq!(world.sh("docker events --since 1 --until 2").success(), "");
    world.get("/events?since=2&until=1").error(400);
    let soon = world.get(&format!("/events?until={}", now() + 1)).text();
    assert!(soon.contains("\"create\""), "an end alone asks for the history too: {soon}");
}

#[d2k_suite::test]
fn the_history_survives_d2k() {
    let Some(mut world) = World::new() else {
        return;
    };
    world.docker("network create backend").success();
    world.docker("run -d --name web -v data:/data busybox sleep 1000").success();
    world.restart_d2k();
    let script = format!("{HISTORY} --format '{LINE}'");
    let history = world.docker(&script).success();
    assert!(in_order(&history, &["container create web", "container start web"]), "{history}");
    for words in ["volume create data", "network create backend"] {
        assert_eq!(history.matches(words).count(), 1, "{words} in\n{history}");
    }
}

#[d2k_suite::test]
fn a_replay_goes_over_into_what_happens_now() {
    let Some(world) = World::new() else { return };
    world.docker("create --name before busybox true").success();
    let events = world.docker_spawn(format!("events --since 10m --format '{LINE}'"));
    events.wait_for("container create before");
    world.docker("create --name after busybox true").success();
    let seen = events.wait_for("container create after");
    assert_eq!(seen.matches("container create before").count(), 1, "{seen}");
}

#[d2k_suite::test]
fn events_are_filtered_by_type_action_container_label_and_image() {
    let Some(world) = World::new() else { return };
    world.docker("create --name one --label tier=db busybox true").success();
    world.docker("create --name two nginx").success();
    world.docker("volume create data").success();
    world.docker("rm one").success();
    let history = |filters: &str| world.docker(format!("{HISTORY} {filters} --format '{LINE}'")).lines();
    assert!(history("--filter type=volume").iter().all(|line| line.starts_with("volume ")));
    assert!(!history("--filter type=volume").is_empty());
    assert_eq!(history("--filter container=two --filter event=create"), ["container create two"]);
    assert_eq!(history("--filter label=tier=db --filter event=create"), ["container create one"]);
    assert_eq!(history("--filter image=nginx --filter event=create"), ["container create two"]);
    assert!(history("--filter image=nginx:nosuch").is_empty());
    assert_eq!(history("--filter event=destroy --filter type=container"), ["container destroy one"]);
    assert!(history("--filter volume=data").iter().all(|line| line.starts_with("volume ")));
    world.docker("events --filter nosuch=1 --until 1").failure(1, &["invalid filter 'nosuch'"]);
}

#[d2k_suite::test]
fn an_exec_is_told_from_its_creation_to_its_exit_code() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web busybox sleep 1000").success();
    let events = world
        .docker_spawn("events --filter container=web --format '{{.Action}} {{.Actor.Attributes.exitCode}}'");
    eventually("the exec is heard from its creation to its end", || {
        assert_eq!(world.docker("exec web sh -c 'exit 5'").status, 5);
        let seen = events.stdout();
        in_order(&seen, &["exec_create: sh -c exit 5", "exec_start: sh -c exit 5", "exec_die 5"])
    });
}

#[d2k_suite::test]
fn health_is_told_when_it_changes() {
    let Some(world) = World::new() else { return };
    let events = listen(&world, "--filter event=health_status");
    world
        .docker(
            "run -d --name web --health-cmd 'test -e /tmp/ok' --health-interval 1s --health-retries 1 \
             busybox sh -c 'touch /tmp/ok; sleep 1000'",
        )
        .success();
    events.wait_for("container health_status: healthy web");
    world.docker("exec web rm /tmp/ok").success();
    events.wait_for("container health_status: unhealthy web");
}

#[d2k_suite::test]
fn volumes_networks_and_images_are_told() {
    let Some(world) = World::new() else { return };
    let events = listen(&world, "");
    world.docker("volume create data").success();
    world.docker("network create backend").success();
    world.docker("pull -q busybox").success();
    world.docker("tag busybox mine").success();
    world.docker("run -d --name web --network backend busybox sleep 1000").success();
    world.docker("rename web other").success();
    world.docker("rm -f other").success();
    world.docker("rmi mine").success();
    world.docker("volume rm data").success();
    world.docker("network rm backend").success();
    events.wait_for("network destroy backend");
    let seen = events.wait_for("volume destroy");
    for words in [
        "network create backend",
        "network connect backend",
        "network disconnect backend",
        "image pull busybox",
        "image tag mine",
        "image untag",
        "container rename other",
        "volume create",
    ] {
        assert!(seen.contains(words), "no {words:?} in\n{seen}");
    }
}

#[d2k_suite::test]
fn a_container_changed_by_kubectl_is_told_too() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web busybox sleep 1000").success();
    let events = listen(&world, "");
    world.kubectl("scale deployment web --replicas=0").success();
    world.kubectl("delete pods --all --grace-period=1 --wait=false").success();
    events.wait_for("container die web");
    world.kubectl("delete deployment web").success();
    events.wait_for("container destroy web");
}

#[d2k_suite::test]
fn old_clients_get_the_fields_that_they_need() {
    let Some(world) = World::new() else { return };
    let id = world.docker("create --name web busybox true").success();
    let until = now() + 1;
    let filters = r#"{"event":["create"],"type":["container"]}"#;
    let old = world.get(&format!("/v1.41/events?since=1&until={until}&filters={filters}"));
    assert_eq!(old.header("content-type"), Some("application/json"));
    let event: Value = serde_json::from_str(old.text().lines().next().unwrap()).unwrap();
    assert_eq!(event["status"], "create");
    assert_eq!(event["id"], id);
    assert_eq!(event["from"], "busybox");
    let new = world.get(&format!("/v1.52/events?since=1&until={until}"));
    assert_eq!(new.header("content-type"), Some("application/jsonl"));
}

#[d2k_suite::test]
fn the_head_of_the_stream_comes_before_the_first_event() {
    let Some(world) = World::new() else { return };
    let mut events = world.connect();
    events.send("GET /events HTTP/1.1\r\nHost: d2k\r\n\r\n");
    assert!(events.head().starts_with("HTTP/1.1 200"));
}

#[d2k_suite::test]
fn a_container_that_waits_for_its_next_start_is_stopped_without_a_second_end() {
    let Some(world) = World::new() else { return };
    let events = listen(&world, "--filter type=container");
    world.docker("run -d --name web --restart always busybox false").success();
    // The second run begins at once, the third one ten seconds later.
    eventually("it waits for its third run", || {
        let web = world.inspect("web");
        web["State"]["Status"] == "restarting" && web["RestartCount"] == 1
    });
    world.docker("stop web").success();
    let seen = events.wait_for("container stop web");
    let after = |word: &str| seen.lines().filter(|line| line.starts_with(word)).count();
    assert_eq!(after("container die web"), after("container start web"), "{seen}");
    assert_eq!(after("container kill web"), 0, "{seen}");
}
