//! Checks of a Pod's volumes.

use std::collections::BTreeSet;

use serde_json::Value;

use super::names;
use crate::meta;
use crate::status::Cause;

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
