//! Answers in a form that can be compared: what differs from cluster to cluster by its nature (times,
//! versions, identifiers, addresses, tokens, generated names) is replaced by what it is.

use std::sync::OnceLock;

use regex::Regex;
use serde_json::{Map, Value, json};

use super::side::Raw;

/// What of an answer is compared.
pub fn of(raw: &Raw, watch: bool, managers: bool, ignored: &[String]) -> Value {
    let warnings =
        raw.headers.get_all("warning").iter().map(|w| String::from_utf8_lossy(w.as_bytes()).into_owned());
    // Those about fields on which nothing acts: a real cluster has none.
    let common = warnings.filter(|text| !text.contains("this cluster"));
    let warnings: Vec<Value> = common.map(|text| plain(&text).into()).collect();
    let media = raw.headers.get("content-type").map_or("", |m| m.to_str().unwrap());
    let media: String = media.split(';').next().unwrap().to_owned();
    let body = normal("", &raw.value(watch), managers);
    let mut answer = json!({"code": raw.code, "media": media, "warnings": warnings, "body": body});
    for pattern in ignored {
        let steps: Vec<&str> = pattern.split('/').skip(1).collect();
        forget(&mut answer, &steps);
    }
    answer
}

fn normal(field: &str, value: &Value, managers: bool) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .filter(|(name, _)| managers || *name != "managedFields")
                .map(|(name, value)| (plain(name), normal(name, value, managers)))
                .collect::<Map<_, _>>(),
        ),
        Value::Array(all) => {
            let mut all: Vec<Value> = all.iter().map(|value| normal(field, value, managers)).collect();
            if matches!(field, "managedFields" | "causes" | "conditions") {
                all.sort_by_key(Value::to_string);
            }
            Value::Array(all)
        }
        Value::String(text) => match field {
            "resourceVersion" if !text.is_empty() => "<version>".into(),
            "continue" if !text.is_empty() => "<token>".into(),
            _ => plain(text).into(),
        },
        Value::Number(_) if field == "nodePort" => "<port>".into(),
        other => other.clone(),
    }
}

/// A text without what is random in it.
fn plain(text: &str) -> String {
    static ALL: OnceLock<Vec<(Regex, &str)>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        [
            (r"(?s)-----BEGIN CERTIFICATE-----.*-----END CERTIFICATE-----\n", "<certificate>"),
            (r"\beyJ[\w-]+\.eyJ[\w-]+\.[\w-]+", "<token>"),
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "<time>"),
            (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uid>"),
            (r"\b\d{1,3}(\.\d{1,3}){3}(/\d+)?\b", "<ip>"),
            (r"-[bcdfghjklmnpqrstvwxz2456789]{5,10}-[bcdfghjklmnpqrstvwxz2456789]{5}\b", "-<hash>-<random>"),
            (r"-[bcdfghjklmnpqrstvwxz2456789]{8,10}\b", "-<hash>"),
            (r"([-_])[bcdfghjklmnpqrstvwxz2456789]{5}\b", "$1<random>"),
            (r"^[bcdfghjklmnpqrstvwxz2456789]{8,10}$", "<hash>"),
            (r"(resource version: )\d+( \(\d+\))?", "$1<version>"),
            (r"(ResourceVersion in \w+( meta)?: )\d+", "$1<version>"),
            (r"(ResourceVersion in (the precondition|record) \()\d+", "$1<version>"),
            (r"(containerd|docker)://[0-9a-f]{64}|d2k://[0-9a-z-]+", "<container>"),
            (r"\bd2k(-node)?\b", "<node>"),
            (r"^\d+(ms|s|m|h|d)(\d+(s|m))?( ago)?$", "<age>"),
            (r" {2,}", "  "),
        ]
        .map(|(pattern, word)| (Regex::new(pattern).unwrap(), word))
        .into()
    });
    let mut text = text.to_owned();
    for (pattern, word) in all {
        text = pattern.replace_all(&text, *word).into_owned();
    }
    text
}

/// Removes what a path leads to; `*` is every step.
fn forget(value: &mut Value, steps: &[&str]) {
    let Some((step, rest)) = steps.split_first() else { return };
    let step = step.replace("~1", "/");
    match value {
        Value::Object(map) if rest.is_empty() => {
            map.retain(|name, _| step != "*" && *name != step);
        }
        Value::Object(map) => {
            map.iter_mut()
                .filter(|(name, _)| step == "*" || **name == step)
                .for_each(|(_, below)| forget(below, rest));
        }
        Value::Array(all) => {
            let chosen = |at: usize| step == "*" || step.parse() == Ok(at);
            if rest.is_empty() {
                let mut at = 0;
                all.retain(|_| {
                    at += 1;
                    !chosen(at - 1)
                });
                return;
            }
            all.iter_mut()
                .enumerate()
                .filter(|(at, _)| chosen(*at))
                .for_each(|(_, below)| forget(below, rest));
        }
        _ => {}
    }
}
