//! Label and field selectors (Kubernetes API concepts, "Labels and Selectors", "Field Selectors").

mod labels;

use serde_json::Value;

use super::kinds::Kind;
use super::meta;
use super::status::{Result, Status};

/// A selector of either sort, parsed.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, String, bool)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
    Greater(String, i64),
    Less(String, i64),
}

impl Selector {
    /// Reads both selectors of a request.
    ///
    /// # Errors
    /// 400 with what cannot be read.
    pub fn parse(labels: &str, fields: &str, kind: &Kind) -> Result<Self> {
        let labels = labels::parse(labels).map_err(|error| Status::bad_request(error.to_string()))?;
        Ok(Self { labels, fields: parse_fields(fields, kind)? })
    }

    /// Whether it takes everything.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether it takes an object.
    pub fn matches(&self, object: &Value) -> bool {
        let labels = meta::at(object, &["metadata", "labels"]);
        self.labels.iter().all(|r| r.matches(labels))
            && self.fields.iter().all(|(path, value, equal)| (field(object, path) == *value) == *equal)
    }
}

/// Whether a `LabelSelector` object (`matchLabels`, `matchExpressions`) takes labels. An empty one takes all.
pub fn label_selector_matches(selector: &Value, labels: &Value) -> bool {
    let equal = meta::at(selector, &["matchLabels"]).as_object();
    let wanted = equal.into_iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    wanted && meta::items(selector, &["matchExpressions"]).iter().all(|e| expression(e).matches(labels))
}

fn expression(expression: &Value) -> Requirement {
    let key = meta::string(expression, &["key"]).to_owned();
    let values =
        meta::items(expression, &["values"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    match meta::string(expression, &["operator"]) {
        "In" => Requirement::In(key, values),
        "NotIn" => Requirement::NotIn(key, values),
        "Exists" => Requirement::Exists(key),
        _ => Requirement::Missing(key),
    }
}

impl Requirement {
    fn matches(&self, labels: &Value) -> bool {
        let label = |key: &str| labels.get(key).and_then(Value::as_str);
        let number = |key: &str| label(key).and_then(|v| v.parse::<i64>().ok());
        match self {
            Self::In(key, values) => label(key).is_some_and(|v| values.iter().any(|w| w == v)),
            Self::NotIn(key, values) => label(key).is_none_or(|v| values.iter().all(|w| w != v)),
            Self::Exists(key) => label(key).is_some(),
            Self::Missing(key) => label(key).is_none(),
            Self::Greater(key, than) => number(key).is_some_and(|v| v > *than),
            Self::Less(key, than) => number(key).is_some_and(|v| v < *than),
        }
    }
}

fn parse_fields(text: &str, kind: &Kind) -> Result<Vec<(String, String, bool)>> {
    let mut fields = Vec::new();
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let (path, value, equal) = if let Some((path, value)) = part.split_once("!=") {
            (path, value, false)
        } else if let Some((path, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
            (path, value, true)
        } else {
            let words = format!("invalid selector: '{text}'; can't understand '{part}'");
            return Err(Status::bad_request(words));
        };
        if !known_field(kind, path) {
            let words = match kind.name {
                "Pod" | "Node" | "Event" | "Namespace" | "Secret" | "Service" => {
                    format!("field label not supported: {path}")
                }
                "Job" => format!("field label {path:?} not supported for Job"),
                _ => format!(
                    "{path:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
                ),
            };
            return Err(Status::bad_request(words));
        }
        fields.push((path.to_owned(), value.to_owned(), equal));
    }
    Ok(fields)
}

fn known_field(kind: &Kind, path: &str) -> bool {
    match (kind.name, path) {
        (_, "metadata.name") => true,
        (_, "metadata.namespace") => kind.namespaced,
        (
            "Pod",
            "spec.nodeName"
            | "spec.restartPolicy"
            | "spec.schedulerName"
            | "spec.serviceAccountName"
            | "spec.hostNetwork"
            | "status.phase"
            | "status.podIP"
            | "status.nominatedNodeName",
        )
        | ("Namespace", "status.phase")
        | ("Node", "spec.unschedulable")
        | ("Secret", "type")
        | ("Service", "spec.clusterIP" | "spec.type")
        | ("Job", "status.successful")
        | ("Event", "reason" | "reportingComponent" | "source" | "type") => true,
        ("Event", _) => path.starts_with("involvedObject."),
        _ => false,
    }
}

fn field(object: &Value, path: &str) -> String {
    if path == "source" {
        return meta::string(object, &["source", "component"]).to_owned();
    }
    match path.split('.').try_fold(object, |value, step| value.get(step)) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None if path.ends_with("hostNetwork") || path.ends_with("unschedulable") => {
            "false".to_owned()
        }
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn takes(labels: &str, object: &Value) -> bool {
        let kind = &crate::kinds::POD;
        Selector::parse(labels, "", kind).unwrap().matches(object)
    }

    #[test]
    fn label_selectors_are_kubernetes_own() {
        let object = json!({"metadata": {"labels": {"app": "web", "n": "5"}}});
        for yes in
            ["app=web", "app==web", "app", "!gone", "app in (db, web)", "app notin (db),n>4", "x!=y", ""]
        {
            assert!(takes(yes, &object), "{yes}");
        }
        for no in ["app=db", "!app", "app notin (web)", "n<5", "gone", "app in (db),n>4"] {
            assert!(!takes(no, &object), "{no}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        let kind = &crate::kinds::POD;
        assert!(Selector::parse("a b c", "", kind).is_err());
        assert!(Selector::parse("", "spec.unknown=1", kind).is_err());
        let object = json!({"spec": {"nodeName": "n1"}});
        assert!(Selector::parse("", "spec.nodeName=n1,status.phase!=Failed", kind).unwrap().matches(&object));
    }
}
