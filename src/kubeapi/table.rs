//! Tables for people: the columns that `kubectl get` shows of each kind.

mod columns;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::kinds::Kind;
use super::meta;
use super::packed;

/// A column.
struct Column {
    name: &'static str,
    /// The type of its cells, as OpenAPI names it.
    kind: &'static str,
    /// Whether only `-o wide` shows it.
    wide: bool,
}

/// What a row of a table has of its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum Include {
    None,
    #[default]
    Metadata,
    Object,
}

/// A table of objects.
pub fn of(kind: &Kind, objects: &[&Value], version: &str, headed: bool, include: Include) -> Value {
    let columns = columns::of(kind);
    let definitions: Vec<Value> = columns
        .iter()
        .map(|column| {
            let format = if column.name == "Name" { "name" } else { "" };
            json!({
                "name": column.name, "type": column.kind, "format": format, "description": "",
                "priority": i32::from(column.wide),
            })
        })
        .collect();
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let part = match include {
                Include::None => Value::Null,
                Include::Object => packed::unpacked(object),
                Include::Metadata => packed::metadata_only(object),
            };
            json!({"cells": columns::cells(kind, object), "object": part})
        })
        .collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": version},
        "columnDefinitions": headed.then_some(definitions), "rows": rows,
    })
}

/// How long ago a time was, as `kubectl` writes it: `5s`, `3m20s`, `4h`, `12d`.
pub(crate) fn age(time: &str) -> String {
    let Ok(then) = time.parse::<Timestamp>() else { return "<unknown>".into() };
    duration((Timestamp::now().as_second() - then.as_second()).max(0))
}

/// A span in the same words.
pub(crate) fn duration(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => with(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => with(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => with(days, "d", hours % 24, "h"),
        () if days < 730 => format!("{days}d"),
        () => with(days / 365, "y", days % 365, "d"),
    }
}

fn with(large: i64, unit: &str, small: i64, less: &str) -> String {
    if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{less}") }
}

/// Seconds between two times; until now if the second is empty.
pub(crate) fn between(from: &str, to: &str) -> Option<i64> {
    let from: Timestamp = from.parse().ok()?;
    let to = if to.is_empty() { Timestamp::now() } else { to.parse().ok()? };
    Some(to.as_second() - from.as_second())
}

/// A label selector in one line.
pub(crate) fn labels(value: &Value) -> String {
    let all: Vec<String> = value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    if all.is_empty() { "<none>".into() } else { all.join(",") }
}

/// The fields of the containers of a Pod's `spec`, comma-separated.
pub(crate) fn containers(spec: &Value, field: &str) -> String {
    let all: Vec<&str> =
        meta::items(spec, &["containers"]).iter().map(|c| meta::string(c, &[field])).collect();
    all.join(",")
}
