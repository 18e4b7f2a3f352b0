//! Cases: files of requests that are sent to an engine one after the other. A real engine's answers are
//! recorded, those of d2k compared with the record.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::{self, EVERYWHERE, Form};
use super::compare::{self, Used};
use super::engine::{self, Engine};
use super::support::suite::note_skip;
use super::support::{Reply, World};

/// The API version of requests that name none: that of the engine whose answers are recorded.
const VERSION: &str = "/v1.41";
const PATIENCE: Duration = Duration::from_secs(30);

/// One request, and what is done with its answer.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Step {
    /// What it shows; its name in the record.
    pub title: String,
    /// Method and path, without a version the recorded one. `$name` is what was kept.
    pub send: String,
    headers: BTreeMap<String, String>,
    body: Value,
    /// A body that is no JSON.
    text: String,
    /// A body that is an archive of these files.
    tar: BTreeMap<String, String>,
    /// All bytes of the request, line ends as they must be.
    raw: String,
    /// The connection is asked for as a stream, and this sent over it before its sending half ends.
    hijack: Option<String>,
    /// The body is output in frames.
    frames: bool,
    /// The body is an archive.
    archive: bool,
    /// Only what kind of value is where is compared: the answer tells about the machine.
    shape: bool,
    /// Names for values of the answer, by JSON pointers.
    keep: BTreeMap<String, String>,
    /// Sent again until these values are there.
    until: BTreeMap<String, Value>,
    /// What the status must be, whatever was recorded.
    pub code: u16,
    /// What the message, or the text, must be.
    words: Option<String>,
    /// What must be in the answer.
    has: BTreeMap<String, Value>,
    /// What must be there, whatever it is.
    there: Vec<String>,
    /// What must not.
    lacks: Vec<String>,
    /// What headers must say.
    with: BTreeMap<String, String>,
    /// Not compared: it only prepares.
    quiet: bool,
    /// The recorded engine is too old for it: what must be is written in the step.
    pub ours: bool,
}

/// The answers of a real engine.
#[derive(Debug, Serialize, Deserialize)]
struct Recorded {
    engine: String,
    answers: BTreeMap<String, Value>,
}

/// A folder of this suite.
pub fn folder(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("tests/wire").join(name)
}

/// The requests of a file.
pub fn steps(name: &str) -> Vec<Step> {
    let text = std::fs::read_to_string(folder("cases").join(format!("{name}.yaml"))).unwrap();
    let mut steps: serde_yaml_ng::Value =
        serde_yaml_ng::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
    steps.apply_merge().unwrap();
    let steps: Vec<Step> = serde_yaml_ng::from_value(steps).unwrap_or_else(|e| panic!("{name}: {e}"));
    for (at, step) in steps.iter().enumerate() {
        let twice = steps[..at].iter().any(|other| other.title == step.title);
        assert!(!twice && !step.title.is_empty(), "{name}: the title {:?} is not its own", step.title);
    }
    steps
}

/// Every request of every file, with the status that d2k answers: method and path, and the status.
pub fn statuses(names: &[&'static str]) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    for name in names {
        let recorded =
            if steps(name).iter().all(|step| step.ours) { BTreeMap::new() } else { recorded(name) };
        for step in steps(name) {
            let request = unversioned(step.send.split('?').next().unwrap());
            let theirs = recorded.get(&step.title).and_then(|answer| answer["status"].as_u64());
            let said = (step.code != 0).then_some(u64::from(step.code));
            let ours = said.or_else(|| compare::status(&request, &step.title)).or(theirs);
            all.extend(ours.map(|status| (request, status)));
        }
    }
    all
}

/// The recorded answers of a file.
pub fn recorded(name: &str) -> BTreeMap<String, Value> {
    let path = folder("recorded").join(format!("{name}.yaml"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_yaml_ng::from_str::<Recorded>(&text).unwrap().answers
}

/// The engine whose answers are to be recorded.
pub fn to_record() -> Option<String> {
    std::env::var("D2K_WIRE_RECORD").ok().filter(|host| !host.is_empty())
}

/// What was found out about a case.
#[derive(Debug, Clone, Default)]
struct Outcome {
    wrong: Vec<String>,
    used: Used,
    skipped: bool,
}

/// Runs a case, or records it.
pub fn check(name: &'static str) {
    if let Some(host) = to_record() {
        if steps(name).iter().any(|step| !step.ours) {
            record(name, &host);
        }
        return;
    }
    let outcome = outcome(name);
    if outcome.skipped {
        return note_skip("there is no cluster to test on");
    }
    assert!(outcome.wrong.is_empty(), "{} differences\n{}", outcome.wrong.len(), outcome.wrong.join("\n"));
}

/// Every piece of the list of differences was of use in some case.
pub fn check_differences(names: &[&'static str]) {
    let given = std::env::var_os("D2K_TEST_KUBECONFIG").is_some_and(|path| !path.is_empty());
    if to_record().is_some() || given {
        return note_skip("the differences are those of an embedded cluster");
    }
    let cases: Vec<_> = names.iter().map(|name| (*name, std::thread::spawn(|| outcome(name)))).collect();
    let mut used = Used::new();
    for (name, case) in cases {
        let outcome = case.join().unwrap_or_else(|_| panic!("{name} broke off"));
        if outcome.skipped {
            return note_skip("there is no cluster to test on");
        }
        used.extend(outcome.used);
    }
    let unused = compare::pieces().into_iter().filter(|piece| !used.contains(piece));
    let unused: Vec<String> =
        unused.map(|(at, pointer)| format!("{}: {pointer}", compare::about(at))).collect();
    assert!(unused.is_empty(), "no such differences any more:\n{}", unused.join("\n"));
}

/// The outcome of a case, which runs once however often it is asked for.
fn outcome(name: &'static str) -> Outcome {
    static ALL: Mutex<BTreeMap<&str, &'static OnceLock<Outcome>>> = Mutex::new(BTreeMap::new());
    let mut all = ALL.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let cell: &OnceLock<Outcome> = all.entry(name).or_insert_with(|| Box::leak(Box::default()));
    drop(all);
    cell.get_or_init(|| run(name)).clone()
}

fn run(name: &str) -> Outcome {
    // An operator who allows binds of the node's folders.
    let settings = folder("settings.yaml").display().to_string();
    let Some(world) = World::with(&[("D2K_POLICY_SETTINGS", &settings)]) else {
        return Outcome { skipped: true, ..Outcome::default() };
    };
    let recorded = if steps(name).iter().all(|step| step.ours) { BTreeMap::new() } else { recorded(name) };
    let engine = Engine::Port(world.port());
    for image in ["busybox", "nginx"] {
        let pulled = engine.ask("POST", &format!("/images/create?fromImage={image}&tag=latest"), &[], b"");
        assert!(pulled.text().contains("Status:"), "{image} cannot be pulled: {}", pulled.text());
    }
    let mut outcome = Outcome::default();
    let mut names = BTreeMap::new();
    for step in steps(name) {
        let reply = send(&engine, &step, &mut names);
        let mut wrong = expectations(&step, &reply, &names);
        // A real engine has them everywhere but on the answers of its router.
        let lacking = EVERYWHERE.iter().filter(|name| reply.header(name).is_none());
        wrong.extend(lacking.map(|name| format!("no header {name}")));
        if !step.quiet && !step.ours {
            let ours = seen(&step, &reply, &names);
            let theirs = recorded
                .get(&step.title)
                .unwrap_or_else(|| panic!("{name}: {:?} is not recorded", step.title));
            let request = step.send.split('?').next().unwrap();
            let request = unversioned(request);
            let found = compare::wrong(&request, &step.title, theirs, &ours, &mut outcome.used);
            wrong.extend(found.iter().map(ToString::to_string));
        }
        if !wrong.is_empty() {
            outcome.wrong.push(format!("\n{}: {}\n  {}", step.title, step.send, wrong.join("\n  ")));
        }
    }
    outcome
}

/// Asks a real engine, and writes its answers down. What the case made is removed.
fn record(name: &str, host: &str) {
    static ONE_BY_ONE: Mutex<()> = Mutex::new(());
    let _turn = ONE_BY_ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let engine = Engine::of(host);
    let there = engine.json("GET", "/containers/json?all=1");
    assert_eq!(
        there,
        json!([]),
        "{host} has containers: record with an engine that is used for nothing else"
    );
    let version = engine.json("GET", "/version");
    let mut names = BTreeMap::new();
    let mut answers = BTreeMap::new();
    for step in steps(name).iter().filter(|step| !step.ours) {
        let reply = send(&engine, step, &mut names);
        let wrong = expectations(step, &reply, &names);
        assert!(wrong.is_empty(), "{}: {}", step.title, wrong.join("\n"));
        if !step.quiet {
            answers.insert(step.title.clone(), seen(step, &reply, &names));
        }
    }
    for container in engine.json("GET", "/containers/json?all=1").as_array().unwrap() {
        let path = format!("/containers/{}?force=1&v=1", container["Id"].as_str().unwrap());
        engine.ask("DELETE", &path, &[], b"");
    }
    engine.ask("POST", "/networks/prune", &[], b"");
    engine.ask("POST", "/volumes/prune", &[], b"");
    let text = |field: &str| version[field].as_str().unwrap().to_owned();
    let recorded = Recorded { engine: format!("{}, API {}", text("Version"), text("ApiVersion")), answers };
    let path = folder("recorded").join(format!("{name}.yaml"));
    std::fs::write(path, serde_yaml_ng::to_string(&recorded).unwrap()).unwrap();
}

fn seen(step: &Step, reply: &Reply, names: &BTreeMap<String, String>) -> Value {
    let form = match (step.frames || step.hijack.is_some(), step.archive) {
        (true, _) => Form::Frames,
        (_, true) => Form::Tar,
        _ => Form::Plain,
    };
    let normal = answer::normal(reply, form, names);
    if step.shape { shaped(normal) } else { normal }
}

/// The body as kinds of values; status and headers stay.
fn shaped(mut normal: Value) -> Value {
    for word in ["body", "lines"] {
        if let Some(body) = normal.get(word).cloned() {
            normal[word] = answer::shape(&body);
        }
    }
    normal
}

/// What the step itself says about its answer.
fn expectations(step: &Step, reply: &Reply, names: &BTreeMap<String, String>) -> Vec<String> {
    let mut wrong = Vec::new();
    if step.code != 0 && step.code != reply.status {
        wrong.push(format!("the status is {}, not {}: {}", reply.status, step.code, reply.text()));
    }
    let text = reply.text();
    let first = text.lines().next().unwrap_or_default();
    let body: Value =
        serde_json::from_str(&text).or_else(|_| serde_json::from_str(first)).unwrap_or_default();
    if let Some(words) = &step.words {
        let text = body["message"].as_str().map_or_else(|| reply.text().trim().to_owned(), str::to_owned);
        let words = filled(words, names);
        if text != words {
            wrong.push(format!("it says {text:?}, not {words:?}"));
        }
    }
    for (pointer, wanted) in &step.has {
        let found = body.pointer(pointer);
        if found != Some(wanted) {
            wrong.push(format!("{pointer} is {found:?}, not {wanted}"));
        }
    }
    for pointer in step.there.iter().filter(|pointer| body.pointer(pointer).is_none()) {
        wrong.push(format!("there is no {pointer}: {text}"));
    }
    for (name, wanted) in step.with.iter().filter(|(name, wanted)| reply.header(name) != Some(wanted)) {
        wrong.push(format!("{name} is {:?}, not {wanted}", reply.header(name)));
    }
    for pointer in step.lacks.iter().filter(|pointer| body.pointer(pointer).is_some()) {
        wrong.push(format!("{pointer} is there"));
    }
    wrong
}

fn unversioned(request: &str) -> String {
    let (method, path) = request.split_once(' ').unwrap_or((request, ""));
    let path = path.trim_start_matches("bare ");
    match version_of(path) {
        Some(rest) => format!("{method} /{rest}"),
        None if path.is_empty() => method.to_owned(),
        None => format!("{method} {path}"),
    }
}

/// What follows the version of a path that has one.
fn version_of(path: &str) -> Option<&str> {
    let (version, rest) = path.strip_prefix("/v")?.split_once('/')?;
    version.starts_with(|c: char| c.is_ascii_digit()).then_some(rest)
}

/// With `$name` replaced by what was kept.
fn filled(text: &str, names: &BTreeMap<String, String>) -> String {
    // A moment that will soon be past: when a stream of events ends.
    let text = text.replace("$soon", &(jiff::Timestamp::now().as_second() + 1).to_string());
    let mut names: Vec<_> = names.iter().collect();
    // Longer names first: `$web2` is not `$web` and a 2.
    names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    names.iter().fold(text, |text, (name, value)| text.replace(&format!("${name}"), value))
}

fn send(engine: &Engine, step: &Step, names: &mut BTreeMap<String, String>) -> Reply {
    let begin = Instant::now();
    loop {
        let reply = once(engine, step, names);
        let value: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let there = step.until.iter().all(|(pointer, wanted)| value.pointer(pointer) == Some(wanted));
        if !there && begin.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(100));
            continue;
        }
        for (name, pointer) in &step.keep {
            let kept = value.pointer(pointer).and_then(Value::as_str);
            let kept = kept.unwrap_or_else(|| panic!("{}: no {pointer}: {}", step.title, reply.text()));
            names.insert(name.clone(), kept.to_owned());
        }
        return reply;
    }
}

fn once(engine: &Engine, step: &Step, names: &BTreeMap<String, String>) -> Reply {
    if !step.raw.is_empty() {
        let mut connection = engine.connect();
        connection.send(filled(&step.raw, names).replace('\n', "\r\n"));
        return engine::answer(&connection.rest(), &step.title);
    }
    let (method, path) = step.send.split_once(' ').unwrap_or_else(|| panic!("{:?}", step.send));
    let path = filled(path, names);
    // `GET bare /x` has no version in its path.
    let target = match (path.strip_prefix("bare "), version_of(&path).is_some()) {
        (Some(bare), _) => bare.to_owned(),
        (None, true) => path,
        (None, false) => format!("{VERSION}{path}"),
    };
    let mut headers: Vec<(String, String)> =
        step.headers.iter().map(|(name, value)| (name.clone(), filled(value, names))).collect();
    let body = body(step, names);
    if !step.body.is_null() && !step.headers.keys().any(|name| name.eq_ignore_ascii_case("content-type")) {
        headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
    }
    let Some(input) = &step.hijack else {
        return engine.ask(method, &target, &headers, &body);
    };
    headers
        .extend([("Connection", "Upgrade"), ("Upgrade", "tcp")].map(|(a, b)| (a.to_owned(), b.to_owned())));
    let mut connection = engine.connect();
    connection.send(engine::head(method, &target, &headers, body.len())).send(&body);
    let mut bytes = connection.head().into_bytes();
    connection.send(input).half_close();
    bytes.extend(connection.rest());
    engine::answer(&bytes, &step.title)
}

fn body(step: &Step, names: &BTreeMap<String, String>) -> Vec<u8> {
    if !step.tar.is_empty() {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in &step.tar {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o640);
            header.set_mtime(1_700_000_000);
            tar.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        return tar.into_inner().unwrap();
    }
    let text = if step.body.is_null() { step.text.clone() } else { step.body.to_string() };
    filled(&text, names).into_bytes()
}
