//! The `filters` of lists, prunes and events: both JSON forms that clients send, and Docker's
//! ways to compare. Every helper passes when its key is not given.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use jiff::{SignedDuration, Timestamp};
use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::body::values_at_most;
use super::limits::JSON_VALUES_MAX;
use super::moment::moment;
use d2k_common::fault::{Fault, Result};

/// All patterns of a request may grow to this size together when compiled, and one to an eighth of it; larger ones
/// match nothing but themselves.
const PATTERN_BYTES_MAX: usize = 8 << 20;

/// What a client filters by.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    fields: BTreeMap<String, Vec<String>>,
    names: OnceLock<Vec<(String, Option<Regex>)>>,
}

impl Filters {
    /// Reads `{"key":["value"]}` or `{"key":{"value":true}}`; an empty text filters nothing.
    ///
    /// # Errors
    /// 400 `invalid filter` for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        if values_at_most(text.as_bytes()) > JSON_VALUES_MAX {
            return Err(Fault::invalid(format!("invalid filter: more than {JSON_VALUES_MAX} values")));
        }
        let parsed: Option<HashMap<String, Value>> =
            serde_json::from_str(text).map_err(|e| Fault::invalid(format!("invalid filter: {e}")))?;
        let mut fields = BTreeMap::new();
        for (key, value) in parsed.unwrap_or_default() {
            let values =
                values(&value).ok_or_else(|| Fault::invalid(format!("invalid filter '{key}={value}'")))?;
            fields.insert(key, values);
        }
        Ok(Self { fields, names: OnceLock::new() })
    }

    /// Refuses keys that are not in the list.
    ///
    /// # Errors
    /// 400 `invalid filter 'foo'`.
    pub fn check(&self, known: &[&str]) -> Result<()> {
        match self.fields.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(Fault::invalid(format!("invalid filter '{key}'"))),
            None => Ok(()),
        }
    }

    /// The values of a key.
    pub fn get(&self, key: &str) -> &[String] {
        self.fields.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether a key is given with a value.
    pub fn has(&self, key: &str) -> bool {
        !self.get(key).is_empty()
    }

    /// Whether nothing is filtered.
    pub fn is_empty(&self) -> bool {
        self.fields.values().all(Vec::is_empty)
    }

    /// Passes when one of the key's values suits.
    pub fn any(&self, key: &str, suits: impl FnMut(&str) -> bool) -> bool {
        let values = self.get(key);
        values.is_empty() || values.iter().map(String::as_str).any(suits)
    }

    /// Passes when one of the key's values is exactly `value`.
    pub fn exact(&self, key: &str, value: &str) -> bool {
        self.any(key, |wanted| wanted == value)
    }

    /// Passes when one of the key's values begins `value`: for IDs.
    pub fn prefix(&self, key: &str, value: &str) -> bool {
        self.any(key, |wanted| value.starts_with(wanted))
    }

    /// `label` and `label!`: each wanted label is there (`k`, or `k=v`), and not all unwanted ones.
    pub fn labels<'a, M>(&self, labels: M) -> bool
    where
        M: Fn(&str) -> Option<&'a str>,
    {
        let there = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => labels(key) == Some(value),
            None => labels(wanted).is_some(),
        };
        let unwanted = self.get("label!");
        self.get("label").iter().all(there) && (unwanted.is_empty() || !unwanted.iter().all(there))
    }

    /// `name`: a pattern found anywhere in the name, with or without its leading slash.
    pub fn name(&self, name: &str) -> bool {
        let patterns = self.names.get_or_init(|| {
            let texts = self.get("name");
            texts.iter().map(|text| (text.clone(), compile(text, texts.len()))).collect()
        });
        let bare = name.strip_prefix('/').unwrap_or(name);
        let slashed = format!("/{bare}");
        patterns.is_empty()
            || patterns.iter().any(|(text, pattern)| {
                text == bare
                    || *text == slashed
                    || pattern.as_ref().is_some_and(|p| p.is_match(bare) || p.is_match(&slashed))
            })
    }

    /// A boolean: `true`, `1`, `false` or `0`; `None` if not given.
    ///
    /// # Errors
    /// 400 for other values, and for both at once.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        let values = self.get(key);
        let read = |value: &String| match value.as_str() {
            "1" | "true" => Some(true),
            "0" | "false" => Some(false),
            _ => None,
        };
        let Some(first) = values.first() else {
            return Ok(None);
        };
        let wanted = read(first).filter(|wanted| values.iter().all(|v| read(v) == Some(*wanted)));
        wanted
            .map(Some)
            .ok_or_else(|| Fault::invalid(format!("invalid filter '{key}=[{}]'", values.join(" "))))
    }

    /// A time, or a duration before `now` (`24h`, `1h30m`): what `until` of a prune means.
    ///
    /// # Errors
    /// 400 for more than one, and for anything else.
    pub fn until(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        self.time("until", now)
    }

    /// A time or a duration before `now`, of any key.
    ///
    /// # Errors
    /// 400 for more than one, and for anything else.
    pub fn time(&self, key: &str, now: Timestamp) -> Result<Option<Timestamp>> {
        let value = match self.get(key) {
            [] => return Ok(None),
            [one] => one,
            _ => {
                return Err(Fault::invalid(format!("more than one {key} filter specified")));
            }
        };
        let ago = || now.checked_sub(value.parse::<SignedDuration>().ok()?).ok();
        let wrong = || {
            Fault::invalid(format!("invalid filter '{key}={value}': neither a time nor a duration like 24h"))
        };
        moment(value).or_else(ago).ok_or_else(wrong).map(Some)
    }
}

/// The values of one key in either form; `None` for anything else.
fn values(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Null => Some(Vec::new()),
        Value::Array(list) => list.iter().map(|v| v.as_str().map(str::to_owned)).collect(),
        Value::Object(map) => {
            let mut set = Vec::new();
            for (key, on) in map {
                if on.as_bool()? {
                    set.push(key.clone());
                }
            }
            Some(set)
        }
        _ => None,
    }
}

/// Compiles one of `count` patterns.
fn compile(pattern: &str, count: usize) -> Option<Regex> {
    RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX / count.max(8)).build().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(text: &str) -> Filters {
        Filters::parse(text).unwrap()
    }

    #[test]
    fn both_forms_mean_the_same() {
        for text in [r#"{"id":["b","a"]}"#, r#"{"id":{"a":true,"b":true,"c":false}}"#] {
            let mut values = filters(text).get("id").to_vec();
            values.sort();
            assert_eq!(values, ["a", "b"]);
        }
        for text in ["", " ", "{}", "null", r#"{"id":[]}"#, r#"{"id":null}"#] {
            assert!(filters(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for text in
            ["{", "[]", "3", "\"a\"", r#"{"a":1}"#, r#"{"a":"b"}"#, r#"{"a":[1]}"#, r#"{"a":{"b":1}}"#]
        {
            let fault = Filters::parse(text).unwrap_err();
            assert!(fault.message.starts_with("invalid filter"), "{text}: {fault}");
        }
        let fault = filters(r#"{"foo":["a"],"id":["b"]}"#).check(&["id", "name"]).unwrap_err();
        assert_eq!(fault.message, "invalid filter 'foo'");
        assert_eq!(filters(r#"{"id":["b"]}"#).check(&["id"]), Ok(()));
    }

    #[test]
    fn names_are_patterns_and_ids_are_prefixes() {
        let name = |pattern: &str, name: &str| filters(&format!(r#"{{"name":["{pattern}"]}}"#)).name(name);
        assert!(name("eb", "/web") && name("^web$", "/web") && name("^/web$", "web") && name("w.b", "web"));
        assert!(!name("^eb", "/web") && !name("db", "/web"));
        assert!(name("a[", "a[") && !name("a[", "a"));
        assert!(filters("").name("any"));
        let ids = filters(r#"{"id":["ab","cd"]}"#);
        assert!(
            ids.prefix("id", "cdef")
                && !ids.prefix("id", "a")
                && ids.exact("id", "ab")
                && !ids.exact("id", "abc")
        );
    }

    #[test]
    fn labels_are_all_wanted() {
        let have = |key: &str| match key {
            "a" => Some("1"),
            "b" => Some("x=y"),
            _ => None,
        };
        let pass = |text: &str| filters(text).labels(have);
        assert!(pass(r#"{"label":["a","b=x=y"]}"#) && pass(r#"{"label":["a=1"]}"#) && pass(""));
        assert!(!pass(r#"{"label":["a=2"]}"#) && !pass(r#"{"label":["a","c"]}"#));
        assert!(
            !pass(r#"{"label!":["a"]}"#) && pass(r#"{"label!":["c"]}"#) && pass(r#"{"label!":["a","c"]}"#)
        );
    }

    #[test]
    fn booleans_are_four_words() {
        let read = |text: &str| filters(text).bool("dangling");
        assert_eq!(read(r#"{"dangling":{"true":true}}"#), Ok(Some(true)));
        assert_eq!(read(r#"{"dangling":["0"]}"#), Ok(Some(false)));
        assert_eq!(read(""), Ok(None));
        assert_eq!(read(r#"{"dangling":["yes"]}"#).unwrap_err().message, "invalid filter 'dangling=[yes]'");
        assert!(read(r#"{"dangling":["true","false"]}"#).is_err());
    }

    #[test]
    fn until_is_a_time_or_an_age() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let read = |value: &str| filters(&format!(r#"{{"until":["{value}"]}}"#)).until(now);
        assert_eq!(read("24h").unwrap().unwrap().to_string(), "2026-01-01T00:00:00Z");
        assert_eq!(read("1h30m").unwrap().unwrap().to_string(), "2026-01-01T22:30:00Z");
        assert_eq!(read("1700000000").unwrap().unwrap().as_second(), 1_700_000_000);
        assert_eq!(read("2025-12-31").unwrap().unwrap().to_string(), "2025-12-31T00:00:00Z");
        assert!(read("yesterday").is_err());
        assert_eq!(filters("").until(now), Ok(None));
        assert!(filters(r#"{"until":["1h","2h"]}"#).until(now).is_err());
    }
}
