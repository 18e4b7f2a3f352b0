//! Small things that tests need of this machine: free ports, and programs that no image holds.

use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;

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

/// A TCP port on which nothing listens now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A UDP port on which nothing listens now.
pub fn free_udp_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
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
