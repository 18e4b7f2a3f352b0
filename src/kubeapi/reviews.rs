//! Questions that clients ask about themselves: who they are, and what they may. The cluster has one
//! user, who may do everything, so each answer is yes (`kubectl auth can-i`, k9s before each view).

use serde_json::{Value, json};

use super::meta;
use super::path::Path;

/// Group of the question who one is.
pub const AUTHENTICATION: &str = "authentication.k8s.io";
/// Group of the questions what one may.
pub const AUTHORIZATION: &str = "authorization.k8s.io";

/// Whether a path is one of these questions.
pub fn is_one(path: &Path) -> bool {
    let known = matches!(
        (path.group.as_str(), path.plural.as_str()),
        (AUTHENTICATION, "selfsubjectreviews")
            | (AUTHORIZATION, "selfsubjectaccessreviews" | "selfsubjectrulesreviews")
    );
    known && path.version == "v1" && path.name.is_empty() && path.namespace.is_empty()
}

/// Its kind.
pub fn kind(path: &Path) -> &'static str {
    match path.plural.as_str() {
        "selfsubjectreviews" => "SelfSubjectReview",
        "selfsubjectaccessreviews" => "SelfSubjectAccessReview",
        _ => "SelfSubjectRulesReview",
    }
}

/// The question with its answer.
pub fn answer(path: &Path, mut asked: Value) -> Value {
    let everything = json!(["*"]);
    let (kind, status) = match path.plural.as_str() {
        "selfsubjectreviews" => (
            "SelfSubjectReview",
            json!({"userInfo": {"username": "d2k", "groups": ["system:masters", "system:authenticated"]}}),
        ),
        "selfsubjectaccessreviews" => ("SelfSubjectAccessReview", json!({"allowed": true})),
        _ => (
            "SelfSubjectRulesReview",
            json!({
                "resourceRules": [{"verbs": everything, "apiGroups": everything, "resources": everything}],
                "nonResourceRules": [{"verbs": everything, "nonResourceURLs": everything}],
                "incomplete": false,
            }),
        ),
    };
    let map = meta::map(&mut asked);
    map.insert("kind".into(), kind.into());
    map.insert("apiVersion".into(), format!("{}/v1", path.group).into());
    map.entry("metadata").or_insert_with(|| json!({}));
    map.insert("status".into(), status);
    asked
}
