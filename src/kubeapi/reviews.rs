//! Questions about users, which are answered and not kept: who somebody is, whose a token is, and what somebody may. The answers
//! come from what requests themselves are judged by ([`access`], [`identities`]).
//!
//! [`access`]: super::access
//! [`identities`]: super::identities

use jiff::Timestamp;
use serde_json::{Value, json};

use super::access::{self, Attributes, Rule, User};
use super::identities::Identities;
use super::kinds::{self, Kind, REVIEWS};
use super::meta::{self, at, string};
use super::path::Path;
use super::schema;
use super::status::{Cause, Result, Status};
use super::tokens::ISSUER;

/// The question that a path is for, if it is for one.
pub fn of(path: &Path) -> Option<&'static Kind> {
    let is_whole = path.name.is_empty() && path.namespace.is_empty();
    let is = |kind: &&&Kind| {
        kind.group == path.group && kind.version == path.version && kind.plural == path.plural
    };
    REVIEWS.iter().find(is).copied().filter(|_| is_whole)
}

/// A question that a user asks, with its answer.
///
/// # Errors
/// 400 and 422 for a question that cannot be answered.
pub fn answer(
    identities: &Identities,
    user: &User,
    kind: &'static Kind,
    asked: Value,
    now: Timestamp,
) -> Result<Value> {
    let mut answered = match kind.name {
        "SelfSubjectReview" => {
            let status = json!({"userInfo": user.info()});
            json!({"metadata": {"creationTimestamp": meta::seconds(now)}, "status": status})
        }
        "SelfSubjectRulesReview" => {
            if string(&asked, &["spec", "namespace"]).is_empty() {
                return Err(Status::bad_request("no namespace on request"));
            }
            json!({"status": rules(access::rules_of(user))})
        }
        "SelfSubjectAccessReview" => with_status(asked, |asked| allowed(kind, user, asked))?,
        "SubjectAccessReview" => with_status(asked, |asked| allowed(kind, &subject(asked), asked))?,
        _ => with_status(asked, |asked| whose(identities, asked, now.as_second()))?,
    };
    let map = meta::map(&mut answered);
    map.insert("kind".into(), kind.name.into());
    map.insert("apiVersion".into(), kind.api_version().into());
    Ok(schema::normal(kind, answered))
}

fn with_status(mut asked: Value, status: impl FnOnce(&Value) -> Result<Value>) -> Result<Value> {
    let status = status(&asked)?;
    meta::map(&mut asked).insert("status".into(), status);
    Ok(asked)
}

/// The user that a SubjectAccessReview is about. Its groups are all that it has.
fn subject(asked: &Value) -> User {
    let groups = meta::items(asked, &["spec", "groups"]).iter().filter_map(Value::as_str);
    User {
        name: string(asked, &["spec", "user"]).to_owned(),
        uid: string(asked, &["spec", "uid"]).to_owned(),
        groups: groups.map(str::to_owned).collect(),
        ..User::default()
    }
}

/// Whether a user may do what is asked for.
fn allowed(kind: &Kind, user: &User, asked: &Value) -> Result<Value> {
    let resource = at(asked, &["spec", "resourceAttributes"]);
    let path = at(asked, &["spec", "nonResourceAttributes"]);
    let mut causes = Vec::new();
    match (resource.is_null(), path.is_null()) {
        (false, false) => {
            let words = "cannot be specified in combination with resourceAttributes";
            let shown = json!({"Path": string(path, &["path"]), "Verb": string(path, &["verb"])});
            causes.push(Cause::invalid("spec.nonResourceAttributes", &shown, words));
        }
        (true, true) => {
            let words = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            causes.push(Cause::invalid("spec.resourceAttributes", &Value::Null, words));
        }
        _ => {}
    }
    if kind.name == kinds::SUBJECT_ACCESS_REVIEW.name && user.name.is_empty() && user.groups.is_empty() {
        let words = "at least one of user or group must be specified";
        causes.push(Cause::invalid("spec.user", &"".into(), words));
    }
    if !causes.is_empty() {
        // Kubernetes does not name the kind here.
        return Err(Status::invalid(&Kind { name: "", ..*kind }, "", &causes));
    }
    let text = |value: &Value, field: &str| string(value, &[field]).to_owned();
    let attributes = if resource.is_null() {
        Attributes::Path { verb: text(path, "verb"), path: text(path, "path") }
    } else {
        Attributes::Resource {
            verb: text(resource, "verb"),
            group: text(resource, "group"),
            resource: text(resource, "resource"),
            subresource: text(resource, "subresource"),
            namespace: text(resource, "namespace"),
            name: text(resource, "name"),
        }
    };
    Ok(json!({"allowed": access::may(user, &attributes)}))
}

/// Rules as a SelfSubjectRulesReview lists them. They are all that there are.
fn rules(all: &[Rule]) -> Value {
    let resources = all.iter().filter(|rule| !rule.resources.is_empty());
    let resources = resources
        .map(|rule| json!({"verbs": rule.verbs, "apiGroups": rule.groups, "resources": rule.resources}));
    let paths = all.iter().filter(|rule| !rule.paths.is_empty());
    let paths = paths.map(|rule| json!({"verbs": rule.verbs, "nonResourceURLs": rule.paths}));
    json!({
        "resourceRules": resources.collect::<Vec<_>>(),
        "nonResourceRules": paths.collect::<Vec<_>>(),
        "incomplete": false,
    })
}

/// The user of a token; `now` in seconds since 1970.
fn whose(identities: &Identities, asked: &Value, now: i64) -> Result<Value> {
    let token = string(asked, &["spec", "token"]);
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let named = meta::items(asked, &["spec", "audiences"]).iter().filter_map(Value::as_str);
    let mut audiences: Vec<String> = named.map(str::to_owned).collect();
    if audiences.is_empty() {
        audiences.push(ISSUER.to_owned());
    }
    Ok(match identities.of_token(token, &audiences, now) {
        Ok((user, audiences)) => {
            json!({"authenticated": true, "user": user.info(), "audiences": audiences})
        }
        Err(error) => json!({"error": error.to_string()}),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::identities::Wanted;
    use crate::store::Store;
    use crate::tokens::testing::key;
    use crate::verbs::{Api, Settings, Target};

    const NOW: i64 = 1_800_000_000;

    /// A cluster with the account `default`.
    fn cluster() -> Identities {
        let api = Arc::new(Api::new(Store::in_memory(), Settings::default()));
        api.create(&Target::own(&kinds::NAMESPACE, "", ""), json!({"metadata": {"name": "default"}}))
            .unwrap();
        let account = json!({"metadata": {"name": "default"}});
        api.create(&Target::own(&kinds::SERVICE_ACCOUNT, "default", ""), account).unwrap();
        Identities::new(api, key(), "secret".into())
    }

    fn at_second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ask(user: &User, kind: &'static Kind, spec: Value) -> Result<Value> {
        answer(&cluster(), user, kind, json!({"metadata": {}, "spec": spec}), at_second(NOW))
            .map(|answer| answer["status"].clone())
    }

    fn account() -> User {
        User::account("default", "default", "1")
    }

    #[test]
    fn users_are_told_who_they_are() {
        let told = ask(&account(), &kinds::SELF_SUBJECT_REVIEW, Value::Null).unwrap();
        let groups = ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"];
        let wanted = json!({"userInfo": {
            "username": "system:serviceaccount:default:default", "uid": "1", "groups": groups,
        }});
        assert_eq!(told, wanted);
        let told = ask(&User::administrator(), &kinds::SELF_SUBJECT_REVIEW, Value::Null).unwrap();
        assert_eq!(told["userInfo"]["groups"], json!(["system:masters", "system:authenticated"]));
    }

    #[test]
    fn a_review_of_access_and_the_list_of_rules_say_what_requests_are_told() {
        let kind = &kinds::SELF_SUBJECT_ACCESS_REVIEW;
        let pods =
            json!({"resourceAttributes": {"verb": "list", "resource": "pods", "namespace": "default"}});
        assert_eq!(ask(&account(), kind, pods.clone()), Ok(json!({"allowed": false})));
        assert_eq!(ask(&User::administrator(), kind, pods), Ok(json!({"allowed": true})));
        let version = json!({"nonResourceAttributes": {"verb": "get", "path": "/version"}});
        assert_eq!(ask(&account(), kind, version), Ok(json!({"allowed": true})));
        let kind = &kinds::SELF_SUBJECT_RULES_REVIEW;
        let rules = ask(&account(), kind, json!({"namespace": "default"})).unwrap();
        assert_eq!(rules["resourceRules"][1]["resources"], json!(["selfsubjectreviews"]));
        let everything = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]);
        let rules = ask(&User::administrator(), kind, json!({"namespace": "default"})).unwrap();
        assert_eq!(rules["resourceRules"], everything);
        let refused = ask(&account(), kind, json!({})).unwrap_err();
        assert_eq!(refused, Status::bad_request("no namespace on request"));
    }

    #[test]
    fn a_review_about_somebody_else_goes_by_the_groups_that_it_names() {
        let kind = &kinds::SUBJECT_ACCESS_REVIEW;
        let what = json!({"verb": "get", "path": "/version"});
        for (user, groups, allowed) in [
            ("a", json!(["system:masters"]), true),
            ("a", json!(["system:authenticated"]), true),
            ("kubernetes-admin", json!([]), false),
        ] {
            let asked = json!({"nonResourceAttributes": what, "user": user, "groups": groups});
            assert_eq!(ask(&account(), kind, asked), Ok(json!({"allowed": allowed})), "{user} {groups}");
        }
        let words = |spec| ask(&account(), kind, spec).unwrap_err().message;
        let said = words(json!({}));
        assert!(
            said.contains("exactly one of nonResourceAttributes or resourceAttributes must be specified")
        );
        assert!(
            said.contains("spec.user: Invalid value: \"\": at least one of user or group must be"),
            "{said}"
        );
    }

    #[test]
    fn a_review_of_a_token_tells_whose_it_is_or_why_it_is_nobodys() {
        let cluster = cluster();
        let wanted = Wanted {
            namespace: "default",
            account: "default",
            audiences: vec!["vault".to_owned()],
            seconds: 600,
            bound: None,
        };
        let token = cluster.issue(&wanted, NOW).unwrap();
        let ask = |spec: Value, now: i64| {
            let asked = json!({"metadata": {}, "spec": spec});
            answer(&cluster, &User::administrator(), &kinds::TOKEN_REVIEW, asked, at_second(now))
                .map(|answer| answer["status"].clone())
        };
        let told = ask(json!({"token": token, "audiences": ["vault", "other"]}), NOW).unwrap();
        assert_eq!((&told["authenticated"], &told["audiences"]), (&json!(true), &json!(["vault"])));
        assert_eq!(told["user"]["username"], "system:serviceaccount:default:default");
        let told = ask(json!({"token": token, "audiences": ["vault"]}), NOW + 10_000).unwrap();
        assert_eq!(told, json!({"user": {}, "error": "service account token has expired"}));
        let told = ask(json!({"token": token}), NOW).unwrap();
        assert!(
            told["error"].as_str().unwrap().starts_with("token audiences [\"vault\"] is invalid"),
            "{told}"
        );
        let told = ask(json!({"token": "secret"}), NOW).unwrap();
        assert_eq!(told["user"]["username"], "kubernetes-admin");
        let words = "token is required for TokenReview in authentication";
        assert_eq!(ask(json!({}), NOW).unwrap_err(), Status::bad_request(words));
    }
}
