//! JSON merge patches (RFC 7386) of policies, and what they may not touch.

pub use json_patch::merge;
use serde_json::Value;

/// Why a patch may not be; the policy that gave it is the subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// It changes a field by which d2k and Kubernetes know the object.
    #[error("its patch changes {0}, which is not its to change")]
    Field(&'static str),
    /// It changes a label or an annotation of d2k.
    #[error("its patch changes {0}, which is d2k's own")]
    Note(String),
    /// It drops all labels, or all annotations.
    #[error("its patch drops all of {0}, d2k's own among them")]
    Notes(String),
    /// It would take the place of the whole object.
    #[error("its patch is no object")]
    NoObject,
}

/// Refuses patches of what d2k itself goes by.
///
/// # Errors
/// The field, in words.
pub fn allowed(patch: &Value) -> Result<(), NotAllowed> {
    let ours = ["/apiVersion", "/kind", "/status", "/metadata/name", "/metadata/namespace", "/spec/selector"];
    if let Some(field) = ours.iter().find(|field| patch.pointer(field).is_some()) {
        return Err(NotAllowed::Field(field.trim_start_matches('/')));
    }
    let places = ["/metadata", "/spec/template/metadata"];
    let notes =
        places.iter().flat_map(|place| ["labels", "annotations"].map(|kind| format!("{place}/{kind}")));
    for place in notes {
        let names = patch.pointer(&place).and_then(Value::as_object).into_iter().flat_map(|map| map.keys());
        if let Some(name) = names.into_iter().find(|name| name.starts_with("d2k.io/")) {
            return Err(NotAllowed::Note(name.clone()));
        }
        if patch.pointer(&place).is_some_and(|value| !value.is_object()) {
            return Err(NotAllowed::Notes(place.trim_start_matches('/').to_owned()));
        }
    }
    match patch.is_object() {
        true => Ok(()),
        false => Err(NotAllowed::NoObject),
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
        for (patch, words) in [
            (
                json!({"metadata": {"name": "other"}}),
                "its patch changes metadata/name, which is not its to change",
            ),
            (
                json!({"spec": {"selector": null}}),
                "its patch changes spec/selector, which is not its to change",
            ),
            (
                json!({"metadata": {"labels": {"d2k.io/container": "x"}}}),
                "its patch changes d2k.io/container, which is d2k's own",
            ),
            (
                json!({"spec": {"template": {"metadata": {"annotations": {"d2k.io/id": null}}}}}),
                "its patch changes d2k.io/id, which is d2k's own",
            ),
            (
                json!({"metadata": {"labels": null}}),
                "its patch drops all of metadata/labels, d2k's own among them",
            ),
            (json!([]), "its patch is no object"),
        ] {
            assert_eq!(allowed(&patch).unwrap_err().to_string(), words, "{patch}");
        }
        assert_eq!(
            allowed(&json!({"metadata": {"labels": {"team": "web"}}, "spec": {"type": "ClusterIP"}})),
            Ok(())
        );
    }
}
