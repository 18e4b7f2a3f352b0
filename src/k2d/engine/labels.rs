//! The labels by which the engine knows what is whose. Identity is in labels only: names are for people.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
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
/// The Pod and the objects that own it: a list in JSON, deflated, in base64.
pub const MANIFESTS: &str = "k2d.io/manifests";
/// Most bytes of that label.
const LARGEST: usize = 64 << 10;
/// Name of the claim that a volume is for.
pub const CLAIM: &str = "k2d.io/claim";
/// What k2d needs besides containers of Pods.
pub const ROLE: &str = "k2d.io/role";
/// The container that has the network of a Pod.
pub const HOLDER: &str = "holder";
/// k2d itself.
pub const ITSELF: &str = "k2d";

/// The text of the label of these manifests; none if it would be too long.
pub fn pack(manifests: &[String]) -> Option<String> {
    let mut deflated = DeflateEncoder::new(Vec::new(), Compression::default());
    deflated.write_all(format!("[{}]", manifests.join(",")).as_bytes()).ok()?;
    let text = STANDARD.encode(deflated.finish().ok()?);
    (text.len() <= LARGEST).then_some(text)
}

/// The manifests of a label.
pub fn unpack(text: &str) -> Option<Vec<Value>> {
    let deflated = STANDARD.decode(text).ok()?;
    // A label of this length holds no more than a hundred times as much of JSON.
    let inflated = DeflateDecoder::new(deflated.as_slice()).take(100 * LARGEST as u64);
    serde_json::from_reader(inflated).ok()
}

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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn manifests_are_packed_where_they_are_not_too_long() {
        let all = [json!({"kind": "Pod"}), json!({"kind": "ReplicaSet"})];
        let packed = pack(&all.each_ref().map(Value::to_string)).unwrap();
        assert_eq!(unpack(&packed).unwrap(), all);
        assert_eq!(unpack("no base64"), None);
        // No compressor can shorten the output of a generator of random numbers (xorshift64).
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let noise: String = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            format!("{state:016x}")
        })
        .take(16 << 10)
        .collect();
        assert_eq!(pack(&[Value::String(noise).to_string()]), None);
    }
}
