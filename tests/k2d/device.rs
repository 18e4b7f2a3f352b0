//! A device as a test has it: an engine that is there, and a k2d of the test's own over it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::support::{Output, busybox, eventually, free_port, run, suite};

/// The image of the tests: busybox and nothing else.
pub const IMAGE: &str = "k2d-test:1";
/// What the image has besides the shell.
const APPLETS: &[&str] = &[
    "sh", "ls", "cat", "echo", "sleep", "httpd", "wget", "nc", "hostname", "id", "env", "kill", "ps",
    "mount", "touch", "rm", "mkdir", "test", "grep", "tail", "head", "nslookup", "stat", "df",
];

/// How long a command of a client may take.
const DEADLINE: Duration = Duration::from_secs(60);

static TURN: Mutex<()> = Mutex::new(());

/// A k2d over the engine. It and all that it has made go with this.
pub struct Device {
    engine: String,
    program: PathBuf,
    pub data: PathBuf,
    pub port: u16,
    process: Option<Child>,
    _turn: MutexGuard<'static, ()>,
}

impl Device {
    /// Starts a k2d with a folder of its own; nothing where there is no engine.
    pub fn start() -> Option<Self> {
        let Ok(engine) = std::env::var("D2K_TEST_ENGINE") else {
            suite::note_skip("D2K_TEST_ENGINE names no engine");
            return None;
        };
        Some(Self::on(engine))
    }

    /// Starts a k2d over the engine of this address.
    pub fn on(engine: String) -> Self {
        let mut device = Self::prepare(engine, program().to_owned());
        device.begin();
        device
    }

    /// An engine with the image of the tests and without traces of another k2d, on which this program can be started.
    pub fn prepare(engine: String, program: PathBuf) -> Self {
        let turn = turn();
        let data = std::env::temp_dir().join(format!("k2d-test-{}-{}", std::process::id(), free_port()));
        let device = Self { engine, program, data, port: free_port(), process: None, _turn: turn };
        device.clean();
        device.make_image();
        device
    }

    /// The program under test.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The address of the engine.
    pub fn engine(&self) -> &str {
        &self.engine
    }

    /// Starts k2d, and waits until it serves.
    pub fn begin(&mut self) {
        self.begin_through(&self.engine.clone());
    }

    /// Starts k2d, which reaches the engine at this address, and waits until it serves.
    pub fn begin_through(&mut self, engine: &str) {
        let command = self.serve(engine);
        self.begin_with(command);
    }

    /// The command that serves, with the engine at this address.
    pub fn serve(&self, engine: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["serve", "--advertise-addr", "127.0.0.1", "--node", "edge", "--data-path"]);
        command.arg(&self.data).args(["--port", &self.port.to_string(), "--engine", engine]);
        command
    }

    /// Starts k2d with a command, and waits until it serves.
    pub fn begin_with(&mut self, command: Command) {
        self.spawn(command);
        eventually("k2d serves", || self.kubectl("get --raw /healthz").stdout == "ok");
    }

    /// Starts k2d with a command.
    pub fn spawn(&mut self, mut command: Command) {
        let log =
            std::fs::File::options().create(true).append(true).open(self.data.with_extension("log")).unwrap();
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.process = Some(process);
    }

    /// Ends k2d at once, as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// The process of k2d.
    pub fn process(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// Asks k2d whether it is well.
    pub fn health(&self) -> Output {
        let mut command = Command::new(&self.program);
        command.args(["health", "--data-path"]).arg(&self.data);
        run(command, "k2d health", b"", DEADLINE)
    }

    /// The log of k2d.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.with_extension("log")).unwrap_or_default()
    }

    /// Runs `kubectl`, its words separated by blanks.
    pub fn kubectl(&self, words: &str) -> Output {
        self.kubectl_with(&words.split(' ').collect::<Vec<_>>(), "")
    }

    /// Runs `kubectl` with these arguments and this input.
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new("kubectl");
        command.env("KUBECONFIG", self.data.join("kubeconfig")).args(arguments);
        run(command, &format!("kubectl {}", arguments.join(" ")), input.as_bytes(), DEADLINE)
    }

    /// Applies a manifest.
    pub fn apply(&self, manifest: &str) -> Output {
        self.kubectl_with(&["apply", "-f", "-"], manifest)
    }

    /// Runs `docker` on the engine, its words separated by blanks.
    pub fn docker(&self, words: &str) -> Output {
        self.docker_with(&words.split(' ').collect::<Vec<_>>())
    }

    /// Runs `docker` on the engine with these arguments.
    pub fn docker_with(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", &self.engine).args(arguments);
        run(command, &format!("docker {}", arguments.join(" ")), b"", DEADLINE)
    }

    /// Names and IDs of all containers of the user's Pods.
    pub fn containers(&self) -> Vec<String> {
        let mut all = self
            .docker("ps -a --no-trunc --filter label=k2d.io/container --format {{.Names}}={{.ID}}")
            .lines();
        all.sort();
        all
    }

    /// The containers that begin with this name.
    pub fn containers_of(&self, name: &str) -> Vec<String> {
        self.containers().into_iter().filter(|one| one.starts_with(name)).collect()
    }

    /// Waits until a Pod is ready.
    pub fn until_ready(&self, pod: &str) {
        self.kubectl(&format!("wait --for=condition=Ready --timeout=30s pod/{pod}")).success();
    }

    /// One field of an object.
    pub fn field(&self, object: &str, path: &str) -> String {
        self.kubectl(&format!("get {object} -o jsonpath={{{path}}}")).success()
    }

    fn make_image(&self) {
        if self.docker(&format!("image inspect {IMAGE}")).status == 0 {
            return;
        }
        let archive = self.data.with_extension("tar");
        write_archive(&archive);
        self.docker_with(&import(archive.to_str().unwrap())).success();
        std::fs::remove_file(archive).unwrap();
    }

    /// Removes what k2d has made on the engine, which a test that has failed may have left ended.
    fn clean(&self) {
        let all = |words: String| -> Vec<String> {
            self.docker(&words).stdout.lines().map(str::to_owned).collect()
        };
        for name in ["k2d", "k2d-itself", "asker"] {
            self.docker(&format!("rm -f {name}"));
        }
        for label in ["k2d.io/uid", "k2d.io/role"] {
            for id in all(format!("ps -aq --filter label={label}")) {
                self.docker(&format!("rm -f {id}"));
            }
        }
        for label in ["k2d.io/uid", "k2d.io/claim"] {
            for volume in all(format!("volume ls -q --filter label={label}")) {
                self.docker(&format!("volume rm {volume}"));
            }
        }
        self.docker("network rm k2d");
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- Pods\n{}--- log of k2d\n{}", self.kubectl("describe pods -A").both(), self.log());
        }
        self.kill();
        self.clean();
        // Mounts of containers that are just going may hold a folder for a moment.
        let _ = std::fs::remove_dir_all(&self.data);
        let _ = std::fs::remove_file(self.data.with_extension("log"));
    }
}

/// Waits until no other test has a k2d on this machine.
pub fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the file system of [`IMAGE`].
pub fn write_archive(archive: &Path) {
    let root = archive.with_extension("root");
    let bin = root.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::create_dir_all(root.join("tmp")).unwrap();
    std::fs::create_dir_all(root.join("www")).unwrap();
    std::fs::write(root.join("www/index.html"), "a page\n").unwrap();
    std::fs::copy(busybox().unwrap(), bin.join("busybox")).unwrap();
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
    }
    let tar = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(archive).arg(".").status().unwrap();
    assert!(tar.success());
    std::fs::remove_dir_all(root).unwrap();
}

/// The arguments of `docker` that make [`IMAGE`] of its file system.
pub fn import(archive: &str) -> [&str; 7] {
    ["import", "-c", "ENV PATH=/bin", "-c", "CMD [\"sh\"]", archive, IMAGE]
}

/// The program: `D2K_TEST_K2D`, else built here. It must be a static one, since it is an image of its own.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(given) = std::env::var_os("D2K_TEST_K2D") {
            return given.into();
        }
        let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .args(["build", "--locked", "--quiet", "--package", "k2d", "--target", &target])
            .current_dir(&root);
        assert!(
            cargo.status().unwrap().success(),
            "k2d cannot be built for {target}: rustup target add {target}"
        );
        root.join("target").join(target).join("debug/k2d")
    })
}

/// Time that everything here may take that is not told otherwise.
pub fn soon(name: &str, is_so: impl Fn() -> bool) {
    eventually(name, is_so);
}

/// Waits a moment for what must not happen.
pub fn for_a_moment() {
    std::thread::sleep(Duration::from_secs(1));
}
