//! What k2d writes: for an object that a client applies, and for a container that crashes again and again.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::bench::{Bench, SAMPLES, figure, median, pause, quantile, row};
use crate::device::IMAGE;
use crate::support::{eventually, find, signal_process};

/// Applies whose syncs are counted.
const TRACED: usize = 10;
/// Containers that crash, and how long they are followed: the engine waits longer from run to run.
const CRASHING: usize = 10;
const FOLLOWED: Duration = Duration::from_secs(30);

const CHANGED: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: disk}
data: {round: 'ROUND'}
";

const CRASH: &str = "
apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {bench: crash}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: main, image: IMAGE, command: [sh, -c, 'sleep 0.2; exit 1']}]
---
";

fn change(bench: &Bench, round: usize) {
    bench.device.apply(&CHANGED.replace("ROUND", &round.to_string())).success();
}

pub async fn applies(bench: &Bench) {
    let [server, _] = bench.processes();
    let journal = bench.device.data.join("journal");
    let (mut written, mut appended) = (Vec::new(), Vec::new());
    for round in 0..SAMPLES {
        pause().await;
        // A page that waits to be written counts only once, however often it changes until then.
        flush(&journal);
        let before = (server.written(), length(&journal));
        change(bench, round);
        pause().await;
        written.push((server.written() - before.0) as f64);
        appended.push((length(&journal) - before.1) as f64);
    }
    let measured = format!(
        "{}; {} bytes, {} of them appended to the journal",
        figure(median(&written)),
        figure(quantile(&written, 90)),
        figure(median(&appended))
    );
    row(
        "written to the disk for one `kubectl apply` of a ConfigMap: p50; p90",
        &measured,
        "",
        median(&written),
        (8192.0, "bytes"),
    );
    syncs(bench);
}

/// Says how many of the applies were made safe against a loss of power.
fn syncs(bench: &Bench) {
    let what = format!("syncs of the disk for one such apply, of {TRACED}");
    let Some((tracer, log)) = trace(bench) else {
        println!("| {what} | not counted: there is no `strace` | | 1 sync | not measured |");
        return;
    };
    for round in 0..TRACED {
        change(bench, SAMPLES + round);
    }
    let calls = stop(tracer, &log);
    let each = calls as f64 / TRACED as f64;
    let verdict = match calls {
        0 => "missed: what was answered may be lost with the power".to_owned(),
        _ if each <= 1.0 => "met".to_owned(),
        _ => format!("missed by {}", figure(each - 1.0)),
    };
    println!("| {what} | {} | | 1 sync | {verdict} |", figure(each));
}

/// Attaches `strace` to k2d, if there is one.
fn trace(bench: &Bench) -> Option<(Child, std::path::PathBuf)> {
    let (strace, log) = (find("strace")?, bench.device.data.with_extension("trace"));
    let process = bench.device.process();
    let mut command = Command::new(strace);
    command.args(["-f", "-qq", "-e", "trace=fsync,fdatasync,syncfs,sync_file_range", "-o"]).arg(&log);
    let tracer = command.args(["-p", &process.to_string()]).stderr(Stdio::null()).spawn().unwrap();
    let status = || std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    eventually("k2d is traced", || !status().contains("TracerPid:\t0\n"));
    Some((tracer, log))
}

/// Ends the tracer; how many calls it has seen.
fn stop(mut tracer: Child, log: &Path) -> usize {
    signal_process(tracer.id(), "INT");
    tracer.wait().unwrap();
    let text = std::fs::read_to_string(log).unwrap();
    std::fs::remove_file(log).unwrap();
    // A call that another one interrupts has two lines, one of which has its result.
    text.lines().filter(|line| line.contains("sync") && line.ends_with("= 0")).count()
}

pub async fn restarts(bench: &Bench) {
    let pods: String =
        (0..CRASHING).map(|n| CRASH.replace("NAME", &format!("crash-{n}")).replace("IMAGE", IMAGE)).collect();
    bench.device.apply(&pods).success();
    eventually("all have crashed", || restarted(bench).iter().all(|count| *count > 0));
    let [server, _] = bench.processes();
    let journal = bench.device.data.join("journal");
    let state = |bench: &Bench| (server.written(), length(&journal), restarted(bench).iter().sum::<u64>());
    let before = state(bench);
    tokio::time::sleep(FOLLOWED).await;
    flush(&journal);
    let after = state(bench);
    bench.device.kubectl("delete pods -l bench=crash --now").success();
    let count = after.2 - before.2;
    let each = |after: u64, before: u64| (after - before) as f64 / count as f64;
    let (written, appended) = (each(after.0, before.0), each(after.1, before.1));
    let measured = format!("{written:.0} bytes, {appended:.0} of them appended to the journal");
    let what = format!("written to the disk for one restart of a container that crashes, of {count}");
    row(&what, &measured, "", written.round(), (0.0, "bytes"));
}

/// How often each container that crashes was started again.
fn restarted(bench: &Bench) -> Vec<u64> {
    let ids = bench.device.docker("ps -aq --filter label=k2d.io/container --filter name=crash-").lines();
    let all = bench.device.docker(&format!("inspect -f {{{{.RestartCount}}}} {}", ids.join(" ")));
    all.lines().iter().map(|count| count.parse().unwrap()).collect()
}

fn length(file: &Path) -> u64 {
    std::fs::metadata(file).unwrap().len()
}

/// Writes what waits for it on the file system of a file.
fn flush(file: &Path) {
    assert!(Command::new("sync").arg("-f").arg(file).status().unwrap().success());
}
