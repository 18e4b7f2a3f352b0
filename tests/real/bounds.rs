//! Requests of clients are bounded: the daemon's resident memory stays far below what `deploy/kubernetes.yaml` allows
//! while they send, and comes back; other clients are served meanwhile.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Running, World, within_patience};

/// How much the resident memory may grow while clients send, in MiB. The manifest allows 256 MiB in all, and an idle
/// daemon of a debug build takes about 50.
const GROWTH_MAX: u64 = 110;
/// How much of that may be left ten seconds after.
const LEFT_MAX: u64 = 40;

/// Resident memory of a process in MiB: now, or the most since [`begin`].
fn memory(world: &mut World, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.daemon().pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Forgets the peak, and gives the memory of now.
fn begin(world: &mut World) -> u64 {
    // Everything that is made at the first request is there.
    world.docker("ps -a").success();
    std::fs::write(format!("/proc/{}/clear_refs", world.daemon().pid()), "5").unwrap();
    memory(world, "VmRSS:")
}

/// Looks at the peak and at what is left after at most ten seconds.
#[track_caller]
fn is_bounded(world: &mut World, before: u64) {
    let peak = memory(world, "VmHWM:");
    let end = Instant::now() + Duration::from_secs(10);
    let mut after = memory(world, "VmRSS:");
    while after > before + LEFT_MAX && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(200));
        after = memory(world, "VmRSS:");
    }
    eprintln!("resident memory: {before} MiB before, {peak} at the peak, {after} after");
    assert!(peak <= before + GROWTH_MAX, "{before} MiB before, {peak} at the peak");
    assert!(after <= before + LEFT_MAX, "{before} MiB before, {after} ten seconds after");
    assert_eq!(world.get("/_ping").status, 200);
}

/// Sends one request on a connection of its own and gives the status, 0 where none came.
fn send(port: u16, head: &str, body: &[u8]) -> u16 {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return 0 };
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head =
        format!("{head} HTTP/1.1\r\nHost: d2k\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    let _ = stream.write_all(format!("{head}Content-Type: application/json\r\n\r\n").as_bytes());
    let _ = stream.write_all(body);
    let mut answer = [0; 12];
    let _ = stream.read_exact(&mut answer);
    String::from_utf8_lossy(&answer[9..]).parse().unwrap_or(0)
}

#[d2k_suite::test]
fn methods_of_a_clients_own_leave_nothing_behind() {
    let Some(mut world) = World::with(&[("D2K_LOG_LEVEL", "info")]) else { return };
    let before = begin(&mut world);
    for number in 0..150 {
        let method = format!("{}{number}", "A".repeat(900_000));
        assert_eq!(send(world.port(), &format!("{method} /"), b""), 404);
    }
    is_bounded(&mut world, before);
}

#[d2k_suite::test]
fn bodies_of_very_many_values_are_refused_within_a_second() {
    let Some(mut world) = World::with(&[("D2K_LOG_LEVEL", "info")]) else { return };
    let before = begin(&mut world);
    let bodies = [
        format!("{{\"Image\":\"x\",\"J\":[{}0]}}", "0,".repeat(4_190_000)),
        format!("{{\"Image\":\"x\",\"J\":[{}0]}}", "0,".repeat(1_000_000)),
        format!("{{\"Image\":\"x\",\"J\":[{}[]]}}", "[],".repeat(600_000)),
        format!("{{\"Image\":\"x\",\"J\":{}{}}}", "[".repeat(900_000), "]".repeat(900_000)),
    ];
    for body in &bodies {
        let begun = Instant::now();
        let port = world.port();
        let statuses = std::thread::scope(|scope| {
            let sent: Vec<_> = (0..4)
                .map(|_| scope.spawn(move || send(port, "POST /containers/create", body.as_bytes())))
                .collect();
            sent.into_iter().map(|sent| sent.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(statuses, [400; 4]);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?} for four", begun.elapsed());
    }
    is_bounded(&mut world, before);
}

#[d2k_suite::test]
fn large_honest_creates_leave_nothing_behind() {
    let Some(mut world) = World::with(&[("D2K_LOG_LEVEL", "info")]) else { return };
    let before = begin(&mut world);
    let label = "x".repeat(1024 * 1024);
    for _ in 0..100 {
        let body = json!({"Image": "busybox", "Labels": {"large": label}}).to_string();
        // Kubernetes stores no object of this size.
        assert_eq!(send(world.port(), "POST /containers/create", body.as_bytes()), 400);
    }
    is_bounded(&mut world, before);
}

#[d2k_suite::test]
fn slow_heads_and_idle_connections_leave_room_for_others() {
    let Some(mut world) = World::with(&[("D2K_LOG_LEVEL", "info")]) else { return };
    let before = begin(&mut world);
    let mut open = Vec::new();
    for _ in 0..256 {
        let mut stream = TcpStream::connect(("127.0.0.1", world.port())).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        let _ = stream.write_all(format!("GET /{}", "a".repeat(1_000_000)).as_bytes());
        open.push(stream);
    }
    assert_eq!(world.get("/_ping").status, 200, "others are served meanwhile");
    world.docker("ps").success();
    drop(open);
    is_bounded(&mut world, before);
}

#[d2k_suite::test]
fn connections_beyond_the_limit_are_told_so_and_places_come_back() {
    let Some(world) = World::with(&[("D2K_LOG_LEVEL", "info")]) else { return };
    let open: Vec<_> =
        (0..1024).filter_map(|_| TcpStream::connect(("127.0.0.1", world.port())).ok()).collect();
    assert!(open.len() >= 1000, "{}", open.len());
    let mut more = TcpStream::connect(("127.0.0.1", world.port())).unwrap();
    more.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut told = String::new();
    let _ = more.read_to_string(&mut told);
    assert!(told.starts_with("HTTP/1.1 503") && told.contains("too many connections"), "{told}");
    drop(open);
    assert!(within_patience(|| world.docker("version").status == 0), "places do not come back");
}

#[d2k_suite::test]
fn a_low_soft_limit_of_open_files_is_raised_to_the_hard_one() {
    let Some(world) = World::new() else { return };
    let d2k = world.d2k();
    let mut command = std::process::Command::new("bash");
    command.args(["-c", "ulimit -Sn 256; exec \"$0\" serve"]).arg(d2k.get_program());
    command.envs(d2k.get_envs().filter_map(|(key, value)| Some((key, value?)))).env("D2K_PORT", "0");
    let second = Running::spawn(command, "d2k serve with few open files");
    let limits = format!("/proc/{}/limits", second.id());
    let raised = || {
        let limits = std::fs::read_to_string(&limits).unwrap_or_default();
        let line =
            limits.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default().to_owned();
        let numbers: Vec<_> = line.split_whitespace().skip(3).take(2).map(str::to_owned).collect();
        numbers.len() == 2 && numbers[0] == numbers[1] && numbers[0] != "256"
    };
    assert!(within_patience(raised), "{}", std::fs::read_to_string(&limits).unwrap_or_default());
    second.stop();
}

#[d2k_suite::test]
fn execs_that_are_never_started_are_forgotten() {
    let Some(mut world) = World::with(&[("D2K_LOG_LEVEL", "info")]) else { return };
    world.docker("run -d --name web busybox sleep 1000").success();
    let before = begin(&mut world);
    let body = json!({"Cmd": ["true"], "Env": [format!("LARGE={}", "x".repeat(256 * 1024))]}).to_string();
    for _ in 0..400 {
        assert_eq!(send(world.port(), "POST /containers/web/exec", body.as_bytes()), 201);
    }
    is_bounded(&mut world, before);
    assert_eq!(world.docker("exec web echo still").success(), "still");
}

#[d2k_suite::test]
fn an_exec_start_whose_body_comes_byte_by_byte_costs_its_length_and_no_more() {
    let Some(mut world) = World::with(&[("D2K_LOG_LEVEL", "info")]) else { return };
    world.docker("run -d --name web busybox sleep 1000").success();
    let id = world.post("/containers/web/exec", json!({"Cmd": ["true"]})).json()["Id"]
        .as_str()
        .unwrap()
        .to_owned();
    let head = format!(
        "POST /exec/{id}/start HTTP/1.1\r\nHost: d2k\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n5\r\n{{\"a\":\r\n1\r\n\"\r\n"
    );
    let before = begin(&mut world);
    let begun = Instant::now();
    let port = world.port();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let head = head.clone();
            scope.spawn(move || {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
                let _ = stream.write_all(head.as_bytes());
                let _ = stream.write_all("1\r\nx\r\n".repeat(1_000_000).as_bytes());
                let mut answer = String::new();
                let _ = stream.read_to_string(&mut answer);
            });
        }
        std::thread::sleep(Duration::from_millis(500));
        let asked = Instant::now();
        assert_eq!(world.get("/_ping").status, 200);
        assert!(asked.elapsed() < Duration::from_secs(1), "others wait {:?}", asked.elapsed());
    });
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    is_bounded(&mut world, before);
    // The exec itself was not started by what was refused.
    assert_eq!(world.docker("exec web echo still").success(), "still");
}

#[d2k_suite::test]
fn the_last_line_of_a_large_log_needs_no_memory() {
    let Some(mut world) = World::with(&[("D2K_LOG_LEVEL", "info")]) else { return };
    // About 6 MiB with its times: a kubelet begins a new log at 10 MiB and shows that one only.
    let script = "i=0; while [ $i -lt 50000 ]; do echo $i-0123456789012345678901234567890123456789012345678901234567890123456789; i=$((i+1)); done; echo last; exec sleep 1000";
    world.docker(format!("run -d --name web --restart always busybox sh -c '{script}'")).success();
    assert!(within_patience(|| world.docker("logs --tail 1 web").success() == "last"));
    let before = begin(&mut world);
    for _ in 0..10 {
        assert_eq!(world.docker("logs --tail 1 web").success(), "last");
        assert_eq!(world.docker("logs --tail 30000 web").lines().len(), 30_000);
    }
    is_bounded(&mut world, before);
}
