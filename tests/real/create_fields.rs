//! The create body: what is mapped shows inside the container, the rest is warned about or refused.

use serde_json::{Value, json};

use crate::support::{Image, World, eventually};

/// What a command prints in a container created with these options.
#[track_caller]
fn shown(world: &World, options: &str, command: &str) -> String {
    world.docker(format!("run --rm {options} busybox sh -c '{command}'")).success()
}

/// The Pod template of the only Deployment.
#[track_caller]
fn template(world: &World) -> Value {
    // `docker create` asks for a run in the foreground: a Job.
    let of = |kind: &str| world.object(kind)["items"][0]["spec"]["template"].clone();
    let deployment = of("deployments");
    if deployment.is_null() { of("jobs") } else { deployment }
}

#[d2k_suite::test]
fn environment_comes_from_options_files_and_the_client() {
    let Some(world) = World::new() else { return };
    let script = "printf 'FILED=1 2\\n' > env; GIVEN=x docker run --rm --env-file env -e A='b c' -e GIVEN -e '$(B)=$(A) $$' \
                  busybox sh -c 'echo $A-$FILED-$GIVEN'";
    assert_eq!(world.sh(script).success(), "b c-1 2-x");
}

#[d2k_suite::test]
fn text_that_looks_like_a_kubernetes_variable_stays_as_it_is() {
    let Some(world) = World::new() else { return };
    let run = world.docker(r#"run --rm -e A=1 -e 'B=$(A)' busybox sh -c 'echo "$B" "$0"' '$(A)'"#);
    assert_eq!(run.success(), "$(A) $(A)");
}

#[d2k_suite::test]
fn directory_and_entrypoint_are_used() {
    let Some(world) = World::new() else { return };
    assert_eq!(shown(&world, "-w /etc", "pwd"), "/etc");
    assert_eq!(world.docker("run --rm --entrypoint echo busybox hello").success(), "hello");
}

#[d2k_suite::test]
fn the_images_entrypoint_command_user_and_directory_are_used() {
    let Some(world) = World::new() else { return };
    let image = format!("{}-entry", world.name());
    Image::busybox(&image)
        .config(json!({
            "Entrypoint": ["/bin/sh", "-c", "echo \"$0\" \"$@\"; id -u; pwd"], "Cmd": ["from", "image"],
            "User": "33", "WorkingDir": "/var",
        }))
        .push();
    assert_eq!(world.docker(format!("run --rm {image}")).lines(), ["from image", "33", "/var"]);
    assert_eq!(world.docker(format!("run --rm {image} mine")).lines()[0], "mine");
    let own = world.docker(format!("run --rm --entrypoint id {image} -u"));
    assert_eq!(own.success(), "33");
}

#[d2k_suite::test]
fn user_and_groups_are_used() {
    let Some(world) = World::new() else { return };
    assert_eq!(shown(&world, "-u 1000:1001", "id -u; id -g"), "1000\n1001");
    assert_eq!(shown(&world, "-u 33", "id -u"), "33");
    assert!(shown(&world, "--group-add 2000", "id -G").contains("2000"));
}

#[d2k_suite::test]
fn a_user_by_name_is_used_or_the_reason_is_told() {
    let Some(world) = World::new() else { return };
    let run = world.docker("run --rm -u www-data busybox id -u");
    assert!(run.stdout == "33\n" || run.status != 0 && run.stderr.contains("www-data"), "{run}");
}

#[d2k_suite::test]
fn host_name_hosts_and_dns_are_used() {
    let Some(world) = World::new() else { return };
    assert_eq!(shown(&world, "--hostname front", "hostname"), "front");
    assert!(shown(&world, "--add-host db.test:10.1.2.3", "cat /etc/hosts").contains("10.1.2.3"));
    let conf = shown(
        &world,
        "--dns 10.9.9.9 --dns-search example.test --dns-option ndots:2",
        "cat /etc/resolv.conf",
    );
    assert!(
        conf.contains("nameserver 10.9.9.9") && conf.contains("example.test") && conf.contains("ndots:2"),
        "{conf}"
    );
}

#[d2k_suite::test]
fn the_host_name_is_the_short_id_unless_given() {
    let Some(world) = World::new() else { return };
    let id = world.docker("run -d --name web busybox sleep 1000").success();
    assert_eq!(world.docker("exec web hostname").success(), id[..12]);
}

#[d2k_suite::test]
fn memory_and_processor_limits_are_the_pods() {
    let Some(world) = World::new() else { return };
    world
        .docker("create --memory 64m --memory-reservation 32m --cpus 0.5 --cpu-shares 512 busybox true")
        .success();
    let resources = template(&world)["spec"]["containers"][0]["resources"].clone();
    assert_eq!(resources["limits"]["cpu"], "500m", "{resources}");
    for (kind, bytes) in [("limits", 64 << 20), ("requests", 32 << 20)] {
        let quantity = resources[kind]["memory"].as_str().unwrap();
        let megabytes = quantity.strip_suffix("Mi").map(|n| n.parse::<u64>().unwrap() << 20);
        assert_eq!(megabytes.or_else(|| quantity.parse().ok()), Some(bytes), "{resources}");
    }
    let text = shown(
        &world,
        "--memory 64m",
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true",
    );
    assert!(text.contains("67108864"), "{text}");
}

#[d2k_suite::test]
fn capabilities_privileges_and_a_read_only_root_are_used() {
    let Some(world) = World::new() else { return };
    let capabilities = |options: &str| {
        let line = shown(&world, options, "grep CapEff /proc/self/status");
        u64::from_str_radix(line.rsplit('\t').next().unwrap().trim(), 16).unwrap()
    };
    let (net_admin, chown) = (1 << 12, 1);
    assert_eq!(capabilities("") & net_admin, 0);
    assert_ne!(capabilities("--cap-add NET_ADMIN") & net_admin, 0);
    assert_eq!(capabilities("--cap-drop CHOWN") & chown, 0);
    assert_eq!(capabilities("--cap-drop ALL"), 0);
    assert_ne!(capabilities("--privileged") & net_admin, 0);
    let write = world.docker("run --rm --read-only busybox touch /file");
    write.failure(1, &[]);
    let line = shown(&world, "--security-opt no-new-privileges", "grep NoNewPrivs /proc/self/status");
    assert!(line.ends_with('1'), "{line}");
}

#[d2k_suite::test]
fn sysctls_of_the_pod_are_used() {
    let Some(world) = World::new() else { return };
    let value = shown(
        &world,
        "--sysctl net.ipv4.ip_unprivileged_port_start=81",
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
    );
    assert_eq!(value, "81");
}

#[d2k_suite::test]
fn annotations_reach_the_pod_and_docker_labels_are_kept_aside() {
    let Some(world) = World::new() else { return };
    world.docker("create --annotation example.test/a=b --label 'odd.Key/1=x y' busybox true").success();
    let template = template(&world);
    assert_eq!(template["metadata"]["annotations"]["example.test/a"], "b", "{template}");
    assert_eq!(world.get("/containers/json?all=1").json()[0]["Labels"], json!({"odd.Key/1": "x y"}));
}

#[d2k_suite::test]
fn graphics_processors_are_asked_for_by_their_resource() {
    let Some(world) = World::new() else { return };
    world.docker("create --gpus 2 busybox true").success();
    let limits = template(&world)["spec"]["containers"][0]["resources"]["limits"].clone();
    assert_eq!(limits["nvidia.com/gpu"], "2", "{limits}");
}

#[d2k_suite::test]
fn a_health_check_of_the_image_is_used_unless_it_is_switched_off() {
    let Some(world) = World::new() else { return };
    let image = format!("{}-health", world.name());
    let check = json!({"Test": ["CMD-SHELL", "true"], "Interval": 1_000_000_000_u64});
    Image::busybox(&image).config(json!({"Healthcheck": check})).push();
    world.docker(format!("run -d --name on {image} sleep 1000")).success();
    eventually("it is healthy", || world.field("on", ".State.Health.Status") == "healthy");
    world.docker(format!("run -d --name off --no-healthcheck {image} sleep 1000")).success();
    assert!(world.inspect("off")["State"].get("Health").is_none());
}

#[d2k_suite::test]
fn the_stop_timeout_is_the_grace_of_the_pod() {
    let Some(world) = World::new() else { return };
    world.docker("create --stop-timeout 7 busybox true").success();
    assert_eq!(template(&world)["spec"]["terminationGracePeriodSeconds"], 7);
}

#[d2k_suite::test]
fn an_init_process_reaps_or_its_lack_is_warned_about() {
    let Some(world) = World::new() else { return };
    let create = world.docker("run -d --name web --init busybox sleep 1000");
    assert_eq!(create.status, 0, "{create}");
    let first = world.docker("exec web cat /proc/1/comm").success();
    assert!(first != "sleep" || create.stderr.to_lowercase().contains("init"), "{create}");
}

/// Options that Kubernetes has no field for: each is refused or warned about, with a word of it.
const UNMAPPED: &[(&str, &str)] = &[
    ("--blkio-weight 100", "blkio"),
    ("--cgroup-parent x", "cgroup"),
    ("--cpuset-cpus 0", "cpuset"),
    ("--cpu-rt-runtime 1000", "real"),
    ("--device /dev/null", "device"),
    ("--device-read-bps /dev/sda:1mb", "blkio"),
    ("--domainname example.test", "domain"),
    ("--ip 10.0.0.9 --network backend", "ip"),
    ("--isolation hyperv", "isolation"),
    ("--log-driver none", "log"),
    ("--mac-address 02:42:ac:11:00:02", "mac"),
    ("--memory-swap 256m --memory 64m", "swap"),
    ("--oom-kill-disable --memory 64m", "oom"),
    ("--oom-score-adj 100", "oom"),
    ("--pids-limit 50", "pids"),
    ("--storage-opt size=1G", "storage"),
    ("--ulimit nofile=1024", "ulimit"),
    ("--cgroupns host", "cgroup"),
];

#[d2k_suite::test]
fn no_option_is_ignored_in_silence() {
    let Some(world) = World::new() else { return };
    world.docker("network create backend").success();
    let mut silent = Vec::new();
    for (option, word) in UNMAPPED {
        let create = world.docker(format!("create {option} busybox true"));
        if !create.stderr.to_lowercase().contains(word) {
            silent.push(format!("{option}: {create}"));
        }
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}

#[d2k_suite::test]
fn namespaces_of_the_host_are_mapped_or_refused() {
    let Some(world) = World::new() else { return };
    for (option, field) in
        [("--pid host", "hostPID"), ("--ipc host", "hostIPC"), ("--network host", "hostNetwork")]
    {
        let create = world.docker(format!("create --name host {option} busybox true"));
        if create.status == 0 && create.stderr.is_empty() {
            assert_eq!(template(&world)["spec"][field], true, "{option}");
        } else {
            assert!(create.stderr.contains("host"), "{create}");
        }
        world.docker("rm -f host");
    }
}

#[d2k_suite::test]
fn warnings_are_a_list_even_if_there_are_none() {
    let Some(world) = World::new() else { return };
    let reply = world.post("/containers/create", json!({"Image": "busybox", "Cmd": ["true"]}));
    assert_eq!((reply.status, &reply.json()["Warnings"]), (201, &json!([])));
}

#[d2k_suite::test]
fn null_is_taken_for_every_field() {
    let Some(world) = World::new() else { return };
    let body = json!({
        "Image": "busybox", "Cmd": ["true"], "Entrypoint": null, "Env": null, "Labels": null, "Volumes": null,
        "ExposedPorts": null, "Healthcheck": null, "OnBuild": null, "Shell": null, "StopTimeout": null,
        "HostConfig": {
            "Binds": null, "PortBindings": null, "RestartPolicy": null, "CapAdd": null, "Dns": null, "Mounts": null,
            "Memory": 0, "ConsoleSize": [0, 0], "PidsLimit": null, "Ulimits": null, "LogConfig": null,
            "Devices": null, "DeviceRequests": null, "Tmpfs": null, "Sysctls": null, "Init": null,
        },
        "NetworkingConfig": null,
    });
    assert_eq!(world.post("/containers/create", body).status, 201);
}

#[d2k_suite::test]
fn an_unknown_field_of_the_body_is_no_error() {
    let Some(world) = World::new() else { return };
    let body = json!({"Image": "busybox", "Cmd": ["true"], "Nosuch": {"a": 1}, "name": "repeated"});
    let reply = world.post("/containers/create?name=web&Cmd=true&Cmd=x&nosuch=1", body);
    assert_eq!(reply.status, 201, "{}", reply.text());
}
