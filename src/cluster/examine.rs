//! Looks at what a cluster has of the things that d2k uses, and names what is missing, for `d2k doctor`.

use futures::future::join_all;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use serde_json::Value;

use super::connect::{FIRST_ANSWER, configuration};
use super::errors::words;

/// The manifest, whose Role is the list of rights.
const MANIFEST: &str = include_str!("../../deploy/kubernetes.yaml");
/// The annotation of the default class (Kubernetes docs, "Default StorageClass").
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
/// The first minor version of Kubernetes 1 with `pods/resize` on by default.
const RESIZE: u32 = 33;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// What was looked at, such as `right to create pods`.
    pub subject: String,
    /// Whether it is there.
    pub state: State,
    /// Details if it is there; else what does not work without it, and what to do.
    pub detail: String,
}

/// Whether a thing is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is there.
    Ok,
    /// It is missing, and d2k does not work without it.
    Missing,
    /// It is missing, and a part of d2k does not work without it.
    Limited,
    /// It could not be looked at.
    Unknown,
}

impl Finding {
    /// A finding.
    pub fn new(subject: impl Into<String>, state: State, detail: impl Into<String>) -> Self {
        Self { subject: subject.into(), state, detail: detail.into() }
    }
}

/// A right of the manifest's Role.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Right {
    group: String,
    resource: String,
    verb: String,
}

/// Looks at the cluster of `kubeconfig` (as [`super::connect::connect`] takes it) and at `namespace` in it.
pub async fn examine(kubeconfig: &str, namespace: &str) -> Vec<Finding> {
    let server = |state, detail: String| Finding::new("API server", state, detail);
    let (config, source) = match configuration(kubeconfig).await {
        Ok(found) => found,
        Err(error) => return vec![server(State::Missing, error.to_string())],
    };
    let address = config.cluster_url.to_string();
    let client = match Client::try_from(config) {
        Ok(client) => client,
        Err(error) => return vec![server(State::Missing, format!("{source}: {error}"))],
    };
    let version = match tokio::time::timeout(FIRST_ANSWER, client.apiserver_version()).await {
        Ok(Ok(version)) => version,
        Ok(Err(error)) => {
            return vec![server(State::Missing, format!("{address} ({source}): {}", words(&error)))];
        }
        Err(_) => {
            let message = format!("{address} ({source}) did not answer within {FIRST_ANSWER:?}");
            return vec![server(State::Missing, message)];
        }
    };
    let mut all =
        vec![server(State::Ok, format!("{address} ({source}), Kubernetes {}", version.git_version))];
    all.extend(rights(&client, namespace).await);
    all.push(resize(&version.minor));
    all.push(default_class(&client).await);
    all.push(metrics(&client).await);
    all
}

/// The rights that are missing, or one line that none is.
async fn rights(client: &Client, namespace: &str) -> Vec<Finding> {
    let wanted = wanted_rights();
    let count = wanted.len();
    let asked = join_all(wanted.into_iter().map(|right| ask(client, namespace, right))).await;
    let missing: Vec<Finding> = asked.into_iter().flatten().collect();
    if missing.is_empty() {
        let detail = format!("all {count} rights of deploy/kubernetes.yaml in namespace {namespace}");
        return vec![Finding::new("rights", State::Ok, detail)];
    }
    missing
}

async fn ask(client: &Client, namespace: &str, right: Right) -> Option<Finding> {
    let (resource, subresource) = match right.resource.split_once('/') {
        Some((resource, subresource)) => (resource.to_owned(), Some(subresource.to_owned())),
        None => (right.resource.clone(), None),
    };
    let attributes = ResourceAttributes {
        namespace: Some(namespace.to_owned()),
        group: Some(right.group.clone()),
        resource: Some(resource),
        subresource,
        verb: Some(right.verb.clone()),
        ..ResourceAttributes::default()
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let subject = format!("right to {} {}", right.verb, right.resource);
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    match api.create(&PostParams::default(), &review).await {
        Ok(answer) if answer.status.as_ref().is_some_and(|status| status.allowed) => None,
        Ok(_) => {
            let (state, lost) = without(&right);
            let advice = format!("{lost}; grant it as the Role in deploy/kubernetes.yaml does");
            Some(Finding::new(subject, state, advice))
        }
        Err(error) => Some(Finding::new(subject, State::Unknown, words(&error))),
    }
}

/// What does not work without a right.
fn without(right: &Right) -> (State, &'static str) {
    match (right.group.as_str(), right.resource.as_str(), right.verb.as_str()) {
        ("metrics.k8s.io", ..) => (State::Limited, "docker stats shows zeroes"),
        ("apps", "statefulsets" | "daemonsets", _) => {
            (State::Limited, "StatefulSets and DaemonSets are not listed")
        }
        ("apps", "replicasets", "patch" | "delete") => {
            (State::Limited, "docker stop with another timeout than the container's uses the container's")
        }
        ("", "pods", "create") => (
            State::Limited,
            "a bind mount that Pod Security refuses is refused at the start, not at the create",
        ),
        ("", "pods/log", _) => (State::Missing, "docker logs and the output of docker run fail"),
        ("", "pods/exec" | "pods/attach", _) => {
            (State::Missing, "docker exec, attach, cp and the start of run-once containers fail")
        }
        ("", "pods/portforward", _) => (State::Limited, "ports are published by Services only"),
        ("", "pods/resize", _) => (State::Limited, "docker update takes effect at the next start"),
        ("", "services", _) => (State::Limited, "-p, -P and networks fail"),
        ("discovery.k8s.io", ..) => (State::Limited, "names on networks do not resolve"),
        ("", "persistentvolumeclaims", _) => (State::Limited, "volumes fail"),
        ("", "secrets", _) => (State::Limited, "private images, and docker cp before a start, fail"),
        ("", "events", _) => {
            (State::Limited, "errors of Kubernetes are not told, and docker events has no history")
        }
        _ => (State::Missing, "d2k does not work"),
    }
}

/// The rights in the Roles of the manifest.
fn wanted_rights() -> Vec<Right> {
    let mut all = Vec::new();
    for document in MANIFEST.split("\n---\n") {
        let object: Value = serde_yaml_ng::from_str(document).unwrap_or_default();
        let is_role = object.get("kind").and_then(Value::as_str) == Some("Role");
        for rule in list(&object, "rules").into_iter().flatten().filter(|_| is_role) {
            let texts = |field: &str| list(rule, field).into_iter().flatten().filter_map(Value::as_str);
            for group in texts("apiGroups") {
                for resource in texts("resources") {
                    all.extend(texts("verbs").map(|verb| Right {
                        group: group.to_owned(),
                        resource: resource.to_owned(),
                        verb: verb.to_owned(),
                    }));
                }
            }
        }
    }
    all
}

fn list<'a>(object: &'a Value, field: &str) -> Option<&'a Vec<Value>> {
    object.get(field)?.as_array()
}

fn resize(minor: &str) -> Finding {
    let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
    let subject = "limits changed in place";
    match digits.parse::<u32>() {
        Ok(minor) if minor >= RESIZE => Finding::new(subject, State::Ok, "pods/resize"),
        Ok(minor) => {
            let detail = format!(
                "Kubernetes 1.{minor}: docker update takes effect at the next start before 1.{RESIZE}"
            );
            Finding::new(subject, State::Limited, detail)
        }
        Err(_) => Finding::new(subject, State::Unknown, format!("the minor version is {minor:?}")),
    }
}

async fn default_class(client: &Client) -> Finding {
    let subject = "default StorageClass";
    let api: Api<StorageClass> = Api::all(client.clone());
    let classes = match api.list(&ListParams::default()).await {
        Ok(classes) => classes.items,
        Err(error) => return Finding::new(subject, State::Unknown, words(&error)),
    };
    let is_default = |class: &&StorageClass| {
        let notes = class.metadata.annotations.as_ref();
        notes.and_then(|notes| notes.get(DEFAULT_CLASS)).is_some_and(|value| value == "true")
    };
    match classes.iter().find(is_default) {
        Some(class) => Finding::new(subject, State::Ok, class.metadata.name.clone().unwrap_or_default()),
        None => {
            let names: Vec<_> = classes.iter().filter_map(|class| class.metadata.name.clone()).collect();
            let detail = format!(
                "volumes without a class stay unbound; set D2K_STORAGE_CLASS to one of: {}",
                names.join(", ")
            );
            Finding::new(subject, State::Limited, detail)
        }
    }
}

async fn metrics(client: &Client) -> Finding {
    let subject = "metrics server";
    match client.list_api_group_resources("metrics.k8s.io/v1beta1").await {
        Ok(_) => Finding::new(subject, State::Ok, "metrics.k8s.io/v1beta1"),
        Err(_) => {
            Finding::new(subject, State::Limited, "docker stats shows zeroes; install a metrics server")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rights_are_those_of_the_manifest() {
        let all = wanted_rights();
        let right = |group: &str, resource: &str, verb: &str| Right {
            group: group.into(),
            resource: resource.into(),
            verb: verb.into(),
        };
        for wanted in [right("apps", "deployments", "create"), right("", "pods/exec", "get")] {
            assert!(all.contains(&wanted), "{wanted:?} in {all:?}");
        }
        assert!(all.len() > 40, "{}", all.len());
    }

    #[test]
    fn the_version_decides_about_limits_in_place() {
        assert_eq!(resize("34").state, State::Ok);
        assert_eq!(resize("32+").state, State::Limited);
        assert_eq!(resize("x").state, State::Unknown);
    }
}
