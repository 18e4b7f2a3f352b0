//! What a client is warned of although its request is done (the header `Warning`, RFC 7234, section 5.5): likely mistakes, in
//! the words of Kubernetes, and fields that this cluster accepts without acting on them.

mod find;
mod kubernetes;
mod pod;
#[cfg(test)]
mod tests;
pub mod unsupported;

use std::collections::HashSet;

use d2k_engine::Feature;
use serde_json::Value;

use super::kinds::Kind;
use super::meta;

/// Length of all texts of an answer, in characters; with more, each is cut.
const MOST: usize = 4096;
/// Length of a text that is cut.
const CUT: usize = 256;

/// The warnings about an object that a client has written; `old` is what it replaces, and `lacks` are the features that the
/// engine does not have.
pub fn of(kind: &Kind, object: &Value, old: Option<&Value>, lacks: &[Feature]) -> Vec<String> {
    let changes = old.is_none_or(|old| changes(kind, object, old));
    let mut all = Vec::new();
    // Kubernetes looks at a Service at each write.
    if changes || kind.name == "Service" {
        all.extend(kubernetes::of(kind, object, old));
    }
    if changes {
        all.extend(unsupported::of(kind, object, lacks));
    }
    all
}

/// Whether an update changes what is wanted; others are not looked at, as in Kubernetes.
fn changes(kind: &Kind, object: &Value, old: &Value) -> bool {
    let differs = |path: &[&str]| meta::at(object, path) != meta::at(old, path);
    match kind.name {
        // Controllers write the fields of theirs that change.
        "Pod" | "PersistentVolumeClaim" | "PersistentVolume" => false,
        "DaemonSet" => differs(&["spec", "template"]),
        "Namespace" => differs(&["metadata", "labels"]),
        _ => differs(&["spec"]),
    }
}

/// Each text once, and together as long as Kubernetes sends them.
pub fn bounded(texts: &[String]) -> Vec<String> {
    let mut seen = HashSet::new();
    let texts: Vec<&String> = texts.iter().filter(|text| !text.is_empty() && seen.insert(*text)).collect();
    let length = |text: &str| text.chars().count();
    if texts.iter().map(|text| length(text)).sum::<usize>() <= MOST {
        return texts.into_iter().cloned().collect();
    }
    let mut written = 0;
    let mut all = Vec::new();
    for text in texts {
        if written >= MOST {
            break;
        }
        let cut: String = text.chars().take(CUT).collect();
        written += length(&cut);
        all.push(cut);
    }
    all
}
