//! `docker run` and `docker create`: in the foreground, detached, with piped input, in a terminal.

use std::time::Duration;

use serde_json::json;

use crate::support::{Image, World, eventually};

#[d2k_suite::test]
fn a_foreground_run_prints_its_output_passes_the_exit_code_on_and_leaves_nothing_behind() {
    let Some(world) = World::new() else { return };
    let run = world.docker("run --rm busybox sh -c 'echo out; echo err >&2; exit 7'");
    assert_eq!(run.status, 7, "{run}");
    let both = run.both();
    assert!(both.contains("out\n") && both.contains("err\n"), "{run}");
    assert_eq!(world.docker("ps -aq").success(), "");
    eventually("nothing is left", || {
        world.names("deployments,jobs,pods,services,persistentvolumeclaims").is_empty()
    });
    assert_eq!(starts(&world), 1, "the command was not started exactly once");
}

/// How often Kubernetes started a container in the namespace.
fn starts(world: &World) -> u64 {
    let events = world.object("events --field-selector reason=Started");
    events["items"].as_array().unwrap().iter().map(|event| event["count"].as_u64().unwrap_or(1)).sum()
}

#[d2k_suite::test]
fn a_foreground_run_without_rm_stays_with_its_exit_code_and_its_log() {
    let Some(world) = World::new() else { return };
    assert_eq!(world.docker("run --name once busybox sh -c 'echo said; exit 3'").status, 3);
    let status = world.docker("ps -a --format '{{.Names}} {{.Status}}'").success();
    assert!(status.starts_with("once Exited (3)"), "{status}");
    assert_eq!(world.docker("logs once").success(), "said");
    assert_eq!(world.field("once", ".State.ExitCode"), "3");
    assert_eq!(starts(&world), 1, "the command was not started exactly once");
}

#[d2k_suite::test]
fn piped_input_and_its_end_reach_the_container_although_both_came_before_the_pod() {
    let Some(world) = World::new() else { return };
    let run = world.sh(r"printf 'a\nb\n' | docker run -i --rm busybox wc -l");
    assert_eq!(run.success(), "2");
}

#[d2k_suite::test]
fn a_large_piped_input_arrives_whole() {
    let Some(world) = World::new() else { return };
    let run = world.docker_in("run -i --rm busybox sha256sum", vec![b'x'; 5_000_000]);
    let sum = world.sh("head -c 5000000 /dev/zero | tr '\\0' x | sha256sum").success();
    assert_eq!(run.success(), sum);
}

#[d2k_suite::test]
fn a_large_output_arrives_whole_and_in_order() {
    let Some(world) = World::new() else { return };
    // The pause is for the runtime: containerd drops what is still in its pipe when a process ends.
    let lines = world.docker("run --rm busybox sh -c 'seq 100000; sleep 2'").lines();
    assert_eq!(lines.len(), 100_000);
    assert!(lines.iter().enumerate().all(|(at, line)| *line == (at + 1).to_string()));
}

#[d2k_suite::test]
fn a_run_that_ends_at_once_still_shows_all_of_its_output() {
    let Some(world) = World::new() else { return };
    for _ in 0..3 {
        assert_eq!(world.docker("run --rm busybox echo brief").success(), "brief");
    }
}

#[d2k_suite::test]
fn an_interactive_run_has_a_terminal_of_the_users_size_and_passes_the_exit_code_on() {
    let Some(world) = World::new() else { return };
    let mut run = world.docker_tty("run -it --rm busybox sh");
    run.wait_for("# ");
    run.write("tty; echo sum-$((40 + 2))\n");
    run.wait_for("sum-42");
    assert!(run.stdout().contains("/dev/pts/"), "{}", run.stdout());
    eventually("the terminal has the user's size", || {
        run.write("stty size\n");
        std::thread::sleep(Duration::from_millis(200));
        run.stdout().contains("40 100")
    });
    run.write("exit 5\n");
    let output = run.finish();
    assert_eq!(output.status, 5, "{output}");
    assert_eq!(world.docker("ps -aq").success(), "");
}

#[d2k_suite::test]
fn a_terminal_run_without_input_prints_terminal_line_ends() {
    let Some(world) = World::new() else { return };
    let run = world.docker("run -t --rm busybox echo hello");
    assert_eq!(run.stdout, "hello\r\n", "{run}");
}

#[d2k_suite::test]
fn a_detached_run_prints_its_id_and_is_a_deployment_of_the_same_name_with_no_service() {
    let Some(world) = World::new() else { return };
    let id = world.docker("run -d --name web nginx").success();
    assert!(id.len() == 64 && id.chars().all(|c| c.is_ascii_hexdigit()), "{id}");
    assert_eq!(world.field("web", ".Id"), id);
    assert_eq!(world.field("web", ".State.Status"), "running");
    assert_eq!(world.names("deployments"), ["deployment.apps/web"]);
    world.kubectl("rollout status deployment web --timeout=30s").success();
    let label =
        world.object("deployment/web")["spec"]["template"]["metadata"]["labels"]["d2k.io/container"].clone();
    assert_eq!(label, json!(id[..32]));
    assert_eq!(world.names("services"), [""; 0]);
}

#[d2k_suite::test]
fn a_container_without_a_name_gets_one_of_two_words() {
    let Some(world) = World::new() else { return };
    world.docker("run -d busybox sleep 1000").success();
    let name = world.docker("ps --format '{{.Names}}'").success();
    let words: Vec<&str> = name.split('_').collect();
    assert!(words.len() == 2 && words.iter().all(|word| word.len() > 1), "{name}");
}

#[d2k_suite::test]
fn a_detached_run_with_rm_goes_when_it_ends() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --rm busybox sleep 1").success();
    eventually("the container has gone", || world.docker("ps -aq").success().is_empty());
    eventually("its objects have gone", || world.names("deployments,jobs,pods").is_empty());
}

#[d2k_suite::test]
fn a_created_container_does_not_run_until_it_is_started_and_then_shows_its_output() {
    let Some(world) = World::new() else { return };
    let id = world.docker("create --name later busybox sh -c 'echo now; exit 4'").success();
    assert_eq!(world.field("later", ".State.Status"), "created");
    assert_eq!(world.docker("ps -a --format '{{.Status}}'").success(), "Created");
    assert_eq!(world.docker("ps -q").success(), "");
    assert!(world.names("pods").is_empty());
    let start = world.docker("start -a later");
    assert_eq!((start.status, start.stdout.as_str()), (4, "now\n"), "{start}");
    assert_eq!(world.field("later", ".Id"), id);
}

#[d2k_suite::test]
fn twenty_runs_at_once_all_run() {
    let Some(world) = World::new() else { return };
    let script = "for i in $(seq 20); do docker run -d busybox sleep 1000 & done; for job in $(jobs -p); do wait $job || echo failed; done";
    let ids = world.sh(script).lines();
    assert_eq!(ids.len(), 20, "{ids:?}");
    assert!(ids.iter().all(|id| id.len() == 64), "{ids:?}");
    assert_eq!(world.docker("ps -q").lines().len(), 20);
    let mut names = world.docker("ps --format '{{.Names}}'").lines();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 20, "{names:?}");
    assert_eq!(world.names("deployments").len(), 20);
}

#[d2k_suite::test]
fn an_image_that_does_not_exist_fails_in_dockers_own_flow_and_leaves_nothing_behind() {
    let Some(world) = World::new() else { return };
    let run = world.docker("run nosuch-image:1");
    assert_eq!(run.status, 125, "{run}");
    assert!(run.stderr.contains("Unable to find image 'nosuch-image:1' locally"), "{run}");
    assert!(run.stderr.contains("pull access denied") || run.stderr.contains("not found"), "{run}");
    assert_eq!(world.docker("ps -aq").success(), "");
    assert!(world.names("deployments,jobs,pods,services").is_empty());
}

#[d2k_suite::test]
fn a_command_that_does_not_exist_ends_with_127_and_one_that_cannot_run_with_126() {
    let Some(world) = World::new() else { return };
    let missing = world.docker("run --rm busybox no-such-command");
    assert_eq!(missing.status, 127, "{missing}");
    assert!(missing.stderr.contains("executable file not found"), "{missing}");
    assert_eq!(missing.stderr.matches("executable file not found").count(), 1, "told once: {missing}");
    let denied = world.docker("run --rm busybox /etc/passwd");
    assert_eq!(denied.status, 126, "{denied}");
    assert!(denied.stderr.contains("permission denied"), "{denied}");
    assert_eq!(world.docker("ps -aq").success(), "");
}

#[d2k_suite::test]
fn an_image_without_a_command_is_refused() {
    let Some(world) = World::new() else { return };
    let name = format!("{}-bare", world.name());
    Image::empty(&name).file("file", "content", 0o644).push();
    let run = world.docker(format!("run {name}"));
    assert_eq!(run.status, 125, "{run}");
    assert!(run.stderr.contains("no command specified"), "{run}");
    assert_eq!(world.docker("ps -aq").success(), "");
}

#[d2k_suite::test]
fn a_name_in_use_is_refused_in_dockers_words() {
    let Some(world) = World::new() else { return };
    let id = world.docker("create --name pp busybox true").success();
    let again = world.docker("create --name pp busybox true");
    let words = format!(
        "Conflict. The container name \"/pp\" is already in use by container \"{id}\". \
         You have to remove (or rename) that container to be able to reuse that name."
    );
    again.failure(1, &[&words]);
    let run = world.docker("run --name pp busybox true");
    run.failure(125, &[&words]);
}

#[d2k_suite::test]
fn an_interrupt_in_the_terminal_reaches_the_container() {
    let Some(world) = World::new() else { return };
    let run = world.docker_spawn(
        "run --rm busybox sh -c 'trap \"echo caught; exit 5\" INT; echo ready; while :; do sleep 0.1; done'",
    );
    run.wait_for("ready");
    run.signal("INT");
    let output = run.finish();
    assert_eq!(output.status, 5, "{output}");
    assert!(output.stdout.contains("caught"), "{output}");
}

#[d2k_suite::test]
fn a_run_out_of_memory_is_known_as_such() {
    let Some(world) = World::new() else { return };
    let run =
        world.docker("run --name greedy --memory 32m busybox dd if=/dev/zero of=/dev/null bs=256M count=1");
    assert_eq!(run.status, 137, "{run}");
    assert_eq!(world.field("greedy", ".State.OOMKilled"), "true");
    assert_eq!(world.field("greedy", ".State.ExitCode"), "137");
}

#[d2k_suite::test]
fn a_detached_container_that_ends_stays_ended_with_its_exit_code() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name brief busybox sh -c 'echo said; sleep 1; exit 4'").success();
    world.until_status("brief", "exited");
    assert_eq!(world.field("brief", ".State.ExitCode"), "4");
    assert_eq!(world.docker("logs brief").lines().last().map(String::as_str), Some("said"));
    eventually("no Pod is left to run it again", || {
        world.object("pods")["items"].as_array().unwrap().iter().all(|pod| {
            pod["metadata"].get("deletionTimestamp").is_some() || pod["status"]["phase"] != "Running"
        })
    });
}

#[d2k_suite::test]
fn a_container_that_restarts_always_counts_its_restarts() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name again --restart always busybox sh -c 'sleep 1; exit 3'").success();
    eventually("it has been restarted", || world.field("again", ".RestartCount") != "0");
    let status = world.field("again", ".State.Status");
    assert!(status == "running" || status == "restarting", "{status}");
}

#[d2k_suite::test]
fn a_run_that_restarts_on_failure_gives_up_after_its_count() {
    let Some(world) = World::new() else { return };
    let run = world.docker_spawn("run --name thrice --restart on-failure:1 busybox sh -c 'echo try; exit 9'");
    // Whoever waits is told of the first end, and the container goes on.
    let output = run.finish();
    assert_eq!((output.status, output.stdout.as_str()), (9, "try\n"), "{output}");
    assert_eq!(world.docker("wait thrice").success(), "9");
    eventually("it has given up", || world.field("thrice", ".State.Status") == "exited");
    assert_eq!(world.field("thrice", ".State.ExitCode"), "9");
    assert_eq!(world.field("thrice", ".RestartCount"), "1");
}

#[d2k_suite::test]
fn a_file_takes_the_id_of_the_new_container() {
    let Some(world) = World::new() else { return };
    world.docker("create --name written --cidfile id busybox true").success();
    let id = std::fs::read_to_string(world.directory().join("id")).unwrap();
    assert_eq!(world.field("written", ".Id"), id.trim());
}

#[d2k_suite::test]
fn run_always_pulls_when_told_to() {
    let Some(world) = World::new() else { return };
    let run = world.docker("run --rm --pull always busybox echo fresh");
    assert!(run.stderr.contains("Status: "), "{run}");
    assert_eq!(run.success(), "fresh");
    let never = world.docker("run --rm --pull never nosuch-image:1");
    assert_eq!(never.status, 125, "{never}");
}
