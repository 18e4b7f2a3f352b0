//! What only bytes and their order show: hijacked connections, websockets, answers that begin before
//! they end. `D2K_WIRE_RECORD` has all of it done to a real engine, so that these tests are known to be right.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::engine::{self, Engine};
use super::support::{Connection, World, frames};

/// An engine, and what it needs to go on running.
struct Place {
    engine: Engine,
    _world: Option<World>,
}

impl Place {
    fn new() -> Option<Self> {
        match super::case::to_record() {
            Some(host) => Some(Self { engine: Engine::of(&host), _world: None }),
            None => {
                let world = World::new()?;
                let engine = Engine::Port(world.port());
                engine.ask("POST", "/images/create?fromImage=busybox&tag=latest", &[], b"");
                Some(Self { engine, _world: Some(world) })
            }
        }
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let headers = [("Content-Type".to_owned(), "application/json".to_owned())];
        let reply = self.engine.ask("POST", path, &headers, body.to_string().as_bytes());
        assert!(reply.status < 300, "{path}: {}", reply.text());
        serde_json::from_slice(&reply.body).unwrap_or_default()
    }

    /// Creates a container of busybox; its ID.
    fn create(&self, name: &str, fields: Value) -> Container<'_> {
        let mut body = json!({"Image": "busybox", "StopTimeout": 1});
        for (key, value) in fields.as_object().unwrap() {
            body[key] = value.clone();
        }
        let id = self.post(&format!("/v1.41/containers/create?name={name}"), &body);
        Container { place: self, id: id["Id"].as_str().unwrap().to_owned() }
    }
}

/// A container, removed at the end.
struct Container<'a> {
    place: &'a Place,
    id: String,
}

impl Container<'_> {
    fn path(&self, rest: &str) -> String {
        format!("/v1.41/containers/{}{rest}", self.id)
    }

    fn start(&self) -> &Self {
        self.place.post(&self.path("/start"), &Value::Null);
        self
    }

    fn kill(&self) {
        self.place.post(&self.path("/kill"), &Value::Null);
    }

    /// Begins to wait, and reads the head of the answer.
    #[track_caller]
    fn wait(&self, condition: &str) -> Connection {
        let mut connection = self.place.engine.connect();
        let path = self.path(&format!("/wait?condition={condition}"));
        connection.send(engine::head("POST", &path, &[], 0));
        let head = connection.head();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        connection
    }

    fn exec(&self, body: &Value) -> String {
        self.place.post(&self.path("/exec"), body)["Id"].as_str().unwrap().to_owned()
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        self.place.engine.ask("DELETE", &self.path("?force=1&v=1"), &[], b"");
    }
}

/// The status of a wait whose head has been read.
#[track_caller]
fn outcome(mut connection: Connection) -> i64 {
    let rest = connection.rest();
    let text = String::from_utf8_lossy(&rest).into_owned();
    let json =
        text.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("no outcome: {text:?}"));
    serde_json::from_str::<Value>(json).unwrap()["StatusCode"].as_i64().unwrap()
}

#[d2k_suite::test]
fn a_hijack_is_answered_alone_and_its_output_follows() {
    let Some(place) = Place::new() else { return };
    let container = place.create("wire-hijack", json!({"Cmd": ["sleep", "1000"]}));
    container.start();
    let exec = container.exec(&json!({"Cmd": ["echo", "at once"], "AttachStdout": true}));
    let mut connection = place.engine.connect();
    connection.hijack(&format!("/v1.41/exec/{exec}/start"), "{}");
    let mut text = String::new();
    while !text.contains("\r\n\r\n") {
        text.push_str(&String::from_utf8_lossy(&connection.part()));
    }
    assert!(text.starts_with("HTTP/1.1 101 "), "{text:?}");
    assert!(text.ends_with("\r\n\r\n"), "output lies behind the head in one piece: {text:?}");
    let has = |line: &str| text.lines().any(|other| other.eq_ignore_ascii_case(line));
    assert!(has("Connection: Upgrade") && has("Upgrade: tcp"), "{text}");
    assert!(has("Content-Type: application/vnd.docker.raw-stream"), "{text}");
    assert_eq!(frames(&connection.rest()), [(1, "at once\n".to_owned())]);
}

#[d2k_suite::test]
fn the_end_of_what_a_client_sends_is_the_end_of_input_and_not_of_output() {
    let Some(place) = Place::new() else { return };
    let container = place.create("wire-half", json!({"Cmd": ["sleep", "1000"]}));
    container.start();
    let script = "cat; sleep 0.3; echo after; echo wrong >&2; exit 3";
    let body =
        json!({"Cmd": ["sh", "-c", script], "AttachStdin": true, "AttachStdout": true, "AttachStderr": true});
    let exec = container.exec(&body);
    let mut connection = place.engine.connect();
    connection.hijack(&format!("/v1.41/exec/{exec}/start"), "{}");
    connection.head();
    connection.send("typed\n").half_close();
    let all = frames(&connection.rest());
    let stream = |wanted: u8| -> String {
        all.iter().filter(|(stream, _)| *stream == wanted).map(|(_, text)| text.as_str()).collect()
    };
    assert_eq!((stream(1).as_str(), stream(2).as_str()), ("typed\nafter\n", "wrong\n"));
    let state = place.engine.json("GET", &format!("/v1.41/exec/{exec}/json"));
    assert_eq!(
        (&state["Running"], &state["ExitCode"]),
        (&json!(false), &json!(3)),
        "known when the stream ends"
    );
}

#[d2k_suite::test]
fn without_an_upgrade_a_stream_is_an_answer_of_200() {
    let Some(place) = Place::new() else { return };
    let container = place.create("wire-plain", json!({"Cmd": ["sleep", "1000"]}));
    container.start();
    let exec = container.exec(&json!({"Cmd": ["echo", "plain"], "AttachStdout": true}));
    let headers = [("Content-Type".to_owned(), "application/json".to_owned())];
    let reply =
        place.engine.ask("POST", &format!("/v1.41/exec/{exec}/start"), &headers, b"{\"Detach\":false}");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("application/vnd.docker.raw-stream"));
    assert_eq!(frames(&reply.body), [(1, "plain\n".to_owned())]);
}

#[d2k_suite::test]
fn attached_before_the_start_a_client_gets_all_from_the_first_byte_on() {
    let Some(place) = Place::new() else { return };
    let fields =
        json!({"Cmd": ["sh", "-c", "echo out; echo err >&2"], "AttachStdout": true, "AttachStderr": true});
    let container = place.create("wire-early", fields);
    let mut connection = place.engine.connect();
    connection.hijack(&container.path("/attach?stream=1&stdout=1&stderr=1"), "");
    let head = connection.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    connection.half_close();
    let waiting = container.wait("next-exit");
    container.start();
    let mut all = frames(&connection.rest());
    all.sort();
    assert_eq!(all, [(1, "out\n".to_owned()), (2, "err\n".to_owned())]);
    assert_eq!(outcome(waiting), 0);
}

#[d2k_suite::test]
fn a_websocket_carries_bytes_without_frames_of_output() {
    let Some(place) = Place::new() else { return };
    let fields = json!({"Cmd": ["cat"], "OpenStdin": true, "AttachStdin": true, "AttachStdout": true});
    let container = place.create("wire-socket", fields);
    container.start();
    let mut connection = place.engine.connect();
    let headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        // The engine refuses a browser's page that does not say where it comes from.
        ("Origin", "http://docker"),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let path = container.path("/attach/ws?stream=1&stdin=1&stdout=1");
    connection.send(engine::head("GET", &path, &headers, 0));
    let head = connection.head().to_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    // A final binary message of six bytes, masked with zeroes.
    connection.send(b"\x82\x86\0\0\0\0typed\n");
    let answer = connection.read_until("typed\n");
    assert_eq!(answer, b"\x82\x06typed\n", "one binary message and nothing else: {answer:?}");
}

#[d2k_suite::test]
fn a_wait_begins_its_answer_at_once() {
    let Some(place) = Place::new() else { return };
    let container = place.create("wire-wait", json!({"Cmd": ["sleep", "1000"]}));
    assert_eq!(outcome(container.wait("not-running")), 0, "a created container does not run");
    let next = container.wait("next-exit");
    let removed = container.wait("removed");
    container.start();
    let running = container.wait("not-running");
    let begin = Instant::now();
    container.kill();
    assert_eq!(outcome(next), 137);
    assert_eq!(outcome(running), 137);
    assert!(begin.elapsed() < Duration::from_secs(20));
    drop(container);
    assert_eq!(outcome(removed), 137);
}

#[d2k_suite::test]
fn before_version_1_30_a_wait_answers_when_it_ends() {
    let Some(place) = Place::new() else { return };
    let container = place.create("wire-old", json!({"Cmd": ["sleep", "1000"]}));
    container.start();
    let mut connection = place.engine.connect();
    connection.send(engine::head("POST", &format!("/v1.29/containers/{}/wait", container.id), &[], 0));
    let silent = connection.is_silent_for(Duration::from_millis(700));
    container.kill();
    let head = connection.head();
    assert!(silent, "it answered before the end: {head}");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(outcome(connection), 137);
}

#[d2k_suite::test]
fn a_wait_for_the_removal_of_what_removes_itself_tells_its_exit_code() {
    let Some(place) = Place::new() else { return };
    let fields = json!({"Cmd": ["sh", "-c", "exit 5"], "HostConfig": {"AutoRemove": true}});
    let container = place.create("wire-auto", fields);
    let removed = container.wait("removed");
    container.start();
    assert_eq!(outcome(removed), 5);
    let gone = place.engine.ask("GET", &container.path("/json"), &[], b"");
    assert_eq!(gone.status, 404);
}

#[d2k_suite::test]
fn stats_go_on_and_each_tells_of_the_one_before() {
    let Some(place) = Place::new() else { return };
    let container = place.create("wire-stats", json!({"Cmd": ["sleep", "1000"]}));
    container.start();
    let mut connection = place.engine.connect();
    connection.send(engine::head("GET", &container.path("/stats"), &[], 0));
    let head = connection.head().to_lowercase();
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    let mut text = String::new();
    let samples = loop {
        text.push_str(&String::from_utf8_lossy(&connection.part()));
        let whole = |line: &str| serde_json::from_str::<Value>(line.trim()).ok().filter(Value::is_object);
        let samples: Vec<Value> = text.lines().filter_map(whole).collect();
        if samples.len() > 1 {
            break samples;
        }
    };
    assert_eq!(samples[0]["preread"], "0001-01-01T00:00:00Z");
    assert_eq!(samples[0]["precpu_stats"]["cpu_usage"]["total_usage"], 0);
    assert_eq!(samples[1]["preread"], samples[0]["read"]);
    assert_eq!(samples[1]["precpu_stats"], samples[0]["cpu_stats"]);
    assert_eq!(samples[0]["name"], "/wire-stats");
}

#[d2k_suite::test]
fn events_begin_their_answer_before_there_is_one() {
    let Some(place) = Place::new() else { return };
    let mut connection = place.engine.connect();
    let filter = "%7B%22container%22:%7B%22wire-events%22:true%7D%7D";
    connection.send(engine::head("GET", &format!("/v1.41/events?filters={filter}"), &[], 0));
    let head = connection.head();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let container = place.create("wire-events", json!({"Cmd": ["sleep", "1000"]}));
    container.start();
    let text = String::from_utf8_lossy(&connection.read_until("\"start\"")).into_owned();
    let actions: Vec<Value> =
        text.lines().filter_map(|line| serde_json::from_str(line.trim()).ok()).collect();
    let of: Vec<&str> = actions.iter().filter_map(|event: &Value| event["Action"].as_str()).collect();
    assert_eq!((of.first(), of.last()), (Some(&"create"), Some(&"start")), "{text}");
    let first = &actions[0];
    assert_eq!(
        (&first["Type"], &first["scope"], &first["status"]),
        (&json!("container"), &json!("local"), &json!("create"))
    );
    assert_eq!(first["Actor"]["Attributes"], json!({"image": "busybox", "name": "wire-events"}));
    assert_eq!((&first["id"], &first["Actor"]["ID"]), (&json!(container.id), &json!(container.id)));
    let (seconds, nanos) = (first["time"].as_i64().unwrap(), first["timeNano"].as_i64().unwrap());
    assert_eq!(nanos / 1_000_000_000, seconds);
}

#[d2k_suite::test]
fn a_log_is_followed_as_it_is_written() {
    let Some(place) = Place::new() else { return };
    let script = "echo one; read x; echo two; exit 0";
    let fields =
        json!({"Cmd": ["sh", "-c", script], "OpenStdin": true, "StdinOnce": true, "AttachStdin": true});
    let container = place.create("wire-follow", fields);
    container.start();
    let mut log = place.engine.connect();
    log.send(engine::head("GET", &container.path("/logs?follow=1&stdout=1&timestamps=1"), &[], 0));
    let head = log.head().to_lowercase();
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    let one = String::from_utf8_lossy(&log.read_until("one\n")).into_owned();
    let mut input = place.engine.connect();
    input.hijack(&container.path("/attach?stream=1&stdin=1"), "");
    input.head();
    input.send("\n").half_close();
    let two = String::from_utf8_lossy(&log.read_until("two\n")).into_owned();
    let time = regex::Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (one|two)\n").unwrap();
    assert!(time.is_match(&one) && time.is_match(&two), "{one:?} {two:?}");
}

#[d2k_suite::test]
fn a_filter_may_come_without_percent_signs_also_on_a_connection_that_goes_on() {
    let Some(place) = Place::new() else { return };
    let quoted = place.create("quoted", json!({"Cmd": ["true"]}));
    let names = |query: &str| {
        let mut connection = place.engine.connect();
        connection.send(format!("GET /_ping HTTP/1.1\r\nHost: d2k\r\n\r\nGET /containers/json?{query} HTTP/1.1\r\nHost: d2k\r\nConnection: close\r\n\r\n").as_bytes());
        String::from_utf8_lossy(&connection.rest()).into_owned()
    };
    assert!(names(r#"all=1&filters={"name":["^/quoted$"]}"#).contains(&quoted.id));
    assert!(!names(r#"all=1&filters={"name":["<other>"]}"#).contains(&quoted.id));
}
