//! JSON merge patches (RFC 7386) of policies, and what they may not touch.

pub use json_patch::merge;
use serde_json::Value;

/// Refuses patches of what d2k itself goes by.
///
/// # Errors
/// The field, in words.
pub fn allowed(patch: &Value) -> Result<(), String> {
    let ours = ["/apiVersion", "/kind", "/status", "/metadata/name", "/metadata/namespace", "/spec/selector"];
    if let Some(field) = ours.iter().find(|field| patch.pointer(field).is_some()) {
        return Err(format!(
            "its patch changes {}, which is not its to change",
            field.trim_start_matches('/')
        ));
    }
    let places = ["/metadata", "/spec/template/metadata"];
    let notes =
        places.iter().flat_map(|place| ["labels", "annotations"].map(|kind| format!("{place}/{kind}")));
    for place in notes {
        let names = patch.pointer(&place).and_then(Value::as_object).into_iter().flat_map(|map| map.keys());
        if let Some(name) = names.into_iter().find(|name| name.starts_with("d2k.io/")) {
            return Err(format!("its patch changes {name}, which is d2k's own"));
        }
        if patch.pointer(&place).is_some_and(|value| !value.is_object()) {
            return Err(format!(
                "its patch drops all of {}, d2k's own among them",
                place.trim_start_matches('/')
            ));
        }
    }
    match patch.is_object() {
        true => Ok(()),
        false => Err("its patch is no object".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_sets_removes_and_replaces() {
        let mut object = json!({"spec": {"type": "LoadBalancer", "ports": [1, 2], "old": 1}});
        merge(
            &mut object,
            &json!({"spec": {"type": "ClusterIP", "ports": [3], "old": null, "new": {"a": 1}}}),
        );
        assert_eq!(object, json!({"spec": {"type": "ClusterIP", "ports": [3], "new": {"a": 1}}}));
    }

    #[test]
    fn what_d2k_goes_by_is_not_to_be_patched() {
        for patch in [
            json!({"metadata": {"name": "other"}}),
            json!({"spec": {"selector": null}}),
            json!({"metadata": {"labels": {"d2k.io/container": "x"}}}),
            json!({"spec": {"template": {"metadata": {"annotations": {"d2k.io/id": null}}}}}),
            json!({"metadata": {"labels": null}}),
            json!([]),
        ] {
            assert!(allowed(&patch).is_err(), "{patch}");
        }
        assert_eq!(
            allowed(&json!({"metadata": {"labels": {"team": "web"}}, "spec": {"type": "ClusterIP"}})),
            Ok(())
        );
    }
}
