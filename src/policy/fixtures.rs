//! Fixtures: recorded questions with the answers that are expected, one a YAML document. A policy
//! whose own fixtures fail never takes effect.

use serde::Deserialize as _;
use serde_json::Value;

use super::ask::{self, Asked, Reply, ask};
use super::component::{Hook, Linked};
use super::limits::Limits;
use super::settings::{self, flatten};

/// One case.
#[derive(Debug, Clone)]
pub struct Fixture {
    /// The file, and the number of the document if there are several.
    pub name: String,
    /// The hook to ask.
    pub hook: Hook,
    /// The settings, as the guest gets them.
    pub settings: Vec<(String, String)>,
    /// The question.
    pub input: Value,
    /// What is expected: a plan, `none`, or `refusal` with a part of its words.
    pub expect: Value,
    /// The plan must have nothing besides.
    pub exact: bool,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    hook: String,
    #[serde(default)]
    settings: serde_yaml_ng::Value,
    #[serde(default)]
    input: Value,
    #[serde(default)]
    expect: Value,
    #[serde(default)]
    exact: bool,
    /// For people.
    #[serde(default)]
    #[allow(dead_code)]
    about: String,
}

/// Why fixtures cannot be read; `name` is the file, and the number of the document if there are several.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ParseError {
    /// The document is no YAML, or has fields that no fixture has.
    #[error("{name}: {source}")]
    Document { name: String, source: serde_yaml_ng::Error },
    /// d2k has no such hook.
    #[error("{name}: hook: there is no hook {hook:?}")]
    Hook { name: String, hook: String },
    /// A fixture that expects nothing tests nothing.
    #[error("{name}: expect: missing; a plan, none, or refusal")]
    Expect { name: String },
    /// Its settings cannot be written as names and texts.
    #[error("{name}: settings.{source}")]
    Settings { name: String, source: settings::Error },
}

/// Why a fixture does not hold.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum RunError {
    /// There is no reply.
    #[error("{name}: {source}")]
    Ask { name: String, source: ask::Error },
    /// The reply is not what is expected.
    #[error("{name}: {difference}")]
    Reply { name: String, difference: String },
}

/// Reads the questions of a file; what is expected of them does not count.
///
/// # Errors
/// What is wrong with the file, with its name.
pub fn questions(file: &str, text: &str) -> Result<Vec<Fixture>, ParseError> {
    read(file, text, false)
}

/// Reads the fixtures of a file.
///
/// # Errors
/// What is wrong with the file, with its name.
pub fn parse(file: &str, text: &str) -> Result<Vec<Fixture>, ParseError> {
    read(file, text, true)
}

fn read(file: &str, text: &str, expecting: bool) -> Result<Vec<Fixture>, ParseError> {
    let mut fixtures = Vec::new();
    for (at, document) in serde_yaml_ng::Deserializer::from_str(text).enumerate() {
        let name = if at == 0 { file.to_owned() } else { format!("{file}#{}", at + 1) };
        let document = match Document::deserialize(document) {
            Ok(document) => document,
            Err(source) => return Err(ParseError::Document { name, source }),
        };
        let Document { hook, settings: written, input, expect, exact, .. } = document;
        let Some(hook) = Hook::named(&hook) else { return Err(ParseError::Hook { name, hook }) };
        if expecting && expect.is_null() {
            return Err(ParseError::Expect { name });
        }
        let mut settings = Vec::new();
        if let Err(source) = flatten("", &written, &mut settings) {
            return Err(ParseError::Settings { name, source });
        }
        settings.sort();
        let input = if input.is_null() { serde_json::json!({}) } else { input };
        fixtures.push(Fixture { name, hook, settings, input, expect, exact });
    }
    Ok(fixtures)
}

/// Asks the policy, and compares.
///
/// # Errors
/// What differs, in one line, or why the call failed.
pub fn run(linked: &Linked, limits: Limits, fixture: &Fixture) -> Result<Asked, RunError> {
    let name = || fixture.name.clone();
    let asked = ask(linked, fixture.hook, &fixture.input, &fixture.settings, limits)
        .map_err(|source| RunError::Ask { name: name(), source })?;
    match difference(&fixture.expect, &asked.reply, fixture.exact) {
        None => Ok(asked),
        Some(difference) => Err(RunError::Reply { name: name(), difference }),
    }
}

fn difference(expect: &Value, reply: &Reply, exact: bool) -> Option<String> {
    let refusal = expect.as_object().and_then(|map| map.get("refusal"));
    match (refusal, reply) {
        (Some(Value::String(words)), Reply::Refusal(got)) => {
            let message = got.get("message").and_then(Value::as_str).unwrap_or_default();
            (!message.contains(words.as_str()))
                .then(|| format!("expected a refusal with {words:?}, it said {message:?}"))
        }
        (Some(want), Reply::Refusal(got)) => unlike(want, got, exact, "refusal"),
        (None, Reply::Plan(plan)) if !is_none(expect) => unlike(expect, plan, exact, "plan"),
        (None, Reply::None) if is_none(expect) => None,
        _ => Some(format!("expected {expect}, it answered {}", reply.json())),
    }
}

fn is_none(expect: &Value) -> bool {
    expect.is_null() || expect.as_str() == Some("none")
}

/// The first place where `got` is not as `want` has it.
fn unlike(want: &Value, got: &Value, exact: bool, path: &str) -> Option<String> {
    let differ = || Some(format!("{path}: expected {want}, got {got}"));
    match (want, got) {
        (Value::Object(want_map), Value::Object(got_map)) => {
            if exact && want_map.len() != got_map.len() {
                return differ();
            }
            want_map.iter().find_map(|(key, want)| {
                let got = got_map.iter().find(|(name, _)| *name == key || name.replace('-', "_") == *key);
                unlike(want, got.map_or(&Value::Null, |(_, got)| got), exact, &format!("{path}.{key}"))
            })
        }
        (Value::Array(want_items), Value::Array(got_items)) => {
            if want_items.len() != got_items.len() {
                return differ();
            }
            want_items
                .iter()
                .zip(got_items)
                .enumerate()
                .find_map(|(at, (want, got))| unlike(want, got, exact, &format!("{path}[{at}]")))
        }
        (Value::Array(items), Value::Object(map)) if items.is_empty() && map.is_empty() => None,
        (Value::Object(map), Value::Array(items)) if items.is_empty() && map.is_empty() => None,
        _ if want == got => None,
        _ => differ(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_plan_may_have_more_than_is_expected_unless_it_is_exact() {
        let plan = Reply::Plan(json!({"size": "1Gi", "labels": {}}));
        assert_eq!(difference(&json!({"size": "1Gi"}), &plan, false), None);
        assert!(difference(&json!({"size": "1Gi"}), &plan, true).is_some());
        let words = difference(&json!({"size": "2Gi"}), &plan, false).unwrap();
        assert_eq!(words, "plan.size: expected \"2Gi\", got \"1Gi\"");
    }

    #[test]
    fn a_refusal_is_known_by_a_part_of_its_words() {
        let refusal = Reply::Refusal(json!({"message": "too large: 9Gi", "kind": "forbidden"}));
        assert_eq!(difference(&json!({"refusal": "too large"}), &refusal, false), None);
        assert!(difference(&json!({"refusal": "too small"}), &refusal, false).is_some());
        assert!(difference(&json!("none"), &refusal, false).is_some());
        assert_eq!(difference(&json!("none"), &Reply::None, false), None);
    }
}
