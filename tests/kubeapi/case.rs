//! Cases: files of requests that are sent to both clusters one after the other.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use super::answer;
use super::side::{Raw, Side};
use super::support;

const PATIENCE: Duration = Duration::from_secs(40);

/// One request, and what is done with its answer.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Step {
    /// What it shows.
    title: String,
    /// Method and path; `$ns` is the namespace.
    send: String,
    headers: BTreeMap<String, String>,
    body: Value,
    /// A body that is no JSON.
    text: String,
    /// A token that is shown in place of the administrator's certificate.
    token: String,
    /// Or a `kubectl` command, with its input and more of its environment.
    kubectl: Vec<String>,
    input: String,
    environment: BTreeMap<String, String>,
    /// Names for values of the answer, by JSON pointers.
    keep: BTreeMap<String, String>,
    /// Sent again until these values are there; `null` waits until there is none.
    until: BTreeMap<String, Value>,
    /// Sent again until this is the status.
    until_code: u16,
    /// What the status must be, whatever the other cluster says.
    code: u16,
    /// The answer is a stream of events.
    watch: bool,
    /// Who owns which field is compared, too.
    managers: bool,
    /// Paths that are not compared; the case says why.
    ignore: Vec<String>,
    /// Not compared at all: it only prepares.
    quiet: bool,
}

/// Where the cases are.
pub fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("tests/kubeapi/cases")
}

/// A variable that is set and not empty.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Runs a case against the clusters that there are, and compares.
pub fn check(name: &str) {
    let Some(real) = variable("D2K_TEST_KUBECONFIG") else {
        return support::suite::note_skip("D2K_TEST_KUBECONFIG names no cluster to compare with");
    };
    let embedded = variable("D2K_TEST_EMBEDDED_KUBECONFIG").or_else(support::embedded_kubeconfig);
    let Some(embedded) = embedded else { return };
    let text = std::fs::read_to_string(folder().join(format!("{name}.yaml"))).unwrap();
    let mut steps: serde_yaml_ng::Value =
        serde_yaml_ng::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
    steps.apply_merge().unwrap();
    let steps: Vec<Step> = serde_yaml_ng::from_value(steps).unwrap_or_else(|e| panic!("{name}: {e}"));
    let namespace = format!("contract-{}-{}", name.replace('_', "-"), std::process::id());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (ours, theirs) = runtime
        .block_on(async { tokio::join!(run(&embedded, &namespace, &steps), run(&real, &namespace, &steps)) });
    let mut wrong = Vec::new();
    for ((step, ours), theirs) in steps.iter().zip(ours).zip(theirs) {
        if !step.quiet && ours != theirs {
            let what = format!("{}{}", step.send, step.kubectl.join(" "));
            wrong.push(format!("{}: {what} (-real +embedded)\n{}", step.title, diff(&theirs, &ours)));
        }
    }
    assert!(wrong.is_empty(), "{} of {} answers differ\n\n{}", wrong.len(), steps.len(), wrong.join("\n"));
}

fn diff(theirs: &Value, ours: &Value) -> String {
    let text = |value: &Value| serde_json::to_string_pretty(value).unwrap() + "\n";
    let (theirs, ours) = (text(theirs), text(ours));
    similar::TextDiff::from_lines(&theirs, &ours).unified_diff().context_radius(2).to_string()
}

async fn run(kubeconfig: &str, namespace: &str, steps: &[Step]) -> Vec<Value> {
    let mut side = Side::open(kubeconfig, namespace).await;
    let mut answers = Vec::new();
    for step in steps {
        let raw = send(&side, step).await;
        let value = raw.value(step.watch);
        for (name, pointer) in &step.keep {
            let kept =
                value.pointer(pointer).map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
            let kept = kept.unwrap_or_else(|| panic!("{kubeconfig}: {}: no {pointer}: {value}", step.title));
            side.values.insert(name.clone(), kept);
        }
        if step.code != 0 {
            assert_eq!(raw.code, step.code, "{kubeconfig}: {}: {}", step.title, raw.text);
        }
        answers.push(answer::of(&raw, step.watch, step.managers, &step.ignore));
    }
    side.close().await;
    answers
}

async fn send(side: &Side, step: &Step) -> Raw {
    let (method, path) = step.send.split_once(' ').unwrap_or_default();
    let body = if step.body.is_null() { step.text.clone() } else { step.body.to_string() };
    let begin = Instant::now();
    loop {
        let raw = if step.kubectl.is_empty() {
            side.send(method, path, &step.token, &step.headers, body.clone()).await
        } else {
            side.kubectl(&step.kubectl, &step.input, &step.environment).await
        };
        let value = raw.value(step.watch);
        let there = step
            .until
            .iter()
            .all(|(pointer, wanted)| value.pointer(pointer).unwrap_or(&Value::Null) == wanted);
        if there && (step.until_code == 0 || step.until_code == raw.code) {
            return raw;
        }
        if begin.elapsed() > PATIENCE {
            return raw;
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}
