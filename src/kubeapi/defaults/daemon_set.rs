//! Defaults of DaemonSets, and the count of their templates.

use serde_json::Value;

use super::{pod, put};
use crate::kinds::Kind;
use crate::meta;

/// The annotation with the number of templates that a DaemonSet has had.
pub const GENERATION: &str = "deprecated.daemonset.template.generation";

/// Fills in a DaemonSet.
pub fn fill(object: &mut Value) {
    let spec = meta::child(object, "spec");
    pod::fill(meta::child(spec, "template"), "Always");
    put(meta::map(spec), "revisionHistoryLimit", || 10.into());
    let strategy = meta::child(spec, "updateStrategy");
    if meta::string(strategy, &["type"]).is_empty() {
        meta::map(strategy).insert("type".into(), "RollingUpdate".into());
    }
    if meta::string(strategy, &["type"]) == "RollingUpdate" {
        let rolling = meta::map(meta::child(strategy, "rollingUpdate"));
        put(rolling, "maxUnavailable", || 1.into());
        put(rolling, "maxSurge", || 0.into());
    }
    meta::child(object, "status");
}

/// Counts the templates of a DaemonSet: the first is 1, and each change is one more, whatever a request says.
pub fn count(kind: &Kind, object: &mut Value, old: Option<&Value>) {
    if kind.name != "DaemonSet" {
        return;
    }
    let number = |object: &Value| {
        let text = meta::string(object, &["metadata", "annotations", GENERATION]);
        text.parse::<i64>().ok().filter(|number| *number > 0).unwrap_or(1)
    };
    let template = |object: &Value| meta::at(object, &["spec", "template"]).clone();
    let count = match old {
        None => number(object),
        Some(old) => number(old).saturating_add(i64::from(template(old) != template(object))),
    };
    let annotations = meta::child(meta::child(object, "metadata"), "annotations");
    meta::map(annotations).insert(GENERATION.into(), count.to_string().into());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds;

    #[test]
    fn each_change_of_the_template_counts() {
        let of = |set: &Value| set["metadata"]["annotations"][GENERATION].as_str().unwrap().to_owned();
        let kind = &kinds::DAEMON_SET;
        let mut first = json!({"spec": {"template": {"a": 1}}});
        count(kind, &mut first, None);
        assert_eq!(of(&first), "1");
        let mut same =
            json!({"metadata": {"annotations": {GENERATION: "7"}}, "spec": {"template": {"a": 1}}});
        count(kind, &mut same, Some(&first));
        assert_eq!(of(&same), "1");
        let mut other = json!({"spec": {"template": {"a": 2}}});
        count(kind, &mut other, Some(&first));
        assert_eq!(of(&other), "2");
    }

    #[test]
    fn a_rolling_update_takes_one_pod_away_where_nothing_else_is_said() {
        let mut set = json!({});
        fill(&mut set);
        let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}});
        assert_eq!(set["spec"]["updateStrategy"], rolling);
        let mut set = json!({"spec": {"updateStrategy": {"type": "OnDelete"}}});
        fill(&mut set);
        assert_eq!(set["spec"]["updateStrategy"], json!({"type": "OnDelete"}));
    }
}
