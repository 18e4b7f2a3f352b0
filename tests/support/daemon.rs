//! The built `d2k serve` as a process of the test: started, killed, started again, and its log.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::{http, process};

/// A d2k on a port of this machine.
pub struct Daemon {
    child: Child,
    /// Port of the Docker API on 127.0.0.1.
    pub port: u16,
    log: PathBuf,
}

impl Daemon {
    /// Starts d2k with these settings and waits until it answers.
    #[track_caller]
    pub fn start(port: u16, settings: &[(String, String)], log: &Path) -> Self {
        Self::spawn(&["serve"], port, settings, log).ready()
    }

    /// Starts d2k with a cluster of its own and waits until it answers.
    #[track_caller]
    pub fn start_embedded(port: u16, settings: &[(String, String)], log: &Path) -> Self {
        Self::spawn(&["serve", "--embedded"], port, settings, log).ready()
    }

    #[track_caller]
    fn ready(self) -> Self {
        let mut daemon = self;
        let end = Instant::now() + Duration::from_secs(30);
        while !daemon.answers() {
            if let Some(status) = daemon.child.try_wait().unwrap() {
                panic!("d2k ended with {status} at start\n{}", daemon.log_tail());
            }
            assert!(Instant::now() < end, "d2k does not answer /_ping after 30 s\n{}", daemon.log_tail());
            std::thread::sleep(Duration::from_millis(10));
        }
        daemon
    }

    fn spawn(words: &[&str], port: u16, settings: &[(String, String)], log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).unwrap();
        let child = command()
            .args(words)
            .envs(settings.iter().map(|(key, value)| (key, value)))
            .env("D2K_PORT", port.to_string())
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { child, port, log: log.to_owned() }
    }

    fn answers(&self) -> bool {
        let Ok(stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return false;
        };
        http::ask(stream, "GET", "/_ping", &[], b"").is_some_and(|reply| reply.status == 200)
    }

    /// Sends a request with a JSON body; `Value::Null` sends none.
    #[track_caller]
    pub fn post(&self, path: &str, body: &serde_json::Value) -> http::Reply {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        http::ask(stream, "POST", path, &[("Content-Type", "application/json")], text.as_bytes())
            .unwrap_or_else(|| panic!("POST {path} got no answer\n{}", self.log_tail()))
    }

    /// Its process ID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal, such as `STOP`.
    pub fn signal(&self, signal: &str) {
        process::signal_process(self.child.id(), signal);
    }

    /// Sends a signal and waits at most this long for its end.
    pub fn end(&mut self, signal: &str, limit: Duration) -> Option<ExitStatus> {
        process::signal_process(self.child.id(), signal);
        let end = Instant::now() + limit;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(10)),
                _ => return None,
            }
        }
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The last lines that it has logged, without those of clients that only looked.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let looks = |line: &&str| {
            line.contains(" status=200 ") && (line.contains("/_ping") || line.contains("method=GET"))
        };
        let lines: Vec<&str> = log.lines().filter(|line| !looks(line)).collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.is_alive() && self.end("TERM", Duration::from_secs(3)).is_none() {
            self.kill();
        }
    }
}

/// The built program with none of the settings of whoever runs the tests.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_d2k"));
    for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("D2K_") || key.starts_with("KUBE")) {
        command.env_remove(key);
    }
    command
}
