//! One test's world: a namespace, a d2k that has only the rights of the manifest, and the real
//! `docker` pointed at it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use super::daemon::{self, Daemon};
use super::http::{self, Connection, Reply};
use super::kube::Namespace;
use super::process::{self, DEADLINE, Output, Running};
use super::{cluster, free_port, registry};

/// More worlds at a time make every one of them slow on a small machine.
const AT_ONCE: u32 = 6;

static TAKEN: Mutex<u32> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

/// The place of a world among those that run at the same time.
struct Place;

impl Place {
    fn take() -> Self {
        let mut taken = TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        while *taken >= AT_ONCE {
            taken = FREED.wait(taken).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        *taken += 1;
        Self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}

/// A namespace of its own with a d2k of its own. Dropping it ends both, and shows d2k's log if the
/// test failed.
pub struct World {
    daemon: Daemon,
    settings: Vec<(String, String)>,
    namespace: Namespace,
    directory: PathBuf,
    _place: Place,
}

impl World {
    /// The world of the test that runs now; `None` if there is no cluster to test on.
    #[track_caller]
    pub fn new() -> Option<Self> {
        Self::with(&[])
    }

    /// A world for what an embedded cluster does not have. There the test is skipped, for this reason.
    #[track_caller]
    pub fn on_cluster(reason: &str) -> Option<Self> {
        Self::on_cluster_with(reason, &[])
    }

    /// As [`World::on_cluster`], with other settings besides.
    #[track_caller]
    pub fn on_cluster_with(reason: &str, settings: &[(&str, &str)]) -> Option<Self> {
        has_all(reason).then(|| Self::with(settings))?
    }

    /// A world whose d2k has other settings besides, which win over those of the suite.
    #[track_caller]
    pub fn with(settings: &[(&str, &str)]) -> Option<Self> {
        let admin = cluster::admin_kubeconfig()?;
        let place = Place::take();
        let name = unique_name();
        let directory = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(directory.join("docker")).unwrap();
        let namespace = Namespace::create(&name, &admin);
        let kubeconfig = directory.join("kubeconfig");
        std::fs::write(&kubeconfig, namespace.kubeconfig()).unwrap();
        let mut all = vec![
            ("D2K_NAMESPACE".to_owned(), name),
            ("D2K_KUBECONFIG".to_owned(), kubeconfig.display().to_string()),
            ("D2K_ADMIN_PORT".to_owned(), "0".to_owned()),
            ("D2K_LOG_LEVEL".to_owned(), "debug".to_owned()),
            ("D2K_REGISTRY_MIRRORS".to_owned(), format!("*=http://{}", registry::registry())),
        ];
        for (key, value) in settings {
            all.retain(|(other, _)| other != key);
            all.push(((*key).to_owned(), (*value).to_owned()));
        }
        let daemon = Daemon::start(free_port(), &all, &directory.join("d2k.log"));
        Some(Self { daemon, settings: all, namespace, directory, _place: place })
    }

    /// Runs `docker` with the words of a command line, which a shell splits: what a user would type.
    #[track_caller]
    pub fn docker(&self, words: impl AsRef<str>) -> Output {
        self.docker_in(words, b"")
    }

    /// Runs `docker` with these bytes as its standard input.
    #[track_caller]
    pub fn docker_in(&self, words: impl AsRef<str>, stdin: impl AsRef<[u8]>) -> Output {
        let script = format!("exec docker {}", words.as_ref());
        process::run(self.shell(&script), &script[5..], stdin.as_ref(), DEADLINE)
    }

    /// Runs a line of shell, in which `docker` is pointed at d2k.
    #[track_caller]
    pub fn sh(&self, script: impl AsRef<str>) -> Output {
        process::run(self.shell(script.as_ref()), script.as_ref(), b"", DEADLINE * 2)
    }

    /// Starts `docker` in the background.
    #[track_caller]
    pub fn docker_spawn(&self, words: impl AsRef<str>) -> Running {
        let script = format!("exec docker {}", words.as_ref());
        Running::spawn(self.shell(&script), &script[5..])
    }

    /// Starts `docker` in a terminal of 40 rows and 100 columns.
    #[track_caller]
    pub fn docker_tty(&self, words: impl AsRef<str>) -> Running {
        let inner = format!("stty rows 40 cols 100; exec docker {}", words.as_ref());
        let mut command = self.shell("exec script --quiet --return --command \"$0\" /dev/null");
        command.arg(inner).env("TERM", "xterm");
        Running::spawn(command, &format!("docker {} (in a terminal)", words.as_ref()))
    }

    /// A bash with an empty Docker configuration that is pointed at d2k.
    fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("bash");
        command
            .args(["-c", script])
            .current_dir(&self.directory)
            .env("DOCKER_HOST", self.host())
            .env("DOCKER_CONFIG", self.directory.join("docker"))
            .env("DOCKER_CLI_HINTS", "false")
            .env_remove("DOCKER_CONTEXT")
            .env_remove("DOCKER_API_VERSION")
            .env_remove("DOCKER_TLS_VERIFY");
        command
    }

    /// What `DOCKER_HOST` is.
    pub fn host(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port())
    }

    /// The port of the Docker API on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.daemon.port
    }

    /// The name of the namespace.
    pub fn name(&self) -> &str {
        &self.namespace.name
    }

    /// A folder of the test's own; shell lines run in it.
    pub fn directory(&self) -> &PathBuf {
        &self.directory
    }

    /// Sends a request without a body.
    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        self.http("GET", path, &[], b"")
    }

    /// Sends a request with a JSON body; `Value::Null` sends none.
    #[track_caller]
    pub fn post(&self, path: &str, body: Value) -> Reply {
        let bytes = if body.is_null() { String::new() } else { body.to_string() };
        self.http("POST", path, &[("Content-Type", "application/json")], bytes.as_bytes())
    }

    /// Sends any request and reads the answer to its end.
    #[track_caller]
    pub fn http(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        // Tests write filters as the JSON that they are.
        let path = [('"', "%22"), ('{', "%7B"), ('}', "%7D"), ('[', "%5B"), (']', "%5D")]
            .iter()
            .fold(path.to_owned(), |path, (plain, encoded)| path.replace(*plain, encoded));
        let path = path.as_str();
        let stream = std::net::TcpStream::connect(("127.0.0.1", self.port())).unwrap();
        http::ask(stream, method, path, headers, body)
            .unwrap_or_else(|| panic!("{method} {path} got no answer\n{}", self.daemon.log_tail()))
    }

    /// The same from another address of this machine, such as `127.0.0.2`: another client.
    #[track_caller]
    pub fn http_from(
        &self,
        address: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let own: std::net::SocketAddr = format!("{address}:0").parse().unwrap();
        let there: std::net::SocketAddr = ([127, 0, 0, 1], self.port()).into();
        socket.bind(&own.into()).unwrap();
        socket.connect(&there.into()).unwrap();
        http::ask(socket.into(), method, path, headers, body)
            .unwrap_or_else(|| panic!("{method} {path} got no answer\n{}", self.daemon.log_tail()))
    }

    /// A second d2k of the same namespace, on a port of its own.
    #[track_caller]
    pub fn second_d2k(&self, settings: &[(&str, &str)]) -> Daemon {
        let mut all = self.settings.clone();
        all.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        Daemon::start(free_port(), &all, &self.directory.join("second.log"))
    }

    /// A connection to d2k for bytes of one's own.
    pub fn connect(&self) -> Connection {
        Connection::open(self.port())
    }

    /// Runs kubectl in the namespace, as administrator; a shell splits the words.
    #[track_caller]
    pub fn kubectl(&self, words: impl AsRef<str>) -> Output {
        let script = format!(
            "exec kubectl --kubeconfig {} --namespace {} {}",
            cluster::admin_kubeconfig().unwrap(),
            self.name(),
            words.as_ref()
        );
        let mut command = Command::new("bash");
        command.args(["-c", &script]);
        process::run(command, &format!("kubectl {}", words.as_ref()), b"", DEADLINE * 2)
    }

    /// Applies objects, written as YAML, to the namespace.
    #[track_caller]
    pub fn apply(&self, yaml: &str) {
        self.namespace.kubectl_in(&["apply", "-f", "-"], yaml.as_bytes()).success();
    }

    /// One object of the namespace.
    #[track_caller]
    pub fn object(&self, kind_and_name: &str) -> Value {
        let json = self.kubectl(format!("get {kind_and_name} -o json")).success();
        serde_json::from_str(&json).unwrap()
    }

    /// The names of all objects of some kinds, such as `deployments,jobs,pods`.
    #[track_caller]
    pub fn names(&self, kinds: &str) -> Vec<String> {
        self.kubectl(format!("get {kinds} -o name --ignore-not-found")).lines()
    }

    /// What `docker inspect` prints for one object.
    #[track_caller]
    pub fn inspect(&self, name: &str) -> Value {
        let json = self.docker(format!("inspect {name}")).success();
        serde_json::from_str::<Value>(&json).unwrap()[0].clone()
    }

    /// One field of `docker inspect`, by its template.
    #[track_caller]
    pub fn field(&self, name: &str, template: &str) -> String {
        self.docker(format!("inspect --format '{{{{{template}}}}}' {name}")).success()
    }

    /// Waits until a container's state is this one.
    #[track_caller]
    pub fn until_status(&self, name: &str, status: &str) {
        let mut last = String::new();
        let held = within_patience(|| {
            last = self.field(name, ".State.Status");
            last == status
        });
        let pods = || self.kubectl("get pods -o jsonpath={.items[*].status}").stdout;
        assert!(held, "{name} is {last}, not {status}, after 45 s; its Pods: {}", pods());
    }

    /// The daemon, to end it or to read its log.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// What d2k has logged.
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// Ends d2k as `kill -9` does.
    pub fn kill_d2k(&mut self) {
        self.daemon.kill();
    }

    /// Starts d2k again, on the same port and with the same settings.
    #[track_caller]
    pub fn restart_d2k(&mut self) {
        self.daemon.kill();
        self.daemon = Daemon::start(self.daemon.port, &self.settings, &self.directory.join("d2k.log"));
    }

    /// The program with the settings of this world, for a second d2k or another command.
    pub fn d2k(&self) -> Command {
        let mut command = daemon::command();
        command.envs(self.settings.iter().map(|(key, value)| (key, value)));
        command
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the end of d2k's log ({})\n{}", self.directory.display(), self.daemon.log_tail());
            return;
        }
        let log = self.daemon.log();
        let _ = std::fs::remove_dir_all(&self.directory);
        assert!(!log.contains("panicked at"), "d2k panicked:\n{log}");
    }
}

/// Whether the cluster has all that a Kubernetes has; where it has not, being an embedded one, the test counts as
/// ignored, for this reason.
#[track_caller]
pub fn has_all(reason: &str) -> bool {
    let embedded = cluster::is_embedded();
    if embedded {
        super::suite::note_skip(&format!("not on the embedded cluster: {reason}"));
    }
    !embedded
}

/// Waits until something holds, and fails with what it was if it never does.
#[track_caller]
pub fn eventually(what: &str, holds: impl FnMut() -> bool) {
    assert!(within_patience(holds), "not so after 45 s: {what}");
}

/// Whether something holds within 45 s.
pub fn within_patience(mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(45);
    while !holds() {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    true
}

/// A legal name for a namespace and a folder, from the test's own name.
fn unique_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let test = test_name();
    let test = test.rsplit("::").next().unwrap_or("test").replace('_', "-");
    let test: String = test.chars().take(36).collect();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("t-{}-{}-{count}", test.trim_matches('-'), std::process::id())
}

/// The name of the test that runs now.
fn test_name() -> String {
    std::thread::current().name().unwrap_or("test").to_owned()
}
