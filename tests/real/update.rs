//! `docker update` changes what Docker lets it change, and asks the policies that judged the create.

use serde_json::json;

use crate::support::{World, eventually};

#[d2k_suite::test]
fn an_update_gives_a_container_no_right_that_it_did_not_have() {
    let Some(world) = World::new() else { return };
    world.docker("create --name web busybox sleep 1000").success();
    for changes in [
        json!({"Privileged": true}),
        json!({"privileged": true, "Memory": 67_108_864}),
        json!({"PidMode": "host"}),
        json!({"NetworkMode": "host"}),
        json!({"CapAdd": ["ALL"]}),
        json!({"Binds": ["/var/run/docker.sock:/var/run/docker.sock"]}),
        json!({"SecurityOpt": ["seccomp=unconfined"]}),
        json!({"VolumesFrom": ["web"]}),
        json!({"HostConfig": {"Privileged": true}}),
    ] {
        let error = world.post("/containers/web/update", changes.clone()).error(400);
        assert!(error.contains("cannot be changed by an update"), "{changes}: {error}");
    }
    let reply = world.post("/containers/web/update", json!({"Devices": [{"PathOnHost": "/dev/sda"}]}));
    assert!(
        reply.json()["Warnings"][0].as_str().unwrap().contains("Devices is not changed"),
        "{}",
        reply.text()
    );
    world.docker("start web").success();
    eventually("it runs", || world.field("web", ".State.Running") == "true");
    let pods = world.kubectl("get pods -o json").success();
    for right in
        ["\"privileged\": true", "hostPID", "hostNetwork\": true", "\"add\"", "Unconfined", "d2k.io/docker"]
    {
        assert!(!pods.contains(right), "{right}: {pods}");
    }
    assert_eq!(world.docker("ps -a --format '{{.Names}}'").lines(), ["web"], "the list still answers");
}

#[d2k_suite::test]
fn limits_and_the_restart_policy_change() {
    let Some(world) = World::new() else { return };
    world.docker("create --name web busybox sleep 1000").success();
    world.docker("update --memory 96m --memory-swap 96m --restart always web").success();
    assert_eq!(world.field("web", ".HostConfig.Memory"), "100663296");
    assert_eq!(world.field("web", ".HostConfig.RestartPolicy.Name"), "always");
}

#[d2k_suite::test]
fn an_update_is_judged_by_the_policies_of_now() {
    let folder = std::env::temp_dir().join(format!("d2k-update-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let settings = folder.join("settings.yaml");
    std::fs::write(&settings, "workload: {settings: {}}\n").unwrap();
    let Some(world) = World::with(&[("D2K_POLICY_DIR", folder.to_str().unwrap())]) else { return };
    world.docker("create --name web busybox sleep 1000").success();
    world.docker("update --memory 64m --memory-swap 64m web").success();
    std::fs::write(&settings, "workload: {settings: {rules: [{image: 'busybox*', refuse: not this one}]}}\n")
        .unwrap();
    eventually("a create is refused", || world.docker("create busybox").stderr.contains("not this one"));
    world.docker("update --memory 96m --memory-swap 96m web").failure(1, &["not this one"]);
    assert_eq!(world.field("web", ".HostConfig.Memory"), "67108864");
    world.docker("start web").failure(1, &["not this one"]);
    let _ = std::fs::remove_dir_all(&folder);
}
