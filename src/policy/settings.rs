//! The settings of policies as operators write them: a YAML file, one entry a policy by its name.
//! Values go to the policy as text, nested ones under their path (`rules.0.label`).

use std::collections::BTreeMap;
use std::time::Duration;

use serde_yaml_ng::{Mapping, Value};

use super::bindings::about::exports::d2k::policy::about::Setting;
use super::limits::Limits;
use d2k_translate::quantity;

/// What is written for one policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Names and values, in the order of the names.
    pub settings: Vec<(String, String)>,
    /// What its calls may use.
    pub limits: Limits,
    /// It is not asked.
    pub disabled: bool,
    /// Nothing is decided without it.
    pub required: bool,
}

/// What is written for all policies, by name.
pub type Settings = BTreeMap<String, Entry>;

/// The contents of a settings file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct File {
    /// By policy.
    pub policies: Settings,
    /// `required: true` beside the policies: nothing is decided without all that is in the folder.
    pub required: bool,
}

impl File {
    /// Whether nothing may be decided without some policy.
    pub fn requires_any(&self) -> bool {
        self.required || self.policies.values().any(|entry| entry.required)
    }
}

/// The first thing that is wrong with a settings file, or with values in it.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    /// It is no YAML, or no mapping.
    #[error(transparent)]
    Yaml(#[from] serde_yaml_ng::Error),
    /// A name is a list or a mapping.
    #[error("{below}: a name is not a text")]
    Name { below: String },
    /// A policy has something else than a mapping.
    #[error("{policy}: expected settings, limits, enabled and required below it")]
    Entry { policy: String },
    /// A policy has no such entry.
    #[error("{policy}.{key}: there are settings, limits (time, memory, reply), enabled and required")]
    Key { policy: String, key: String },
    /// `enabled` or `required` is something else than a flag.
    #[error("{path}: expected true or false")]
    Flag { path: String },
    /// A policy must decide and may not.
    #[error("{policy}: it is required, and enabled is false: only one of them can be")]
    RequiredAndDisabled { policy: String },
    /// A tag says how a value is to be read, which only its program can know.
    #[error("{path}: a value with a YAML tag")]
    Tag { path: String },
    /// There is no such limit.
    #[error("{limit}: there are time, memory and reply")]
    Limit { limit: String },
    /// A limit of time is no time, or none that a call may take.
    #[error("{limit}: {text:?} is no time from 1ms to 10s")]
    Time { limit: String, text: String },
    /// A limit of bytes is no size, or none that a call may have.
    #[error("{limit}: {text:?} is no size from 1Ki to 1Gi, such as 16Mi")]
    Size { limit: String, text: String },
    /// It is in the settings or the limits of a policy.
    #[error("{place}.{source}")]
    Below { place: String, source: Box<Error> },
}

impl Error {
    fn below(self, policy: &str, part: &str) -> Self {
        Self::Below { place: format!("{policy}.{part}"), source: Box::new(self) }
    }
}

/// Reads a settings file.
///
/// # Errors
/// The first thing that is wrong with it, by its name.
pub fn parse(text: &str) -> Result<File, Error> {
    let mapping: Option<Mapping> = serde_yaml_ng::from_str(text)?;
    let mut file = File::default();
    for (name, value) in mapping.into_iter().flatten() {
        let name = key(&name, "")?;
        let value = match (name.as_str(), value) {
            ("required", Value::Bool(required)) => {
                file.required = required;
                continue;
            }
            (_, Value::Null) => Mapping::new(),
            (_, Value::Mapping(map)) => map,
            ("required", _) => return Err(Error::Flag { path: name }),
            _ => return Err(Error::Entry { policy: name }),
        };
        let entry = entry(&name, value)?;
        file.policies.insert(name, entry);
    }
    Ok(file)
}

fn entry(policy: &str, map: Mapping) -> Result<Entry, Error> {
    let mut entry = Entry::default();
    for (name, value) in map {
        match (key(&name, policy)?.as_str(), value) {
            ("settings", value) => {
                flatten("", &value, &mut entry.settings).map_err(|e| e.below(policy, "settings"))?
            }
            ("limits", Value::Mapping(limits)) => {
                for (name, value) in limits {
                    limit(&mut entry.limits, &key(&name, policy)?, &value)
                        .map_err(|e| e.below(policy, "limits"))?;
                }
            }
            ("enabled", Value::Bool(enabled)) => entry.disabled = !enabled,
            ("required", Value::Bool(required)) => entry.required = required,
            (flag @ ("enabled" | "required"), _) => {
                return Err(Error::Flag { path: format!("{policy}.{flag}") });
            }
            (other, _) => return Err(Error::Key { policy: policy.to_owned(), key: other.to_owned() }),
        }
    }
    if entry.required && entry.disabled {
        return Err(Error::RequiredAndDisabled { policy: policy.to_owned() });
    }
    entry.settings.sort();
    Ok(entry)
}

fn key(key: &Value, below: &str) -> Result<String, Error> {
    scalar(key).ok_or_else(|| Error::Name { below: below.to_owned() })
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(yes) => Some(yes.to_string()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Writes a value under its path, steps apart by dots.
pub(super) fn flatten(path: &str, value: &Value, into: &mut Vec<(String, String)>) -> Result<(), Error> {
    let below = |step: &str| if path.is_empty() { step.to_owned() } else { format!("{path}.{step}") };
    match value {
        Value::Null => {}
        Value::Mapping(map) => {
            for (name, value) in map {
                flatten(&below(&key(name, path)?), value, into)?;
            }
        }
        Value::Sequence(list) => {
            for (at, value) in list.iter().enumerate() {
                flatten(&below(&at.to_string()), value, into)?;
            }
        }
        Value::Tagged(_) => return Err(Error::Tag { path: path.to_owned() }),
        value => into.push((path.to_owned(), scalar(value).unwrap_or_default())),
    }
    Ok(())
}

fn limit(limits: &mut Limits, name: &str, value: &Value) -> Result<(), Error> {
    let text = scalar(value).unwrap_or_default();
    let limit = name.to_owned();
    let bytes = || {
        let bytes = quantity::volume_size(&text).ok().and_then(|q| quantity::bytes(&q));
        let bytes = bytes.and_then(|b| usize::try_from(b).ok()).filter(|b| (1024..=1 << 30).contains(b));
        bytes.ok_or_else(|| Error::Size { limit: limit.clone(), text: text.clone() })
    };
    match name {
        "time" => limits.time = duration(&text).ok_or(Error::Time { limit, text })?,
        "memory" => limits.memory = bytes()?,
        "reply" => limits.reply = bytes()?,
        _ => return Err(Error::Limit { limit }),
    }
    Ok(())
}

fn duration(text: &str) -> Option<Duration> {
    let millis = match text.strip_suffix("ms") {
        Some(millis) => millis.parse::<u64>().ok()?,
        None => text.strip_suffix('s')?.parse::<u64>().ok()?.checked_mul(1000)?,
    };
    (1..=10_000).contains(&millis).then(|| Duration::from_millis(millis))
}

/// The first written setting that a policy does not have.
pub(super) fn unknown<'a>(written: &'a [(String, String)], known: &[Setting]) -> Option<&'a str> {
    let mut names = written.iter().map(|(name, _)| name.as_str());
    names.find(|name| !known.iter().any(|k| matches(&k.name, name)))
}

/// Whether the name of a setting fits a pattern: `*` is one step, `**` at the end all that follow.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let (mut patterns, mut steps) = (pattern.split('.'), name.split('.'));
    loop {
        match (patterns.next(), steps.next()) {
            (None, None) | (Some("**"), Some(_)) => return true,
            (Some("*"), Some(step)) if !step.is_empty() => {}
            (Some(pattern), Some(step)) if pattern == step => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_settings_get_their_path_as_name() {
        let text = "ports:\n  settings:\n    rules:\n    - {label: tier=web, annotations: {a.b/c: x}}\n    size: 5\n";
        let settings = parse(text).unwrap().policies;
        let want = [("rules.0.annotations.a.b/c", "x"), ("rules.0.label", "tier=web"), ("size", "5")];
        assert_eq!(settings["ports"].settings, want.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn limits_are_times_and_sizes() {
        let settings = parse("p: {limits: {time: 50ms, memory: 32Mi}, enabled: false}").unwrap().policies;
        assert_eq!(settings["p"].limits.time, Duration::from_millis(50));
        assert_eq!(settings["p"].limits.memory, 32 << 20);
        assert!(settings["p"].disabled);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, words) in [
            ("p: {limits: {time: 5}}", "p.limits.time: \"5\" is no time from 1ms to 10s"),
            ("p: {limits: {reply: 5}}", "p.limits.reply: \"5\" is no size from 1Ki to 1Gi, such as 16Mi"),
            ("p: {limits: {speed: 5}}", "p.limits.speed: there are time, memory and reply"),
            ("p: {limits: {[]: 5}}", "p: a name is not a text"),
            ("p: {settings: {a: {[]: 5}}}", "p.settings.a: a name is not a text"),
            ("p: {settings: {a: {b: !c d}}}", "p.settings.a.b: a value with a YAML tag"),
            (
                "p: {setting: {}}",
                "p.setting: there are settings, limits (time, memory, reply), enabled and required",
            ),
            ("p: {enabled: 1}", "p.enabled: expected true or false"),
            ("p: 5", "p: expected settings, limits, enabled and required below it"),
            ("required: yes please", "required: expected true or false"),
            (
                "p: {required: true, enabled: false}",
                "p: it is required, and enabled is false: only one of them can be",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), words, "{text}");
        }
    }

    #[test]
    fn a_policy_or_all_of_them_can_be_required() {
        let file = parse("required: true\np: {}\nq: {required: true}").unwrap();
        assert!(file.required && !file.policies["p"].required && file.policies["q"].required);
        assert!(!parse("p: {required: false}").unwrap().requires_any());
        // A policy may be called so.
        assert!(parse("required: {required: true}").unwrap().policies["required"].required);
    }

    #[test]
    fn a_pattern_stands_for_a_step_or_for_the_rest() {
        assert!(matches("rules.*.label", "rules.0.label"));
        assert!(!matches("rules.*.label", "rules.label"));
        assert!(matches("annotations.**", "annotations.a.b/c"));
        assert!(!matches("annotations.**", "annotations"));
        assert!(!matches("size", "sizes"));
    }
}
