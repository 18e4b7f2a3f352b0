//! The kinds that the API server serves: a static for each, so that a misspelt kind does not compile, and
//! one table of them, from which paths, discovery and verbs come.

/// One kind of object.
#[derive(Debug)]
pub struct Kind {
    /// API group, empty for the core group.
    pub group: &'static str,
    /// Version.
    pub version: &'static str,
    /// `Deployment`.
    pub name: &'static str,
    /// `deployments`.
    pub plural: &'static str,
    /// `deployment`.
    pub singular: &'static str,
    /// What `kubectl` may call it for short.
    pub short: &'static [&'static str],
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Has a `status` that only `/status` writes.
    pub status: bool,
    /// Has `/scale`.
    pub scale: bool,
    /// `spec` changes count in `metadata.generation`.
    pub generation: bool,
    /// Whether `kubectl get all` shows it.
    pub all: bool,
    /// Whether its objects outlive the process.
    pub durable: bool,
}

const fn kind(
    group: &'static str,
    name: &'static str,
    plural: &'static str,
    singular: &'static str,
    short: &'static [&'static str],
) -> Kind {
    Kind {
        group,
        version: "v1",
        name,
        plural,
        singular,
        short,
        namespaced: true,
        status: false,
        scale: false,
        generation: false,
        all: false,
        durable: true,
    }
}

const fn workload(kind: Kind, scale: bool) -> Kind {
    Kind { status: true, generation: true, all: true, scale, ..kind }
}

/// The group of the questions who somebody is.
const AUTHENTICATION: &str = "authentication.k8s.io";
/// The group of the questions what somebody may do.
const AUTHORIZATION: &str = "authorization.k8s.io";

const fn review(
    group: &'static str,
    name: &'static str,
    plural: &'static str,
    singular: &'static str,
) -> Kind {
    Kind { namespaced: false, ..kind(group, name, plural, singular, &[]) }
}

/// What the subresource `scale` of several kinds is.
pub static SCALE: Kind = kind("autoscaling", "Scale", "scales", "scale", &[]);

/// The parameters of a request, as errors name them.
pub static OPTIONS: Kind = kind("meta.k8s.io", "Options", "options", "options", &[]);

/// The parameters of a request for a log, as errors name them.
pub static LOG_OPTIONS: Kind = kind("", "PodLogOptions", "pods", "pod", &[]);

/// The subresource by which a Pod gets its Node, as errors name it.
pub static BINDING: Kind = kind("", "Binding", "pods/binding", "binding", &[]);

/// The subresource by which a ServiceAccount gets a token.
pub static TOKEN_REQUEST: Kind =
    kind(AUTHENTICATION, "TokenRequest", "serviceaccounts/token", "tokenrequest", &[]);

/// The question who somebody is.
pub static SELF_SUBJECT_REVIEW: Kind =
    review(AUTHENTICATION, "SelfSubjectReview", "selfsubjectreviews", "selfsubjectreview");

/// The question whose a token is.
pub static TOKEN_REVIEW: Kind = review(AUTHENTICATION, "TokenReview", "tokenreviews", "tokenreview");

/// The question whether somebody may do something.
pub static SELF_SUBJECT_ACCESS_REVIEW: Kind =
    review(AUTHORIZATION, "SelfSubjectAccessReview", "selfsubjectaccessreviews", "selfsubjectaccessreview");

/// The question for all that somebody may do.
pub static SELF_SUBJECT_RULES_REVIEW: Kind =
    review(AUTHORIZATION, "SelfSubjectRulesReview", "selfsubjectrulesreviews", "selfsubjectrulesreview");

/// The question whether somebody else may do something.
pub static SUBJECT_ACCESS_REVIEW: Kind =
    review(AUTHORIZATION, "SubjectAccessReview", "subjectaccessreviews", "subjectaccessreview");

/// The questions about users, which are answered and not kept.
pub static REVIEWS: &[&Kind] = &[
    &SELF_SUBJECT_REVIEW,
    &TOKEN_REVIEW,
    &SELF_SUBJECT_ACCESS_REVIEW,
    &SELF_SUBJECT_RULES_REVIEW,
    &SUBJECT_ACCESS_REVIEW,
];

/// The kind `Namespace`.
pub static NAMESPACE: Kind =
    Kind { namespaced: false, status: true, ..kind("", "Namespace", "namespaces", "namespace", &["ns"]) };

/// The kind `Node`.
pub static NODE: Kind =
    Kind { namespaced: false, status: true, ..kind("", "Node", "nodes", "node", &["no"]) };

/// The kind `Pod`.
pub static POD: Kind = workload(kind("", "Pod", "pods", "pod", &["po"]), false);

/// The kind `Service`.
pub static SERVICE: Kind =
    Kind { status: true, all: true, ..kind("", "Service", "services", "service", &["svc"]) };

/// The kind `Endpoints`.
pub static ENDPOINTS: Kind = kind("", "Endpoints", "endpoints", "endpoints", &["ep"]);

/// The kind `PersistentVolumeClaim`.
pub static PERSISTENT_VOLUME_CLAIM: Kind = Kind {
    status: true,
    ..kind("", "PersistentVolumeClaim", "persistentvolumeclaims", "persistentvolumeclaim", &["pvc"])
};

/// The kind `PersistentVolume`.
pub static PERSISTENT_VOLUME: Kind = Kind {
    status: true,
    namespaced: false,
    ..kind("", "PersistentVolume", "persistentvolumes", "persistentvolume", &["pv"])
};

/// The kind `ConfigMap`.
pub static CONFIG_MAP: Kind = kind("", "ConfigMap", "configmaps", "configmap", &["cm"]);

/// The kind `Secret`.
pub static SECRET: Kind = kind("", "Secret", "secrets", "secret", &[]);

/// The kind `ServiceAccount`.
pub static SERVICE_ACCOUNT: Kind = kind("", "ServiceAccount", "serviceaccounts", "serviceaccount", &["sa"]);

/// The kind `Event`.
pub static EVENT: Kind = Kind { durable: false, ..kind("", "Event", "events", "event", &["ev"]) };

/// The kind `ControllerRevision`.
pub static CONTROLLER_REVISION: Kind =
    kind("apps", "ControllerRevision", "controllerrevisions", "controllerrevision", &[]);

/// The kind `DaemonSet`.
pub static DAEMON_SET: Kind = workload(kind("apps", "DaemonSet", "daemonsets", "daemonset", &["ds"]), false);

/// The kind `Deployment`.
pub static DEPLOYMENT: Kind =
    workload(kind("apps", "Deployment", "deployments", "deployment", &["deploy"]), true);

/// The kind `ReplicaSet`.
pub static REPLICA_SET: Kind =
    workload(kind("apps", "ReplicaSet", "replicasets", "replicaset", &["rs"]), true);

/// The kind `StatefulSet`.
pub static STATEFUL_SET: Kind =
    workload(kind("apps", "StatefulSet", "statefulsets", "statefulset", &["sts"]), true);

/// The kind `CronJob`.
pub static CRON_JOB: Kind = workload(kind("batch", "CronJob", "cronjobs", "cronjob", &["cj"]), false);

/// The kind `Job`.
pub static JOB: Kind = workload(kind("batch", "Job", "jobs", "job", &[]), false);

/// The kind `Lease`.
///
/// Whoever leads by one writes it every two seconds, and makes it anew where it is gone.
pub static LEASE: Kind =
    Kind { durable: false, ..kind("coordination.k8s.io", "Lease", "leases", "lease", &[]) };

/// The kind `EndpointSlice`.
pub static ENDPOINT_SLICE: Kind = Kind {
    generation: true,
    ..kind("discovery.k8s.io", "EndpointSlice", "endpointslices", "endpointslice", &[])
};

/// The kind `StorageClass`.
pub static STORAGE_CLASS: Kind = Kind {
    namespaced: false,
    ..kind("storage.k8s.io", "StorageClass", "storageclasses", "storageclass", &["sc"])
};

/// All of them, in the order that discovery shows.
pub static KINDS: &[&Kind] = &[
    &NAMESPACE,
    &NODE,
    &POD,
    &SERVICE,
    &ENDPOINTS,
    &PERSISTENT_VOLUME_CLAIM,
    &PERSISTENT_VOLUME,
    &CONFIG_MAP,
    &SECRET,
    &SERVICE_ACCOUNT,
    &EVENT,
    &CONTROLLER_REVISION,
    &DAEMON_SET,
    &DEPLOYMENT,
    &REPLICA_SET,
    &STATEFUL_SET,
    &CRON_JOB,
    &JOB,
    &LEASE,
    &ENDPOINT_SLICE,
    &STORAGE_CLASS,
];

/// Pods that a Node takes, if it does not say otherwise.
pub const PODS: usize = 1000;

/// The group of figures, which are no stored objects.
pub const METRICS: &str = "metrics.k8s.io";

impl Kind {
    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `pods`, `deployments.apps`: as errors name it.
    pub fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// Whether it has a subresource of this name that the generic verbs serve.
    pub fn has(&self, subresource: &str) -> bool {
        match subresource {
            "status" => self.status,
            "scale" => self.scale,
            "resize" | "ephemeralcontainers" => self.name == "Pod",
            _ => false,
        }
    }
}

/// The kind of a path.
pub fn by_plural(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS.iter().copied().find(|k| k.group == group && k.version == version && k.plural == plural)
}

/// The kind of a name.
pub fn by_name(group: &str, name: &str) -> Option<&'static Kind> {
    KINDS.iter().copied().find(|k| k.group == group && k.name == name)
}

/// The kind of an object's own words.
pub fn of(api_version: &str, name: &str) -> Option<&'static Kind> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    by_name(group, name).filter(|k| k.version == version)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Statics of kinds that are no stored objects, and so are not in the table.
    const UNSTORED: [&str; 5] = ["SCALE", "OPTIONS", "LOG_OPTIONS", "BINDING", "TOKEN_REQUEST"];

    /// `REPLICA_SET` of `ReplicaSet`.
    fn constant(name: &str) -> String {
        let mut constant = String::new();
        for letter in name.chars() {
            if letter.is_uppercase() && !constant.is_empty() {
                constant.push('_');
            }
            constant.push(letter.to_ascii_uppercase());
        }
        constant
    }

    #[test]
    fn the_statics_and_the_table_agree() {
        let declared: Vec<&str> = include_str!("kinds.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("pub static ")?.split_once(": Kind ="))
            .map(|(name, _)| name)
            .filter(|name| !UNSTORED.contains(name) && !name.ends_with("_REVIEW"))
            .collect();
        let table: Vec<String> = KINDS.iter().map(|kind| constant(kind.name)).collect();
        assert_eq!(declared, table, "each static is in the table, in the same order, under its kind's name");
        for kind in KINDS {
            assert!(std::ptr::eq(by_name(kind.group, kind.name).unwrap(), *kind), "{kind:?}");
            assert!(
                std::ptr::eq(by_plural(kind.group, kind.version, kind.plural).unwrap(), *kind),
                "{kind:?}"
            );
            assert!(std::ptr::eq(of(&kind.api_version(), kind.name).unwrap(), *kind), "{kind:?}");
        }
        let reviews = include_str!("kinds.rs").lines().filter(|line| line.starts_with("pub static "));
        let reviews = reviews.filter(|line| line.contains("_REVIEW: Kind"));
        assert_eq!(reviews.count(), REVIEWS.len());
    }
}
