//! Answers in a form that is compared and can be read: what is another each time (identifiers, times,
//! addresses, ports) is replaced by what it is.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::OnceLock;

use base64::Engine as _;
use regex::Regex;
use serde_json::{Map, Value, json};

use super::support::{Reply, frames};

/// What every answer of every engine has; looked at once, not recorded each time.
pub const EVERYWHERE: [&str; 4] = ["api-version", "docker-experimental", "ostype", "server"];
/// How an answer is sent, which is not what it says.
const TRANSPORT: [&str; 6] =
    ["date", "content-length", "transfer-encoding", "connection", "upgrade", "x-content-type-options"];

/// How the body of an answer is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// JSON, lines of JSON or text, as it is.
    Plain,
    /// Frames of output.
    Frames,
    /// A tar archive.
    Tar,
}

/// What of an answer is compared. `names` are values that got a name before.
pub fn normal(reply: &Reply, form: Form, names: &BTreeMap<String, String>) -> Value {
    let mut all = Map::from_iter([("status".to_owned(), json!(reply.status))]);
    let headers: Map<String, Value> = reply
        .headers
        .iter()
        .filter(|(name, _)| !EVERYWHERE.contains(&name.as_str()) && !TRANSPORT.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), header(name, value, names)))
        .collect();
    if !headers.is_empty() {
        all.insert("headers".to_owned(), Value::Object(headers));
    }
    let body = match form {
        _ if reply.body.is_empty() => None,
        Form::Plain => Some(plain(&reply.text())),
        _ if reply.status >= 300 => Some(plain(&reply.text())),
        Form::Frames => Some(("frames", output(&reply.body))),
        Form::Tar => Some(("tar", archive(&reply.body))),
    };
    if let Some((word, body)) = body {
        all.insert(word.to_owned(), tidy("", &body, names));
    }
    Value::Object(all)
}

fn header(name: &str, value: &str, names: &BTreeMap<String, String>) -> Value {
    match name {
        "x-docker-container-path-stat" => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(value).unwrap_or_default();
            tidy("", &serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(value)), names)
        }
        _ => json!(value),
    }
}

/// JSON, several lines of JSON, or text.
fn plain(text: &str) -> (&'static str, Value) {
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        return ("body", value);
    }
    let lines: Option<Vec<Value>> = text.lines().map(|line| serde_json::from_str(line).ok()).collect();
    match lines {
        Some(lines) => ("lines", json!(lines)),
        None => ("text", json!(text)),
    }
}

/// Output by stream, however it was cut into frames.
fn output(bytes: &[u8]) -> Value {
    if !matches!(bytes, [0..=3, 0, 0, 0, ..]) {
        return json!({"raw": String::from_utf8_lossy(bytes)});
    }
    let mut all = Map::new();
    for (stream, text) in frames(bytes) {
        let name = ["stdin", "stdout", "stderr", "error"][stream as usize];
        let before = all.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        all.insert(name.to_owned(), json!(before + &text));
    }
    Value::Object(all)
}

/// The entries of an archive, small files with what is in them.
fn archive(bytes: &[u8]) -> Value {
    let mut archive = tar::Archive::new(bytes);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let header = entry.header().clone();
        let mut text = String::new();
        let _ = entry.by_ref().take(200).read_to_string(&mut text);
        json!({
            "path": path, "type": format!("{:?}", header.entry_type()), "size": header.size().unwrap(),
            "mode": format!("{:o}", header.mode().unwrap() & 0o7777), "text": text,
            "owner": format!("{}:{}", header.uid().unwrap(), header.gid().unwrap()),
        })
    });
    entries.collect()
}

fn tidy(field: &str, value: &Value, names: &BTreeMap<String, String>) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(name, value)| (placeholders(name, names), tidy(name, value, names)))
                .collect::<Map<_, _>>(),
        ),
        Value::Array(all) => {
            let mut all: Vec<Value> = all.iter().map(|value| tidy(field, value, names)).collect();
            // It speaks of the machine that the engine was recorded on.
            all.retain(|value| *value != json!("IPv4 forwarding is disabled. Networking will not work."));
            // An engine has them in the order of a hash map.
            if field == "Mounts" {
                all.sort_by_key(|mount| mount["Destination"].to_string());
            }
            Value::Array(all)
        }
        Value::String(text) => match field {
            "HostPort" if !text.is_empty() => json!("<port>"),
            _ => json!(placeholders(text, names)),
        },
        Value::Number(number) if number.as_f64() != Some(0.0) && number.as_f64() != Some(-1.0) => match field
        {
            "PublicPort" => json!("<port>"),
            "Created" | "time" | "timeNano" => json!("<epoch>"),
            "Size" | "VirtualSize" | "SizeRootFs" | "LayersSize" | "SharedSize" | "SpaceReclaimed" => {
                json!("<size>")
            }
            "Pid" => json!("<pid>"),
            _ => value.clone(),
        },
        other => other.clone(),
    }
}

/// A text without what is another each time.
fn placeholders(text: &str, names: &BTreeMap<String, String>) -> String {
    static ALL: OnceLock<Vec<(Regex, &str)>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        [
            (r"0001-01-01T00:00:00Z", "<never>"),
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "<time>"),
            (r"sha256:[0-9a-f]{64}", "<digest>"),
            (r"\b[0-9a-f]{64}\b", "<id>"),
            (r"\b[0-9a-f]{12}\b", "<short id>"),
            (r"\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b", "<mac>"),
            (r"\b(Up|Exited \(\d+\)) (Less than a|About a|\d+) (second|minute|hour)s?( ago)?", "$1 <age>"),
        ]
        .map(|(pattern, word)| (Regex::new(pattern).unwrap(), word))
        .into()
    });
    let mut text = text.to_owned();
    for (name, value) in names {
        text = text.replace(value, &format!("<{name}>"));
        if value.len() == 64 {
            text = text.replace(&value[..12], &format!("<short {name}>"));
        }
    }
    for (pattern, word) in all {
        text = pattern.replace_all(&text, *word).into_owned();
    }
    static ADDRESS: OnceLock<Regex> = OnceLock::new();
    let address = ADDRESS.get_or_init(|| Regex::new(r"\b\d{1,3}(\.\d{1,3}){3}\b").unwrap());
    let found = |found: &regex::Captures<'_>| match &found[0] {
        "0.0.0.0" | "127.0.0.1" => found[0].to_owned(),
        _ => "<ip>".to_owned(),
    };
    address.replace_all(&text, found).into_owned()
}

/// Only what kind of value is where: for answers that tell about the machine.
pub fn shape(value: &Value) -> Value {
    match value {
        Value::Object(map) => map.iter().map(|(name, value)| (name.clone(), shape(value))).collect(),
        Value::Array(all) => {
            let mut kinds: Vec<Value> = all.iter().map(shape).collect();
            kinds.dedup();
            Value::Array(kinds)
        }
        Value::Null => Value::Null,
        Value::Bool(_) => json!("<bool>"),
        Value::Number(_) => json!("<number>"),
        Value::String(text) if ["<size>", "<epoch>", "<pid>"].contains(&text.as_str()) => json!("<number>"),
        Value::String(_) => json!("<text>"),
    }
}
