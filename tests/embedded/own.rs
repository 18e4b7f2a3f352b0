//! A d2k of one test with a cluster of its own in a folder of its own, and the real clients beside it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::support::{Daemon, Output, Running, can_embed, command, free_port, registry, run};

/// Longer than any command of these tests takes on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// A folder of one test, gone when it is dropped.
pub struct Folder(PathBuf);

impl Folder {
    /// A new one; `None` if this machine cannot have embedded clusters.
    #[track_caller]
    pub fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !can_embed() {
            return None;
        }
        let name = format!("d2k-own-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Some(Self(folder))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// `d2k serve --embedded -- COMMAND`, which has its own folder below this one.
    pub fn job(&self, words: &[&str]) -> Command {
        let mut command = self.d2k(words);
        command.env("TMPDIR", &self.0);
        command
    }

    /// Runs a line of shell in a cluster of its own, to its end.
    #[track_caller]
    pub fn run_job(&self, script: &str) -> Output {
        run(self.job(&["--", "sh", "-ec", script]), script, b"", DEADLINE)
    }

    /// `d2k serve --embedded` with these words behind it.
    pub fn d2k(&self, words: &[&str]) -> Command {
        let mut command = command();
        command.args(["serve", "--embedded"]).args(words).envs(settings()).current_dir(&self.0);
        for name in ["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY"] {
            command.env_remove(name);
        }
        command.env("DOCKER_CONFIG", self.0.join("docker"));
        command
    }
}

/// A command that a line of shell starts with `exec "$0" "$@"`, itself behind these words.
pub fn wrapped(before: &[&str], line: &str, inner: &Command) -> Command {
    let mut words = before.iter().copied().chain(["sh", "-c", line]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.current_dir(inner.get_current_dir().unwrap());
    command
}

/// A command that has cgroups of version 2 alone, in a mount namespace of its own unless the machine has
/// them itself; these words come before it. Their controllers are missing where version 1 has them.
pub fn with_unified_cgroups(before: &[&str], inner: &Command) -> Command {
    let alone = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let mount = "umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && ";
    let line = format!("{}exec {} \"$0\" \"$@\"", if alone { "" } else { mount }, before.join(" "));
    wrapped(if alone { &[] } else { &["unshare", "--mount"] }, &line, inner)
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A d2k that serves an embedded cluster until it is told to stop.
pub struct Own {
    daemon: Daemon,
    settings: Vec<(String, String)>,
    folder: Folder,
}

impl Own {
    /// Starts one; `None` if this machine cannot.
    #[track_caller]
    pub fn start() -> Option<Self> {
        let folder = Folder::new()?;
        let mut settings = settings();
        let data = folder.path().join("data");
        settings.extend([
            ("D2K_DATA_DIR".to_owned(), data.display().to_string()),
            ("D2K_ADMIN_PORT".to_owned(), "0".to_owned()),
        ]);
        let daemon = Daemon::start_embedded(free_port(), &settings, &folder.path().join("d2k.log"));
        Some(Self { daemon, settings, folder })
    }

    /// The port of the Docker API on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.daemon.port
    }

    /// The folder of the cluster.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A folder for what the test needs.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The daemon itself.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// Starts it again after its end, with the same settings.
    #[track_caller]
    pub fn start_again(&mut self) {
        assert!(!self.daemon.is_alive(), "it still runs");
        let log = self.folder.path().join("d2k.log");
        self.daemon = Daemon::start_embedded(self.daemon.port, &self.settings, &log);
    }

    /// Runs `docker` with the words of a command line, which a shell splits.
    #[track_caller]
    pub fn docker(&self, words: impl AsRef<str>) -> Output {
        self.client("docker", words.as_ref())
    }

    /// Runs `kubectl` as `docker` above.
    #[track_caller]
    pub fn kubectl(&self, words: impl AsRef<str>) -> Output {
        self.client("kubectl", words.as_ref())
    }

    /// Runs a line of shell with `kubectl` in a terminal of 33 rows and 101 columns.
    #[track_caller]
    pub fn in_terminal(&self, line: &str) -> Running {
        let inner = format!("stty rows 33 cols 101; {line}");
        let mut command = self.shell("exec script --quiet --return --command \"$0\" /dev/null");
        command.arg(inner).env("TERM", "xterm");
        Running::spawn(command, line)
    }

    /// Starts a line of shell in the background.
    #[track_caller]
    pub fn start_line(&self, line: &str) -> Running {
        Running::spawn(self.shell(&format!("exec {line}")), line)
    }

    /// Makes the objects of a manifest.
    #[track_caller]
    pub fn apply(&self, manifest: &str) {
        let file = self.folder.path().join("manifest.yaml");
        std::fs::write(&file, manifest).unwrap();
        self.kubectl(format!("apply -f {}", file.display())).success();
    }

    /// A field of an object by its JSON path.
    #[track_caller]
    pub fn field(&self, object: &str, path: &str) -> String {
        self.kubectl(format!("get {object} -o jsonpath='{{{path}}}'")).success()
    }

    #[track_caller]
    fn client(&self, program: &str, words: &str) -> Output {
        let line = format!("{program} {words}");
        run(self.shell(&format!("exec {line}")), &line, b"", DEADLINE)
    }

    fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("bash");
        command
            .args(["-c", script])
            .current_dir(self.folder.path())
            .env("DOCKER_HOST", format!("tcp://127.0.0.1:{}", self.daemon.port))
            .env("DOCKER_CONFIG", self.folder.path().join("docker"))
            .env("KUBECONFIG", self.data().join("kubeconfig"))
            .env_remove("DOCKER_CONTEXT")
            .env_remove("DOCKER_TLS_VERIFY");
        command
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the end of d2k's log\n{}", self.daemon.log_tail());
        }
        let _ = self.daemon.end("TERM", Duration::from_secs(10));
    }
}

fn settings() -> Vec<(String, String)> {
    vec![
        ("D2K_REGISTRY_MIRRORS".to_owned(), format!("*=http://{}", registry())),
        ("D2K_LOG_LEVEL".to_owned(), "debug".to_owned()),
    ]
}
