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

/// Reads a settings file.
///
/// # Errors
/// The first thing that is wrong with it, by its name.
pub fn parse(text: &str) -> Result<File, String> {
    let mapping: Option<Mapping> = serde_yaml_ng::from_str(text).map_err(|e| e.to_string())?;
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
            ("required", _) => return Err("required: expected true or false".into()),
            _ => return Err(format!("{name}: expected settings, limits, enabled and required below it")),
        };
        let entry = entry(&name, value)?;
        file.policies.insert(name, entry);
    }
    Ok(file)
}

fn entry(policy: &str, map: Mapping) -> Result<Entry, String> {
    let mut entry = Entry::default();
    for (name, value) in map {
        match (key(&name, policy)?.as_str(), value) {
            ("settings", value) => {
                flatten("", &value, &mut entry.settings).map_err(|e| format!("{policy}.settings.{e}"))?
            }
            ("limits", Value::Mapping(limits)) => {
                for (name, value) in limits {
                    limit(&mut entry.limits, &key(&name, policy)?, &value)
                        .map_err(|e| format!("{policy}.limits.{e}"))?;
                }
            }
            ("enabled", Value::Bool(enabled)) => entry.disabled = !enabled,
            ("required", Value::Bool(required)) => entry.required = required,
            (flag @ ("enabled" | "required"), _) => {
                return Err(format!("{policy}.{flag}: expected true or false"));
            }
            (other, _) => {
                return Err(format!(
                    "{policy}.{other}: there are settings, limits (time, memory, reply), enabled and required"
                ));
            }
        }
    }
    if entry.required && entry.disabled {
        return Err(format!("{policy}: it is required, and enabled is false: only one of them can be"));
    }
    entry.settings.sort();
    Ok(entry)
}

fn key(key: &Value, below: &str) -> Result<String, String> {
    scalar(key).ok_or_else(|| format!("{below}: a name is not a text"))
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
pub(super) fn flatten(path: &str, value: &Value, into: &mut Vec<(String, String)>) -> Result<(), String> {
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
        Value::Tagged(_) => return Err(format!("{path}: a value with a YAML tag")),
        value => into.push((path.to_owned(), scalar(value).unwrap_or_default())),
    }
    Ok(())
}

fn limit(limits: &mut Limits, name: &str, value: &Value) -> Result<(), String> {
    let text = scalar(value).unwrap_or_default();
    let bytes = || {
        let bytes = quantity::volume_size(&text).ok().and_then(|q| quantity::bytes(&q));
        let bytes = bytes.and_then(|b| usize::try_from(b).ok()).filter(|b| (1024..=1 << 30).contains(b));
        bytes.ok_or_else(|| format!("{name}: {text:?} is no size from 1Ki to 1Gi, such as 16Mi"))
    };
    match name {
        "time" => {
            limits.time =
                duration(&text).ok_or_else(|| format!("{name}: {text:?} is no time from 1ms to 10s"))?
        }
        "memory" => limits.memory = bytes()?,
        "reply" => limits.reply = bytes()?,
        _ => return Err(format!("{name}: there are time, memory and reply")),
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

/// The first written setting that a policy does not have, with the ones that it has.
pub(super) fn unknown(written: &[(String, String)], known: &[Setting]) -> Option<String> {
    let stranger = written.iter().find(|(name, _)| !known.iter().any(|k| matches(&k.name, name)))?;
    let names: Vec<&str> = known.iter().map(|k| k.name.as_str()).collect();
    let there_are =
        if names.is_empty() { "it has none".to_owned() } else { format!("there are {}", names.join(", ")) };
    Some(format!("settings.{}: no such setting; {there_are}", stranger.0))
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
        assert!(parse("p: {limits: {time: 5}}").unwrap_err().contains("p.limits.time"));
        assert!(parse("p: {limits: {speed: 5}}").unwrap_err().contains("p.limits.speed"));
        assert!(parse("p: {setting: {}}").unwrap_err().contains("p.setting"));
        assert!(parse("p: 5").unwrap_err().starts_with("p:"));
    }

    #[test]
    fn a_policy_or_all_of_them_can_be_required() {
        let file = parse("required: true\np: {}\nq: {required: true}").unwrap();
        assert!(file.required && !file.policies["p"].required && file.policies["q"].required);
        assert!(!parse("p: {required: false}").unwrap().requires_any());
        // A policy may be called so.
        assert!(parse("required: {required: true}").unwrap().policies["required"].required);
        assert!(parse("required: yes please").unwrap_err().starts_with("required:"));
        assert!(parse("p: {required: 1}").unwrap_err().starts_with("p.required:"));
        assert!(parse("p: {required: true, enabled: false}").unwrap_err().starts_with("p: it is required"));
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
