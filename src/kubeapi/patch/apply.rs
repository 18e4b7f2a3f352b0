//! Server-side apply and the record of who owns which field (KEP-555): conflicts, removal of what a
//! manager does not apply any more, and the ownership that every other write takes.

use serde_json::{Map, Value, json};

use super::fields::{self, Fields};
use super::last_applied;
use super::lists::Sort;
use super::manager::Manager;
use crate::kinds::Kind;
use crate::meta;
use crate::schema;
use crate::schema::types::{self, Shape, Struct};
use crate::status::{Result, Status};

/// Applies a configuration to an object (`null` if it is to be made).
///
/// # Errors
/// 409 with every conflict.
pub fn apply(kind: &Kind, live: &Value, applied: &Value, manager: &Manager) -> Result<Value> {
    let set = written(kind, manager, fields::of(kind.name, applied));
    let mut entries = entries(live);
    if entries.is_empty() && !live.is_null() {
        let before = Manager { name: "before-first-apply".into(), ..manager.clone() };
        let all = fields::changed(kind.name, &schema::normal(kind, json!({})), live);
        entries.push(Entry::new(kind, &before, false, written(kind, &before, all)));
    }
    let mine = |entry: &Entry| {
        entry.applies && entry.manager == manager.name && entry.subresource == manager.subresource
    };
    let last = entries.iter().position(mine).map(|at| entries.remove(at));
    let mut object = if live.is_null() { json!({}) } else { live.clone() };
    merge(Sort::of_kind(kind.name), &mut object, applied);
    let before = last.as_ref().map(|entry| entry.fields.clone()).unwrap_or_default();
    let mut gone = fields::difference(&before, &set);
    for entry in &entries {
        gone = fields::difference(&gone, &entry.fields);
    }
    remove(&mut object, &gone);
    let changed = fields::changed(kind.name, live, &object);
    let conflicts: Vec<(String, Fields)> = entries
        .iter()
        .map(|entry| (entry.words(), fields::intersection(&entry.fields, &changed)))
        .filter(|(_, fields)| !fields.is_empty())
        .collect();
    if !conflicts.is_empty() && !manager.force {
        let allowed = last_applied::allowed(kind, live, manager);
        let conflicts =
            conflicts.into_iter().map(|(who, fields)| (who, fields::difference(&fields, &allowed)));
        let conflicts = conflicts.filter(|(_, fields)| !fields.is_empty());
        let conflicts: Vec<_> = conflicts.map(|(who, fields)| (who, fields::paths(&fields))).collect();
        if !conflicts.is_empty() {
            return Err(conflict(&conflicts));
        }
    }
    last_applied::follow(&mut object, live, applied, manager);
    let lost = fields::changed(kind.name, &object, live);
    for entry in &mut entries {
        entry.fields = fields::difference(&entry.fields, &changed);
        entry.fields = fields::difference(&entry.fields, &removed(&lost, &object));
    }
    let mut entry = Entry::new(kind, manager, true, set);
    // What changes nothing but its owner has no time of its own.
    if object == *live {
        entry.time = last.map(|last| last.time).unwrap_or_default();
    }
    entries.push(entry);
    write(&mut object, entries);
    Ok(object)
}

/// Applies a number of replicas. Where nobody owns it, it belongs to whoever wrote it before the first apply.
///
/// # Errors
/// 409 with every conflict.
pub fn apply_scale(kind: &Kind, live: &Value, applied: &Value, manager: &Manager) -> Result<Value> {
    let at = |object: &Value| meta::at(object, &["spec", "replicas"]).clone();
    let owned = entries(live).iter().any(|entry| {
        entry
            .fields
            .get("f:spec")
            .and_then(Value::as_object)
            .is_some_and(|spec| spec.contains_key("f:replicas"))
    });
    if !owned && !manager.force && at(live) != at(applied) {
        let who = "\"before-first-apply\" with subresource \"scale\" using autoscaling/v1".to_owned();
        return Err(conflict(&[(who, vec![".spec.replicas".to_owned()])]));
    }
    apply(kind, live, applied, manager)
}

/// What of the fields that differ is not there any more.
fn removed(lost: &Fields, now: &Value) -> Fields {
    let mut all = Fields::new();
    for (step, below) in lost.iter().filter(|(step, _)| *step != ".") {
        match (fields::step(now, step), below.as_object()) {
            (None, _) => drop(all.insert(step.clone(), below.clone())),
            (Some(now), Some(below)) => {
                let below = removed(below, now);
                if !below.is_empty() {
                    all.insert(step.clone(), Value::Object(below));
                }
            }
            _ => {}
        }
    }
    all
}

/// What of a set this writer can own: an object's status belongs to those who write its status.
fn written(kind: &Kind, manager: &Manager, mut set: Fields) -> Fields {
    match manager.subresource.as_str() {
        "" if kind.status => drop(set.remove("f:status")),
        "status" => {
            set.remove("f:spec");
            if kind.name == "Deployment"
                && let Some(metadata) = set.get_mut("f:metadata").and_then(Value::as_object_mut)
            {
                metadata.remove("f:labels");
            }
        }
        _ => {}
    }
    set
}

/// Notes what a write that is no apply has changed.
pub fn track(kind: &Kind, old: &Value, new: &mut Value, manager: &Manager) {
    let mut entries = entries(if old.is_null() { new } else { old });
    let nothing = schema::normal(kind, json!({}));
    if old.is_null() {
        entries.clear();
    } else if entries.is_empty() {
        // Nobody owns anything any more: that stays so until somebody applies.
        return;
    }
    let old = if old.is_null() { &nothing } else { old };
    let changed = fields::changed(kind.name, old, new);
    let gone = removed(&fields::changed(kind.name, new, old), new);
    let mine = |entry: &Entry| {
        !entry.applies && entry.manager == manager.name && entry.subresource == manager.subresource
    };
    for entry in &mut entries {
        if !mine(entry) {
            entry.fields = fields::difference(&entry.fields, &changed);
        }
        entry.fields = fields::difference(&entry.fields, &gone);
    }
    let changed = written(kind, manager, changed);
    if !changed.is_empty() {
        let mut entry = Entry::new(kind, manager, false, changed);
        if let Some(at) = entries.iter().position(mine) {
            entry.fields = fields::union(&entries.remove(at).fields, &entry.fields);
        }
        entries.push(entry);
    }
    write(new, entries);
}

/// What is wrong with a configuration by the types of its fields, in the words of the library that
/// Kubernetes applies with.
pub fn check(kind: &str, applied: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    check_struct(types::of(kind), applied, "", &mut wrong);
    wrong
}

fn check_struct(of: &'static Struct, value: &Value, path: &str, wrong: &mut Vec<String>) {
    let Some(map) = value.as_object() else {
        wrong.push(format!("{path}: expected map, got {}", raw(value)));
        return;
    };
    for (name, value) in map {
        let here = format!("{path}.{name}");
        match of.field(name) {
            Some(field) => check_value(&field.shape, Sort::of_field(field), value, &here, wrong),
            None => wrong.push(format!("{here}: field not declared in schema")),
        }
    }
}

fn check_value(shape: &'static Shape, sort: Sort, value: &Value, path: &str, wrong: &mut Vec<String>) {
    let named = |value: &Value| match value {
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
        _ => "float64",
    };
    match (shape, value) {
        (_, Value::Null) | (Shape::Any | Shape::IntOrString | Shape::Quantity, _) => {}
        (Shape::Struct(name), value) => check_struct(types::of(name), value, path, wrong),
        (Shape::List(item), Value::Array(items)) => {
            let mut seen = Vec::new();
            for (at, value) in items.iter().enumerate() {
                let step = sort.step(value);
                let shown = step.as_deref().map_or_else(|| format!("[{at}]"), fields::readable);
                if step.is_some() && seen.contains(&shown) {
                    wrong.push(format!("{path}: duplicate entries for key {shown}"));
                }
                check_value(item, Sort::of_shape(item), value, &format!("{path}{shown}"), wrong);
                seen.push(shown);
            }
        }
        (Shape::Map(_, of), Value::Object(map)) => {
            for (name, value) in map {
                check_value(of, Sort::of_shape(of), value, &format!("{path}.{name}"), wrong);
            }
        }
        (Shape::Quantities, Value::Object(_)) => {}
        (Shape::List(_), _) => wrong.push(format!("{path}: expected list, got {}", raw(value))),
        (Shape::Map(..) | Shape::Quantities, _) => {
            wrong.push(format!("{path}: expected map, got {}", raw(value)))
        }
        (Shape::Int32 | Shape::Int64 | Shape::Float, value) if !value.is_number() => {
            wrong.push(format!("{path}: expected numeric (int or float), got {}", named(value)));
        }
        (Shape::Flag, value) if !value.is_boolean() => {
            wrong.push(format!("{path}: expected boolean, got {}", raw(value)));
        }
        (Shape::Text(_) | Shape::Bytes | Shape::Time | Shape::MicroTime, value) if !value.is_string() => {
            wrong.push(format!("{path}: expected string, got {}", raw(value)));
        }
        _ => {}
    }
}

/// A value as the library prints it.
fn raw(value: &Value) -> String {
    let inner = match value {
        Value::String(text) => format!("{text:?}"),
        other => super::go(other),
    };
    format!("&value.valueUnstructured{{Value:{inner}}}")
}

fn conflict(conflicts: &[(String, Vec<String>)]) -> Status {
    let count: usize = conflicts.iter().map(|(_, paths)| paths.len()).sum();
    let words: Vec<String> = conflicts
        .iter()
        .map(|(who, paths)| match paths.as_slice() {
            [one] => format!("conflict with {who}: {one}"),
            all => format!("conflicts with {who}:\n- {}", all.join("\n- ")),
        })
        .collect();
    let plural = if count == 1 { "conflict" } else { "conflicts" };
    let causes = conflicts.iter().flat_map(|(who, paths)| {
        paths.iter().map(move |path| {
            json!({"reason": "FieldManagerConflict", "message": format!("conflict with {who}"), "field": path})
        })
    });
    let message = format!("Apply failed with {count} {plural}: {}", words.join("\n"));
    Status::apply_conflict(message, causes.collect())
}

/// Takes fields out of an object.
fn remove(value: &mut Value, gone: &Fields) {
    for (step, below) in gone {
        let below = below.as_object().filter(|b| !b.is_empty());
        let whole = below.is_none_or(|b| b.contains_key("."));
        if let Some(field) = step.strip_prefix("f:") {
            let Some(map) = value.as_object_mut() else { continue };
            match (below, map.get_mut(field)) {
                (Some(below), Some(child)) => {
                    remove(child, below);
                    if child.as_object().is_some_and(Map::is_empty)
                        || child.as_array().is_some_and(Vec::is_empty)
                    {
                        map.remove(field);
                    }
                }
                _ => {
                    map.remove(field);
                }
            }
        } else if let Some(at) = fields::position(value, step)
            && let Some(list) = value.as_array_mut()
        {
            if whole {
                list.remove(at);
            } else if let (Some(below), Some(item)) = (below, list.get_mut(at)) {
                remove(item, below);
            }
        }
    }
}

/// Merges what is applied into an object.
fn merge(sort: Sort, slot: &mut Value, patch: &Value) {
    match (sort, patch) {
        (Sort::Struct(_) | Sort::Map(_), Value::Object(patch)) => {
            let map = meta::map(slot);
            for (name, value) in patch {
                let below = sort.below(name).unwrap_or(Sort::Leaf);
                merge(below, map.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (Sort::Set | Sort::List(..), Value::Array(items)) => {
            let live = slot.as_array().cloned().unwrap_or_default();
            *slot = Value::Array(merge_list(sort, &live, items));
        }
        (_, other) => *slot = other.clone(),
    }
}

/// Items of both lists: those that are applied in their order, the others between them where they were.
fn merge_list(sort: Sort, live: &[Value], applied: &[Value]) -> Vec<Value> {
    let steps = |items: &[Value]| -> Vec<String> {
        items.iter().map(|item| sort.step(item).unwrap_or_default()).collect()
    };
    let (there, wanted) = (steps(live), steps(applied));
    let mut shared = wanted.iter().filter(|step| there.contains(step)).peekable();
    let mut left = live.iter().zip(&there).peekable();
    let mut right = applied.iter().zip(&wanted).peekable();
    let mut all = Vec::new();
    loop {
        let now = left.peek().copied();
        match (now, right.peek().copied()) {
            (Some((item, step)), _) if !wanted.contains(step) => {
                all.push(item.clone());
                left.next();
            }
            // Its turn was, or will be, that of the one that is applied.
            (Some((_, step)), Some((_, next))) if step != next && shared.peek() != Some(&step) => {
                left.next();
            }
            (Some(_), None) => drop(left.next()),
            (_, Some((item, step))) => {
                let mut made = there.iter().position(|s| s == step).and_then(|at| live.get(at)).cloned();
                merge(sort.item(), made.get_or_insert(Value::Null), item);
                all.extend(made);
                right.next();
                shared.next_if(|next| *next == step);
            }
            (None, None) => return all,
        }
    }
}

/// One entry of `managedFields`.
#[derive(Debug, Clone)]
struct Entry {
    manager: String,
    applies: bool,
    subresource: String,
    api_version: String,
    time: String,
    fields: Fields,
}

impl Entry {
    fn new(kind: &Kind, manager: &Manager, applies: bool, fields: Fields) -> Self {
        Self {
            manager: manager.name.clone(),
            applies,
            subresource: manager.subresource.clone(),
            api_version: kind.api_version(),
            time: meta::now(),
            fields,
        }
    }

    fn words(&self) -> String {
        let through = if self.subresource.is_empty() {
            String::new()
        } else {
            format!(" with subresource {:?}", self.subresource)
        };
        // One who applies is known by the name alone.
        let version = if self.applies { String::new() } else { format!(" using {}", self.api_version) };
        format!("{:?}{through}{version}", self.manager)
    }
}

fn entries(object: &Value) -> Vec<Entry> {
    let all = meta::items(object, &["metadata", "managedFields"]).iter();
    all.map(|entry| Entry {
        manager: meta::string(entry, &["manager"]).to_owned(),
        applies: meta::string(entry, &["operation"]) == "Apply",
        subresource: meta::string(entry, &["subresource"]).to_owned(),
        api_version: meta::string(entry, &["apiVersion"]).to_owned(),
        time: meta::string(entry, &["time"]).to_owned(),
        fields: entry.get("fieldsV1").and_then(Value::as_object).cloned().unwrap_or_default(),
    })
    .collect()
}

fn write(object: &mut Value, entries: Vec<Entry>) {
    let entries: Vec<Value> = entries
        .into_iter()
        .filter(|entry| !entry.fields.is_empty())
        .map(|entry| {
            let mut value = json!({
                "manager": entry.manager, "operation": if entry.applies { "Apply" } else { "Update" },
                "apiVersion": entry.api_version, "fieldsType": "FieldsV1", "fieldsV1": entry.fields,
            });
            if !entry.time.is_empty() {
                meta::map(&mut value).insert("time".into(), entry.time.into());
            }
            if !entry.subresource.is_empty() {
                meta::map(&mut value).insert("subresource".into(), entry.subresource.into());
            }
            value
        })
        .collect();
    if entries.is_empty() {
        meta::unset(object, "managedFields");
    } else {
        meta::set(object, "managedFields", entries);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;

    fn manager(name: &str, force: bool) -> Manager {
        Manager { name: name.into(), force, ..Manager::default() }
    }

    fn config(data: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data})
    }

    #[test]
    fn what_is_not_applied_any_more_goes_unless_another_owns_it() {
        let kind = &kinds::CONFIG_MAP;
        let one =
            apply(kind, &Value::Null, &config(json!({"a": "1", "b": "1"})), &manager("x", false)).unwrap();
        let two = apply(kind, &one, &config(json!({"b": "1"})), &manager("y", false)).unwrap();
        let three = apply(kind, &two, &config(json!({"c": "1"})), &manager("x", false)).unwrap();
        assert_eq!(three["data"], json!({"b": "1", "c": "1"}));
    }

    #[test]
    fn a_value_of_another_is_a_conflict_unless_forced() {
        let kind = &kinds::CONFIG_MAP;
        let one = apply(kind, &Value::Null, &config(json!({"a": "1"})), &manager("x", false)).unwrap();
        let mut edited = one.clone();
        edited["data"]["a"] = "2".into();
        track(kind, &one, &mut edited, &manager("edit", false));
        let refused = apply(kind, &edited, &config(json!({"a": "1"})), &manager("x", false)).unwrap_err();
        assert_eq!(refused.message, "Apply failed with 1 conflict: conflict with \"edit\" using v1: .data.a");
        let forced = apply(kind, &edited, &config(json!({"a": "1"})), &manager("x", true)).unwrap();
        assert_eq!(forced["data"]["a"], "1");
        assert_eq!(meta::items(&forced, &["metadata", "managedFields"]).len(), 1);
    }

    #[test]
    fn lists_are_applied_by_their_keys() {
        let kind = &kinds::DEPLOYMENT;
        let spec = |containers: Value| json!({"spec": {"template": {"spec": {"containers": containers}}}});
        let one = apply(
            kind,
            &Value::Null,
            &spec(json!([{"name": "a", "image": "1", "ports": [{"containerPort": 80}]}])),
            &manager("x", false),
        )
        .unwrap();
        let two =
            apply(kind, &one, &spec(json!([{"name": "b", "image": "1"}])), &manager("y", false)).unwrap();
        let three =
            apply(kind, &two, &spec(json!([{"name": "a", "image": "2"}])), &manager("x", false)).unwrap();
        let containers = &three["spec"]["template"]["spec"]["containers"];
        assert_eq!(*containers, json!([{"name": "a", "image": "2"}, {"name": "b", "image": "1"}]));
    }
}
