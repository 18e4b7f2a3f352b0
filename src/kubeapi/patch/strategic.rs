//! Strategic merge patches: lists are merged by keys, and `$`-directives replace, remove and order
//! (Kubernetes, "Update API Objects in Place Using kubectl patch").

use serde_json::{Map, Value};

use super::lists::{ListType, list_type};
use crate::kubeapi::status::{Result, Status};

/// Merges a patch into an object of a kind.
///
/// # Errors
/// 400 where a directive makes no sense.
pub fn merge(kind: &str, object: &mut Value, patch: &Value) -> Result<()> {
    let Some(patch) = patch.as_object() else {
        return Err(Status::bad_request("a strategic merge patch must be an object"));
    };
    merge_map(kind, object, patch)
}

fn merge_map(kind: &str, object: &mut Value, patch: &Map<String, Value>) -> Result<()> {
    let plain = || patch.iter().filter(|(field, _)| !field.starts_with('$'));
    match patch.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            *object = Value::Object(plain().map(|(f, v)| (f.clone(), v.clone())).collect());
            return Ok(());
        }
        Some("delete") => {
            *object = Value::Object(Map::new());
            return Ok(());
        }
        Some("merge") | None => {}
        Some(other) => return Err(Status::bad_request(format!("unknown $patch directive {other:?}"))),
    }
    let map = crate::kubeapi::meta::map(object);
    if let Some(kept) = patch.get("$retainKeys").and_then(Value::as_array) {
        map.retain(|field, _| kept.iter().any(|k| k.as_str() == Some(field)));
    }
    for (field, value) in plain() {
        merge_field(kind, map, field, value)?;
    }
    for (directive, value) in patch {
        if let Some(field) = directive.strip_prefix("$deleteFromPrimitiveList/") {
            let gone = value.as_array().map_or(&[][..], Vec::as_slice);
            if let Some(list) = map.get_mut(field).and_then(Value::as_array_mut) {
                list.retain(|item| !gone.contains(item));
            }
        } else if let Some(field) = directive.strip_prefix("$setElementOrder/")
            && let (Some(list), Some(order)) =
                (map.get_mut(field).and_then(Value::as_array_mut), value.as_array())
        {
            sort(kind, field, list, order);
        }
    }
    Ok(())
}

fn merge_field(kind: &str, map: &mut Map<String, Value>, field: &str, value: &Value) -> Result<()> {
    match value {
        Value::Null => {
            map.remove(field);
        }
        Value::Object(patch) => {
            let slot = map.entry(field.to_owned()).or_insert(Value::Null);
            merge_map(kind, slot, patch)?;
        }
        Value::Array(patch) => {
            let slot = map.entry(field.to_owned()).or_insert_with(|| Value::Array(Vec::new()));
            if !slot.is_array() {
                *slot = Value::Array(Vec::new());
            }
            if let Some(list) = slot.as_array_mut() {
                merge_list(kind, field, list, patch)?;
            }
        }
        other => {
            map.insert(field.to_owned(), other.clone());
        }
    }
    Ok(())
}

fn merge_list(kind: &str, field: &str, list: &mut Vec<Value>, patch: &[Value]) -> Result<()> {
    match list_type(kind, field) {
        ListType::Atomic => *list = patch.to_vec(),
        ListType::Set => {
            for item in patch {
                if !list.contains(item) {
                    list.push(item.clone());
                }
            }
        }
        ListType::Map(_, key) => {
            let replaces = patch.iter().any(|i| i.get("$patch").and_then(Value::as_str) == Some("replace"));
            if replaces {
                list.clear();
            }
            let before = list.clone();
            for item in patch {
                merge_item(kind, key, list, item)?;
            }
            order(key, list, &before, patch);
        }
    }
    Ok(())
}

fn merge_item(kind: &str, key: &str, list: &mut Vec<Value>, item: &Value) -> Result<()> {
    let Some(fields) = item.as_object() else {
        return Err(Status::bad_request("the items of this list must be objects"));
    };
    let Some(wanted) = fields.get(key) else {
        return match fields.get("$patch").and_then(Value::as_str) {
            Some("replace") => Ok(()),
            _ => Err(Status::bad_request(format!("map: {item} does not contain declared merge key: {key}"))),
        };
    };
    let at = list.iter().position(|other| other.get(key) == Some(wanted));
    if fields.get("$patch").and_then(Value::as_str) == Some("delete") {
        list.retain(|other| other.get(key) != Some(wanted));
        return Ok(());
    }
    match at.and_then(|at| list.get_mut(at)) {
        Some(there) => merge_map(kind, there, fields),
        None => {
            let mut made = Value::Object(Map::new());
            merge_map(kind, &mut made, fields)?;
            list.push(made);
            Ok(())
        }
    }
}

/// What the patch names comes in its order, and before what it does not name, but where both were there
/// before and had another order.
fn order(key: &str, list: &mut Vec<Value>, before: &[Value], patch: &[Value]) {
    let place = |of: &[Value], item: &Value| of.iter().position(|other| other.get(key) == item.get(key));
    let (mut named, others): (Vec<Value>, Vec<Value>) =
        list.drain(..).partition(|item| place(patch, item).is_some());
    named.sort_by_key(|item| place(patch, item));
    let mut named = named.into_iter().peekable();
    for other in others {
        while let Some(next) = named.next_if(|next| match (place(before, &other), place(before, next)) {
            (Some(other), Some(next)) => other > next,
            _ => true,
        }) {
            list.push(next);
        }
        list.push(other);
    }
    list.extend(named);
}

/// Those that the order names, in its order, each in the place of such a one; others stay.
fn sort(kind: &str, field: &str, list: &mut [Value], order: &[Value]) {
    let ListType::Map(_, key) = list_type(kind, field) else {
        let place = |item: &Value| order.iter().position(|o| o == item);
        return reorder(list, place);
    };
    reorder(list, |item| order.iter().position(|o| o.get(key).is_some() && o.get(key) == item.get(key)));
}

fn reorder(list: &mut [Value], place: impl Fn(&Value) -> Option<usize>) {
    let slots: Vec<usize> =
        list.iter().enumerate().filter(|(_, item)| place(item).is_some()).map(|(at, _)| at).collect();
    let mut sorted: Vec<Value> = slots.iter().filter_map(|at| list.get(*at).cloned()).collect();
    sorted.sort_by_key(|item| place(item));
    for (at, item) in slots.into_iter().zip(sorted) {
        if let Some(slot) = list.get_mut(at) {
            *slot = item;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(object: &Value, patch: &Value) -> Value {
        let mut object = object.clone();
        merge("Deployment", &mut object, patch).unwrap();
        object
    }

    #[test]
    fn lists_of_objects_are_merged_by_their_key() {
        let object = json!({"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]});
        let patch = json!({"containers": [
            {"name": "a", "image": "2", "env": [{"name": "Y", "value": "2"}, {"name": "X", "$patch": "delete"}]},
            {"name": "c"},
        ], "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}]});
        let wanted = json!({"containers": [
            {"name": "c"}, {"name": "a", "image": "2", "env": [{"name": "Y", "value": "2"}]}, {"name": "b"},
        ]});
        assert_eq!(patched(&object, &patch), wanted);
    }

    #[test]
    fn directives_replace_retain_and_remove() {
        let object = json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}, "finalizers": ["a", "b"], "args": ["x"], "labels": {"a": "1", "b": "2"}});
        let patch = json!({
            "strategy": {"$retainKeys": ["type"], "type": "Recreate"}, "args": ["y"],
            "$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"], "labels": {"a": null, "$patch": "merge"},
        });
        let wanted = json!({"strategy": {"type": "Recreate"}, "finalizers": ["b", "c"], "args": ["y"], "labels": {"b": "2"}});
        assert_eq!(patched(&object, &patch), wanted);
        assert_eq!(
            patched(&object, &json!({"labels": {"$patch": "replace", "z": "1"}}))["labels"],
            json!({"z": "1"})
        );
    }
}
