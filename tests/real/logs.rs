//! `docker logs`: all of it, its tail, by time, while it is written, and after the Pod is gone.

use crate::support::{World, eventually, frames};

/// Prints one line a second, from 1 to `count`.
fn ticks(count: u32) -> String {
    format!("busybox sh -c 'for i in $(seq {count}); do echo tick $i; sleep 1; done'")
}

#[d2k_suite::test]
fn the_log_of_a_running_container_is_shown_and_its_tail() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web busybox sh -c 'seq 10; sleep 1000'").success();
    eventually("all is logged", || world.docker("logs web").lines().len() == 10);
    assert_eq!(world.docker("logs --tail 3 web").lines(), ["8", "9", "10"]);
    assert_eq!(world.docker("logs --tail 0 web").success(), "");
    assert_eq!(world.docker("logs --tail all web").lines().len(), 10);
    assert_eq!(world.docker("logs -n 1 web").lines(), ["10"]);
}

#[d2k_suite::test]
fn a_detached_run_with_much_output_logs_all_of_it() {
    let Some(world) = World::new() else { return };
    let lines = r#"'i=0; while [ $i -lt 900 ]; do printf "%5000d\n" $i; i=$((i+1)); done; sleep 1000'"#;
    world.docker(format!("run -d --name web busybox sh -c {lines}")).success();
    eventually("all is logged", || world.docker("logs web").lines().len() == 900);
}

#[d2k_suite::test]
fn a_line_is_shown_once_while_its_container_waits_for_the_next_run() {
    let Some(world) = World::new() else { return };
    let command = "sh -c 'cat /proc/sys/kernel/random/uuid; exit 1'";
    world.docker(format!("run -d --name web --restart always busybox {command}")).success();
    eventually("it has run twice and waits", || {
        world.field("web", ".State.Status") == "restarting" && world.field("web", ".RestartCount") == "1"
    });
    for logs in ["logs web", "logs --tail 10 web"] {
        let lines = world.docker(logs).lines();
        let different = std::collections::BTreeSet::from_iter(&lines);
        assert!(!lines.is_empty() && lines.len() == different.len(), "{logs}: {lines:?}");
    }
}

#[d2k_suite::test]
fn a_followed_log_shows_what_comes_and_ends_with_the_container() {
    let Some(world) = World::new() else { return };
    world.docker(format!("run -d --name web {}", ticks(3))).success();
    let follow = world.docker_spawn("logs -f web");
    follow.wait_for("tick 1");
    let output = follow.finish();
    assert_eq!(output.lines(), ["tick 1", "tick 2", "tick 3"]);
}

#[d2k_suite::test]
fn a_followed_tail_goes_on_from_there() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web busybox sh -c 'seq 5; sleep 2; echo six'").success();
    eventually("the first part is logged", || world.docker("logs web").lines().len() >= 5);
    assert_eq!(world.docker("logs -f --tail 1 web").lines(), ["5", "six"]);
}

#[d2k_suite::test]
fn a_tail_is_there_also_while_the_log_moves_from_the_pod_to_where_it_is_kept() {
    let Some(world) = World::new() else { return };
    for round in 0..6 {
        world
            .docker(format!("run -d --name web{round} busybox sh -c 'echo 1; echo 2; sleep 1; echo 3'"))
            .success();
        let logs = |query: &str| world.get(&format!("/containers/web{round}/logs?stdout=1{query}"));
        let text = |reply: crate::support::Reply| {
            frames(&reply.body).into_iter().map(|(_, line)| line).collect::<String>()
        };
        assert_eq!(text(logs("&follow=1")), "1\n2\n3\n");
        // Without a pause: d2k puts the end on record now, and the Pod goes.
        for ask in 0..60 {
            assert_eq!(text(logs("&tail=1")), "3\n", "round {round}, {ask}");
        }
        assert_eq!(text(logs("&tail=2")), "2\n3\n");
    }
}

#[d2k_suite::test]
fn the_log_can_be_cut_by_time() {
    let Some(world) = World::new() else { return };
    world.docker(format!("run --name web {}", ticks(4))).success();
    let stamped = world.docker("logs -t web").lines();
    let time = |at: usize| stamped[at].split(' ').next().unwrap().to_owned();
    let since = world.docker(format!("logs --since {} web", time(2))).lines();
    assert_eq!(since, ["tick 3", "tick 4"]);
    let until = world.docker(format!("logs --until {} web", time(1))).lines();
    assert!(until == ["tick 1", "tick 2"] || until == ["tick 1"], "{until:?}");
    let between = world.docker(format!("logs --since {} --until {} web", time(1), time(2))).lines();
    assert!(between.contains(&"tick 2".to_owned()) && !between.contains(&"tick 1".to_owned()));
    assert_eq!(world.docker("logs --since 1h web").lines().len(), 4);
    assert_eq!(world.docker("logs --until 1h web").success(), "");
}

#[d2k_suite::test]
fn time_stamps_have_nine_digits_and_utc() {
    let Some(world) = World::new() else { return };
    world.docker("run --name web busybox echo hello").success();
    let line = world.docker("logs -t web").success();
    let (time, text) = line.split_once(' ').unwrap();
    assert_eq!(text, "hello");
    assert_eq!(time.len(), "2026-01-02T03:04:05.000000000Z".len(), "{time}");
    assert!(time.ends_with('Z') && time.contains('.'), "{time}");
    let details = world.docker("logs --details web").success();
    assert!(details.ends_with("hello"), "{details}");
}

#[d2k_suite::test]
fn standard_output_and_standard_error_are_told_apart() {
    let Some(world) = World::new() else { return };
    let script = "run -d --name web busybox sh -c 'echo out; sleep 0.3; echo err >&2; sleep 1000'";
    world.docker(script).success();
    eventually("all is logged", || {
        let log = world.docker("logs web");
        log.stdout.contains("out") && (log.stdout + &log.stderr).contains("err")
    });
    let ask = |query: &str| frames(&world.get(&format!("/containers/web/logs?{query}")).body);
    let (out, err) = ((1, "out\n".to_owned()), (2, "err\n".to_owned()));
    let all = ask("stdout=1&stderr=1");
    assert_eq!(all, [out.clone(), err.clone()]);
    assert_eq!(ask("stdout=1"), std::slice::from_ref(&out));
    assert_eq!(ask("stderr=1"), std::slice::from_ref(&err));
    assert_eq!(ask("stdout=1&tail=1"), []);
    let stamped = ask("stderr=1&timestamps=1");
    assert!(stamped[0].1.ends_with("Z err\n"), "{stamped:?}");
    world.docker("stop -t 1 web").success();
    assert_eq!(ask("stdout=1&stderr=1"), [out, err]);
}

#[d2k_suite::test]
fn the_log_stays_after_the_end_and_after_stop_and_over_a_second_start() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web --stop-timeout 1 busybox sh -c 'echo hello; sleep 1000'").success();
    eventually("it is logged", || world.docker("logs web").success() == "hello");
    world.docker("stop web").success();
    assert_eq!(world.docker("logs web").success(), "hello");
    eventually("the Pod has gone", || world.names("pods").is_empty());
    assert_eq!(world.docker("logs web").success(), "hello");
    assert_eq!(world.docker("logs -f web").success(), "hello");
    world.docker("start web").success();
    eventually("both runs are logged", || world.docker("logs web").lines() == ["hello", "hello"]);
    assert_eq!(world.docker("logs --tail 1 web").lines(), ["hello"]);
}

#[d2k_suite::test]
fn the_log_of_a_stopped_container_survives_d2k() {
    let Some(mut world) = World::new() else {
        return;
    };
    world.docker("run -d --name web --stop-timeout 1 busybox sh -c 'seq 50; sleep 1000'").success();
    eventually("it is logged", || world.docker("logs web").lines().len() == 50);
    world.docker("stop web").success();
    world.restart_d2k();
    assert_eq!(world.docker("logs web").lines().len(), 50);
}

#[d2k_suite::test]
fn a_created_container_has_an_empty_log() {
    let Some(world) = World::new() else { return };
    world.docker("create --name idle busybox true").success();
    assert_eq!(world.docker("logs idle").success(), "");
    world.docker("logs nosuch").failure(1, &["No such container: nosuch"]);
}

#[d2k_suite::test]
fn a_followed_log_starts_before_the_container_does() {
    let Some(world) = World::new() else { return };
    world.docker("create --name later busybox echo begun").success();
    let mut follow = world.connect();
    follow.send(
        "GET /containers/later/logs?follow=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: d2k\r\n\
         Connection: close\r\n\r\n",
    );
    assert!(follow.head().starts_with("HTTP/1.1 200"));
    world.docker("start later").success();
    follow.read_until("begun");
}

#[d2k_suite::test]
fn the_log_comes_in_frames_unless_there_is_a_terminal() {
    let Some(world) = World::new() else { return };
    world.docker("run --name plain busybox echo hello").success();
    world.docker("run -t --name terminal busybox echo hello").success();
    let reply = world.get("/containers/plain/logs?stdout=1&stderr=1");
    assert_eq!(reply.header("content-type"), Some("application/vnd.docker.multiplexed-stream"));
    assert_eq!(frames(&reply.body), [(1, "hello\n".to_owned())]);
    let old = world.get("/v1.41/containers/plain/logs?stdout=1&stderr=1");
    assert_eq!(old.header("content-type"), Some("application/vnd.docker.raw-stream"));
    let reply = world.get("/containers/terminal/logs?stdout=1&stderr=1");
    assert_eq!(reply.header("content-type"), Some("application/vnd.docker.raw-stream"));
    assert_eq!(reply.text().trim_end(), "hello");
}

#[d2k_suite::test]
fn a_log_without_any_stream_is_refused() {
    let Some(world) = World::new() else { return };
    world.docker("create --name idle busybox true").success();
    let error = world.get("/containers/idle/logs").error(400);
    assert!(error.contains("you must choose at least one stream"), "{error}");
    world.get("/containers/idle/logs?stdout=1&since=yesterday").error(400);
}

#[d2k_suite::test]
fn a_long_log_is_whole() {
    let Some(world) = World::new() else { return };
    world.docker("run --name long busybox sh -c 'seq 50000; sleep 2'").success();
    let lines = world.docker("logs long").lines();
    assert_eq!((lines.len(), lines.last().map(String::as_str)), (50_000, Some("50000")));
    assert_eq!(world.docker("logs --tail 20000 long").lines()[0], "30001");
}

#[d2k_suite::test]
fn a_line_without_an_end_is_shown_too() {
    let Some(world) = World::new() else { return };
    world.docker("run --name open busybox printf 'no end'").success();
    assert_eq!(world.docker("logs open").stdout.trim_end_matches('\n'), "no end");
}

#[d2k_suite::test]
fn a_followed_log_is_whole_where_the_container_is_removed_at_its_end() {
    let Some(world) = World::new() else { return };
    // The log is followed before the end comes.
    let one = "docker run -d --name run$n busybox sh -c 'echo first; sleep 1; echo gone' >/dev/null; \
               docker logs -f run$n >out$n & until grep -qs first out$n; do sleep 0.05; done; \
               docker wait run$n >/dev/null; docker rm run$n >/dev/null; wait; cat out$n";
    let script = format!("for n in 1 2 3 4 5 6 7 8; do ({one}) & done; wait");
    let lines = world.sh(script).lines();
    assert_eq!(lines.iter().filter(|line| *line == "gone").count(), 8, "{lines:?}");
}
