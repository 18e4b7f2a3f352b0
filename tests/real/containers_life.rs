//! What happens to a container after `run`: stop, start, restart, kill, wait, rename, update, top,
//! stats, export, diff, pause, rm, prune.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{World, eventually};

/// A command that ends on SIGTERM with this exit code, and prints a line first.
fn ends_on_term(code: u8) -> String {
    format!("busybox sh -c 'trap \"exit {code}\" TERM; echo up; while :; do sleep 0.1; done'")
}

#[d2k_suite::test]
fn a_stopped_container_keeps_its_log_and_runs_again_when_started() {
    let Some(world) = World::new() else { return };
    let id = world.docker("run -d --name web nginx").success();
    eventually("the request is in the log", || {
        world.docker("exec web wget -q -O- http://127.0.0.1:80");
        world.docker("logs web").success().contains("GET / ")
    });
    assert_eq!(world.docker("stop -t 5 web").success(), "web");
    let status = world.docker("ps -a --format '{{.Status}}'").success();
    assert!(
        ["Exited (0)", "Exited (137)", "Exited (143)"].iter().any(|exited| status.starts_with(exited)),
        "{status}"
    );
    assert_eq!(world.docker("ps -q").success(), "");
    assert_eq!(world.object("deployment/web")["spec"]["replicas"], 0);
    assert!(world.docker("logs web").success().contains("GET / "));
    assert_eq!(world.docker("start web").success(), "web");
    assert_eq!(world.field("web", ".State.Status"), "running");
    assert_eq!(world.field("web", ".Id"), id);
}

#[d2k_suite::test]
fn stop_lets_the_process_end_by_itself_and_tells_its_exit_code() {
    let Some(world) = World::new() else { return };
    world.docker(format!("run -d --name polite {}", ends_on_term(3))).success();
    eventually("it is up", || world.docker("logs polite").success().contains("up"));
    world.docker("stop polite").success();
    assert_eq!(world.field("polite", ".State.ExitCode"), "3");
    assert_eq!(world.field("polite", ".State.Status"), "exited");
    assert!(world.names("pods").is_empty() || world.field("polite", ".State.Running") == "false");
}

#[d2k_suite::test]
fn stop_kills_what_does_not_end_in_time() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name stubborn busybox sleep 1000").success();
    let begin = Instant::now();
    world.docker("stop -t 1 stubborn").success();
    assert!(begin.elapsed() < Duration::from_secs(8), "stop -t 1 took {:?}", begin.elapsed());
    assert_eq!(world.field("stubborn", ".State.ExitCode"), "137");
}

#[d2k_suite::test]
fn stop_gives_more_time_than_the_container_was_created_with() {
    let Some(world) = World::new() else { return };
    let script = "trap \"sleep 6; exit 5\" TERM; echo up; while :; do sleep 0.1; done";
    let run = format!("run -d --name slow --restart always --stop-timeout 2 busybox sh -c '{script}'");
    world.docker(run).success();
    eventually("it is up", || world.docker("logs slow").success().contains("up"));
    world.docker("stop -t 30 slow").success();
    assert_eq!(world.field("slow", ".State.ExitCode"), "5");
    assert_eq!(world.docker("logs slow").success(), "up", "it was started once");
}

#[d2k_suite::test]
fn stop_sends_the_signal_that_the_container_was_created_with() {
    let Some(world) = World::new() else { return };
    let command = "busybox sh -c 'trap \"exit 9\" USR1; echo up; while :; do sleep 0.1; done'";
    world.docker(format!("run -d --name special --stop-signal USR1 {command}")).success();
    eventually("it is up", || world.docker("logs special").success().contains("up"));
    world.docker("stop -t 5 special").success();
    assert_eq!(world.field("special", ".State.ExitCode"), "9");
}

#[d2k_suite::test]
fn starting_what_runs_and_stopping_what_does_not_changes_nothing() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web --stop-timeout 1 busybox sleep 1000").success();
    let reply = world.post("/containers/web/start", Value::Null);
    assert_eq!((reply.status, reply.body.len()), (304, 0));
    world.docker("stop web").success();
    let reply = world.post("/containers/web/stop", Value::Null);
    assert_eq!((reply.status, reply.body.len()), (304, 0));
    world.docker("stop web").success();
}

#[d2k_suite::test]
fn a_finished_foreground_container_can_be_started_again() {
    let Some(world) = World::new() else { return };
    assert_eq!(world.docker("run --name job busybox sh -c 'echo ran; exit 2'").status, 2);
    let id = world.field("job", ".Id");
    let again = world.docker("start -a job");
    assert_eq!((again.status, again.stdout.as_str()), (2, "ran\n"), "{again}");
    assert_eq!(world.field("job", ".Id"), id);
}

#[d2k_suite::test]
fn a_foreground_run_that_ended_well_when_it_was_stopped_can_be_started_again() {
    let Some(world) = World::new() else { return };
    let run = world.docker_spawn(format!("run --name web {}", ends_on_term(0)));
    run.wait_for("up");
    world.docker("stop web").success();
    assert_eq!(world.field("web", ".State.ExitCode"), "0");
    world.docker("start web").success();
    assert_eq!(world.field("web", ".State.Status"), "running");
}

#[d2k_suite::test]
fn restart_gives_a_new_start_time_and_no_restart_count() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web --stop-timeout 1 busybox sleep 1000").success();
    let before = world.field("web", ".State.StartedAt");
    assert_eq!(world.docker("restart -t 1 web").success(), "web");
    assert_eq!(world.field("web", ".State.Status"), "running");
    assert!(world.field("web", ".State.StartedAt") > before);
    assert_eq!(world.field("web", ".RestartCount"), "0");
    world.docker("stop web").success();
    world.docker("restart web").success();
    assert_eq!(world.field("web", ".State.Status"), "running");
}

#[d2k_suite::test]
fn kill_ends_the_container_with_137() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web busybox sleep 1000").success();
    assert_eq!(world.docker("kill web").success(), "web");
    world.until_status("web", "exited");
    assert_eq!(world.field("web", ".State.ExitCode"), "137");
}

#[d2k_suite::test]
fn kill_and_forced_removal_do_not_wait_for_a_stop_that_is_under_way() {
    let Some(world) = World::new() else { return };
    for (name, options) in [("one", ""), ("two", "--init"), ("three", "--user 1000")] {
        let command = "busybox sh -c 'trap \"echo asked\" TERM; echo up; while :; do sleep 0.1; done'";
        world.docker(format!("run -d --name {name} {options} {command}")).success();
        eventually("it is up", || world.docker(format!("logs {name}")).success().contains("up"));
        let stop = world.docker_spawn(format!("stop -t 40 {name}"));
        eventually("it was asked", || world.docker(format!("logs {name}")).success().contains("asked"));
        let begin = Instant::now();
        if name == "two" {
            world.docker(format!("rm -f {name}")).success();
        } else {
            world.docker(format!("kill {name}")).success();
            assert_eq!(world.field(name, ".State.ExitCode"), "137", "{name}");
        }
        assert!(begin.elapsed() < Duration::from_secs(15), "{name}: {:?}", begin.elapsed());
        stop.finish_within(Duration::from_secs(15));
    }
}

#[d2k_suite::test]
fn a_killed_process_gets_no_other_signal_before() {
    let Some(world) = World::new() else { return };
    let command = "busybox sh -c 'trap \"echo asked\" TERM; echo up; while :; do sleep 0.1; done'";
    world.docker(format!("run -d --name web {command}")).success();
    eventually("it is up", || world.docker("logs web").success().contains("up"));
    world.docker("kill web").success();
    world.until_status("web", "exited");
    assert_eq!(world.docker("logs web").success(), "up");
}

#[d2k_suite::test]
fn kill_with_another_signal_reaches_the_process_and_does_not_end_it() {
    let Some(world) = World::new() else { return };
    let command = "busybox sh -c 'trap \"echo reloaded\" HUP; echo up; while :; do sleep 0.1; done'";
    world.docker(format!("run -d --name web {command}")).success();
    eventually("it is up", || world.docker("logs web").success().contains("up"));
    world.docker("kill -s HUP web").success();
    eventually("it got the signal", || world.docker("logs web").success().contains("reloaded"));
    assert_eq!(world.field("web", ".State.Status"), "running");
    assert_eq!(world.post("/containers/web/kill?signal=1", Value::Null).status, 204);
}

#[d2k_suite::test]
fn kill_knows_stopped_containers_and_signals_that_do_not_exist() {
    let Some(world) = World::new() else { return };
    let id = world.docker("create --name idle busybox true").success();
    let error = world.post("/containers/idle/kill", Value::Null).error(409);
    assert!(error.contains(&format!("container {id} is not running")), "{error}");
    world.docker("run -d --name busy busybox sleep 1000").success();
    let error = world.post("/containers/busy/kill?signal=NOSUCH", Value::Null).error(400);
    assert!(error.to_lowercase().contains("invalid signal: nosuch"), "{error}");
    assert_eq!(world.field("busy", ".State.Status"), "running");
}

#[d2k_suite::test]
fn wait_prints_the_exit_code_when_the_container_ends() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name timed busybox sh -c 'sleep 2; exit 6'").success();
    let (first, second) = (world.docker_spawn("wait timed"), world.docker_spawn("wait timed"));
    assert_eq!(first.finish().success(), "6");
    assert_eq!(second.finish().success(), "6");
    assert_eq!(world.docker("wait timed").success(), "6");
}

#[d2k_suite::test]
fn wait_on_a_created_container_returns_at_once_unless_it_waits_for_the_next_exit() {
    let Some(world) = World::new() else { return };
    world.docker("create --name idle busybox sh -c 'exit 5'").success();
    assert_eq!(world.docker("wait idle").success(), "0");
    let mut next = world.connect();
    next.send("POST /containers/idle/wait?condition=next-exit HTTP/1.1\r\nHost: d2k\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    // The head comes before the end does: the CLI starts the container only then.
    assert!(next.head().starts_with("HTTP/1.1 200"));
    world.docker("start idle").success();
    let body = String::from_utf8(next.rest()).unwrap();
    assert!(body.contains("\"StatusCode\":5"), "{body}");
}

#[d2k_suite::test]
fn wait_ends_with_each_run_of_a_container_that_is_started_again() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name again --restart always busybox sh -c 'sleep 2; exit 5'").success();
    assert_eq!(world.docker("wait again").success(), "5");
    let next = world.post("/containers/again/wait?condition=next-exit", Value::Null).json();
    assert_eq!(next["StatusCode"], 5, "{next}");
    let status = world.field("again", ".State.Status");
    assert!(status == "running" || status == "restarting", "{status}");
}

#[d2k_suite::test]
fn wait_for_the_removal_ends_with_the_exit_code() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web --stop-timeout 1 busybox sh -c 'exit 8'").success();
    world.until_status("web", "exited");
    let mut removed = world.connect();
    removed.send("POST /containers/web/wait?condition=removed HTTP/1.1\r\nHost: d2k\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    removed.head();
    world.docker("rm web").success();
    let body = String::from_utf8(removed.rest()).unwrap();
    assert!(body.contains("\"StatusCode\":8"), "{body}");
}

#[d2k_suite::test]
fn wait_for_an_unknown_condition_is_refused() {
    let Some(world) = World::new() else { return };
    world.docker("create --name idle busybox true").success();
    world.post("/containers/idle/wait?condition=nosuch", Value::Null).error(400);
}

#[d2k_suite::test]
fn a_renamed_container_answers_to_its_new_name_only_and_the_old_one_is_free() {
    let Some(world) = World::new() else { return };
    let id = world.docker("run -d --name old busybox sleep 1000").success();
    world.docker("rename old new").success();
    assert_eq!(world.field("new", ".Id"), id);
    assert_eq!(world.field("new", ".Name"), "/new");
    assert_eq!(world.field("new", ".State.Status"), "running");
    world.docker("inspect --type container old").failure(1, &["No such container: old"]);
    world.docker("run -d --name old busybox sleep 1000").success();
    let error = world.post("/containers/old/rename?name=new", Value::Null).error(409);
    assert!(error.contains("is already in use by container"), "{error}");
    world.post("/containers/old/rename?name=-bad-", Value::Null).error(400);
}

#[d2k_suite::test]
fn update_changes_limits_and_the_restart_policy() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web --memory 64m --cpus 0.5 busybox sleep 1000").success();
    world.docker("update --memory 96m --memory-swap 96m --cpus 0.25 --restart always web").success();
    let inspect = world.inspect("web");
    assert_eq!(inspect["HostConfig"]["Memory"], 96 * 1024 * 1024);
    assert_eq!(inspect["HostConfig"]["NanoCpus"], 250_000_000);
    assert_eq!(inspect["HostConfig"]["RestartPolicy"]["Name"], "always");
    assert_eq!(inspect["State"]["Status"], "running");
    // In place: the process goes on, and so does its Pod.
    let pods = world.object("pods");
    let container = &pods["items"][0]["spec"]["containers"][0];
    let limits = container["resources"]["limits"].clone();
    assert_eq!(limits["cpu"], "250m", "{limits}");
    assert_eq!(inspect["RestartCount"], 0);
}

#[d2k_suite::test]
fn top_lists_the_processes() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web busybox sh -c 'sleep 1234 & sleep 5678'").success();
    let top = world.docker("top web").success();
    assert!(top.contains("sleep 1234") && top.contains("sleep 5678"), "{top}");
    let reply = world.get("/containers/web/top").json();
    let titles = reply["Titles"].as_array().unwrap();
    assert!(titles.contains(&json!("PID")), "{titles:?}");
    assert!(
        reply["Processes"]
            .as_array()
            .unwrap()
            .iter()
            .all(|row| row.as_array().unwrap().len() == titles.len())
    );
}

#[d2k_suite::test]
fn top_of_a_stopped_container_is_refused() {
    let Some(world) = World::new() else { return };
    let id = world.docker("create --name idle busybox true").success();
    let error = world.get("/containers/idle/top").error(409);
    assert!(error.contains(&format!("container {id} is not running")), "{error}");
}

#[d2k_suite::test]
fn stats_show_what_the_metrics_say_once_there_are_any() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name busy --memory 64m busybox sh -c 'while :; do :; done'").success();
    let first = world.docker("stats --no-stream --format '{{.Name}} {{.CPUPerc}}'").success();
    assert!(first.starts_with("busy ") && first.ends_with('%'), "{first}");
    eventually("the metrics server has seen the Pod", || {
        world
            .kubectl(
                "get --raw /apis/metrics.k8s.io/v1beta1/namespaces/$NS/pods".replace("$NS", world.name()),
            )
            .stdout
            .contains("\"cpu\"")
    });
    eventually("the processor's share is not zero", || {
        let share = world.docker("stats --no-stream --format '{{.CPUPerc}}' busy").success();
        share.trim_end_matches('%').parse::<f64>().unwrap() > 1.0
    });
    let memory = world.docker("stats --no-stream --format '{{.MemUsage}}' busy").success();
    assert!(memory.ends_with("/ 64MiB"), "{memory}");
}

#[d2k_suite::test]
fn stats_without_metrics_are_zero_and_no_error() {
    let Some(world) = World::new() else { return };
    world.docker("create --name idle busybox true").success();
    let stats = world.get("/containers/idle/stats?stream=false").json();
    assert_eq!(stats["name"], "/idle");
    assert_eq!(stats["cpu_stats"]["cpu_usage"]["total_usage"], 0);
    let table = world.docker("stats --no-stream --all --format '{{.Name}} {{.CPUPerc}}'").success();
    assert!(table.contains("0.00%"), "{table}");
}

#[d2k_suite::test]
fn stats_without_a_limit_are_measured_against_the_machine() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web busybox sleep 1000").success();
    let stats = world.get("/containers/web/stats?stream=false&one-shot=true").json();
    assert_eq!(stats["memory_stats"]["limit"], world.get("/info").json()["MemTotal"]);
}

#[d2k_suite::test]
fn streamed_stats_go_on_until_the_client_leaves() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web busybox sleep 1000").success();
    let mut stream = world.connect();
    stream.send("GET /containers/web/stats?stream=true HTTP/1.1\r\nHost: d2k\r\n\r\n");
    assert!(stream.head().starts_with("HTTP/1.1 200"));
    stream.read_until("\"precpu_stats\"");
    stream.read_until("\"precpu_stats\"");
}

#[d2k_suite::test]
fn export_gives_the_file_system_as_an_archive() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web busybox sh -c 'echo mine > /home/made; sleep 1000'").success();
    let list = world.sh("docker export web | tar -t").success();
    assert!(list.lines().any(|path| path.trim_start_matches("./") == "home/made"), "{list}");
    assert!(!list.lines().any(|path| path.trim_start_matches("./").starts_with("proc/1")), "{list}");
    let file = world.sh("docker export web | tar -xO --wildcards '*home/made'").success();
    assert_eq!(file, "mine");
}

#[d2k_suite::test]
fn diff_is_empty() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web busybox sh -c 'touch /new; sleep 1000'").success();
    assert_eq!(world.docker("diff web").success(), "");
}

#[d2k_suite::test]
fn a_running_container_is_removed_only_by_force() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web busybox sleep 1000").success();
    world.docker("rm web").failure(
        1,
        &[
            "cannot remove container",
            "container is running: stop the container before removing or force remove",
        ],
    );
    assert_eq!(world.field("web", ".State.Status"), "running");
    assert_eq!(world.docker("rm -f web").success(), "web");
    assert_eq!(world.docker("ps -aq").success(), "");
    eventually("its objects have gone", || {
        world.names("deployments,pods,services,configmaps -l d2k.io/container").is_empty()
    });
    world.docker("run -d --name web busybox sleep 1000").success();
}

#[d2k_suite::test]
fn a_container_removed_right_after_its_start_goes_at_once_with_its_log() {
    let Some(world) = World::new() else { return };
    for round in 0..6 {
        world.docker("run -d --name web busybox sleep 1000").success();
        let begun = std::time::Instant::now();
        world.docker("rm -f web").success();
        let took = begun.elapsed().as_secs();
        assert!(took < 8, "round {round} took {took} s, as if the stop timeout of 10 s held");
        assert_eq!(world.names("configmaps,pods -l d2k.io/container"), Vec::<String>::new(), "round {round}");
    }
}

#[d2k_suite::test]
fn several_containers_are_removed_at_once() {
    let Some(world) = World::new() else { return };
    for name in ["a1", "b1", "c1"] {
        world.docker(format!("run -d --name {name} busybox sleep 1000")).success();
    }
    world.docker("rm -f a1 b1 c1").success();
    assert_eq!(world.docker("ps -aq").success(), "");
    world.docker("rm nosuch").failure(1, &["No such container: nosuch"]);
}

#[d2k_suite::test]
fn prune_removes_what_does_not_run_and_nothing_else() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name runs busybox sleep 1000").success();
    let created = world.docker("create --name created --label keep=no busybox true").success();
    let kept = world.docker("create --name kept --label keep=yes busybox true").success();
    let pruned = world.docker("container prune -f --filter label=keep=no").success();
    assert!(pruned.contains(&created) && !pruned.contains(&kept), "{pruned}");
    let pruned = world.docker("container prune -f").success();
    assert!(pruned.contains(&kept), "{pruned}");
    assert_eq!(world.docker("ps -a --format '{{.Names}}'").success(), "runs");
    let reply = world.post("/containers/prune", Value::Null).json();
    assert_eq!(reply, json!({"ContainersDeleted": null, "SpaceReclaimed": 0}));
}

#[d2k_suite::test]
fn stopping_many_containers_at_once_stops_each() {
    let Some(world) = World::new() else { return };
    for at in 1..=5 {
        world.docker(format!("run -d --name c{at} --stop-timeout 1 busybox sleep 1000")).success();
    }
    assert_eq!(world.docker("stop c1 c2 c3 c4 c5").lines().len(), 5);
    let states = world.docker("ps -a --format '{{.State}}'").lines();
    assert_eq!(states, ["exited"; 5]);
}
