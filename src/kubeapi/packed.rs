//! Objects as the store keeps them, and their JSON text. The record of who owns which field (`managedFields`) is half of an
//! object's memory as a tree of JSON values and is read by writes only, so the store keeps it as text: a string in its
//! place. Answers and the journal have it as Kubernetes does, without a copy of the object.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::meta;

/// Its field below `metadata`.
const MANAGED: &str = "managedFields";

/// Makes text of the record of owners.
pub fn pack(object: &mut Value) {
    if let Some(slot) = object.pointer_mut("/metadata/managedFields")
        && slot.is_array()
    {
        *slot = Value::String(slot.to_string());
    }
}

/// A copy that has the record of owners as a list.
pub fn unpacked(object: &Value) -> Value {
    let mut object = object.clone();
    unpack(&mut object);
    object
}

/// Makes a list of the record of owners again.
pub fn unpack(object: &mut Value) {
    if let Some(slot) = object.pointer_mut("/metadata/managedFields")
        && let Some(list) = list(slot)
    {
        *slot = list;
    }
}

/// The metadata of an object alone.
pub fn metadata_only(object: &Value) -> Value {
    let mut part = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"});
    let metadata = object.get("metadata").cloned().unwrap_or(Value::Null);
    meta::map(&mut part).insert("metadata".into(), metadata);
    unpack(&mut part);
    part
}

/// The list that a text holds.
fn list(slot: &Value) -> Option<Value> {
    serde_json::from_str(slot.as_str()?).ok()
}

/// Whether two objects are equal but for their versions and the times at which managers wrote.
pub fn same(one: &Value, other: &Value) -> bool {
    same_fields(one, other, &["metadata"])
        && same_fields(
            meta::at(one, &["metadata"]),
            meta::at(other, &["metadata"]),
            &["resourceVersion", MANAGED],
        )
        && without_times(one) == without_times(other)
}

/// Whether two maps are equal but for these fields.
fn same_fields(one: &Value, other: &Value, except: &[&str]) -> bool {
    let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else { return one == other };
    let left = |map: &serde_json::Map<String, Value>| {
        map.keys().filter(|key| !except.contains(&key.as_str())).count()
    };
    left(one) == left(other)
        && one.iter().all(|(key, value)| except.contains(&key.as_str()) || other.get(key) == Some(value))
}

fn without_times(object: &Value) -> Value {
    let record = meta::at(object, &["metadata", MANAGED]);
    let mut record = list(record).unwrap_or_else(|| record.clone());
    for entry in record.as_array_mut().into_iter().flatten() {
        meta::map(entry).remove("time");
    }
    record
}

/// An object in an answer.
#[derive(Debug, Clone, Copy)]
pub struct Wire<'a> {
    object: &'a Value,
    typed: bool,
}

impl<'a> Wire<'a> {
    /// The whole object.
    pub fn whole(object: &'a Value) -> Self {
        Self { object, typed: true }
    }

    /// An item of a list, which does not say its kind.
    pub fn item(object: &'a Value) -> Self {
        Self { object, typed: false }
    }

    /// Its text.
    pub fn text(self) -> String {
        // A map with keys that are strings cannot fail.
        serde_json::to_string(&self).unwrap_or_default()
    }
}

impl Serialize for Wire<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(map) = self.object.as_object() else { return self.object.serialize(serializer) };
        let mut out = serializer.serialize_map(None)?;
        for (key, value) in map {
            match key.as_str() {
                "metadata" => out.serialize_entry(key, &Metadata(value))?,
                "kind" | "apiVersion" if !self.typed => {}
                _ => out.serialize_entry(key, value)?,
            }
        }
        out.end()
    }
}

/// An object's metadata in an answer.
struct Metadata<'a>(&'a Value);

impl Serialize for Metadata<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(map) = self.0.as_object() else { return self.0.serialize(serializer) };
        let mut out = serializer.serialize_map(Some(map.len()))?;
        for (key, value) in map {
            let packed = value.as_str().filter(|_| key == MANAGED);
            match packed.and_then(|text| serde_json::from_str::<&RawValue>(text).ok()) {
                Some(record) => out.serialize_entry(key, record)?,
                None => out.serialize_entry(key, value)?,
            }
        }
        out.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(time: &str, owner: &str) -> Value {
        json!({
            "kind": "ConfigMap", "apiVersion": "v1", "data": {"managedFields": "[1]"},
            "metadata": {"name": "a", "resourceVersion": time, "managedFields": [
                {"manager": owner, "time": time, "fieldsV1": {"f:data": {}}},
            ]},
        })
    }

    #[test]
    fn a_packed_object_has_the_text_of_the_whole_one() {
        let whole = object("1", "x");
        let mut packed = whole.clone();
        pack(&mut packed);
        assert!(packed["metadata"]["managedFields"].is_string());
        assert_eq!(packed["data"]["managedFields"], "[1]");
        assert_eq!(serde_json::from_str::<Value>(&Wire::whole(&packed).text()).unwrap(), whole);
        assert_eq!(unpacked(&packed), whole);
        let item: Value = serde_json::from_str(&Wire::item(&packed).text()).unwrap();
        assert_eq!(item.as_object().unwrap().keys().collect::<Vec<_>>(), ["data", "metadata"]);
        assert_eq!(item["metadata"], whole["metadata"]);
    }

    #[test]
    fn times_and_versions_make_no_difference_and_owners_do() {
        let mut packed = object("1", "x");
        pack(&mut packed);
        assert!(same(&packed, &object("2", "x")));
        assert!(!same(&packed, &object("1", "y")));
        let mut other = object("1", "x");
        other["data"]["more"] = json!(1);
        assert!(!same(&packed, &other) && !same(&other, &packed));
        assert!(!same(&json!({"metadata": {}}), &json!({"metadata": {"name": "a"}})));
    }
}
