//! The fields that clients may set and on which nothing in this cluster acts, as one table. Each row has a sentence, with which
//! a write is answered that uses the field, so that nobody takes silence for isolation, for a limit or for a promise of the
//! scheduler. What has no effect on one node by nature, such as a preferred affinity, is not in it: nobody is misled there.
//! `tests.rs` sends a manifest for each row; `docs/embedded.md` and `docs/k2d.md` show the table.

use d2k_engine::Feature;
use serde_json::Value;

use super::find::Found;
use crate::kinds::Kind;
use Engines::{With, Without};
use Feature::{AppArmor, CpuLimit, MemoryLimit, Seccomp};
use Part::{Claim, Class, Job, Namespace, Node, Pod, Service, Volume};
use Values::{Any, Except, Only};

/// A part of objects that several kinds have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Part {
    Pod,
    Job,
    Service,
    Claim,
    Volume,
    Class,
    Namespace,
    Node,
}

/// Where the parts are in the objects of each kind.
pub const PLACES: &[(&str, Part, &str)] = &[
    ("Pod", Part::Pod, "spec"),
    ("Deployment", Part::Pod, "spec.template.spec"),
    ("ReplicaSet", Part::Pod, "spec.template.spec"),
    ("StatefulSet", Part::Pod, "spec.template.spec"),
    ("StatefulSet", Part::Claim, "spec.volumeClaimTemplates[*].spec"),
    ("DaemonSet", Part::Pod, "spec.template.spec"),
    ("Job", Part::Job, "spec"),
    ("Job", Part::Pod, "spec.template.spec"),
    ("CronJob", Part::Job, "spec.jobTemplate.spec"),
    ("CronJob", Part::Pod, "spec.jobTemplate.spec.template.spec"),
    ("Service", Part::Service, "spec"),
    ("PersistentVolumeClaim", Part::Claim, "spec"),
    ("PersistentVolume", Part::Volume, "spec"),
    ("StorageClass", Part::Class, ""),
    ("Namespace", Part::Namespace, ""),
    ("Node", Part::Node, "spec"),
];

/// The values of a field that mislead.
#[derive(Debug, Clone, Copy)]
pub enum Values {
    /// Any that is not empty.
    Any,
    /// These, as text.
    Only(&'static [&'static str]),
    /// All others, as text; what is not there is the empty text.
    Except(&'static [&'static str]),
}

/// The engines that a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engines {
    /// All.
    All,
    /// Those that have a feature.
    With(Feature),
    /// Those that do not have it.
    Without(Feature),
}

/// A field without effect.
#[derive(Debug)]
pub struct Row {
    /// The part of objects that has it.
    pub part: Part,
    /// Patterns of its paths there, as `find.rs` documents them.
    pub paths: &'static [&'static str],
    /// The values that mislead.
    pub values: Values,
    /// A field beside it, and the values of that with which it misleads.
    pub beside: Option<(&'static str, Values)>,
    /// The engines on which it has no effect.
    pub engines: Engines,
    /// The sentence, which follows the path.
    pub effect: &'static str,
}

const fn row(part: Part, paths: &'static [&'static str], values: Values, effect: &'static str) -> Row {
    Row { part, paths, values, beside: None, engines: Engines::All, effect }
}

const fn beside(field: &'static str, values: Values, row: Row) -> Row {
    Row { beside: Some((field, values)), ..row }
}

const fn on(engines: Engines, row: Row) -> Row {
    Row { engines, ..row }
}

/// The rows, in the order of the documents.
pub const TABLE: &[Row] = &[
    // Scheduling.
    row(
        Pod,
        &["affinity.podAffinity|podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution"],
        Any,
        "this cluster has one node and ignores this field",
    ),
    beside(
        "whenUnsatisfiable",
        Only(&["DoNotSchedule"]),
        row(
            Pod,
            &["topologySpreadConstraints[*].topologyKey"],
            Except(&["kubernetes.io/hostname"]),
            "this cluster has one node and ignores this constraint",
        ),
    ),
    row(
        Pod,
        &["topologySpreadConstraints[*].minDomains"],
        Except(&["1"]),
        "this cluster has one node and ignores this field",
    ),
    row(Pod, &["priorityClassName"], Any, "no Pod makes room for one of a higher priority in this cluster"),
    row(Pod, &["readinessGates"], Any, "Pods of this cluster are ready without these conditions"),
    // Isolation.
    row(Pod, &["hostPID|hostIPC"], Only(&["true"]), "this cluster gives each Pod namespaces of its own"),
    row(Pod, &["hostUsers"], Only(&["false"]), "this cluster gives Pods no user namespaces of their own"),
    on(
        Without(Seccomp),
        row(
            Pod,
            &["securityContext.seccompProfile.type", "containers[*].securityContext.seccompProfile.type"],
            Only(&["RuntimeDefault", "Localhost"]),
            "this cluster runs containers without a seccomp profile",
        ),
    ),
    on(
        With(Seccomp),
        row(
            Pod,
            &["securityContext.seccompProfile.type", "containers[*].securityContext.seccompProfile.type"],
            Only(&["Unconfined", "Localhost"]),
            "this cluster runs containers with the seccomp profile of its engine",
        ),
    ),
    on(
        Without(AppArmor),
        row(
            Pod,
            &["securityContext.appArmorProfile.type", "containers[*].securityContext.appArmorProfile.type"],
            Only(&["RuntimeDefault", "Localhost"]),
            "this cluster runs containers without an AppArmor profile",
        ),
    ),
    on(
        With(AppArmor),
        row(
            Pod,
            &["securityContext.appArmorProfile.type", "containers[*].securityContext.appArmorProfile.type"],
            Only(&["Unconfined", "Localhost"]),
            "this cluster runs containers with the AppArmor profile of its engine",
        ),
    ),
    row(
        Pod,
        &["securityContext.seLinuxOptions", "containers[*].securityContext.seLinuxOptions"],
        Any,
        "this cluster sets no SELinux labels",
    ),
    row(
        Pod,
        &["securityContext.supplementalGroupsPolicy"],
        Only(&["Strict"]),
        "this cluster adds the groups that the image gives the user",
    ),
    row(
        Pod,
        &["containers[*].securityContext.procMount"],
        Only(&["Unmasked"]),
        "this cluster masks parts of /proc in every container that is not privileged",
    ),
    // Resources.
    row(Pod, &["resources"], Any, "this cluster reads the resources of containers, and not those of a Pod"),
    row(
        Pod,
        &["containers[*].resources.limits[ephemeral-storage]"],
        Any,
        "this cluster does not limit what containers write",
    ),
    on(
        Without(MemoryLimit),
        row(
            Pod,
            &["containers[*].resources.limits[memory]"],
            Any,
            "the engine of this cluster does not limit memory; its kernel lacks the memory cgroup",
        ),
    ),
    on(
        Without(CpuLimit),
        row(
            Pod,
            &["containers[*].resources.limits[cpu]"],
            Any,
            "the engine of this cluster does not limit processor time; its kernel lacks CPU quotas",
        ),
    ),
    row(
        Pod,
        &["containers[*].resizePolicy[*].restartPolicy"],
        Only(&["RestartContainer"]),
        "this cluster resizes containers without a restart",
    ),
    row(Pod, &["resourceClaims"], Any, "this cluster allocates no devices"),
    row(Pod, &["containers[*].volumeDevices"], Any, "this cluster gives containers no block devices"),
    // What containers are asked, and their names.
    row(
        Pod,
        &["containers[*].livenessProbe|readinessProbe|startupProbe.grpc"],
        Any,
        "this cluster only looks whether the port takes connections",
    ),
    row(
        Pod,
        &[
            "containers[*].livenessProbe|readinessProbe|startupProbe.httpGet|tcpSocket.host",
            "containers[*].lifecycle.postStart|preStop.httpGet|tcpSocket.host",
        ],
        Any,
        "this cluster connects to the Pod's own address",
    ),
    row(
        Pod,
        &["containers[*].ports[*].hostIP"],
        Except(&["", "127.0.0.1", "::1", "0.0.0.0", "::"]),
        "this cluster opens host ports at one address for all Pods",
    ),
    row(
        Pod,
        &["setHostnameAsFQDN"],
        Only(&["true"]),
        "the host name of a Pod of this cluster is its short name",
    ),
    // Volumes.
    beside(
        "medium",
        Except(&["Memory"]),
        row(Pod, &["volumes[*].emptyDir.sizeLimit"], Any, "this cluster limits volumes in memory only"),
    ),
    row(
        Pod,
        &["volumes[*].emptyDir.medium"],
        Except(&["", "Memory"]),
        "this cluster keeps such a volume on its disk",
    ),
    row(
        Pod,
        &[
            "volumes[*].awsElasticBlockStore|azureDisk|azureFile|cinder|csi|ephemeral|fc|flexVolume|gcePersistentDisk",
            "volumes[*].image|iscsi|nfs|portworxVolume|vsphereVolume",
        ],
        Any,
        "this cluster does not mount such a volume; a Pod with it does not start",
    ),
    row(Job, &["podFailurePolicy"], Any, "this cluster counts all failed Pods alike"),
    row(Service, &["externalIPs"], Any, "this cluster takes no connections at these addresses"),
    row(Service, &["loadBalancerIP"], Any, "this cluster takes connections at the address of its node"),
    row(Service, &["loadBalancerSourceRanges"], Any, "this cluster takes connections from all addresses"),
    row(
        Service,
        &["loadBalancerClass"],
        Any,
        "this cluster serves every Service of type LoadBalancer itself",
    ),
    row(
        Service,
        &["externalTrafficPolicy"],
        Only(&["Local"]),
        "Pods of this cluster do not see the addresses of clients",
    ),
    row(Service, &["healthCheckNodePort"], Any, "this cluster answers no health checks at this port"),
    row(Service, &["ports[*].protocol"], Only(&["SCTP"]), "this cluster forwards TCP and UDP only"),
    row(
        Claim,
        &["accessModes[*]"],
        Only(&["ReadWriteOncePod"]),
        "this cluster lets more than one Pod use the volume",
    ),
    row(Claim, &["volumeMode"], Only(&["Block"]), "this cluster makes volumes with a file system only"),
    row(Claim, &["selector", "volumeName"], Any, "this cluster makes a new volume for each claim"),
    row(Claim, &["dataSource|dataSourceRef"], Any, "a new volume of this cluster is empty"),
    row(Claim, &["volumeAttributesClassName"], Any, "volumes of this cluster have no attributes"),
    row(Volume, &[""], Any, "this cluster binds claims only to volumes that it has made itself"),
    row(Class, &["mountOptions|parameters"], Any, "volumes of this cluster have no options"),
    row(
        Namespace,
        &["metadata.labels[pod-security.kubernetes.io/enforce]"],
        Except(&["privileged"]),
        "this cluster does not check Pods by the Pod Security Standards",
    ),
    row(Node, &["taints[*].effect"], Only(&["NoExecute"]), "Pods that run already stay in this cluster"),
];

impl Values {
    fn has(self, value: &Value) -> bool {
        let text = match value {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        match self {
            Self::Any => match value {
                Value::Array(items) => !items.is_empty(),
                Value::Object(map) => !map.is_empty(),
                _ => !text.is_empty(),
            },
            Self::Only(values) => values.contains(&text.as_str()),
            Self::Except(values) => !values.contains(&text.as_str()),
        }
    }
}

impl Row {
    fn is_about(&self, lacks: &[Feature]) -> bool {
        match self.engines {
            Engines::All => true,
            Engines::With(feature) => !lacks.contains(&feature),
            Engines::Without(feature) => lacks.contains(&feature),
        }
    }

    fn applies(&self, found: &Found<'_>) -> bool {
        let beside =
            self.beside.is_none_or(|(field, values)| values.has(found.of.get(field).unwrap_or(&Value::Null)));
        beside && self.values.has(found.value)
    }
}

/// The sentences about an object, on an engine that lacks some features.
pub fn of(kind: &Kind, object: &Value, lacks: &[Feature]) -> Vec<String> {
    let mut all = Vec::new();
    for (_, part, place) in PLACES.iter().filter(|(name, ..)| *name == kind.name) {
        let rows: Vec<&Row> = TABLE.iter().filter(|row| row.part == *part && row.is_about(lacks)).collect();
        for place in Found::whole(object).find(place) {
            for row in &rows {
                let found = row.paths.iter().flat_map(|path| place.clone().find(path));
                let misleading = found.filter(|found| row.applies(found));
                all.extend(misleading.map(|found| format!("{}: {}", found.path, row.effect)));
            }
        }
    }
    all
}

/// The table for a document: of an engine that has exactly some features, or of one that may have any.
pub fn markdown(features: Option<&[Feature]>) -> String {
    let mut text = String::from("| Part | Field | Values | Effect |\n|---|---|---|---|\n");
    for row in TABLE {
        let lacks: Option<Vec<Feature>> =
            features.map(|has| Feature::ALL.into_iter().filter(|feature| !has.contains(feature)).collect());
        if lacks.is_some_and(|lacks| !row.is_about(&lacks)) {
            continue;
        }
        let fields: Vec<String> = row.paths.iter().map(|path| field(row.part, path)).collect();
        let engines = features.map_or_else(|| words_of_engines(row.engines), |_| String::new());
        let values = [words_of_values("", row.values), words_of_neighbour(row.beside), engines];
        let values: Vec<&str> = values.iter().map(String::as_str).filter(|words| !words.is_empty()).collect();
        let (part, fields) = (words_of_part(row.part), fields.join(", "));
        text += &format!("| {part} | {fields} | {} | {} |\n", values.join(", "), row.effect);
    }
    text
}

/// A pattern as a cell of a table has it.
fn field(part: Part, path: &str) -> String {
    let whole = if matches!(part, Volume) { "spec" } else { path };
    format!("`{}`", whole.replace('|', "\\|"))
}

fn words_of_part(part: Part) -> &'static str {
    match part {
        Pod => "Pod",
        Job => "Job",
        Service => "Service",
        Claim => "PersistentVolumeClaim",
        Volume => "PersistentVolume",
        Class => "StorageClass",
        Namespace => "Namespace",
        Node => "Node",
    }
}

fn words_of_values(field: &str, values: Values) -> String {
    let list = |values: &[&str]| {
        let shown = values.iter().filter(|value| !value.is_empty()).map(|value| format!("`{value}`"));
        shown.collect::<Vec<_>>().join(", ")
    };
    match values {
        Any => String::new(),
        Only(values) => format!("{field}{}", list(values)),
        Except(values) => format!("{field}not {}", list(values)),
    }
}

fn words_of_neighbour(beside: Option<(&str, Values)>) -> String {
    beside.map_or_else(String::new, |(field, values)| words_of_values(&format!("with `{field}` "), values))
}

fn words_of_engines(engines: Engines) -> String {
    let named = |feature| match feature {
        Seccomp => "seccomp",
        AppArmor => "AppArmor",
        MemoryLimit => "limits of memory",
        CpuLimit => "limits of processor time",
    };
    match engines {
        Engines::All => String::new(),
        With(feature) => format!("with an engine that has {}", named(feature)),
        Without(feature) => format!("with an engine without {}", named(feature)),
    }
}
