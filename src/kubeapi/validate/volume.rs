//! Checks of a Pod's volumes.

use std::collections::BTreeSet;

use serde_json::Value;

use super::names;
use crate::meta;
use crate::status::Cause;
use crate::tokens::{LIFETIME, bad_lifetime};

/// What a volume can be made of, in the order of the checks.
const SOURCES: [&str; 29] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
];

/// Checks all volumes; the names of those that are right.
pub fn all(list: &[Value], path: &str, causes: &mut Vec<Cause>) -> BTreeSet<String> {
    let mut good = BTreeSet::new();
    for (at, volume) in list.iter().enumerate() {
        let here = format!("{path}[{at}]");
        let before = causes.len();
        sources(volume, &here, causes);
        let name = meta::name_of(volume);
        names::label(name, format!("{here}.name"), causes);
        if good.contains(name) {
            causes.push(Cause::duplicate(format!("{here}.name"), &name.into()));
        }
        if causes.len() == before {
            good.insert(name.to_owned());
        }
    }
    good
}

fn sources(volume: &Value, path: &str, causes: &mut Vec<Cause>) {
    let given: Vec<&str> = SOURCES.into_iter().filter(|name| volume.get(name).is_some()).collect();
    let Some((first, others)) = given.split_first() else {
        if volume.get("image").is_none() {
            causes.push(Cause::required(path, "must specify a volume type"));
        }
        return;
    };
    source(first, meta::at(volume, &[first]), &format!("{path}.{first}"), causes);
    for other in others {
        let words = "may not specify more than 1 volume type";
        causes.push(Cause::forbidden(format!("{path}.{other}"), words));
    }
}

fn source(kind: &str, source: &Value, path: &str, causes: &mut Vec<Cause>) {
    let field = match kind {
        "configMap" => "name",
        "secret" => "secretName",
        "persistentVolumeClaim" => "claimName",
        "hostPath" => "path",
        "projected" => return projected(source, path, causes),
        _ => return,
    };
    let name = meta::string(source, &[field]);
    if name.is_empty() {
        return causes.push(Cause::required(format!("{path}.{field}"), ""));
    }
    if kind == "hostPath" {
        if name.split('/').any(|part| part == "..") {
            causes.push(Cause::invalid(format!("{path}.path"), &name.into(), "must not contain '..'"));
        }
        let known = [
            "",
            "BlockDevice",
            "CharDevice",
            "Directory",
            "DirectoryOrCreate",
            "File",
            "FileOrCreate",
            "Socket",
        ];
        let typed = meta::string(source, &["type"]);
        if !known.contains(&typed) {
            causes.push(Cause::unsupported(format!("{path}.type"), &typed.into(), &known));
        }
    }
    if let Some(mode) = meta::number(source, &["defaultMode"]).filter(|mode| !(0..=0o777).contains(mode)) {
        let words = "must be a number between 0 and 0777 (octal), both inclusive";
        causes.push(Cause::invalid(format!("{path}.defaultMode"), &mode.into(), words));
    }
    for (at, item) in meta::items(source, &["items"]).iter().enumerate() {
        for field in ["key", "path"] {
            if meta::string(item, &[field]).is_empty() {
                causes.push(Cause::required(format!("{path}.items[{at}].{field}"), ""));
            }
        }
    }
}

/// The tokens that are to be in a volume. Their paths are told as if they were the volume's, as Kubernetes does.
fn projected(source: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (at, part) in meta::items(source, &["sources"]).iter().enumerate() {
        let Some(token) = part.get("serviceAccountToken") else { continue };
        let seconds = meta::number(token, &["expirationSeconds"]).unwrap_or(LIFETIME);
        if let Some(words) = bad_lifetime(seconds) {
            let field = format!("{path}.sources[{at}].serviceAccountToken.expirationSeconds");
            causes.push(Cause::invalid(field, &seconds.into(), words));
        }
        local(meta::string(token, &["path"]), &format!("{path}.path"), causes);
    }
}

/// A path that stays within its volume.
fn local(value: &str, path: &str, causes: &mut Vec<Cause>) {
    if value.is_empty() {
        return causes.push(Cause::required(path, ""));
    }
    let mut wrong = |words: &str| causes.push(Cause::invalid(path, &value.into(), words));
    if value.starts_with('/') {
        wrong("must be a relative path");
    }
    if value.split('/').any(|part| part == "..") {
        wrong("must not contain '..'");
    }
    if value.starts_with("..") && !value.starts_with("../") {
        wrong("must not start with '..'");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tokens_live_long_enough_and_stay_in_their_volume() {
        let said = |token: Value| {
            let mut causes = Vec::new();
            projected(&json!({"sources": [{"serviceAccountToken": token}]}), "v", &mut causes);
            causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect::<Vec<_>>()
        };
        assert!(said(json!({"path": "a/b", "expirationSeconds": 600})).is_empty());
        let field = "v.sources[0].serviceAccountToken.expirationSeconds: Invalid value:";
        let wanted = format!("{field} 599: may not specify a duration less than 10 minutes");
        assert_eq!(said(json!({"path": "a", "expirationSeconds": 599})), [wanted]);
        let wanted = format!("{field} 4294967297: may not specify a duration larger than 2^32 seconds");
        assert_eq!(said(json!({"path": "a", "expirationSeconds": (1_i64 << 32) + 1})), [wanted]);
        for (path, wanted) in [
            ("", vec!["v.path: Required value"]),
            ("/a", vec!["v.path: Invalid value: \"/a\": must be a relative path"]),
            ("a/../b", vec!["v.path: Invalid value: \"a/../b\": must not contain '..'"]),
            ("..a", vec!["v.path: Invalid value: \"..a\": must not start with '..'"]),
        ] {
            assert_eq!(said(json!({"path": path})), wanted, "{path}");
        }
    }
}
