//! The kinds that the API server serves: one table, from which paths, discovery and verbs come.

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
    }
}

const fn workload(kind: Kind, scale: bool) -> Kind {
    Kind { status: true, generation: true, all: true, scale, ..kind }
}

/// Pods, which much is about.
pub static POD: Kind = workload(kind("", "Pod", "pods", "pod", &["po"]), false);

/// What the subresource `scale` of several kinds is.
pub static SCALE: Kind = kind("autoscaling", "Scale", "scales", "scale", &[]);

/// The parameters of a request, as errors name them.
pub const OPTIONS: Kind = kind("meta.k8s.io", "Options", "options", "options", &[]);

/// The parameters of a request for a log, as errors name them.
pub static LOG_OPTIONS: Kind = kind("", "PodLogOptions", "pods", "pod", &[]);

/// The subresource by which a Pod gets its Node, as errors name it.
pub const BINDING: Kind = kind("", "Binding", "pods/binding", "binding", &[]);

/// All of them.
pub static KINDS: &[Kind] = &[
    Kind { namespaced: false, status: true, ..kind("", "Namespace", "namespaces", "namespace", &["ns"]) },
    Kind { namespaced: false, status: true, ..kind("", "Node", "nodes", "node", &["no"]) },
    workload(kind("", "Pod", "pods", "pod", &["po"]), false),
    Kind { status: true, all: true, ..kind("", "Service", "services", "service", &["svc"]) },
    kind("", "Endpoints", "endpoints", "endpoints", &["ep"]),
    Kind {
        status: true,
        ..kind("", "PersistentVolumeClaim", "persistentvolumeclaims", "persistentvolumeclaim", &["pvc"])
    },
    Kind {
        status: true,
        namespaced: false,
        ..kind("", "PersistentVolume", "persistentvolumes", "persistentvolume", &["pv"])
    },
    kind("", "ConfigMap", "configmaps", "configmap", &["cm"]),
    kind("", "Secret", "secrets", "secret", &[]),
    kind("", "ServiceAccount", "serviceaccounts", "serviceaccount", &["sa"]),
    kind("", "Event", "events", "event", &["ev"]),
    workload(kind("apps", "Deployment", "deployments", "deployment", &["deploy"]), true),
    workload(kind("apps", "ReplicaSet", "replicasets", "replicaset", &["rs"]), true),
    workload(kind("batch", "Job", "jobs", "job", &[]), false),
    Kind {
        generation: true,
        ..kind("discovery.k8s.io", "EndpointSlice", "endpointslices", "endpointslice", &[])
    },
    Kind {
        namespaced: false,
        ..kind("storage.k8s.io", "StorageClass", "storageclasses", "storageclass", &["sc"])
    },
];

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
    KINDS.iter().find(|k| k.group == group && k.version == version && k.plural == plural)
}

/// The kind of a name.
pub fn by_name(group: &str, name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|k| k.group == group && k.name == name)
}

/// The kind of an object's own words.
pub fn of(api_version: &str, name: &str) -> Option<&'static Kind> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    by_name(group, name).filter(|k| k.version == version)
}
