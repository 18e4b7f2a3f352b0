//! Finds values in an object by patterns of paths: names with a dot between them, `[*]` for all items of a list, `[key]` for
//! an entry of a map, `a|b` for either name. `containers` stands for all containers of a Pod, init and ephemeral ones too.

use serde_json::Value;

/// A value that a pattern leads to.
#[derive(Debug, Clone)]
pub struct Found<'a> {
    /// Where it is, as Kubernetes writes paths: `spec.containers[0].image`.
    pub path: String,
    /// The value.
    pub value: &'a Value,
    /// The object or the list that has it.
    pub of: &'a Value,
}

impl<'a> Found<'a> {
    /// A whole object, whose path is empty.
    pub fn whole(object: &'a Value) -> Self {
        Self { path: String::new(), value: object, of: object }
    }

    /// What a pattern leads to from here on; with an empty one this itself.
    pub fn find(self, pattern: &str) -> Vec<Self> {
        let mut found = Vec::new();
        self.walk(pattern, &mut found);
        found
    }

    fn walk(self, pattern: &str, found: &mut Vec<Self>) {
        if pattern.is_empty() {
            found.push(self);
            return;
        }
        let (step, rest) = split(pattern);
        let (names, index) = match step.split_once('[') {
            Some((names, index)) => (names, Some(index.trim_end_matches(']'))),
            None => (step, None),
        };
        for name in either(names) {
            let Some(value) = self.value.get(name) else { continue };
            let dot = if self.path.is_empty() { "" } else { "." };
            let path = format!("{}{dot}{name}", self.path);
            match index {
                None => Self { path, value, of: self.value }.walk(rest, found),
                Some("*") => {
                    for (at, item) in value.as_array().into_iter().flatten().enumerate() {
                        Self { path: format!("{path}[{at}]"), value: item, of: value }.walk(rest, found);
                    }
                }
                Some(key) => {
                    if let Some(entry) = value.get(key) {
                        Self { path: format!("{path}[{key}]"), value: entry, of: value }.walk(rest, found);
                    }
                }
            }
        }
    }
}

/// The first step of a pattern, and the rest; a dot in brackets is none between steps.
pub(super) fn split(pattern: &str) -> (&str, &str) {
    let mut inside = false;
    let end = pattern.find(|letter| {
        inside = letter == '[' || (inside && letter != ']');
        letter == '.' && !inside
    });
    let (step, rest) = pattern.split_at(end.unwrap_or(pattern.len()));
    (step, rest.trim_start_matches('.'))
}

/// The names that a step stands for, in the order in which Kubernetes looks at them.
pub(super) fn either(names: &str) -> Vec<&str> {
    match names {
        "containers" => vec!["initContainers", "containers", "ephemeralContainers"],
        names => names.split('|').collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn paths(object: &Value, pattern: &str) -> Vec<String> {
        Found::whole(object).find(pattern).into_iter().map(|found| found.path).collect()
    }

    #[test]
    fn a_pattern_leads_to_all_that_it_stands_for() {
        let object = json!({
            "metadata": {"labels": {"a.b/c": "x"}},
            "spec": {
                "containers": [{"name": "a"}, {"name": "b", "env": [{"name": "X"}]}],
                "initContainers": [{"name": "c"}], "nfs": {}, "csi": {},
            },
        });
        assert_eq!(
            paths(&object, "spec.containers[*].name"),
            ["spec.initContainers[0].name", "spec.containers[0].name", "spec.containers[1].name"]
        );
        assert_eq!(paths(&object, "spec.containers[*].env[*].name"), ["spec.containers[1].env[0].name"]);
        assert_eq!(paths(&object, "spec.csi|iscsi|nfs"), ["spec.csi", "spec.nfs"]);
        assert_eq!(paths(&object, "metadata.labels[a.b/c]"), ["metadata.labels[a.b/c]"]);
        assert_eq!(paths(&object, ""), [""]);
        assert!(paths(&object, "metadata.labels[d]").is_empty() && paths(&object, "spec.none.x").is_empty());
    }

    #[test]
    fn what_is_found_knows_its_neighbours() {
        let object = json!({"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}});
        let found = Found::whole(&object).find("emptyDir.sizeLimit");
        assert_eq!((found[0].value, &found[0].of["medium"]), (&json!("1Mi"), &json!("Memory")));
    }
}
