//! The last decisions of a running daemon, so that they can become fixtures: questions and answers
//! as fixtures write them. What may be a secret never leaves in them: values of environment
//! variables, arguments of commands, and labels whose value is not a plain word.

use std::collections::VecDeque;

use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::component::{Hook, Policy};

/// How many decisions are kept.
const KEPT: usize = 256;
/// Bytes of all of them.
const KEPT_BYTES: usize = 4 << 20;
/// Bytes of one; a larger one is kept with its parts cut.
const DECISION_BYTES: usize = 64 << 10;
/// Bytes of a text, and entries of a list, that a decision is cut to.
const CUT_TEXT: usize = 256;
const CUT_LIST: usize = 64;

/// The text that replaces a masked value.
const MASK: &str = "***";
/// Fields that hold arguments.
const ARGUMENTS: [&str; 2] = ["command", "entrypoint"];
/// Fields that hold labels, options and the like, by name.
const PAIRS: [&str; 3] = ["labels", "annotations", "attributes"];
/// Characters of a value that is a word.
const LONGEST_WORD: usize = 128;
/// Words in the name of a label that say that its value is a secret.
const SECRET: [&str; 8] =
    ["password", "passwd", "secret", "token", "credential", "apikey", "api-key", "auth"];
/// Actions of events that end with the command of an exec.
const WITH_COMMAND: [&str; 2] = ["exec_create: ", "exec_start: "];

struct Decision {
    hook: Hook,
    by: String,
    settings: Vec<(String, String)>,
    /// JSON, as the host writes it.
    question: String,
    answer: String,
    bytes: usize,
    cut: bool,
}

#[derive(Default)]
struct Last {
    decisions: VecDeque<Decision>,
    bytes: usize,
}

static LAST: Mutex<Last> = Mutex::new(Last { decisions: VecDeque::new(), bytes: 0 });

/// Notes a decision.
pub(super) fn note(
    hook: Hook,
    policy: &Policy,
    question: &impl serde::Serialize,
    answer: &impl serde::Serialize,
) {
    let decision = Decision::new(hook, policy.id(), &policy.settings, question, answer);
    LAST.lock().push(decision);
}

/// The last decisions as fixtures, the oldest first, with what may be a secret masked.
pub fn last(count: usize) -> Vec<Value> {
    let last = LAST.lock();
    let decisions = &last.decisions;
    decisions.iter().skip(decisions.len().saturating_sub(count)).map(fixture).collect()
}

impl Last {
    fn push(&mut self, decision: Decision) {
        self.bytes += decision.bytes;
        self.decisions.push_back(decision);
        while self.decisions.len() > KEPT || self.bytes > KEPT_BYTES {
            let Some(oldest) = self.decisions.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(oldest.bytes);
        }
    }
}

impl Decision {
    fn new(
        hook: Hook,
        by: String,
        settings: &[(String, String)],
        question: &impl serde::Serialize,
        answer: &impl serde::Serialize,
    ) -> Self {
        let text = |value: &Value| value.to_string();
        let question = serde_json::to_string(question).unwrap_or_default();
        let answer = serde_json::to_string(answer).unwrap_or_default();
        let bytes_of =
            |settings: &[(String, String)]| settings.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
        let bytes = question.len() + answer.len() + bytes_of(settings);
        let whole = Self { hook, by, settings: settings.to_vec(), question, answer, bytes, cut: false };
        if bytes <= DECISION_BYTES {
            return whole;
        }
        let cut = |json: &str| cut(serde_json::from_str(json).unwrap_or_default());
        let (mut question, mut answer) = (text(&cut(&whole.question)), text(&cut(&whole.answer)));
        let mut settings: Vec<_> = settings.iter().take(CUT_LIST).cloned().collect();
        settings.iter_mut().for_each(|(_, value)| *value = shortened(value));
        if question.len() + answer.len() + bytes_of(&settings) > DECISION_BYTES {
            (question, answer, settings) = ("{}".into(), "{}".into(), Vec::new());
        }
        let bytes = question.len() + answer.len() + bytes_of(&settings);
        Self { settings, question, answer, bytes, cut: true, ..whole }
    }
}

/// A value with its long texts and lists cut.
fn cut(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(shortened(&text)),
        Value::Array(items) => items.into_iter().take(CUT_LIST).map(cut).collect(),
        Value::Object(map) => {
            map.into_iter().map(|(name, value)| (name, cut(value))).collect::<Map<_, _>>().into()
        }
        other => other,
    }
}

fn shortened(text: &str) -> String {
    text.char_indices().take_while(|(at, _)| *at < CUT_TEXT).map(|(_, c)| c).collect()
}

fn fixture(decision: &Decision) -> Value {
    let mut fixture = Map::new();
    let cut = if decision.cut { ", cut: it has more than 64 KiB" } else { "" };
    fixture.insert("about".into(), json!(format!("recorded from {}{cut}", decision.by)));
    fixture.insert("hook".into(), json!(decision.hook));
    if !decision.settings.is_empty() {
        fixture.insert("settings".into(), nested(&decision.settings));
    }
    let read = |text: &str| serde_json::from_str(text).unwrap_or_default();
    fixture.insert("input".into(), plain(read(&decision.question)));
    fixture.insert("expect".into(), with_cases(plain(read(&decision.answer))));
    Value::Object(fixture)
}

/// Settings are written flat: their dots are as good as nesting for what reads them.
fn nested(settings: &[(String, String)]) -> Value {
    settings.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<Map<_, _>>().into()
}

/// As a person would write it: names with dashes, pairs as names and values, nothing empty, and
/// nothing that may be a secret.
fn plain(value: Value) -> Value {
    let value = match value {
        Value::Object(map) => map
            .into_iter()
            .map(|(name, value)| match name.as_str() {
                "env" => (name, masked_values(value)),
                field if ARGUMENTS.contains(&field) => (name, masked(value)),
                field if PAIRS.contains(&field) => (name, pairs(value)),
                "action" => (name, masked_action(value)),
                _ => (dashed(&name), plain(value)),
            })
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) if !items.is_empty() && items.iter().all(is_pair) => pairs(items.into()),
        Value::Array(items) => items.into_iter().map(plain).collect(),
        other => other,
    };
    super::value::without_empty(value)
}

/// Fields of a plan whose value is a case of a variant.
const CASES: [&str; 2] = ["helper", "kind"];

/// A plan is compared word by word, and a policy writes `load-balancer` where the host's type has
/// `LoadBalancer`.
fn with_cases(plan: Value) -> Value {
    let case = |name: &str| match name.starts_with(|c: char| c.is_ascii_uppercase()) {
        true => kebab(name),
        false => name.to_owned(),
    };
    match plan {
        Value::Object(map) => map
            .into_iter()
            .map(|(name, value)| match value {
                Value::String(text) if CASES.contains(&name.as_str()) => (name, json!(case(&text))),
                Value::Object(other) if CASES.contains(&name.as_str()) => {
                    let other: Map<_, _> =
                        other.into_iter().map(|(name, more)| (case(&name), more)).collect();
                    (name, other.into())
                }
                value => (name, with_cases(value)),
            })
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.into_iter().map(with_cases).collect(),
        other => other,
    }
}

fn kebab(name: &str) -> String {
    let mut words = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !words.is_empty() {
            words.push('-');
        }
        words.push(c.to_ascii_lowercase());
    }
    words
}

/// Cases of variants come as `LoadBalancer`, fields as `docker_name`.
fn dashed(name: &str) -> String {
    name.replace('_', "-")
}

fn is_pair(item: &Value) -> bool {
    item.as_array().is_some_and(|pair| pair.len() == 2 && pair.iter().all(Value::is_string))
}

/// Names and values. Policies decide by the values of labels, so that those are left which are
/// plain words and whose name does not say that they are secret.
fn pairs(value: Value) -> Value {
    let pair = |item: &Value| {
        let (name, value) = (item.get(0)?.as_str()?, item.get(1)?.as_str()?);
        let shown = if is_secret(name, value) { MASK } else { value };
        Some((name.to_owned(), json!(shown)))
    };
    value.as_array().into_iter().flatten().filter_map(pair).collect::<Map<_, _>>().into()
}

fn is_secret(name: &str, value: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // The value of a Kubernetes label is a word, and so is an image, a host name, a size or a path.
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':' | ',');
    let word = value.len() <= LONGEST_WORD && value.chars().all(part) && !value.contains("://");
    // The command of an exec is an attribute of its event.
    !word || name == "command" || SECRET.iter().any(|secret| name.contains(secret))
}

/// The command of an exec is a part of the action of its event.
fn masked_action(value: Value) -> Value {
    let action = value.as_str().unwrap_or_default();
    match WITH_COMMAND.iter().find(|begin| action.starts_with(*begin)) {
        Some(begin) => json!(format!("{begin}{MASK}")),
        None => value,
    }
}

/// Of environment variables the names.
fn masked_values(env: Value) -> Value {
    let mask = |line: &Value| match line.as_str().and_then(|line| line.split_once('=')) {
        Some((name, _)) => json!(format!("{name}={MASK}")),
        None => line.clone(),
    };
    env.as_array().map(|lines| lines.iter().map(mask).collect()).unwrap_or_default()
}

/// Of arguments how many there are.
fn masked(arguments: Value) -> Value {
    arguments.as_array().map(|all| all.iter().map(|_| json!(MASK)).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_question_is_as_a_person_would_write_it() {
        let question = json!({
            "docker_name": "web", "labels": [["tier", "web"]], "extra": [["privileged", "true"]],
            "restart": {"OnFailure": 3}, "kind": "Container", "image": "nginx:1", "user": "",
        });
        let want = json!({
            "docker-name": "web", "labels": {"tier": "web"}, "extra": {"privileged": "true"},
            "restart": {"OnFailure": 3}, "kind": "Container", "image": "nginx:1",
        });
        assert_eq!(plain(question), want);
    }

    #[test]
    fn nothing_that_may_be_a_secret_is_in_it() {
        let question = json!({"container": {
            "env": ["PASSWORD=hunter2", "PLAIN", "A=hunter2=b"],
            "command": ["sh", "-c", "curl -H hunter2", "--token=hunter2", "TOKEN=hunter2"],
            "entrypoint": ["/hunter2"],
            "labels": [["auth.users", "hunter2"], ["dsn", "postgres://u:hunter2@db"], ["host", "web.example.com"],
                ["my.Password", "hunter2"], ["note", "it is hunter2"], ["tier", "web"]],
        }});
        let asked = plain(question);
        assert!(!asked.to_string().contains("hunter2"), "{asked}");
        let container = &asked["container"];
        assert_eq!(container["env"], json!(["PASSWORD=***", "PLAIN", "A=***"]));
        assert_eq!(container["command"], json!(["***", "***", "***", "***", "***"]));
        assert_eq!(container["labels"]["tier"], "web");
        assert_eq!(container["labels"]["host"], "web.example.com");
        let told = json!({"attributes": [["command", "hunter2"], ["name", "web"]], "events": [
            {"kind": "container", "action": "exec_create: sh -c hunter2", "attributes": [["name", "web"]]},
            {"kind": "container", "action": "health_status: healthy"},
        ]});
        let told = plain(told);
        assert!(!told.to_string().contains("hunter2"), "{told}");
        assert_eq!(told["events"][0]["action"], "exec_create: ***");
        assert_eq!(told["events"][1]["action"], "health_status: healthy");
        assert_eq!(told["attributes"], json!({"command": "***", "name": "web"}));
    }

    #[test]
    fn a_recorded_plan_has_the_words_of_the_policy() {
        let plan = json!({"service": {"kind": "LoadBalancer"}, "kind": "Job", "access-mode": "ReadWriteOnce",
            "events": [{"kind": "container"}], "helper": {"Other": "X"}});
        let want = json!({"service": {"kind": "load-balancer"}, "kind": "job", "access-mode": "ReadWriteOnce",
            "events": [{"kind": "container"}], "helper": {"other": "X"}});
        assert_eq!(with_cases(plan), want);
    }

    #[test]
    fn what_is_kept_has_a_bound_in_bytes() {
        let mut last = Last::default();
        let decision = |env: usize, length: usize| {
            let question = json!({"name": "web", "env": vec!["x".repeat(length); env]});
            Decision::new(Hook::Workload, "a@1".into(), &[], &question, &json!({"kind": "Job"}))
        };
        for _ in 0..200 {
            last.push(decision(60, 1000));
        }
        assert!(last.bytes <= KEPT_BYTES, "{}", last.bytes);
        assert_eq!(last.bytes, last.decisions.iter().map(|d| d.bytes).sum::<usize>());
        assert!(last.decisions.len() > 60, "{}", last.decisions.len());
        for _ in 0..2 * KEPT {
            last.push(decision(1, 1));
        }
        assert_eq!(last.decisions.len(), KEPT);
    }

    #[test]
    fn a_decision_that_is_too_large_is_cut_and_says_so() {
        let question = json!({"docker_name": "web", "env": vec!["x".repeat(1000); 1000]});
        let decision = Decision::new(Hook::Naming, "a@1".into(), &[], &question, &json!({"name": "web"}));
        assert!(decision.bytes <= DECISION_BYTES, "{}", decision.bytes);
        let fixture = fixture(&decision);
        assert!(fixture["about"].as_str().unwrap().contains("cut"), "{fixture}");
        assert_eq!(fixture["input"]["docker-name"], "web");
        assert_eq!(fixture["expect"]["name"], "web");
        assert_eq!(fixture["input"]["env"].as_array().unwrap().len(), CUT_LIST);
    }
}
