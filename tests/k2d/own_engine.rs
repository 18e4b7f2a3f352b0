//! An engine of a test's own, which may be killed: a `dockerd` of the machine with a folder, a port, a runtime and a bridge of its own, and
//! without rules of the firewall, so that no other engine notices. `D2K_TEST_ENGINE_SETTINGS` is JSON with what its `daemon.json` is to have
//! besides.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::support::{eventually, find, free_port, http_get, signal_process, suite};

/// The address of the bridge, of a range for documentation (RFC 5737): nothing is ever on it.
const BRIDGE: &str = "192.0.2.1/24";

/// An engine. It and all that it has go with this.
pub struct OwnEngine {
    folder: PathBuf,
    port: u16,
    process: Option<Child>,
}

impl OwnEngine {
    /// Starts one; nothing where the machine has no `dockerd`.
    pub fn start() -> Option<Self> {
        for program in ["dockerd", "containerd", "runc", "ip"] {
            if find(program).is_none() {
                suite::note_skip(&format!("no {program} on the PATH"));
                return None;
            }
        }
        let port = free_port();
        let folder = std::env::temp_dir().join(format!("k2d-engine-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        // An engine without one would remove `docker0`, which may be another engine's.
        let bridge = bridge(port);
        ip(&["link", "add", &bridge, "type", "bridge"]);
        ip(&["address", "add", BRIDGE, "dev", &bridge]);
        ip(&["link", "set", &bridge, "up"]);
        let mut settings = serde_json::json!({
            "data-root": folder.join("data"), "exec-root": folder.join("exec"), "pidfile": folder.join("pid"),
            "hosts": [format!("tcp://127.0.0.1:{port}")], "bridge": bridge, "iptables": false, "ip6tables": false,
            "userland-proxy": false, "live-restore": false,
        });
        if let Ok(more) = std::env::var("D2K_TEST_ENGINE_SETTINGS") {
            let more: serde_json::Map<_, _> = serde_json::from_str(&more).unwrap();
            settings.as_object_mut().unwrap().extend(more);
        }
        std::fs::write(folder.join("daemon.json"), settings.to_string()).unwrap();
        let mut engine = Self { folder, port, process: None };
        engine.begin();
        Some(engine)
    }

    /// Its address.
    pub fn address(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// Starts it, and waits until it answers.
    pub fn begin(&mut self) {
        let log = File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let mut command = Command::new("dockerd");
        command.arg("--config-file").arg(self.folder.join("daemon.json"));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(command.spawn().unwrap());
        let answers =
            || http_get(("127.0.0.1", self.port), "/_ping").is_some_and(|reply| reply.status == 200);
        eventually("the engine answers", answers);
    }

    /// Ends it by a signal, and waits for its end.
    pub fn end(&mut self, signal: &str) {
        if let Some(mut process) = self.process.take() {
            signal_process(process.id(), signal);
            process.wait().unwrap();
        }
        // It ends with the engine, whose next start waits for it in vain until somebody has taken its end.
        let number =
            std::fs::read_to_string(self.folder.join("exec/containerd/containerd.pid")).unwrap_or_default();
        eventually("its containerd is gone", || {
            number.is_empty() || !std::path::Path::new("/proc").join(number.trim()).exists()
        });
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        self.end("TERM");
        if std::thread::panicking() {
            eprintln!(
                "--- log of the engine\n{}",
                std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
            );
        }
        // Mounts that it leaves.
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mut places: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(4)).collect();
        places.retain(|place| std::path::Path::new(place).starts_with(&self.folder));
        places.reverse();
        let _ = Command::new("umount").arg("-l").args(places).stderr(Stdio::null()).status();
        let _ = std::fs::remove_dir_all(&self.folder);
        let _ = Command::new("ip").args(["link", "delete", &bridge(self.port)]).status();
    }
}

/// The name of the bridge of the engine at this port: at most 15 letters.
fn bridge(port: u16) -> String {
    format!("k2d-test{port}")
}

fn ip(words: &[&str]) {
    assert!(Command::new("ip").args(words).status().unwrap().success(), "ip {words:?}");
}
