//! An operator's policies stay in force: no request has them given up, no change of a request goes
//! around them, and what is required is never left out.

use serde_json::{Value, json};

use crate::policies::{Folder, within_a_second};
use crate::support::{World, eventually, free_port, http_get};

/// A d2k whose policy `quota` refuses every volume without a team.
fn with_quota(settings: &str) -> Option<(Folder, World)> {
    let folder = Folder::new();
    folder.write("settings.yaml", settings);
    folder.example("quota");
    let world = folder.world()?;
    world.docker("plugin inspect quota").success();
    Some((folder, world))
}

fn is_in_force(world: &World) {
    world
        .docker("volume create data")
        .failure(1, &["refused by policy quota: volume data has no label team"]);
    world.docker("volume create --label team=web --opt size=1Gi good").success();
    world.docker("volume rm good").success();
}

fn many(count: usize, length: usize) -> Value {
    (0..count)
        .map(|n| (format!("name-{n}"), json!("x".repeat(length))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[d2k_suite::test]
fn no_request_however_large_or_odd_has_the_operators_policies_given_up() {
    let Some((_folder, world)) = with_quota("quota: {settings: {teams: {web: 2Gi}}}\n") else { return };
    let large = "a".repeat(300_000);
    let env: Vec<String> = (0..100).map(|n| format!("N{n}={}", "x".repeat(60_000))).collect();
    let odd = [
        ("/containers/create", json!({"Image": large})),
        ("/containers/create", json!({"Image": format!("{}.example/x", "a".repeat(300_000))})),
        ("/containers/create", json!({"Image": "Not An Image", "Cmd": ["a"]})),
        ("/containers/create", json!({"Image": "busybox", "Cmd": ["a"], "Env": env})),
        ("/containers/create", json!({"Image": "busybox", "Cmd": ["a"], "Labels": many(5, 100_000)})),
        ("/containers/create", json!({"Image": "busybox", "Cmd": ["a"], "Labels": many(5000, 1)})),
        ("/containers/create", json!({"Image": "busybox", "Cmd": [large]})),
        ("/containers/create", json!({"Image": "busybox", "Cmd": vec!["a"; 5000]})),
        (
            "/containers/create",
            json!({"Image": "busybox", "Cmd": ["a"], "HostConfig": {"PortBindings": {"1-65535/tcp": [{}]}}}),
        ),
        (
            "/containers/create",
            json!({"Image": "busybox", "Cmd": ["a"], "HostConfig": {"Binds": [format!("{large}:/x")]}}),
        ),
        ("/volumes/create", json!({"Name": large})),
        ("/volumes/create", json!({"Name": "v", "Labels": many(5, 100_000)})),
        ("/volumes/create", json!({"Name": "v", "DriverOpts": many(5, 100_000)})),
        ("/networks/create", json!({"Name": large})),
        ("/networks/create", json!({"Name": "n", "Labels": many(5, 100_000)})),
    ];
    for (path, body) in &odd {
        for _ in 0..6 {
            let words = world.post(path, body.clone()).error(400);
            assert!(
                words.len() < 1_000 || words.contains("volume"),
                "{path}: {} bytes of words",
                words.len()
            );
        }
    }
    for name in ["n".repeat(300), "n".repeat(6000)] {
        let body = json!({"Image": "busybox", "Cmd": ["a"]});
        world.post(&format!("/containers/create?name={name}"), body).error(400);
    }
    for _ in 0..6 {
        world.http("POST", &format!("/images/create?fromImage={}", "a".repeat(6000)), &[], b"").error(400);
    }
    let log = world.log();
    assert!(!log.contains("failed too often") && !log.contains("the set before decides"), "{log}");
    is_in_force(&world);
}

#[d2k_suite::test]
fn a_long_command_of_an_exec_is_an_event_all_the_same() {
    let Some((_folder, world)) = with_quota("quota: {settings: {teams: {web: 2Gi}}}\n") else { return };
    world.docker("run -d --name web busybox sleep 1000").success();
    let events = world.docker_spawn("events --filter event=exec_create");
    let exec = json!({"Cmd": ["true", "x".repeat(400_000)]});
    eventually("an event", || {
        world.post("/containers/web/exec", exec.clone());
        events.stdout().contains("exec_create: true xxx")
    });
    events.stop();
    is_in_force(&world);
}

#[d2k_suite::test]
fn what_reaches_the_node_is_refused_with_privileged_containers() {
    let folder = Folder::new();
    folder.write("settings.yaml", "workload: {settings: {refuse-privileged: true}}\n");
    let Some(world) = folder.world() else { return };
    for (options, words) in [
        ("--privileged", "privileged containers are not allowed here"),
        ("--pid host", "namespaces of the node: pid"),
        ("--ipc host", "namespaces of the node: ipc"),
        ("--network host", "namespaces of the node: network"),
        ("--cap-add SYS_ADMIN", "added capabilities: SYS_ADMIN"),
        ("--cap-add ALL", "added capabilities: ALL"),
        ("--security-opt seccomp=unconfined", "no confinement by: seccomp"),
        ("--security-opt apparmor=unconfined", "no confinement by: apparmor"),
        ("--security-opt systempaths=unconfined", "no confinement by: systempaths"),
    ] {
        let create = format!("create --name web {options} busybox true");
        world.docker(create).failure(1, &["refused by policy workload: container web:", words]);
    }
    let ordinary = "--cap-add NET_BIND_SERVICE --cap-drop ALL --security-opt no-new-privileges";
    world.docker(format!("create --name web {ordinary} busybox true")).success();
}

#[d2k_suite::test]
fn a_start_is_judged_by_the_policies_that_are_in_force_then() {
    let folder = Folder::new();
    let Some(world) = folder.world() else { return };
    // One is a Deployment and one a Job.
    world.docker("create --name service --cap-add NET_ADMIN --restart always busybox sleep 1000").success();
    world.docker("create --name once --cap-add NET_ADMIN --rm busybox true").success();
    world.docker("run -d --name runs --cap-add NET_ADMIN busybox sleep 1000").success();
    world.docker("create --name good busybox sleep 1000").success();
    folder.write("settings.yaml", "workload: {settings: {refuse-privileged: true}}\n");
    within_a_second("the setting", || {
        world.docker("plugin inspect workload").success().contains("refuse-privileged=true")
    });
    let words = ["refused by policy workload: container", "added capabilities: NET_ADMIN"];
    world.docker("start service").failure(1, &words);
    world.docker("start once").failure(1, &words);
    world.docker("restart -t 1 runs").failure(1, &words);
    assert_eq!(world.field("runs", ".State.Status"), "running", "it is not stopped for nothing");
    world.docker("start good").success();
    assert_eq!(world.field("service", ".State.Status"), "created");
    folder.remove("settings.yaml");
    within_a_second("the defaults", || {
        world.docker("plugin inspect workload").success().contains("refuse-privileged=false")
    });
    world.docker("start service").success();
}

#[d2k_suite::test]
fn a_required_policy_cannot_be_disabled_and_closes_d2k_where_it_is_missing_at_the_start() {
    let settings = "quota: {settings: {teams: {web: 2Gi}}, required: true}\n";
    let (folder, admin) = (Folder::new(), free_port());
    folder.write("settings.yaml", settings);
    folder.example("quota");
    let (directory, port) = (folder.0.to_str().unwrap(), admin.to_string());
    let Some(mut world) = World::with(&[("D2K_POLICY_DIR", directory), ("D2K_ADMIN_PORT", &port)]) else {
        return;
    };
    let ready = || {
        http_get(("127.0.0.1", admin), "/readyz")
            .map(|reply| (reply.status, reply.text()))
            .unwrap_or_default()
    };
    eventually("d2k is ready", || ready().0 == 200);
    let words = ["policy quota cannot be disabled: settings.yaml says that it is required"];
    world.docker("plugin disable quota").failure(1, &words);
    assert_eq!(world.post("/plugins/quota/disable", Value::Null).status, 403);
    is_in_force(&world);
    world.docker("run -d --name web busybox sleep 1000").success();
    // A bad file changes nothing later.
    folder.write("quota.wasm", "garbage");
    within_a_second("the refusal", || world.docker("info").both().contains("quota.wasm refused at compile"));
    is_in_force(&world);
    // A policy that was never there cannot be had from the last good set.
    folder.write("settings.yaml", "other: {required: true}\n");
    world.restart_d2k();
    let words = "required in settings.yaml and not there: policy other: quota.wasm refused at compile";
    for (path, body) in [
        ("/volumes/create", json!({"Name": "data", "Labels": {"team": "web"}})),
        ("/networks/create", json!({"Name": "net"})),
        ("/containers/create", json!({"Image": "busybox", "Cmd": ["true"]})),
        ("/containers/web/restart", Value::Null),
    ] {
        let told = world.post(path, body).error(503);
        assert!(told.contains(words), "{path}: {told}");
    }
    let told = world.http("POST", "/images/create?fromImage=busybox&tag=latest", &[], b"").error(503);
    assert!(told.contains(words), "{told}");
    assert_eq!(ready().0, 503);
    assert!(ready().1.contains(words), "{}", ready().1);
    assert!(world.docker("info").both().contains("nothing is decided"));
    world.docker("ps").success();
    // Mended, it takes requests again.
    folder.example("quota");
    folder.write("settings.yaml", settings);
    eventually("the policy decides", || {
        world.docker("volume create --label team=web --opt size=1Gi mended").both().ends_with("mended\n")
    });
    is_in_force(&world);
    assert_eq!(ready().0, 200);
}
