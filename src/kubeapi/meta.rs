//! Reading and writing the metadata of objects that are kept as JSON.

use serde_json::{Map, Value};

/// A string below `metadata`, empty if it is not there.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get("metadata").and_then(|m| m.get(field)).and_then(Value::as_str).unwrap_or_default()
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    text(object, "name")
}

/// The `name` of a part of an object.
pub fn name_of(part: &Value) -> &str {
    part.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// `metadata.namespace`.
pub fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

/// `metadata.uid`.
pub fn uid(object: &Value) -> &str {
    text(object, "uid")
}

/// Whether its deletion has begun.
pub fn deleting(object: &Value) -> bool {
    !text(object, "deletionTimestamp").is_empty()
}

/// A value by its path, `null` if it is not there.
pub fn at<'a>(object: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().try_fold(object, |value, step| value.get(step)).unwrap_or(&Value::Null)
}

/// A number by its path.
pub fn number(object: &Value, path: &[&str]) -> Option<i64> {
    at(object, path).as_i64()
}

/// A string by its path, empty if it is not there.
pub fn string<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    at(object, path).as_str().unwrap_or_default()
}

/// The items of an array by its path; none if it is not there.
pub fn items<'a>(object: &'a Value, path: &[&str]) -> &'a [Value] {
    at(object, path).as_array().map_or(&[], Vec::as_slice)
}

/// The object's map, made if it is none.
pub fn map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        // Made just now.
        _ => unreachable!("an object"),
    }
}

/// A map below a map, made if it is not there.
pub fn child<'a>(value: &'a mut Value, field: &str) -> &'a mut Value {
    let slot = map(value).entry(field).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Object(Map::new());
    }
    slot
}

/// Sets a field of `metadata`.
pub fn set(object: &mut Value, field: &str, value: impl Into<Value>) {
    map(child(object, "metadata")).insert(field.to_owned(), value.into());
}

/// Removes a field of `metadata`.
pub fn unset(object: &mut Value, field: &str) {
    map(child(object, "metadata")).remove(field);
}

/// The strings of a list below `metadata`.
pub fn list<'a>(object: &'a Value, field: &str) -> Vec<&'a str> {
    items(object, &["metadata", field]).iter().filter_map(Value::as_str).collect()
}

/// The reference to the owner that controls it.
pub fn controller(object: &Value) -> Option<&Value> {
    items(object, &["metadata", "ownerReferences"])
        .iter()
        .find(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true))
}

/// Now, in whole seconds, as `metadata` has it.
pub fn now() -> String {
    seconds(jiff::Timestamp::now())
}

/// A time in whole seconds, as `metadata` has it.
pub fn seconds(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A random identifier (RFC 9562, version 4).
pub fn new_uid() -> String {
    let bits = (rand::random::<u128>() & !(0xF << 76 | 0x3 << 62)) | (4 << 76) | (2 << 62);
    let hex = format!("{bits:032x}");
    let part = |from, to| hex.get(from..to).unwrap_or_default().to_owned();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

/// Letters and digits that form no words, as Kubernetes has them in generated names.
pub fn suffix(length: usize) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..length)
        .filter_map(|_| LETTERS.get(rand::random_range(0..LETTERS.len())).map(|b| char::from(*b)))
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn identifiers_are_of_version_4() {
        let uid = super::new_uid();
        assert_eq!((uid.len(), uid.get(14..15)), (36, Some("4")), "{uid}");
        assert!(matches!(uid.get(19..20), Some("8" | "9" | "a" | "b")), "{uid}");
    }
}
