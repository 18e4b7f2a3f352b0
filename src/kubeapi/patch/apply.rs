//! Server-side apply and the record of who owns which field (KEP-555): conflicts, removal of what a
//! manager does not apply any more, and the ownership that every other write takes.

use serde_json::{Map, Value, json};

use super::fields::{self, Fields};
use super::lists::{ListType, is_atomic, list_type};
use crate::kubeapi::kinds::Kind;
use crate::kubeapi::meta;
use crate::kubeapi::status::{Result, Status};

/// Who writes, and how.
#[derive(Debug, Clone, Default)]
pub struct Manager {
    /// `fieldManager`, or the client's own name.
    pub name: String,
    /// Takes fields from others.
    pub force: bool,
    /// Subresource that is written, empty for the object itself.
    pub subresource: String,
}

/// Applies a configuration to an object (`null` if it is to be made).
///
/// # Errors
/// 409 with every conflict.
pub fn apply(kind: &Kind, live: &Value, applied: &Value, manager: &Manager) -> Result<Value> {
    let set = fields::of(kind.name, applied);
    let mut entries = entries(live);
    if entries.is_empty() && !live.is_null() {
        let before = Manager { name: "before-first-apply".into(), ..Manager::default() };
        entries.push(Entry::new(kind, &before, false, fields::of(kind.name, live)));
    }
    let mine = |entry: &Entry| {
        entry.applies && entry.manager == manager.name && entry.subresource == manager.subresource
    };
    let conflicts: Vec<(String, Vec<String>)> = entries
        .iter()
        .filter(|entry| !mine(entry))
        .map(|entry| (entry.words(), differing(&fields::intersection(&set, &entry.fields), live, applied)))
        .filter(|(_, paths)| !paths.is_empty())
        .collect();
    if !conflicts.is_empty() && !manager.force {
        return Err(conflict(&conflicts));
    }
    let before = entries.iter().find(|e| mine(e)).map(|e| e.fields.clone()).unwrap_or_default();
    entries.retain(|entry| !mine(entry));
    let mut gone = fields::difference(&before, &set);
    for entry in &entries {
        gone = fields::difference(&gone, &entry.fields);
    }
    let mut object = if live.is_null() { json!({}) } else { live.clone() };
    remove(&mut object, &gone);
    if let Some(patch) = applied.as_object() {
        merge_map(kind.name, &mut object, patch);
    }
    if manager.force {
        let taken = fields::changed(kind.name, live, &object);
        for entry in &mut entries {
            let lost = fields::intersection(&fields::intersection(&set, &taken), &entry.fields);
            entry.fields = fields::difference(&entry.fields, &lost);
        }
    }
    entries.push(Entry::new(kind, manager, true, set));
    write(&mut object, entries);
    Ok(object)
}

/// Notes what a write that is no apply has changed.
pub fn track(kind: &Kind, old: &Value, new: &mut Value, manager: &Manager) {
    let mut entries = entries(if old.is_null() { new } else { old });
    if old.is_null() {
        entries.clear();
    } else if entries.is_empty() {
        // Nobody owns anything any more: that stays so until somebody applies.
        return;
    }
    let changed = fields::changed(kind.name, old, new);
    let all = fields::of(kind.name, new);
    let mine = |entry: &Entry| {
        !entry.applies && entry.manager == manager.name && entry.subresource == manager.subresource
    };
    for entry in &mut entries {
        if !mine(entry) {
            entry.fields = fields::difference(&entry.fields, &changed);
        }
        entry.fields = present(&entry.fields, &all);
    }
    if !changed.is_empty() {
        let mut entry = Entry::new(kind, manager, false, changed);
        if let Some(at) = entries.iter().position(mine) {
            entry.fields = fields::union(&entries.remove(at).fields, &entry.fields);
        }
        entries.push(entry);
    }
    write(new, entries);
}

/// What of a set is still there.
fn present(set: &Fields, all: &Fields) -> Fields {
    set.iter()
        .filter_map(|(step, below)| {
            let now = all.get(step)?.as_object()?;
            let below = below.as_object()?;
            let kept = if below.is_empty() || now.is_empty() { Fields::new() } else { present(below, now) };
            Some((step.clone(), Value::Object(kept)))
        })
        .collect()
}

/// The paths of a set whose values are not the same in both objects.
fn differing(set: &Fields, live: &Value, applied: &Value) -> Vec<String> {
    fields::paths(&unequal(set, live, applied))
}

fn unequal(set: &Fields, live: &Value, applied: &Value) -> Fields {
    let mut all = Fields::new();
    for (step, below) in set {
        if step == "." {
            continue;
        }
        let (Some(left), Some(right)) = (fields::step(live, step), fields::step(applied, step)) else {
            continue;
        };
        match below.as_object() {
            Some(below) if !below.is_empty() => {
                let below = unequal(below, left, right);
                if !below.is_empty() {
                    all.insert(step.clone(), Value::Object(below));
                }
            }
            _ if left != right => {
                all.insert(step.clone(), Value::Object(Fields::new()));
            }
            _ => {}
        }
    }
    all
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

fn merge_map(kind: &str, object: &mut Value, patch: &Map<String, Value>) {
    let map = meta::map(object);
    for (field, value) in patch {
        match value {
            Value::Object(below) if !is_atomic(field) => {
                merge_map(kind, map.entry(field.clone()).or_insert(Value::Null), below);
            }
            Value::Array(items) => {
                let slot = map.entry(field.clone()).or_insert(Value::Null);
                merge_list(kind, field, slot, items);
            }
            other => {
                map.insert(field.clone(), other.clone());
            }
        }
    }
}

fn merge_list(kind: &str, field: &str, slot: &mut Value, items: &[Value]) {
    let list = match (list_type(kind, field), slot.as_array_mut()) {
        (ListType::Atomic, _) | (_, None) => {
            *slot = Value::Array(items.to_vec());
            return;
        }
        (_, Some(list)) => list,
    };
    for item in items {
        let at = match list_type(kind, field) {
            ListType::Map(keys, _) => {
                let wanted = super::lists::keys_of(item, keys);
                list.iter().position(|other| super::lists::keys_of(other, keys) == wanted)
            }
            _ => list.iter().position(|other| other == item),
        };
        match (at.and_then(|at| list.get_mut(at)), item.as_object()) {
            (Some(there), Some(patch)) => merge_map(kind, there, patch),
            (Some(_), None) => {}
            (None, _) => list.push(item.clone()),
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
        .filter(|entry| entry.fields.values().any(|below| below.as_object().is_some_and(|b| !b.is_empty())))
        .map(|entry| {
            let mut value = json!({
                "manager": entry.manager, "operation": if entry.applies { "Apply" } else { "Update" },
                "apiVersion": entry.api_version, "time": entry.time, "fieldsType": "FieldsV1",
                "fieldsV1": entry.fields,
            });
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
    use crate::kubeapi::kinds::by_name;

    fn manager(name: &str, force: bool) -> Manager {
        Manager { name: name.into(), force, ..Manager::default() }
    }

    fn config(data: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data})
    }

    #[test]
    fn what_is_not_applied_any_more_goes_unless_another_owns_it() {
        let kind = by_name("", "ConfigMap").unwrap();
        let one =
            apply(kind, &Value::Null, &config(json!({"a": "1", "b": "1"})), &manager("x", false)).unwrap();
        let two = apply(kind, &one, &config(json!({"b": "1"})), &manager("y", false)).unwrap();
        let three = apply(kind, &two, &config(json!({"c": "1"})), &manager("x", false)).unwrap();
        assert_eq!(three["data"], json!({"b": "1", "c": "1"}));
    }

    #[test]
    fn a_value_of_another_is_a_conflict_unless_forced() {
        let kind = by_name("", "ConfigMap").unwrap();
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
        let kind = by_name("apps", "Deployment").unwrap();
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
