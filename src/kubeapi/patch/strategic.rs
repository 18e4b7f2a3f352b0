//! Strategic merge patches: lists are merged by keys, and `$`-directives replace, remove and order
//! (Kubernetes, "Update API Objects in Place Using kubectl patch").

use serde_json::{Map, Value};

use super::{go, lists::Sort};
use crate::schema::types::{Field, Shape};
use crate::status::{Result, Status};

/// Merges a patch into an object of a kind.
///
/// # Errors
/// 400 where a directive makes no sense.
pub fn merge(kind: &str, object: &mut Value, patch: &Value) -> Result<()> {
    merge_map(Sort::of_kind(kind), object, patch.as_object().unwrap_or(&Map::new()))
}

fn merge_map(sort: Sort, object: &mut Value, patch: &Map<String, Value>) -> Result<()> {
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
        Some(other) => {
            let shown = go(&Value::Object(patch.clone()));
            return Err(Status::plain(format!("unknown patch type: {other} in map: {shown}")));
        }
    }
    let map = crate::meta::map(object);
    if let Some(kept) = patch.get("$retainKeys").and_then(Value::as_array) {
        map.retain(|field, _| kept.iter().any(|k| k.as_str() == Some(field)));
    }
    for (field, value) in plain() {
        merge_field(sort, map, field, value)?;
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
            self::sort(sort, field, list, order);
        }
    }
    Ok(())
}

fn merge_field(sort: Sort, map: &mut Map<String, Value>, name: &str, value: &Value) -> Result<()> {
    let field = field_of(sort, name);
    // Whether an apply takes it as one value does not matter here.
    let below = field.map_or_else(|| sort.below(name).unwrap_or(Sort::Leaf), |f| Sort::of_shape(&f.shape));
    match value {
        Value::Null => {
            map.remove(name);
        }
        // Where there is nothing to replace or to delete, a directive makes nothing.
        Value::Object(patch)
            if patch.contains_key("$patch") && !map.get(name).is_some_and(Value::is_object) =>
        {
            map.remove(name);
        }
        Value::Object(patch) => {
            let slot = map.entry(name.to_owned()).or_insert(Value::Null);
            merge_map(below, slot, patch)?;
        }
        Value::Array(patch) => {
            let slot = map.entry(name.to_owned()).or_insert_with(|| Value::Array(Vec::new()));
            if !slot.is_array() {
                *slot = Value::Array(Vec::new());
            }
            if let Some(list) = slot.as_array_mut() {
                merge_list(field, list, patch)?;
            }
        }
        other => {
            map.insert(name.to_owned(), other.clone());
        }
    }
    Ok(())
}

fn field_of(sort: Sort, name: &str) -> Option<&'static Field> {
    match sort {
        Sort::Struct(of) => of.field(name),
        _ => None,
    }
}

/// The type of a list's items.
fn item_of(field: Option<&'static Field>) -> Sort {
    match field.map(|field| &field.shape) {
        Some(Shape::List(item)) => Sort::of_shape(item),
        _ => Sort::Leaf,
    }
}

fn merge_list(field: Option<&'static Field>, list: &mut Vec<Value>, patch: &[Value]) -> Result<()> {
    match field.and_then(|field| field.merge) {
        None => *list = patch.to_vec(),
        Some("set") => {
            for item in patch {
                if !list.contains(item) {
                    list.push(item.clone());
                }
            }
        }
        Some(key) => {
            let replaces = patch.iter().any(|i| i.get("$patch").and_then(Value::as_str) == Some("replace"));
            if replaces {
                list.clear();
            }
            let before = list.clone();
            for item in patch {
                merge_item(item_of(field), key, list, item)?;
            }
            order(key, list, &before, patch);
        }
    }
    Ok(())
}

fn merge_item(sort: Sort, key: &str, list: &mut Vec<Value>, item: &Value) -> Result<()> {
    let missing = || Status::plain(format!("map: {} does not contain declared merge key: {key}", go(item)));
    let Some(fields) = item.as_object() else { return Err(missing()) };
    let Some(wanted) = fields.get(key) else {
        return match fields.get("$patch").and_then(Value::as_str) {
            Some("replace") => Ok(()),
            _ => Err(missing()),
        };
    };
    let at = list.iter().position(|other| other.get(key) == Some(wanted));
    if fields.get("$patch").and_then(Value::as_str) == Some("delete") {
        list.retain(|other| other.get(key) != Some(wanted));
        return Ok(());
    }
    match at.and_then(|at| list.get_mut(at)) {
        Some(there) => merge_map(sort, there, fields),
        None => {
            let mut made = Value::Object(Map::new());
            merge_map(sort, &mut made, fields)?;
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
fn sort(sort: Sort, field: &str, list: &mut [Value], order: &[Value]) {
    let Some(key) = field_of(sort, field).and_then(|field| field.merge).filter(|key| *key != "set") else {
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

    fn patched(kind: &str, object: &Value, patch: &Value) -> Value {
        let mut object = object.clone();
        merge(kind, &mut object, patch).unwrap();
        object
    }

    #[test]
    fn lists_of_objects_are_merged_by_their_key() {
        let object = json!({"spec": {"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]}});
        let patch = json!({"spec": {"containers": [
            {"name": "a", "image": "2", "env": [{"name": "Y", "value": "2"}, {"name": "X", "$patch": "delete"}]},
            {"name": "c"},
        ], "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}]}});
        let wanted = json!({"spec": {"containers": [
            {"name": "c"}, {"name": "a", "image": "2", "env": [{"name": "Y", "value": "2"}]}, {"name": "b"},
        ]}});
        assert_eq!(patched("Pod", &object, &patch), wanted);
    }

    #[test]
    fn directives_replace_retain_and_remove() {
        let object = json!({
            "metadata": {"finalizers": ["a", "b"], "labels": {"a": "1", "b": "2"}},
            "spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}},
        });
        let patch = json!({
            "metadata": {
                "$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"], "labels": {"a": null},
            },
            "spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}},
        });
        let wanted = json!({
            "metadata": {"finalizers": ["b", "c"], "labels": {"b": "2"}},
            "spec": {"strategy": {"type": "Recreate"}},
        });
        assert_eq!(patched("Deployment", &object, &patch), wanted);
        let replaced =
            patched("Deployment", &object, &json!({"metadata": {"labels": {"$patch": "replace", "z": "1"}}}));
        assert_eq!(replaced["metadata"]["labels"], json!({"z": "1"}));
    }

    #[test]
    fn a_list_without_a_key_is_replaced() {
        let object =
            json!({"spec": {"containers": [{"name": "a", "args": ["x"]}], "tolerations": [{"key": "a"}]}});
        let patch =
            json!({"spec": {"containers": [{"name": "a", "args": ["y"]}], "tolerations": [{"key": "b"}]}});
        assert_eq!(patched("Pod", &object, &patch), patch);
    }
}
