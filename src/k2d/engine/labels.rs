//! The labels by which the engine knows what is whose. Identity is in labels only: names are for people.

use std::collections::BTreeMap;

use serde_json::Value;

use super::json::{encode, text};

/// UID of the Pod.
pub const UID: &str = "k2d.io/uid";
/// Name of the Pod.
pub const POD: &str = "k2d.io/pod";
/// Namespace of the Pod.
pub const NAMESPACE: &str = "k2d.io/namespace";
/// Name of the container in the Pod.
pub const CONTAINER: &str = "k2d.io/container";
/// What k2d needs besides containers of Pods.
pub const ROLE: &str = "k2d.io/role";
/// The container that has the network of a Pod.
pub const HOLDER: &str = "holder";
/// k2d itself.
pub const ITSELF: &str = "k2d";

/// Whether a container, as listed or inspected, is one that k2d has made, or k2d.
pub fn is_ours(labels: &Value) -> bool {
    [UID, ROLE].iter().any(|label| labels.get(*label).is_some())
}

/// The labels of a list or an inspection, by name.
pub fn label<'a>(labels: &'a Value, name: &str) -> &'a str {
    text(labels, &[name])
}

/// The labels of what belongs to a Pod.
pub fn of_pod(uid: &str, namespace: &str, pod: &str) -> BTreeMap<&'static str, String> {
    BTreeMap::from([(UID, uid.to_owned()), (NAMESPACE, namespace.to_owned()), (POD, pod.to_owned())])
}

/// The query for what has a label, or a label of this value.
pub fn filter(label: &str) -> String {
    encode(&serde_json::json!({"label": [label]}).to_string())
}
