//! Authorization: users, the attributes of a request, and the rules that allow it.
//!
//! [`rules_of`] is the one place that knows what a user may. `system:masters` may do everything, and everybody else what
//! Kubernetes grants every user that it knows: to find out what there is, and who they are themselves. Refusals, reviews and
//! lists of rights all come from it, so that they agree.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::status::{Result, Status};

/// The group whose members may do everything.
const MASTERS: &str = "system:masters";
/// The group of all users that are known.
const AUTHENTICATED: &str = "system:authenticated";
/// The group of all ServiceAccounts; with a namespace behind it, of those of one namespace.
const ACCOUNTS: &str = "system:serviceaccounts";

/// A user of the API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its identifier, if it has one.
    pub uid: String,
    /// Its groups.
    pub groups: Vec<String>,
    /// Further facts from its credentials.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// The user of the cluster's own certificate and token.
    pub fn administrator() -> Self {
        let groups = [MASTERS, AUTHENTICATED].map(str::to_owned).to_vec();
        Self { name: "kubernetes-admin".to_owned(), groups, ..Self::default() }
    }

    /// A ServiceAccount.
    pub fn account(namespace: &str, name: &str, uid: &str) -> Self {
        let groups = vec![ACCOUNTS.to_owned(), format!("{ACCOUNTS}:{namespace}"), AUTHENTICATED.to_owned()];
        Self { name: account_name(namespace, name), uid: uid.to_owned(), groups, extra: BTreeMap::new() }
    }

    /// Its `userInfo` in a review.
    pub fn info(&self) -> Value {
        json!({"username": self.name, "uid": self.uid, "groups": self.groups, "extra": self.extra})
    }

    fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}

/// The name of a ServiceAccount as a user.
pub fn account_name(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// The action that a request asks for, on a resource or else on a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attributes {
    /// About a resource.
    Resource {
        /// `get`, `list`, `create`, …
        verb: String,
        /// API group, empty for the core group.
        group: String,
        /// `pods`.
        resource: String,
        /// `log`, or empty.
        subresource: String,
        /// Namespace, empty for all of them.
        namespace: String,
        /// Name, empty for all of them.
        name: String,
    },
    /// A path that is none of a resource.
    Path {
        /// The method in small letters.
        verb: String,
        /// The path.
        path: String,
    },
}

/// Something that a user may do. `*` stands for everything.
#[derive(Debug)]
pub struct Rule {
    /// The verbs that it allows.
    pub verbs: &'static [&'static str],
    /// API groups of the resources.
    pub groups: &'static [&'static str],
    /// Resources, a subresource as `pods/log`.
    pub resources: &'static [&'static str],
    /// Paths that are none of a resource; with `*` at the end, all that begin so.
    pub paths: &'static [&'static str],
}

/// A rule that allows nothing, for the others to be made of.
const NOTHING: Rule = Rule { verbs: &[], groups: &[], resources: &[], paths: &[] };

/// The rules of `system:masters`.
static EVERYTHING: &[Rule] = &[
    Rule { verbs: &["*"], groups: &["*"], resources: &["*"], ..NOTHING },
    Rule { verbs: &["*"], paths: &["*"], ..NOTHING },
];

/// The rules of all users that are known: those of Kubernetes' ClusterRoles `system:basic-user`, `system:discovery` and
/// `system:public-info-viewer`.
static BASIC: &[Rule] = &[
    Rule {
        verbs: &["create"],
        groups: &["authorization.k8s.io"],
        resources: &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
        ..NOTHING
    },
    Rule {
        verbs: &["create"],
        groups: &["authentication.k8s.io"],
        resources: &["selfsubjectreviews"],
        ..NOTHING
    },
    Rule {
        verbs: &["get"],
        paths: &[
            "/api",
            "/api/*",
            "/apis",
            "/apis/*",
            "/healthz",
            "/livez",
            "/openapi",
            "/openapi/*",
            "/readyz",
            "/version",
            "/version/",
        ],
        ..NOTHING
    },
];

impl Rule {
    fn covers(&self, attributes: &Attributes) -> bool {
        let has = |all: &[&str], wanted: &str| all.iter().any(|one| matches!(*one, "*") || *one == wanted);
        match attributes {
            Attributes::Resource { verb, group, resource, subresource, .. } => {
                let named = match subresource.as_str() {
                    "" => resource.clone(),
                    subresource => format!("{resource}/{subresource}"),
                };
                has(self.verbs, verb) && has(self.groups, group) && has(self.resources, &named)
            }
            Attributes::Path { verb, path } => {
                let begins = |one: &&str| one.strip_suffix('*').is_some_and(|begin| path.starts_with(begin));
                has(self.verbs, verb) && (has(self.paths, path) || self.paths.iter().any(begins))
            }
        }
    }
}

/// All that a user may.
pub fn rules_of(user: &User) -> &'static [Rule] {
    if user.is_in(MASTERS) {
        EVERYTHING
    } else if user.is_in(AUTHENTICATED) {
        BASIC
    } else {
        &[]
    }
}

/// Whether a user may do something.
pub fn may(user: &User, attributes: &Attributes) -> bool {
    rules_of(user).iter().any(|rule| rule.covers(attributes))
}

/// Lets a user do something.
///
/// # Errors
/// 403 with Kubernetes' words if the user may not.
pub fn authorize(user: &User, attributes: &Attributes) -> Result<()> {
    if may(user, attributes) {
        return Ok(());
    }
    let user = &user.name;
    Err(match attributes {
        Attributes::Path { verb, path } => {
            Status::not_allowed("", "", "", &format!("User {user:?} cannot {verb} path {path:?}"))
        }
        Attributes::Resource { verb, group, resource, subresource, namespace, name } => {
            let below = if subresource.is_empty() { String::new() } else { format!("/{subresource}") };
            let place = match namespace.as_str() {
                "" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace {namespace:?}"),
            };
            let asked =
                format!("cannot {verb} resource \"{resource}{below}\" in API group {group:?} {place}");
            Status::not_allowed(group, resource, name, &format!("User {user:?} {asked}"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about([verb, group, resource, subresource, namespace, name]: [&str; 6]) -> Attributes {
        Attributes::Resource {
            verb: verb.into(),
            group: group.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    fn path(verb: &str, path: &str) -> Attributes {
        Attributes::Path { verb: verb.into(), path: path.into() }
    }

    #[test]
    fn an_administrator_may_do_everything() {
        let user = User::administrator();
        for asked in [
            about(["delete", "", "secrets", "", "kube-system", "x"]),
            about(["impersonate", "x.io", "y", "z", "", ""]),
            path("post", "/anything"),
        ] {
            assert_eq!(authorize(&user, &asked), Ok(()), "{asked:?}");
        }
    }

    #[test]
    fn an_account_may_find_out_what_there_is_and_who_it_is() {
        let user = User::account("default", "default", "1");
        for asked in [
            path("get", "/version"),
            path("get", "/healthz"),
            path("get", "/api"),
            path("get", "/api/v1"),
            path("get", "/apis/apps/v1"),
            path("get", "/openapi/v3/api/v1"),
            about(["create", "authentication.k8s.io", "selfsubjectreviews", "", "", ""]),
            about(["create", "authorization.k8s.io", "selfsubjectrulesreviews", "", "", ""]),
        ] {
            assert!(may(&user, &asked), "{asked:?}");
        }
    }

    #[test]
    fn an_account_may_do_nothing_else_and_is_told_so_in_the_words_of_kubernetes() {
        let user = User::account("default", "default", "1");
        let who = "User \"system:serviceaccount:default:default\" cannot";
        for (asked, begin, end) in [
            (
                about(["list", "", "pods", "", "default", ""]),
                "pods is forbidden:",
                "list resource \"pods\" in API group \"\" in the namespace \"default\"",
            ),
            (
                about(["watch", "apps", "deployments", "", "", ""]),
                "deployments.apps is forbidden:",
                "watch resource \"deployments\" in API group \"apps\" at the cluster scope",
            ),
            (
                about(["create", "", "pods", "exec", "a", "b"]),
                "pods \"b\" is forbidden:",
                "create resource \"pods/exec\" in API group \"\" in the namespace \"a\"",
            ),
            (
                about(["create", "authentication.k8s.io", "tokenreviews", "", "", ""]),
                "tokenreviews.authentication.k8s.io is forbidden:",
                "create resource \"tokenreviews\" in API group \"authentication.k8s.io\" at the cluster scope",
            ),
            (path("get", "/"), "forbidden:", "get path \"/\""),
            (path("get", "/apis-of-others"), "forbidden:", "get path \"/apis-of-others\""),
            (path("post", "/api"), "forbidden:", "post path \"/api\""),
            (path("get", "/a?<&>"), "forbidden:", "get path \"/a?&lt;&amp;&gt;\""),
        ] {
            let status = authorize(&user, &asked).unwrap_err();
            assert_eq!(status.message, format!("{begin} {who} {end}"));
            assert_eq!((status.code, status.reason), (403, "Forbidden"));
        }
        let status = authorize(&user, &about(["get", "apps", "deployments", "scale", "a", "b"])).unwrap_err();
        assert_eq!(status.details, json!({"name": "b", "group": "apps", "kind": "deployments"}));
    }

    #[test]
    fn a_user_of_no_group_may_do_nothing() {
        let user = User { name: "somebody".into(), ..User::default() };
        assert!(!may(&user, &path("get", "/version")));
    }
}
