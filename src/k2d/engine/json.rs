//! Reads the engine's JSON: what is not there is empty.

use std::time::SystemTime;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

/// A value by its path, `null` if it is not there.
pub fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().try_fold(value, |value, step| value.get(step)).unwrap_or(&Value::Null)
}

/// A string by its path, empty if it is not there.
pub fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    at(value, path).as_str().unwrap_or_default()
}

/// A number by its path.
pub fn number(value: &Value, path: &[&str]) -> Option<i64> {
    at(value, path).as_i64()
}

/// A number by its path that is not negative, 0 if it is not there.
pub fn count(value: &Value, path: &[&str]) -> u64 {
    at(value, path).as_u64().unwrap_or(0)
}

/// Whether a flag is set.
pub fn flag(value: &Value, path: &[&str]) -> bool {
    at(value, path).as_bool().unwrap_or(false)
}

/// The strings of a list by its path.
pub fn texts(value: &Value, path: &[&str]) -> Vec<String> {
    let list = at(value, path).as_array().map_or(&[][..], Vec::as_slice);
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The values of a list.
pub fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// The IDs of a list of containers.
pub fn ids(list: &Value) -> Vec<String> {
    items(list).map(|one| text(one, &["Id"]).to_owned()).collect()
}

/// A time; none for the year 1, which stands for none.
pub fn time(text: &str) -> Option<SystemTime> {
    let time: jiff::Timestamp = text.parse().ok()?;
    (time > jiff::Timestamp::UNIX_EPOCH).then(|| time.into())
}

/// Text as a part of a URL.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
