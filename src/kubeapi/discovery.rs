//! Discovery: which groups, versions and resources there are, piece by piece and aggregated
//! (KEP-3352), and the version of the API.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::kinds::{self, KINDS, Kind, METRICS};
use super::reply::{Form, Reply, plain};

/// Verbs of every kind.
const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// Verbs of a kind: Namespaces are not deleted all at once.
fn verbs(kind: &Kind) -> Vec<&'static str> {
    VERBS.iter().copied().filter(|verb| kind.name != "Namespace" || *verb != "deletecollection").collect()
}

/// What `kubectl version` shows.
pub fn version() -> Value {
    json!({
        "major": "1", "minor": "34", "gitVersion": "v1.34.0+d2k", "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
        "platform": format!("linux/{}", super::architecture()),
    })
}

/// The document at a path, if it is one of discovery.
pub fn document(path: &str, form: &Form) -> Option<Response<Body>> {
    if form.aggregated && matches!(path, "/api" | "/apis") {
        let body = aggregated(path == "/api").to_string();
        let mut response = plain(StatusCode::OK, "application/json", body);
        let media = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
        return Some(response);
    }
    let value = match path.split('/').skip(1).collect::<Vec<_>>().as_slice() {
        ["api"] => json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}],
        }),
        ["api", "v1"] => resources("", "v1"),
        ["apis"] => {
            let groups: Vec<Value> =
                groups().into_iter().map(|(group, version)| self::group(group, version)).collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        }
        ["apis", name] => {
            let (group, version) = groups().into_iter().find(|(group, _)| group == name)?;
            let mut value = self::group(group, version);
            super::meta::map(&mut value)
                .extend([("kind".to_owned(), "APIGroup".into()), ("apiVersion".to_owned(), "v1".into())]);
            value
        }
        ["apis", name, version] => {
            groups().into_iter().find(|(group, known)| group == name && known == version)?;
            resources(name, version)
        }
        [""] => {
            json!({"paths": ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v3", "/readyz", "/version"]})
        }
        _ => return None,
    };
    Some(Reply::json(200, &value).response(form))
}

fn groups() -> Vec<(&'static str, &'static str)> {
    let mut all: Vec<(&str, &str)> = Vec::new();
    for kind in KINDS.iter().filter(|k| !k.group.is_empty()) {
        if !all.iter().any(|(group, _)| *group == kind.group) {
            all.push((kind.group, kind.version));
        }
    }
    all.extend(UNSTORED.iter().fold(Vec::new(), |mut groups: Vec<(&str, &str)>, one| {
        if !groups.iter().any(|(group, _)| *group == one.group) {
            groups.push((one.group, one.version));
        }
        groups
    }));
    all
}

/// Whether a group is served.
pub fn has_group(name: &str) -> bool {
    groups().iter().any(|(group, _)| *group == name)
}

/// A resource without objects that are kept.
struct Unstored {
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    namespaced: bool,
    verbs: &'static [&'static str],
}

const fn review(kind: &'static Kind) -> Unstored {
    let Kind { group, version, plural, singular, name, namespaced, .. } = *kind;
    Unstored { group, version, plural, singular, kind: name, namespaced, verbs: &["create"] }
}

const fn figures(plural: &'static str, kind: &'static str, namespaced: bool) -> Unstored {
    Unstored {
        group: METRICS,
        version: "v1beta1",
        plural,
        singular: "",
        kind,
        namespaced,
        verbs: &["get", "list"],
    }
}

static UNSTORED: &[Unstored] = &[
    review(&kinds::SELF_SUBJECT_REVIEW),
    review(&kinds::TOKEN_REVIEW),
    review(&kinds::SELF_SUBJECT_ACCESS_REVIEW),
    review(&kinds::SELF_SUBJECT_RULES_REVIEW),
    review(&kinds::SUBJECT_ACCESS_REVIEW),
    figures("nodes", "NodeMetrics", false),
    figures("pods", "PodMetrics", true),
];

fn group(group: &str, version: &str) -> Value {
    let version = json!({"groupVersion": format!("{group}/{version}"), "version": version});
    json!({"name": group, "versions": [version], "preferredVersion": version})
}

/// Subresources of a kind: name, kind with its group and version, verbs.
fn subresources(kind: &Kind) -> Vec<(&'static str, [&'static str; 3], &'static [&'static str])> {
    let version = if kind.group.is_empty() { ["", "v1"] } else { [kind.group, kind.version] };
    let own = [version[0], version[1], kind.name];
    let write: &[&str] = &["get", "patch", "update"];
    let stream: &[&str] = &["create", "get"];
    let mut all = Vec::new();
    if kind.name == "Pod" {
        all.extend([
            ("attach", ["", "v1", "PodAttachOptions"], stream),
            ("binding", ["", "v1", "Binding"], &["create"][..]),
            ("ephemeralcontainers", own, write),
            ("eviction", ["policy", "v1", "Eviction"], &["create"][..]),
            ("exec", ["", "v1", "PodExecOptions"], stream),
            ("log", ["", "v1", "Pod"], &["get"][..]),
            ("portforward", ["", "v1", "PodPortForwardOptions"], stream),
            ("resize", own, write),
        ]);
    }
    if kind.name == "ServiceAccount" {
        let made = &kinds::TOKEN_REQUEST;
        all.push(("token", [made.group, made.version, made.name], &["create"]));
    }
    if kind.scale {
        all.push(("scale", ["autoscaling", "v1", "Scale"], write));
    }
    if kind.status {
        all.push(("status", own, write));
    }
    all
}

fn resources(group: &str, version: &str) -> Value {
    let named = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let mut all = Vec::new();
    for one in UNSTORED.iter().filter(|one| one.group == group) {
        all.push(json!({
            "name": one.plural, "singularName": one.singular, "namespaced": one.namespaced, "kind": one.kind,
            "verbs": one.verbs,
        }));
    }
    for kind in KINDS.iter().filter(|k| k.group == group) {
        let mut entry = json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.name,
            "verbs": verbs(kind), "storageVersionHash": "",
        });
        if !kind.short.is_empty() {
            super::meta::map(&mut entry).insert("shortNames".into(), json!(kind.short));
        }
        if kind.all {
            super::meta::map(&mut entry).insert("categories".into(), json!(["all"]));
        }
        all.push(entry);
        for (name, [group, version, made], verbs) in subresources(kind) {
            let mut entry = json!({
                "name": format!("{}/{name}", kind.plural), "singularName": "", "namespaced": kind.namespaced,
                "kind": made, "verbs": verbs,
            });
            if group != kind.group {
                super::meta::map(&mut entry)
                    .extend([("group".to_owned(), group.into()), ("version".to_owned(), version.into())]);
            }
            all.push(entry);
        }
    }
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": named, "resources": all})
}

fn aggregated(core: bool) -> Value {
    let groups: Vec<(&str, &str)> = if core { vec![("", "v1")] } else { groups() };
    let items: Vec<Value> = groups
        .into_iter()
        .map(|(group, version)| {
            let metadata = if core {
                json!({"creationTimestamp": null})
            } else {
                json!({"name": group, "creationTimestamp": null})
            };
            json!({
                "metadata": metadata,
                "versions": [{"version": version, "freshness": "Current", "resources": discovered(group)}],
            })
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn discovered(group: &str) -> Vec<Value> {
    let unstored = UNSTORED.iter().filter(|one| one.group == group).map(|one| {
        json!({
            "resource": one.plural, "singularResource": one.singular, "verbs": one.verbs,
            "scope": if one.namespaced { "Namespaced" } else { "Cluster" },
            "responseKind": {"group": one.group, "version": one.version, "kind": one.kind},
        })
    });
    let stored = KINDS.iter().filter(|k| k.group == group).map(|kind| {
        let below: Vec<Value> = subresources(kind)
            .into_iter()
            .map(|(name, [group, version, made], verbs)| {
                json!({
                    "subresource": name, "verbs": verbs,
                    "responseKind": {"group": group, "version": version, "kind": made},
                })
            })
            .collect();
        let mut entry = json!({
            "resource": kind.plural, "singularResource": kind.singular, "verbs": verbs(kind),
            "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
            "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.name},
        });
        let map = super::meta::map(&mut entry);
        if !kind.short.is_empty() {
            map.insert("shortNames".into(), json!(kind.short));
        }
        if kind.all {
            map.insert("categories".into(), json!(["all"]));
        }
        if !below.is_empty() {
            map.insert("subresources".into(), json!(below));
        }
        entry
    });
    stored.chain(unstored).collect()
}
