//! Sets of fields as `managedFields` holds them (`FieldsV1`): trees whose steps are `f:` for a field,
//! `k:` for an item of a list by its keys and `v:` for one by its value; a leaf is `{}`.

use serde_json::{Map, Value};

use super::lists::{Sort, keys_of};

/// A set of fields.
pub type Fields = Map<String, Value>;

/// Fields that no manager owns.
const UNOWNED: &[&str] = &[
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "managedFields",
    "selfLink",
];

/// Whether a node of the tree is a member of the set itself, and not only some of what is below it.
fn is_member(node: &Fields) -> bool {
    node.is_empty() || node.contains_key(".")
}

/// A node; `None` if it is no member and has nothing below.
fn node(member: bool, mut below: Fields) -> Option<Value> {
    below.remove(".");
    if below.is_empty() {
        return member.then_some(Value::Object(below));
    }
    if member {
        below.insert(".".into(), Value::Object(Map::new()));
    }
    Some(Value::Object(below))
}

/// All fields of what is applied.
pub fn of(kind: &str, object: &Value) -> Fields {
    let mut map = owned(object).unwrap_or_default();
    if map.get("metadata").and_then(Value::as_object).is_some_and(Map::is_empty) {
        map.remove("metadata");
    }
    of_value(Sort::of_kind(kind), &Value::Object(map))
}

/// The object without what no manager owns.
fn owned(object: &Value) -> Option<Map<String, Value>> {
    let mut map = object.as_object()?.clone();
    map.remove("apiVersion");
    map.remove("kind");
    if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|field, _| !UNOWNED.contains(&field.as_str()));
    }
    Some(map)
}

fn of_value(sort: Sort, value: &Value) -> Fields {
    let mut fields = Fields::new();
    match (sort, value) {
        (Sort::Struct(_) | Sort::Map(_), Value::Object(map)) => {
            for (name, value) in map {
                let below = sort.below(name).unwrap_or(Sort::Leaf);
                let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                // Keys of a map are members themselves, fields of a type are not.
                let member = empty || matches!(below, Sort::Leaf) || matches!(sort, Sort::Map(_));
                if let Some(node) = node(member, of_value(below, value)) {
                    fields.insert(format!("f:{name}"), node);
                }
            }
        }
        (Sort::Set | Sort::List(..), Value::Array(items)) => {
            for item in items {
                let step = sort.step(item).unwrap_or_default();
                fields.extend(node(true, of_value(sort.item(), item)).map(|node| (step, node)));
            }
        }
        _ => {}
    }
    fields
}

/// The fields that are there in `new` with another value than in `old`, or not in `old` at all.
pub fn changed(kind: &str, old: &Value, new: &Value) -> Fields {
    let (Some(old), Some(new)) = (owned(old), owned(new)) else { return Fields::new() };
    changed_below(Sort::of_kind(kind), Some(&Value::Object(old)), &Value::Object(new))
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn changed_value(sort: Sort, old: Option<&Value>, new: &Value) -> Option<Value> {
    let leaf = matches!(sort, Sort::Leaf) || (old.is_none_or(is_nothing) && is_nothing(new));
    if leaf {
        return if old == Some(new) { None } else { node(true, Fields::new()) };
    }
    node(old.is_none(), changed_below(sort, old, new))
}

fn changed_below(sort: Sort, old: Option<&Value>, new: &Value) -> Fields {
    let mut fields = Fields::new();
    match (sort, new) {
        (Sort::Struct(_) | Sort::Map(_), Value::Object(map)) => {
            for (name, value) in map {
                let below = sort.below(name).unwrap_or(Sort::Leaf);
                let before = old.and_then(|old| old.get(name));
                fields.extend(changed_value(below, before, value).map(|node| (format!("f:{name}"), node)));
            }
        }
        (Sort::Set | Sort::List(..), Value::Array(items)) => {
            for item in items {
                let step = sort.step(item).unwrap_or_default();
                let before = old.and_then(|old| self::step(old, &step));
                fields.extend(changed_value(sort.item(), before, item).map(|node| (step, node)));
            }
        }
        _ => {}
    }
    fields
}

/// What is in either.
pub fn union(a: &Fields, b: &Fields) -> Fields {
    let mut all = a.clone();
    for (step, right) in b.iter().filter(|(step, _)| *step != ".") {
        let Some(right) = right.as_object() else { continue };
        let joined = match all.get(step).and_then(Value::as_object) {
            Some(left) => node(is_member(left) || is_member(right), union(left, right)),
            None => Some(Value::Object(right.clone())),
        };
        all.extend(joined.map(|joined| (step.clone(), joined)));
    }
    all
}

/// What is in `a` and not in `b`.
pub fn difference(a: &Fields, b: &Fields) -> Fields {
    let mut rest = Fields::new();
    for (step, left) in a.iter().filter(|(step, _)| *step != ".") {
        let Some(left) = left.as_object() else { continue };
        let kept = match b.get(step).and_then(Value::as_object) {
            None => Some(Value::Object(left.clone())),
            Some(right) => node(is_member(left) && !is_member(right), difference(left, right)),
        };
        rest.extend(kept.map(|kept| (step.clone(), kept)));
    }
    rest
}

/// What is in both.
pub fn intersection(a: &Fields, b: &Fields) -> Fields {
    let mut both = Fields::new();
    for (step, left) in a.iter().filter(|(step, _)| *step != ".") {
        let (Some(left), Some(right)) = (left.as_object(), b.get(step).and_then(Value::as_object)) else {
            continue;
        };
        let kept = node(is_member(left) && is_member(right), intersection(left, right));
        both.extend(kept.map(|kept| (step.clone(), kept)));
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
    let below = || {
        let steps = fields.iter().filter(|(step, _)| *step != ".");
        steps.filter_map(|(step, node)| Some((format!("{before}{}", readable(step)), node.as_object()?)))
    };
    // Members first, as Kubernetes lists them.
    all.extend(below().filter(|(_, node)| is_member(node)).map(|(path, _)| path));
    for (path, node) in below() {
        collect(node, &path, all);
    }
}

/// A step as people read it: `.spec`, `[name="a"]`.
pub fn readable(step: &str) -> String {
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
