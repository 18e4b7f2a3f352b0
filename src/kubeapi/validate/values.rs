//! Checks of single values, which those of Pods, containers and workloads share.

use serde_json::Value;

use crate::meta;
use crate::status::Cause;

/// A value out of a list.
pub fn choice(value: &Value, path: String, known: &[&str], causes: &mut Vec<Cause>) {
    match value.as_str() {
        None | Some("") => causes.push(Cause::required(path, "")),
        Some(text) if known.contains(&text) => {}
        Some(_) => causes.push(Cause::unsupported(path, value, known)),
    }
}

/// A cause with a value as Go shows it: the fields in the order of their type.
pub fn showing(cause: Cause, shown: &str) -> Cause {
    let message = cause.message.replacen("null", shown, 1);
    Cause { message, ..cause }
}

/// A number that may not be negative.
pub fn natural(object: &Value, field: &str, path: &str, causes: &mut Vec<Cause>) {
    if let Some(number) = meta::number(object, &[field]).filter(|number| *number < 0) {
        let words = "must be greater than or equal to 0";
        causes.push(Cause::invalid(format!("{path}.{field}"), &number.into(), words));
    }
}
