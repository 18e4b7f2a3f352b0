//! The cluster under test: the one that `D2K_TEST_KUBECONFIG` names, else an embedded one, started
//! once for all tests of the process and gone with it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::Duration;

use super::daemon::command;
use super::{base, process, registry, suite};

/// How long the embedded cluster may take to get ready on a busy machine.
const GETTING_READY: Duration = Duration::from_secs(60);

/// What d2k says where this machine has not what containers need; anything else is a fault of d2k's.
const NOT_HERE: [&str; 2] = ["cannot run on this machine", "user namespace"];

struct Cluster {
    kubeconfig: String,
    embedded: bool,
    /// An embedded one; it ends when its standard input does, which is when this process ends.
    _process: Option<Child>,
}

/// The admin kubeconfig of the cluster under test; `None` = there is none, and tests are skipped.
#[track_caller]
pub fn admin_kubeconfig() -> Option<String> {
    cluster().map(|cluster| cluster.kubeconfig.clone())
}

/// The kubeconfig of an embedded cluster, also where another one is given to test on; `None` = this machine
/// cannot have one.
#[track_caller]
pub fn embedded_kubeconfig() -> Option<String> {
    static EMBEDDED: OnceLock<Result<Cluster, Trouble>> = OnceLock::new();
    let found = EMBEDDED.get_or_init(|| clients().and_then(|()| start()));
    said(found).map(|cluster| cluster.kubeconfig.clone())
}

/// Whether it is an embedded one: with a single user, one node, and no kind of object that d2k does
/// not need.
#[track_caller]
pub fn is_embedded() -> bool {
    cluster().is_some_and(|cluster| cluster.embedded)
}

/// The kubeconfig of the cluster that was given to test on.
pub fn given() -> Option<String> {
    std::env::var("D2K_TEST_KUBECONFIG").ok().filter(|path| !path.is_empty())
}

/// Prints a line, also of a test that does not fail.
pub fn say(line: &str) {
    // Not `eprintln!`, which is shown only for tests that fail.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Why no container can be run by the tests on this machine, if so. Said once, and a failure where
/// `D2K_TEST_REQUIRED` is set, so that no build passes because nothing was tested.
#[track_caller]
pub fn skip(reason: &str) {
    static SAID: OnceLock<()> = OnceLock::new();
    let required = std::env::var_os("D2K_TEST_REQUIRED").is_some_and(|value| !value.is_empty());
    assert!(!required, "D2K_TEST_REQUIRED is set, and the tests cannot run: {reason}");
    SAID.get_or_init(|| say(&format!("skipped: {reason}")));
    suite::note_skip(reason);
}

/// Why there is no cluster to test on.
enum Trouble {
    /// The machine lacks something: tests are skipped.
    Lacking(String),
    /// It has all, and yet it does not work: tests fail.
    Broken(String),
}

#[track_caller]
fn cluster() -> Option<&'static Cluster> {
    static CLUSTER: OnceLock<Result<Cluster, Trouble>> = OnceLock::new();
    said(CLUSTER.get_or_init(find))
}

#[track_caller]
fn said<T>(found: &Result<T, Trouble>) -> Option<&T> {
    match found {
        Ok(found) => Some(found),
        Err(Trouble::Lacking(reason)) => {
            skip(reason);
            None
        }
        Err(Trouble::Broken(reason)) => panic!("there is no cluster to test on: {reason}"),
    }
}

fn find() -> Result<Cluster, Trouble> {
    clients()?;
    match given() {
        Some(kubeconfig) => {
            let embedded = !has_rights(&kubeconfig)?;
            Ok(Cluster { kubeconfig, embedded, _process: None })
        }
        None => {
            base::push().map_err(Trouble::Lacking)?;
            start()
        }
    }
}

/// Whether this machine can have embedded clusters; if not, tests are skipped.
#[track_caller]
pub fn can_embed() -> bool {
    static CAN: OnceLock<Result<(), Trouble>> = OnceLock::new();
    said(CAN.get_or_init(try_embedded)).is_some()
}

fn try_embedded() -> Result<(), Trouble> {
    clients()?;
    if given().is_none() {
        base::push().map_err(Trouble::Lacking)?;
    }
    let output = command().args(["serve", "--embedded", "--", "true"]).stdin(Stdio::null()).output();
    let output = output.map_err(|e| Trouble::Broken(e.to_string()))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(not_started(&String::from_utf8_lossy(&output.stderr))),
    }
}

fn clients() -> Result<(), Trouble> {
    for (client, package) in [("docker", "docker-cli"), ("kubectl", "kubernetes-client")] {
        if process::find(client).is_none() {
            let words = format!("no {client} on the PATH: install it (Debian: {package})");
            return Err(Trouble::Lacking(words));
        }
    }
    Ok(())
}

/// Whether a cluster tells users apart, which an embedded one does not.
fn has_rights(kubeconfig: &str) -> Result<bool, Trouble> {
    let output = Command::new("kubectl").args(["--kubeconfig", kubeconfig, "api-versions"]).output();
    let output = output.map_err(|e| Trouble::Broken(format!("kubectl: {e}")))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Trouble::Broken(format!("the cluster of {kubeconfig}: {words}")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).contains("rbac.authorization.k8s.io"))
}

/// Runs `d2k serve --embedded` with a command that ends when this process does, however it ends: then
/// the pipe to its standard input is closed. d2k removes its folder and ends with its command.
fn start() -> Result<Cluster, Trouble> {
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join("embedded-cluster.log");
    let broken = |e: std::io::Error| Trouble::Broken(e.to_string());
    let mut process = command()
        .args(["serve", "--embedded", "--", "sh", "-c", "echo \"$KUBECONFIG\"; exec cat >/dev/null"])
        .env("D2K_REGISTRY_MIRRORS", format!("*=http://{}", registry::registry()))
        .env("D2K_LOG_LEVEL", "debug")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(File::create(&log).map_err(broken)?)
        // An interrupt at the terminal ends the tests, and by that the cluster.
        .process_group(0)
        .spawn()
        .map_err(broken)?;
    let (sender, ready) = mpsc::channel();
    let stdout = process.stdout.take();
    std::thread::spawn(move || {
        let mut line = String::new();
        stdout.map(|stdout| BufReader::new(stdout).read_line(&mut line));
        sender.send(line.trim().to_owned())
    });
    let kubeconfig = ready.recv_timeout(GETTING_READY).unwrap_or_default();
    if !kubeconfig.is_empty() {
        return Ok(Cluster { kubeconfig, embedded: true, _process: Some(process) });
    }
    let _ = process.kill();
    let _ = process.wait();
    Err(not_started(&fs::read_to_string(&log).unwrap_or_default()))
}

fn not_started(words: &str) -> Trouble {
    match NOT_HERE.iter().any(|here| words.contains(here)) {
        // Lines before the last are warnings.
        true => Trouble::Lacking(words.trim().lines().last().unwrap_or_default().to_owned()),
        false => Trouble::Broken(format!("d2k serve --embedded does not get ready:\n{words}")),
    }
}
