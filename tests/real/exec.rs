//! `docker exec`: output, input, exit code, terminal, environment, directory, user.

use serde_json::{Value, json};

use crate::support::{World, eventually, frames};

/// A world with a container `web` that sleeps.
fn sleeping() -> Option<World> {
    let world = World::new()?;
    world.docker("run -d --name web -e FROM=run busybox sleep 1000").success();
    Some(world)
}

#[d2k_suite::test]
fn exec_prints_both_streams_apart_and_passes_the_exit_code_on() {
    let Some(world) = sleeping() else { return };
    let exec = world.docker("exec web sh -c 'echo out; echo err >&2; exit 7'");
    assert_eq!((exec.status, exec.stdout.as_str(), exec.stderr.trim_end()), (7, "out\n", "err"), "{exec}");
    world.docker("exec web true").success();
}

#[d2k_suite::test]
fn exec_reads_its_input_to_the_end() {
    let Some(world) = sleeping() else { return };
    assert_eq!(world.docker_in("exec -i web wc -l", "a\nb\nc\n").success(), "3");
    assert_eq!(world.docker_in("exec -i web wc -c", vec![b'x'; 3_000_000]).success(), "3000000");
}

#[d2k_suite::test]
fn the_end_of_an_exec_is_known_although_nobody_has_read_its_input() {
    let Some(world) = sleeping() else { return };
    for _ in 0..10 {
        let exec = world.docker_in("exec -i web sh -c 'echo hi; exit 9'", vec![b'x'; 3_000_000]);
        assert_eq!((exec.status, exec.stdout.as_str()), (9, "hi\n"), "{exec}");
    }
}

#[d2k_suite::test]
fn a_command_with_input_is_alone_in_the_list_of_processes() {
    let Some(world) = sleeping() else { return };
    let mut exec = world.docker_spawn("exec -i web cat");
    exec.write("come\n");
    eventually("it runs", || exec.stdout() == "come\n");
    let top = world.docker("top web -o comm").lines();
    assert_eq!(top, ["COMMAND", "sleep", "cat"]);
    exec.close_stdin();
    eventually("it has gone", || world.docker("top web").lines().len() == 2);
}

#[d2k_suite::test]
fn exec_passes_large_output_whole() {
    let Some(world) = sleeping() else { return };
    let count = world.sh("docker exec web head -c 20000000 /dev/zero | wc -c").success();
    assert_eq!(count, "20000000");
}

#[d2k_suite::test]
fn exec_in_a_terminal_is_interactive_and_has_its_size() {
    let Some(world) = sleeping() else { return };
    let mut exec = world.docker_tty("exec -it web sh");
    exec.wait_for("# ");
    exec.write("tty; echo sum-$((40 + 2))\n");
    exec.wait_for("sum-42");
    assert!(exec.stdout().contains("/dev/pts/"), "{}", exec.stdout());
    eventually("the terminal has the user's size", || {
        exec.write("stty size\n");
        std::thread::sleep(std::time::Duration::from_millis(200));
        exec.stdout().contains("40 100")
    });
    exec.write("exit 3\n");
    assert_eq!(exec.finish().status, 3);
}

#[d2k_suite::test]
fn exec_detached_runs_on_without_output() {
    let Some(world) = sleeping() else { return };
    assert_eq!(world.docker("exec -d web sh -c 'sleep 1; echo done > /tmp/mark'").success(), "");
    eventually("it has run", || world.docker("exec web cat /tmp/mark").stdout == "done\n");
}

#[d2k_suite::test]
fn exec_takes_environment_and_directory() {
    let Some(world) = sleeping() else { return };
    let exec = world.docker("exec -e A='b c' -e FROM=exec -w /etc web sh -c 'echo $A $FROM; pwd'");
    assert_eq!(exec.lines(), ["b c exec", "/etc"]);
    assert_eq!(world.docker("exec web sh -c 'echo $FROM'").success(), "run");
}

#[d2k_suite::test]
fn exec_takes_a_user_where_it_can_be_had_or_says_that_it_cannot() {
    let Some(world) = sleeping() else { return };
    let exec = world.docker("exec -u 1000 web id -u");
    if exec.status == 0 {
        assert_eq!(exec.stdout, "1000\n", "{exec}");
    } else {
        assert!(exec.stderr.contains("user"), "{exec}");
    }
    assert_eq!(world.docker("exec -u 0 web id -u").success(), "0");
    assert_eq!(world.docker("exec -u root web id -u").success(), "0");
}

#[d2k_suite::test]
fn exec_of_a_missing_command_ends_with_127_and_of_a_plain_file_with_126() {
    let Some(world) = sleeping() else { return };
    let missing = world.docker("exec web no-such-command");
    assert_eq!(missing.status, 127, "{missing}");
    assert!(missing.both().contains("executable file not found"), "{missing}");
    let denied = world.docker("exec web /etc/passwd");
    assert_eq!(denied.status, 126, "{denied}");
    assert!(denied.both().contains("permission denied"), "{denied}");
}

#[d2k_suite::test]
fn exec_needs_a_running_container_and_a_command() {
    let Some(world) = sleeping() else { return };
    let id = world.docker("create --name idle busybox true").success();
    let error = world.post("/containers/idle/exec", json!({"Cmd": ["true"]})).error(409);
    assert!(error.contains(&format!("container {id} is not running")), "{error}");
    let error = world.post("/containers/web/exec", json!({"Cmd": []})).error(400);
    assert!(error.contains("No exec command specified"), "{error}");
    let error = world.post("/containers/nosuch/exec", json!({"Cmd": ["true"]})).error(404);
    assert!(error.contains("No such container: nosuch"), "{error}");
}

/// Makes an exec by HTTP and gives its ID.
#[track_caller]
fn created(world: &World, command: Value) -> String {
    let body = json!({"AttachStdin": true, "AttachStdout": true, "AttachStderr": true, "Cmd": command});
    let reply = world.post("/containers/web/exec", body);
    assert_eq!(reply.status, 201, "{}", reply.text());
    let id = reply.json()["Id"].as_str().unwrap().to_owned();
    assert_eq!(id.len(), 64);
    id
}

#[d2k_suite::test]
fn an_exec_is_inspected_before_and_after_it_ran() {
    let Some(world) = sleeping() else { return };
    let id = created(&world, json!(["sh", "-c", "exit 9"]));
    let before = world.get(&format!("/exec/{id}/json")).json();
    assert_eq!((&before["ID"], &before["Running"]), (&json!(id), &json!(false)));
    assert_eq!(before["ExitCode"], Value::Null);
    assert_eq!(before["ProcessConfig"]["entrypoint"], "sh");
    assert_eq!(before["ProcessConfig"]["arguments"], json!(["-c", "exit 9"]));
    assert_eq!(before["ContainerID"], world.field("web", ".Id"));
    let reply = world.post(&format!("/exec/{id}/start"), json!({"Detach": false, "Tty": false}));
    assert_eq!(reply.status, 200, "{}", reply.text());
    // The exit code is there as soon as the stream has ended: the CLI asks at once.
    let after = world.get(&format!("/exec/{id}/json")).json();
    assert_eq!((&after["ExitCode"], &after["Running"]), (&json!(9), &json!(false)));
    world.post(&format!("/exec/{id}/start"), json!({})).error(409);
}

#[d2k_suite::test]
fn an_unknown_exec_is_not_found() {
    let Some(world) = World::new() else { return };
    let id = "a".repeat(64);
    for reply in [
        world.get(&format!("/exec/{id}/json")),
        world.post(&format!("/exec/{id}/start"), json!({})),
        world.post(&format!("/exec/{id}/resize?h=1&w=1"), Value::Null),
    ] {
        let error = reply.error(404);
        assert!(error.contains(&format!("No such exec instance: {id}")), "{error}");
    }
}

#[d2k_suite::test]
fn the_switch_of_protocols_comes_alone_and_then_the_frames() {
    let Some(world) = sleeping() else { return };
    let id = created(&world, json!(["sh", "-c", "cat; echo err >&2"]));
    let mut exec = world.connect();
    exec.hijack(&format!("/v1.47/exec/{id}/start"), r#"{"Detach":false,"Tty":false}"#);
    let head = exec.head().to_lowercase();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(head.contains("application/vnd.docker.multiplexed-stream"), "{head}");
    exec.send("in\n").half_close();
    let mut seen = frames(&exec.rest());
    seen.sort();
    assert_eq!(seen, [(1, "in\n".to_owned()), (2, "err\n".to_owned())]);
}

#[d2k_suite::test]
fn execs_run_side_by_side() {
    let Some(world) = sleeping() else { return };
    let runs: Vec<_> =
        (0..8).map(|at| world.docker_spawn(format!("exec web sh -c 'sleep 1; echo {at}'"))).collect();
    for (at, run) in runs.into_iter().enumerate() {
        assert_eq!(run.finish().success(), at.to_string());
    }
}

#[d2k_suite::test]
fn an_exec_ends_when_the_container_is_removed() {
    let Some(world) = sleeping() else { return };
    let exec = world.docker_spawn("exec web sh -c 'echo up; sleep 1000'");
    exec.wait_for("up");
    world.docker("rm -f web").success();
    assert_ne!(exec.finish().status, 0);
}

#[d2k_suite::test]
fn privileged_and_detach_keys_are_accepted_or_refused_with_words() {
    let Some(world) = sleeping() else { return };
    let exec = world.docker("exec --privileged web id -u");
    assert!(exec.status == 0 || exec.stderr.contains("rivileged"), "{exec}");
    world.docker("exec --detach-keys ctrl-a web true").success();
}
