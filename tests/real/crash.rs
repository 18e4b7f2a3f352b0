//! d2k is killed at any moment and forgets nothing: state lives in Kubernetes only.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{World, eventually};

#[d2k_suite::test]
fn a_container_that_is_restarted_right_after_d2k_was_goes_on_running() {
    let Some(mut world) = World::new() else { return };
    world.docker("run -d --name web busybox sleep 1000").success();
    world.kill_d2k();
    world.restart_d2k();
    world.docker("restart -t 1 web").success();
    // So long another d2k's run is left alone; what it was must not be taken for what is.
    std::thread::sleep(Duration::from_secs(7));
    assert_eq!(world.field("web", ".State.Status"), "running");
    assert_eq!(world.object("deployment/web")["spec"]["replicas"], 1);
}

#[d2k_suite::test]
fn twenty_containers_outlive_a_killed_d2k_and_answer_as_before() {
    let Some(mut world) = World::new() else {
        return;
    };
    let start = "for i in $(seq 20); do docker run -d --name c$i busybox sh -c \"echo log-$i; sleep 1000\" & done; wait";
    assert_eq!(world.sh(start).lines().len(), 20);
    let list = |world: &World| {
        let mut rows =
            world.docker("ps -a --no-trunc --format '{{.ID}} {{.Names}} {{.State}} {{.Command}}'").lines();
        rows.sort();
        rows
    };
    let (rows, inspect) = (list(&world), world.inspect("c7"));
    world.kill_d2k();
    world.restart_d2k();
    assert_eq!(list(&world), rows);
    assert_eq!(world.inspect("c7"), inspect);
    eventually("the log is there", || world.docker("logs c9").success() == "log-9");
    assert_eq!(world.docker("exec c20 echo inside").success(), "inside");
    let wait = world.docker_spawn("wait c3");
    std::thread::sleep(Duration::from_millis(500));
    world.docker("kill c3").success();
    assert_eq!(wait.finish().success(), "137");
    assert_eq!(world.names("deployments").len(), 20);
}

#[d2k_suite::test]
fn a_d2k_killed_while_twenty_containers_are_run_loses_and_doubles_none() {
    let Some(mut world) = World::new() else {
        return;
    };
    let runs: Vec<_> =
        (0..20).map(|at| world.docker_spawn(format!("run -d --name c{at} busybox sleep 1000"))).collect();
    eventually("some of them run", || world.docker("ps -q").stdout.lines().count() >= 3);
    world.kill_d2k();
    let told: Vec<bool> = runs.into_iter().map(|run| run.finish().status == 0).collect();
    world.restart_d2k();
    let names = world.docker("ps -a --format '{{.Names}}'").lines();
    for (at, told) in told.into_iter().enumerate() {
        let name = format!("c{at}");
        let count = names.iter().filter(|other| **other == name).count();
        assert!(count <= 1 && (count == 1 || !told), "{name} is there {count} times");
        // What was told to run does; what was cut off can be finished by hand.
        if count == 1 {
            world.docker(format!("start {name}")).success();
        } else {
            world.docker(format!("run -d --name {name} busybox sleep 1000")).success();
        }
    }
    assert_eq!(world.docker("ps -q").lines().len(), 20);
    assert_eq!(world.names("deployments").len(), 20);
}

#[d2k_suite::test]
fn a_container_that_ends_while_d2k_is_away_is_known_with_its_exit_code_and_log() {
    let Some(mut world) = World::new() else {
        return;
    };
    world.docker("run -d --name brief busybox sh -c 'echo said; sleep 3; exit 6'").success();
    world.docker("create --name job busybox true").success();
    world.kill_d2k();
    std::thread::sleep(Duration::from_secs(4));
    world.restart_d2k();
    world.until_status("brief", "exited");
    assert_eq!(world.field("brief", ".State.ExitCode"), "6");
    assert!(world.docker("logs brief").success().contains("said"));
    assert_eq!(world.docker("wait brief").success(), "6");
}

#[d2k_suite::test]
fn a_run_with_rm_is_removed_by_the_next_d2k() {
    let Some(mut world) = World::new() else {
        return;
    };
    world.docker("run -d --rm --name brief busybox sleep 3").success();
    world.kill_d2k();
    std::thread::sleep(Duration::from_secs(4));
    world.restart_d2k();
    eventually("it has gone", || world.docker("ps -aq").success().is_empty());
    eventually("its objects have gone", || world.names("deployments,jobs,pods").is_empty());
}

#[d2k_suite::test]
fn two_d2ks_of_one_namespace_show_the_same() {
    let Some(world) = World::new() else { return };
    let port = crate::support::free_port();
    let log = std::fs::File::create(world.directory().join("second.log")).unwrap();
    let mut second = world.d2k();
    second.arg("serve").env("D2K_PORT", port.to_string()).stdout(log.try_clone().unwrap()).stderr(log);
    let mut second = second.spawn().unwrap();
    eventually("the second one answers", || {
        crate::support::http_get(("127.0.0.1", port), "/_ping").is_some_and(|reply| reply.status == 200)
    });
    let id = world.docker("run -d --name web busybox sleep 1000").success();
    let other = |words: &str| world.sh(format!("DOCKER_HOST=tcp://127.0.0.1:{port} docker {words}"));
    eventually("the second one shows it", || other("ps -q --no-trunc").success() == id);
    assert_eq!(other("exec web echo inside").success(), "inside");
    other("run -d --name web busybox true").failure(125, &["is already in use by container"]);
    other("rm -f web").success();
    eventually("the first one knows", || world.docker("ps -aq").success().is_empty());
    let _ = second.kill();
    let _ = second.wait();
}

#[d2k_suite::test]
fn an_end_that_another_d2k_recorded_is_told_and_the_container_removed() {
    let Some(mut world) = World::new() else { return };
    let second = world.second_d2k(&[]);
    let names = ["one", "two", "three", "four"];
    for name in names {
        let script = "trap \"exit 4\" USR1; while :; do sleep 0.1; done";
        world.docker(format!("run --detach --rm --name {name} busybox sh -c '{script}'")).success();
    }
    // The first d2k then learns of all ends and records at once, in any order.
    world.daemon().signal("STOP");
    for name in names {
        assert_eq!(second.post(&format!("/containers/{name}/kill?signal=USR1"), &Value::Null).status, 204);
    }
    for name in names {
        assert_eq!(second.post(&format!("/containers/{name}/wait"), &Value::Null).json()["StatusCode"], 4);
    }
    world.daemon().signal("CONT");
    let begin = Instant::now();
    eventually("no container is left", || world.docker("ps --all --quiet").success().is_empty());
    // The second d2k removes containers of another one only after 15 seconds.
    assert!(begin.elapsed() < Duration::from_secs(10), "removed after {:?}", begin.elapsed());
    let events = "events --since 10m --until $(($(date +%s) + 1)) --filter event=die --format '{{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}'";
    let deaths = world.docker(events).success();
    for name in names {
        let told = deaths.lines().filter(|line| *line == format!("{name} 4")).count();
        assert_eq!(told, 1, "{name}: {deaths}");
    }
}

#[d2k_suite::test]
fn a_run_that_another_d2k_has_bound_to_another_pod_is_not_run_again() {
    let Some(world) = World::new() else { return };
    for name in ["bound", "free"] {
        world.docker(format!("create --name {name} busybox echo ran")).success();
        // Its Pod is not scheduled as long as it has the gate, by which time d2k has begun the run.
        let held =
            serde_json::json!({"spec": {"template": {"spec": {"schedulingGates": [{"name": "test/hold"}]}}}});
        world.kubectl(format!("patch job {name} --type merge -p '{held}'")).success();
        let run = world.docker_spawn(format!("start -a {name}"));
        let pods = format!("get pods -o name -l job-name={name}");
        eventually("it has a Pod", || !world.kubectl(&pods).success().is_empty());
        if name == "bound" {
            let leave = r#"{"pod":"another","given":true}"#;
            world.kubectl(format!("annotate job {name} 'd2k.io/leave={leave}'")).success();
        }
        let pod = world.kubectl(&pods).success();
        let opened = r#"[{"op": "remove", "path": "/spec/schedulingGates"}]"#;
        world.kubectl(format!("patch {pod} --type json -p '{opened}'")).success();
        let run = run.finish();
        world.until_status(name, "exited");
        let ran = world.docker(format!("logs {name}")).success() == "ran";
        assert_eq!(ran, name == "free", "{run}");
    }
    assert_eq!(world.field("bound", ".State.ExitCode"), "137");
}

#[d2k_suite::test]
fn a_workload_deleted_by_kubectl_is_gone_for_docker_as_well() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web busybox sleep 1000").success();
    world.kubectl("delete deployment web").success();
    eventually("it has gone", || world.docker("ps -aq").success().is_empty());
    world.docker("run -d --name web busybox sleep 1000").success();
}

#[d2k_suite::test]
fn a_d2k_killed_while_it_ended_a_pod_leaves_a_container_that_starts() {
    let Some(mut world) = World::new() else {
        return;
    };
    world.docker("run -d --name web --stop-timeout 1 busybox sleep 1000").success();
    world.kill_d2k();
    let set = world.names("replicasets").pop().expect("a ReplicaSet");
    world.kubectl(format!(r#"patch {set} -p '{{"metadata":{{"finalizers":["d2k.io/ending"]}}}}'"#)).success();
    world.kubectl(format!("delete {set} --cascade=orphan --wait=false")).success();
    world.kubectl("scale deployment web --replicas=0").success();
    world.restart_d2k();
    eventually("it has stopped", || world.docker("ps -q").success().is_empty());
    world.docker("start web").success();
    assert_eq!(world.docker("exec web echo inside").success(), "inside");
}

#[d2k_suite::test]
fn a_d2k_killed_while_it_replaced_a_job_loses_no_container() {
    let Some(mut world) = World::new() else {
        return;
    };
    let id = world.docker("create --name once busybox echo again").success();
    world.kill_d2k();
    let mut job = world.object("job/once");
    let meta = job["metadata"].as_object_mut().unwrap();
    meta.retain(|name, _| ["name", "labels", "annotations"].contains(&name.as_str()));
    job["spec"].as_object_mut().unwrap().remove("selector");
    job["spec"]["template"]["metadata"]["labels"]
        .as_object_mut()
        .unwrap()
        .retain(|name, _| !name.contains("controller-uid") && !name.contains("job-name"));
    job.as_object_mut().unwrap().remove("status");
    let kept = serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "d2k-job-left", "labels": {"d2k.io/role": "replacing"}},
        "data": {"job.json": job.to_string()},
    });
    world.apply(&kept.to_string());
    world.kubectl("delete job once").success();
    world.restart_d2k();
    eventually("the container is there again", || {
        world.docker("ps -aq --no-trunc --filter name=once").success() == id
    });
    assert_eq!(world.docker("start -a once").success(), "again");
    eventually("nothing else is left", || world.names("configmaps -l d2k.io/role=replacing").is_empty());
}
