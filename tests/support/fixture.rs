//! Small things that tests need of this machine: free ports, and programs that no image holds.

use std::net::{TcpListener, UdpSocket};
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Answers every datagram with `pong: ` and what was in it.
pub const UDP_ECHO: &str = r#"
fn main() {
    let socket = std::net::UdpSocket::bind("0.0.0.0:9000").unwrap();
    let mut bytes = [0; 2048];
    loop {
        let (length, from) = socket.recv_from(&mut bytes).unwrap();
        let answer = [b"pong: ", &bytes[..length]].concat();
        socket.send_to(&answer, from).unwrap();
    }
}
"#;

/// Ports that tests listen on: below those that the kernel gives to connections, and those of NodePort Services.
const PORTS: Range<u16> = 20_000..30_000;

/// A TCP port on which nothing listens now. Each is given once, so that two tests do not get the same one before either listens.
pub fn free_port() -> u16 {
    free_ports(1)
}

/// The first of so many TCP ports in a row, in the same way.
pub fn free_ports(count: u16) -> u16 {
    next_ports(count, |port| TcpListener::bind(("127.0.0.1", port)).is_ok())
}

/// A UDP port in the same way.
pub fn free_udp_port() -> u16 {
    next_ports(1, |port| UdpSocket::bind(("127.0.0.1", port)).is_ok())
}

fn next_ports(count: u16, is_free: impl Fn(u16) -> bool) -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let all = u32::from(PORTS.end - PORTS.start);
    // Other test processes begin elsewhere.
    let begin = std::process::id().wrapping_mul(2_654_435_761) % all;
    for _ in 0..all {
        let place = (begin + GIVEN.fetch_add(count.into(), Ordering::Relaxed)) % all;
        let first = PORTS.start + u16::try_from(place).unwrap();
        let mut row = first..first + count;
        if row.end <= PORTS.end && row.all(&is_free) {
            return first;
        }
    }
    panic!("all ports are taken");
}

/// Compiles a program that needs nothing of the image it runs in.
#[track_caller]
pub fn static_program(source: &str, directory: &Path) -> Vec<u8> {
    let (file, program) = (directory.join("program.rs"), directory.join("program"));
    std::fs::write(&file, source).unwrap();
    let status = Command::new("rustc")
        .args(["--edition=2024", "-Ctarget-feature=+crt-static", "-Cstrip=symbols", "-o"])
        .args([&program, &file])
        .status()
        .unwrap();
    assert!(status.success(), "rustc failed: {status}");
    std::fs::read(program).unwrap()
}

/// The words of a `docker run`, or of an exec in busybox, that print what `host` answers by HTTP, once it does.
/// A cluster's DNS may give an address for some seconds after its Pod has gone, and nobody answers there.
pub fn fetch(host: &str) -> String {
    let ask = format!("timeout 3 wget -q -O- http://{host} 2>/dev/null");
    format!("busybox sh -c 'for i in $(seq 40); do {ask} && exit 0; sleep 0.5; done; exit 1'")
}
