//! Sets of fields as `managedFields` holds them (`FieldsV1`): trees whose steps are `f:` for a field,
//! `k:` for an item of a list by its keys and `v:` for one by its value; a leaf is `{}`.

use serde_json::{Map, Value};

use super::lists::{ListType, is_atomic, keys_of, list_type};

/// A set of fields.
pub type Fields = Map<String, Value>;

/// Fields that no manager owns.
const UNOWNED: &[&str] = &[
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "managedFields",
    "selfLink",
];

/// All fields of an object.
pub fn of(kind: &str, object: &Value) -> Fields {
    owned(object).map_or_else(Fields::new, |map| of_map(kind, &map))
}

/// The object without what no manager owns.
fn owned(object: &Value) -> Option<Map<String, Value>> {
    let mut map = object.as_object()?.clone();
    map.remove("apiVersion");
    map.remove("kind");
    if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|field, _| !UNOWNED.contains(&field.as_str()));
        if metadata.is_empty() {
            map.remove("metadata");
        }
    }
    Some(map)
}

fn of_map(kind: &str, map: &Map<String, Value>) -> Fields {
    map.iter()
        .map(|(field, value)| (format!("f:{field}"), Value::Object(of_value(kind, field, value))))
        .collect()
}

fn of_value(kind: &str, field: &str, value: &Value) -> Fields {
    match value {
        Value::Object(map) if !is_atomic(field) => of_map(kind, map),
        Value::Array(list) => steps(kind, field, list)
            .into_iter()
            .flatten()
            .map(|(step, item)| {
                let mut fields =
                    if step.starts_with("k:") { of_value(kind, "", item) } else { Fields::new() };
                if step.starts_with("k:") {
                    fields.insert(".".into(), Value::Object(Map::new()));
                }
                (step, Value::Object(fields))
            })
            .collect(),
        _ => Fields::new(),
    }
}

/// The steps to the items of a list; none if it is one value.
fn steps<'a>(kind: &str, field: &str, list: &'a [Value]) -> Option<Vec<(String, &'a Value)>> {
    match list_type(kind, field) {
        ListType::Atomic => None,
        ListType::Set => Some(list.iter().map(|item| (format!("v:{item}"), item)).collect()),
        ListType::Map(keys, _) => {
            Some(list.iter().map(|i| (format!("k:{}", Value::Object(keys_of(i, keys))), i)).collect())
        }
    }
}

/// The fields that are there in `new` with another value than in `old`, or not in `old` at all.
pub fn changed(kind: &str, old: &Value, new: &Value) -> Fields {
    match (owned(old), owned(new)) {
        (Some(old), Some(new)) => changed_map(kind, &old, &new),
        _ => of(kind, new),
    }
}

fn changed_map(kind: &str, old: &Map<String, Value>, new: &Map<String, Value>) -> Fields {
    let mut fields = Fields::new();
    for (field, value) in new {
        let changed = match old.get(field) {
            None => Some(of_value(kind, field, value)),
            Some(before) if before == value => None,
            Some(before) => changed_value(kind, field, before, value),
        };
        if let Some(changed) = changed {
            fields.insert(format!("f:{field}"), Value::Object(changed));
        }
    }
    fields
}

fn changed_value(kind: &str, field: &str, old: &Value, new: &Value) -> Option<Fields> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) if !is_atomic(field) && !old.is_empty() => {
            Some(changed_map(kind, old, new)).filter(|fields| !fields.is_empty())
        }
        (Value::Array(old), Value::Array(new)) => {
            let (Some(old), Some(new)) = (steps(kind, field, old), steps(kind, field, new)) else {
                return Some(Fields::new());
            };
            let mut fields = Fields::new();
            for (step, item) in new {
                match old.iter().find(|(other, _)| *other == step) {
                    Some((_, before)) if *before == item => {}
                    Some((_, before)) => {
                        if let Some(changed) = changed_value(kind, "", before, item) {
                            fields.insert(step, Value::Object(changed));
                        }
                    }
                    None => {
                        let mut all = of_value(kind, "", item);
                        if step.starts_with("k:") {
                            all.insert(".".into(), Value::Object(Map::new()));
                        }
                        fields.insert(step, Value::Object(all));
                    }
                }
            }
            (!fields.is_empty()).then_some(fields)
        }
        _ => Some(Fields::new()),
    }
}

/// What is in either.
pub fn union(a: &Fields, b: &Fields) -> Fields {
    let mut all = a.clone();
    for (step, below) in b {
        let joined = match (all.get(step).and_then(Value::as_object), below.as_object()) {
            (Some(left), Some(right)) => union(left, right),
            (None, Some(right)) => right.clone(),
            _ => Fields::new(),
        };
        all.insert(step.clone(), Value::Object(joined));
    }
    all
}

/// What is in `a` and not in `b`.
pub fn difference(a: &Fields, b: &Fields) -> Fields {
    let mut rest = Fields::new();
    for (step, below) in a {
        let Some(left) = below.as_object() else { continue };
        let kept = match b.get(step).and_then(Value::as_object) {
            None => Some(left.clone()),
            Some(right) if left.is_empty() => (!right.is_empty()).then(Fields::new),
            Some(right) => Some(difference(left, right)).filter(|fields| !fields.is_empty()),
        };
        if let Some(kept) = kept {
            rest.insert(step.clone(), Value::Object(kept));
        }
    }
    rest
}

/// What is in both.
pub fn intersection(a: &Fields, b: &Fields) -> Fields {
    let mut both = Fields::new();
    for (step, below) in a {
        let (Some(left), Some(right)) = (below.as_object(), b.get(step).and_then(Value::as_object)) else {
            continue;
        };
        if left.is_empty() && right.is_empty() {
            both.insert(step.clone(), Value::Object(Fields::new()));
        } else {
            let below = intersection(left, right);
            if !below.is_empty() {
                both.insert(step.clone(), Value::Object(below));
            }
        }
    }
    both
}

/// The value that a step leads to.
pub fn step<'a>(value: &'a Value, step: &str) -> Option<&'a Value> {
    if let Some(field) = step.strip_prefix("f:") {
        return value.get(field);
    }
    position(value, step).and_then(|at| value.get(at))
}

/// The place of a list's item.
pub fn position(list: &Value, step: &str) -> Option<usize> {
    let list = list.as_array()?;
    if let Some(keys) = step.strip_prefix("k:") {
        let keys: Map<String, Value> = serde_json::from_str(keys).ok()?;
        let names: Vec<&str> = keys.keys().map(String::as_str).collect();
        return list.iter().position(|item| keys_of(item, &names) == keys);
    }
    let wanted: Value = serde_json::from_str(step.strip_prefix("v:")?).ok()?;
    list.iter().position(|item| *item == wanted)
}

/// The leaves as people read them: `.spec.containers[name="a"].image`.
pub fn paths(fields: &Fields) -> Vec<String> {
    let mut all = Vec::new();
    collect(fields, "", &mut all);
    all
}

fn collect(fields: &Fields, before: &str, all: &mut Vec<String>) {
    for (step, below) in fields {
        if step == "." {
            all.push(before.to_owned());
            continue;
        }
        let here = format!("{before}{}", readable(step));
        match below.as_object() {
            Some(below) if !below.is_empty() => collect(below, &here, all),
            _ => all.push(here),
        }
    }
}

fn readable(step: &str) -> String {
    if let Some(field) = step.strip_prefix("f:") {
        return format!(".{field}");
    }
    match step.strip_prefix("k:").and_then(|keys| serde_json::from_str::<Map<String, Value>>(keys).ok()) {
        Some(keys) => {
            let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", keys.join(","))
        }
        None => format!("[={}]", step.trim_start_matches("v:")),
    }
}
