//! The last decisions of a running daemon, so that they can become fixtures: questions and answers
//! as fixtures write them, without the values of environment variables.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value, json};

use super::component::{Hook, Policy};

/// How many decisions are kept.
const KEPT: usize = 256;

/// Made JSON only when somebody asks.
type Later = Box<dyn Fn() -> Value + Send>;

struct Decision {
    hook: Hook,
    by: String,
    settings: Vec<(String, String)>,
    question: Later,
    answer: Later,
}

static LAST: Mutex<VecDeque<Decision>> = Mutex::new(VecDeque::new());

/// Notes a decision.
pub(super) fn note<Q, A>(hook: Hook, policy: &Policy, question: &Q, answer: &A)
where
    Q: serde::Serialize + Clone + Send + 'static,
    A: serde::Serialize + Clone + Send + 'static,
{
    let (question, answer) = (question.clone(), answer.clone());
    let decision = Decision {
        hook,
        by: policy.id(),
        settings: policy.settings.clone(),
        question: Box::new(move || serde_json::to_value(&question).unwrap_or_default()),
        answer: Box::new(move || serde_json::to_value(&answer).unwrap_or_default()),
    };
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if last.len() == KEPT {
        last.pop_front();
    }
    last.push_back(decision);
}

/// The last decisions as fixtures, the oldest first.
pub fn last(count: usize) -> Vec<Value> {
    let last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    last.iter().skip(last.len().saturating_sub(count)).map(fixture).collect()
}

fn fixture(decision: &Decision) -> Value {
    let mut fixture = Map::new();
    fixture.insert("about".into(), json!(format!("recorded from {}", decision.by)));
    fixture.insert("hook".into(), json!(decision.hook));
    if !decision.settings.is_empty() {
        fixture.insert("settings".into(), nested(&decision.settings));
    }
    fixture.insert("input".into(), plain((decision.question)()));
    fixture.insert("expect".into(), plain((decision.answer)()));
    Value::Object(fixture)
}

/// Settings are written flat: their dots are as good as nesting for what reads them.
fn nested(settings: &[(String, String)]) -> Value {
    settings.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<Map<_, _>>().into()
}

/// As a person would write it: names with dashes, pairs as names and values, nothing empty, and of
/// environment variables the names alone.
fn plain(value: Value) -> Value {
    let value = match value {
        Value::Object(map) => map
            .into_iter()
            .map(|(name, value)| match name.as_str() {
                "env" => (name, masked(value)),
                _ => (dashed(&name), plain(value)),
            })
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) if !items.is_empty() && items.iter().all(is_pair) => items
            .into_iter()
            .filter_map(|item| match item {
                Value::Array(pair) => {
                    let mut pair = pair.into_iter();
                    Some((pair.next()?.as_str()?.to_owned(), pair.next()?))
                }
                _ => None,
            })
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.into_iter().map(plain).collect(),
        other => other,
    };
    super::value::without_empty(value)
}

/// Cases of variants come as `LoadBalancer`, fields as `docker_name`.
fn dashed(name: &str) -> String {
    name.replace('_', "-")
}

fn is_pair(item: &Value) -> bool {
    item.as_array().is_some_and(|pair| pair.len() == 2 && pair.iter().all(Value::is_string))
}

fn masked(env: Value) -> Value {
    let mask = |line: &Value| match line.as_str().and_then(|line| line.split_once('=')) {
        Some((name, _)) => json!(format!("{name}=***")),
        None => line.clone(),
    };
    env.as_array().map(|lines| lines.iter().map(mask).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_question_is_as_a_person_would_write_it() {
        let question = json!({
            "docker_name": "web", "labels": [["tier", "web"]], "env": ["PASSWORD=secret", "PLAIN"], "extra": [],
            "restart": {"OnFailure": 3}, "kind": "Container",
        });
        let want = json!({
            "docker-name": "web", "labels": {"tier": "web"}, "env": ["PASSWORD=***", "PLAIN"],
            "restart": {"OnFailure": 3}, "kind": "Container",
        });
        assert_eq!(plain(question), want);
    }
}
