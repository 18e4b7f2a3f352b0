//! Limits that this machine's kernel enforces, and figures that it has counted.

use crate::own::Own;
use crate::support::eventually;

/// The first of these files that is there, in a container: cgroups of version 1 and of version 2.
fn first_of(files: &[&str]) -> String {
    format!("sh -c 'cat {} 2>/dev/null'", files.join(" 2>/dev/null || cat "))
}

#[d2k_suite::test]
fn a_container_has_no_more_memory_than_its_limit() {
    let Some(own) = Own::start() else { return };
    let limit = first_of(&["/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max"]);
    assert_eq!(own.docker(format!("run --rm --memory 32m busybox {limit}")).success(), "33554432");
    own.docker("run --name greedy --memory 32m busybox dd if=/dev/zero of=/dev/null bs=256M count=1")
        .failure(137, &[]);
    let state = own.docker("inspect --format '{{.State.OOMKilled}} {{.State.ExitCode}}' greedy").success();
    assert_eq!(state, "true 137");
    own.docker("run --rm --memory 512m busybox dd if=/dev/zero of=/dev/null bs=256M count=1").success();
}

#[d2k_suite::test]
fn a_container_has_no_more_processor_than_its_limit() {
    let Some(own) = Own::start() else { return };
    own.docker("run -d --name busy --cpus 0.2 busybox sh -c 'while :; do :; done'").success();
    let counters = first_of(&["/sys/fs/cgroup/cpu/cpu.stat", "/sys/fs/cgroup/cpu.stat"]);
    eventually("the kernel has held it back", || {
        let counters = own.docker(format!("exec busy {counters}")).success();
        let throttled = counters.lines().find_map(|line| line.strip_prefix("nr_throttled "));
        throttled.is_some_and(|count| count.trim() != "0")
    });
}

#[d2k_suite::test]
fn stats_are_what_the_container_uses() {
    let Some(own) = Own::start() else { return };
    let script = "dd if=/dev/zero of=/dev/shm/block bs=1M count=40; while :; do :; done";
    own.docker(format!(
        "run -d --name busy --shm-size 64m --memory 100m --cpus 0.3 busybox sh -c '{script}'"
    ))
    .success();
    own.docker("run -d --name idle busybox sleep 1000").success();
    let figure = |name: &str, field: &str| {
        own.docker(format!("stats --no-stream --format '{{{{.{field}}}}}' {name}")).success()
    };
    eventually("busy has the processor that it may have", || {
        let share: f64 = figure("busy", "CPUPerc").trim_end_matches('%').parse().unwrap();
        (15.0..=45.0).contains(&share)
    });
    let memory = figure("busy", "MemUsage");
    let used: f64 = memory.split("MiB").next().unwrap().parse().unwrap_or_else(|_| panic!("{memory}"));
    assert!((40.0..=100.0).contains(&used) && memory.ends_with("/ 100MiB"), "{memory}");
    let share: f64 = figure("idle", "CPUPerc").trim_end_matches('%').parse().unwrap();
    assert!(share < 5.0, "idle uses {share} %");
}

#[d2k_suite::test]
fn stats_count_processes_and_what_goes_over_the_network() {
    let Some(own) = Own::start() else { return };
    own.docker("run -d --name web busybox sh -c 'sleep 1000 & sleep 1000 & wait'").success();
    let figures = || own.docker("stats --no-stream --format '{{.PIDs}} {{.NetIO}}' web").success();
    eventually("there are three processes", || figures().starts_with("3 "));
    own.docker("run -d --name server busybox nc -lk -p 80 -e cat /etc/services").success();
    let address = own.docker("inspect --format '{{.NetworkSettings.IPAddress}}' server").success();
    eventually("something was received and sent", || {
        own.docker(format!("exec web nc -w 1 {address} 80"));
        let figures = figures();
        let (received, sent) = figures.split_once(' ').unwrap().1.split_once(" / ").unwrap();
        received.contains("kB") && sent != "0B"
    });
}
