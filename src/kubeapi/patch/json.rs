//! JSON patches (RFC 6902) as the API server's library reads them: like the standard, but a `replace` of
//! an object's field that is not there adds it, and copies have a bound, since each may double an object.

use serde_json::Value;

/// Length of all that the steps of a patch copy, in bytes of JSON.
const COPIED: usize = 3 << 20;

/// Applies the steps of a patch, all or none; `None` if it cannot be.
pub fn patch(object: &mut Value, steps: &Value) -> Option<()> {
    let mut changed = object.clone();
    let mut copied = 0;
    for step in steps.as_array()? {
        if step.get("op").and_then(Value::as_str) == Some("copy") {
            let from = changed.pointer(step.get("from")?.as_str()?)?;
            copied += from.to_string().len();
            (copied <= COPIED).then_some(())?;
        }
        one(&mut changed, step)?;
    }
    *object = changed;
    Some(())
}

fn one(object: &mut Value, step: &Value) -> Option<()> {
    let mut step = step.clone();
    let path = step.get("path").and_then(Value::as_str).unwrap_or_default().to_owned();
    let replaces = step.get("op").and_then(Value::as_str) == Some("replace");
    if replaces && object.pointer(&path).is_none() {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        object.pointer(parent)?.as_object()?;
        step.as_object_mut()?.insert("op".into(), "add".into());
    }
    let patch: json_patch::Patch = serde_json::from_value(Value::Array(vec![step])).ok()?;
    json_patch::patch(object, &patch).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_patch_is_applied_as_a_whole_or_not_at_all() {
        let mut object = json!({"a": 1});
        assert!(
            patch(
                &mut object,
                &json!([{"op": "remove", "path": "/a"}, {"op": "test", "path": "/b", "value": 1}])
            )
            .is_none()
        );
        assert_eq!(object, json!({"a": 1}));
        assert!(patch(&mut object, &json!([{"op": "replace", "path": "/b", "value": 2}])).is_some());
        assert_eq!(object, json!({"a": 1, "b": 2}));
        assert!(patch(&mut object, &json!([{"op": "nonsense", "path": "/b"}])).is_none());
        assert!(patch(&mut object, &json!([{"op": "copy", "from": "/b", "path": "/c"}])).is_some());
        assert_eq!(object, json!({"a": 1, "b": 2, "c": 2}));
        assert!(patch(&mut object, &json!([{"op": "replace", "path": "/x/y", "value": 2}])).is_none());
    }

    #[test]
    fn an_object_cannot_be_doubled_without_end() {
        let mut object = json!({"a": ["x".repeat(1000)]});
        let doubles: Vec<Value> =
            (0..40).map(|_| json!({"op": "copy", "from": "/a", "path": "/a/-"})).collect();
        assert!(patch(&mut object, &json!(doubles)).is_none());
        assert!(patch(&mut object, &json!(&doubles[..10])).is_some());
    }
}
