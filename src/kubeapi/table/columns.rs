//! Columns and cells of each kind, as the API server prints them.

use serde_json::{Value, json};

use super::{Column, age, between, containers, duration, labels};
use crate::kinds::Kind;
use crate::meta::{self, at, items, number, string};

/// The columns of a kind; `*` marks those of `-o wide`, `#` integers and `?` booleans.
fn names(kind: &str) -> &'static str {
    match kind {
        "Namespace" => "Name|Status|Age",
        "Node" => {
            "Name|Status|Roles|Age|Version|*Internal-IP|*External-IP|*OS-Image|\
             *Kernel-Version|*Container-Runtime"
        }
        "Pod" => "Name|Ready|Status|Restarts|Age|*IP|*Node|*Nominated Node|*Readiness Gates",
        "Service" => "Name|Type|Cluster-IP|External-IP|Port(s)|Age|*Selector",
        "Endpoints" => "Name|Endpoints|Age",
        "EndpointSlice" => "Name|AddressType|Ports|Endpoints|Age",
        "PersistentVolumeClaim" => {
            "Name|Status|Volume|Capacity|Access Modes|StorageClass|VolumeAttributesClass|Age|\
             *VolumeMode"
        }
        "PersistentVolume" => {
            "Name|Capacity|Access Modes|Reclaim Policy|Status|Claim|StorageClass|\
             VolumeAttributesClass|Reason|Age|*VolumeMode"
        }
        "ConfigMap" => "Name|Data|Age",
        "Secret" => "Name|Type|Data|Age",
        "ServiceAccount" => "Name|Secrets|Age",
        "Event" => "Last Seen|Type|Reason|Object|*Subobject|*Source|Message|*First Seen|*Count|*Name",
        "Deployment" => "Name|Ready|Up-to-date|Available|Age|*Containers|*Images|*Selector",
        "ReplicaSet" => "Name|#Desired|#Current|#Ready|Age|*Containers|*Images|*Selector",
        "DaemonSet" => {
            "Name|#Desired|#Current|#Ready|#Up-to-date|#Available|Node Selector|Age|*Containers|*Images|\
             *Selector"
        }
        "StatefulSet" => "Name|Ready|Age|*Containers|*Images",
        "ControllerRevision" => "Name|Controller|Revision|Age",
        "CronJob" => {
            "Name|Schedule|Timezone|?Suspend|#Active|Last Schedule|Age|*Containers|*Images|*Selector"
        }
        "Job" => "Name|Status|Completions|Duration|Age|*Containers|*Images|*Selector",
        "Lease" => "Name|Holder|Age",
        "StorageClass" => "Name|Provisioner|ReclaimPolicy|VolumeBindingMode|AllowVolumeExpansion|Age",
        _ => "Name|Age",
    }
}

pub(super) fn of(kind: &Kind) -> Vec<Column> {
    let all = names(kind.name).split('|');
    all.map(column).collect()
}

fn column(text: &'static str) -> Column {
    let (kind, wide) = match text.as_bytes().first() {
        Some(b'*') => ("string", true),
        Some(b'#') => ("integer", false),
        Some(b'?') => ("boolean", false),
        _ => return Column { name: text, kind: "string", wide: false },
    };
    Column { name: &text[1..], kind, wide }
}

fn or(text: &str, other: &str) -> Value {
    if text.is_empty() { other.into() } else { text.into() }
}

fn count(object: &Value, path: &[&str]) -> i64 {
    number(object, path).unwrap_or(0)
}

/// The cells of one object.
pub(super) fn cells(kind: &Kind, object: &Value) -> Vec<Value> {
    let name = json!(meta::name(object));
    let age = json!(age(meta::text(object, "creationTimestamp")));
    let (spec, status) = (at(object, &["spec"]), at(object, &["status"]));
    match kind.name {
        "Namespace" => vec![name, string(status, &["phase"]).into(), age],
        "Node" => node(object, name, age),
        "Pod" => pod(object, name, age),
        "Service" => service(object, name, age),
        "Endpoints" => vec![name, endpoints(object).into(), age],
        "EndpointSlice" => slice(object, name, age),
        "PersistentVolumeClaim" => vec![
            name,
            string(status, &["phase"]).into(),
            string(spec, &["volumeName"]).into(),
            string(status, &["capacity", "storage"]).into(),
            modes(items(status, &["accessModes"])).into(),
            string(spec, &["storageClassName"]).into(),
            "<unset>".into(),
            age,
            string(spec, &["volumeMode"]).into(),
        ],
        "PersistentVolume" => {
            let claim = at(spec, &["claimRef"]);
            let claim = format!("{}/{}", string(claim, &["namespace"]), string(claim, &["name"]));
            vec![
                name,
                string(spec, &["capacity", "storage"]).into(),
                modes(items(spec, &["accessModes"])).into(),
                string(spec, &["persistentVolumeReclaimPolicy"]).into(),
                string(status, &["phase"]).into(),
                claim.trim_matches('/').into(),
                string(spec, &["storageClassName"]).into(),
                "<unset>".into(),
                string(status, &["reason"]).into(),
                age,
                string(spec, &["volumeMode"]).into(),
            ]
        }
        "ConfigMap" | "Secret" => {
            let size = |field| at(object, &[field]).as_object().map_or(0, serde_json::Map::len);
            let data = json!(size("data") + size("binaryData"));
            if kind.name == "Secret" {
                vec![name, string(object, &["type"]).into(), data, age]
            } else {
                vec![name, data, age]
            }
        }
        "ServiceAccount" => vec![name, items(object, &["secrets"]).len().into(), age],
        "Event" => event(object, name),
        "Deployment" | "ReplicaSet" | "DaemonSet" | "Job" => workload(kind, object, name, age),
        "CronJob" => cron_job(object, name, age),
        "StatefulSet" => vec![
            name,
            format!("{}/{}", count(status, &["readyReplicas"]), count(spec, &["replicas"])).into(),
            age,
            containers(at(spec, &["template", "spec"]), "name").into(),
            containers(at(spec, &["template", "spec"]), "image").into(),
        ],
        "ControllerRevision" => {
            vec![name, controller(object).into(), count(object, &["revision"]).into(), age]
        }
        "Lease" => vec![name, string(spec, &["holderIdentity"]).into(), age],
        "StorageClass" => storage_class(object, name, age),
        _ => vec![name, age],
    }
}

fn node(object: &Value, name: Value, age: Value) -> Vec<Value> {
    let ready = items(object, &["status", "conditions"])
        .iter()
        .any(|c| string(c, &["type"]) == "Ready" && string(c, &["status"]) == "True");
    let closed = at(object, &["spec", "unschedulable"]).as_bool() == Some(true);
    let closed = if closed { ",SchedulingDisabled" } else { "" };
    let labels = at(object, &["metadata", "labels"]).as_object().into_iter().flatten();
    let roles: Vec<&str> =
        labels.filter_map(|(label, _)| label.strip_prefix("node-role.kubernetes.io/")).collect();
    let info = at(object, &["status", "nodeInfo"]);
    let address =
        items(object, &["status", "addresses"]).iter().find(|a| string(a, &["type"]) == "InternalIP");
    vec![
        name,
        format!("{}{closed}", if ready { "Ready" } else { "NotReady" }).into(),
        or(&roles.join(","), "<none>"),
        age,
        string(info, &["kubeletVersion"]).into(),
        or(address.map(|a| string(a, &["address"])).unwrap_or_default(), "<none>"),
        "<none>".into(),
        string(info, &["osImage"]).into(),
        string(info, &["kernelVersion"]).into(),
        string(info, &["containerRuntimeVersion"]).into(),
    ]
}

fn pod(object: &Value, name: Value, created: Value) -> Vec<Value> {
    let beside: Vec<&Value> = sidecars(object).collect();
    let all = items(object, &["status", "initContainerStatuses"]).iter();
    let side = all.filter(|s| beside.iter().any(|c| string(c, &["name"]) == string(s, &["name"])));
    let statuses: Vec<&Value> = items(object, &["status", "containerStatuses"]).iter().chain(side).collect();
    let ready = statuses.iter().filter(|s| at(s, &["ready"]).as_bool() == Some(true)).count();
    let restarts: i64 = statuses.iter().map(|s| count(s, &["restartCount"])).sum();
    let last = statuses
        .iter()
        .map(|s| string(s, &["lastState", "terminated", "finishedAt"]))
        .max()
        .unwrap_or_default();
    let restarts = if restarts > 0 && !last.is_empty() {
        format!("{restarts} ({} ago)", age(last))
    } else {
        restarts.to_string()
    };
    let total = items(object, &["spec", "containers"]).len() + beside.len();
    vec![
        name,
        format!("{ready}/{total}").into(),
        pod_status(object).into(),
        restarts.into(),
        created,
        or(string(object, &["status", "podIP"]), "<none>"),
        or(string(object, &["spec", "nodeName"]), "<none>"),
        "<none>".into(),
        "<none>".into(),
    ]
}

/// The init containers that go on beside the others.
fn sidecars(pod: &Value) -> impl Iterator<Item = &Value> {
    items(pod, &["spec", "initContainers"]).iter().filter(|c| string(c, &["restartPolicy"]) == "Always")
}

/// The word that `kubectl get pods` has for a Pod.
fn pod_status(object: &Value) -> String {
    let status = at(object, &["status"]);
    let mut word =
        or(string(status, &["reason"]), string(status, &["phase"])).as_str().unwrap_or_default().to_owned();
    let init = items(status, &["initContainerStatuses"]);
    for (at_, one) in init.iter().enumerate() {
        let ended = at(one, &["state", "terminated"]);
        let is = |field: &str| at(one, &[field]).as_bool() == Some(true);
        let side = sidecars(object).any(|c| string(c, &["name"]) == string(one, &["name"]));
        if number(ended, &["exitCode"]) == Some(0) || side && is("started") && is("ready") {
            continue;
        }
        let waiting = string(one, &["state", "waiting", "reason"]);
        word = match (ended.is_null(), waiting) {
            (false, _) => {
                format!("Init:{}", or(string(ended, &["reason"]), "Error").as_str().unwrap_or_default())
            }
            (true, "" | "PodInitializing") => format!("Init:{at_}/{}", init.len()),
            (true, waiting) => format!("Init:{waiting}"),
        };
        return word;
    }
    for one in items(status, &["containerStatuses"]).iter().rev() {
        let (waiting, ended) =
            (string(one, &["state", "waiting", "reason"]), at(one, &["state", "terminated"]));
        if !waiting.is_empty() {
            waiting.clone_into(&mut word);
        } else if !ended.is_null() {
            let reason = string(ended, &["reason"]);
            word = if reason.is_empty() {
                format!("ExitCode:{}", count(ended, &["exitCode"]))
            } else {
                reason.to_owned()
            };
        }
    }
    let runs = |one: &Value| !at(one, &["state", "running"]).is_null() && at(one, &["ready"]) == true;
    if word == "Completed" && items(status, &["containerStatuses"]).iter().any(runs) {
        let ready = |c: &Value| string(c, &["type"]) == "Ready" && string(c, &["status"]) == "True";
        let ready = items(status, &["conditions"]).iter().any(ready);
        word = if ready { "Running" } else { "NotReady" }.into();
    }
    if meta::deleting(object) { "Terminating".into() } else { word }
}

fn service(object: &Value, name: Value, age: Value) -> Vec<Value> {
    let spec = at(object, &["spec"]);
    let external = match string(spec, &["type"]) {
        "LoadBalancer" => {
            let all: Vec<&str> = items(object, &["status", "loadBalancer", "ingress"])
                .iter()
                .map(|i| {
                    if string(i, &["ip"]).is_empty() { string(i, &["hostname"]) } else { string(i, &["ip"]) }
                })
                .collect();
            if all.is_empty() { "<pending>".into() } else { all.join(",") }
        }
        "ExternalName" => string(spec, &["externalName"]).to_owned(),
        _ => "<none>".to_owned(),
    };
    let ports: Vec<String> = items(spec, &["ports"])
        .iter()
        .map(|port| {
            let (number_, protocol) = (count(port, &["port"]), string(port, &["protocol"]));
            match number(port, &["nodePort"]).filter(|p| *p > 0) {
                Some(node) => format!("{number_}:{node}/{protocol}"),
                None => format!("{number_}/{protocol}"),
            }
        })
        .collect();
    vec![
        name,
        string(spec, &["type"]).into(),
        or(string(spec, &["clusterIP"]), "<none>"),
        external.into(),
        or(&ports.join(","), "<none>"),
        age,
        labels(at(spec, &["selector"])).into(),
    ]
}

fn endpoints(object: &Value) -> String {
    let mut all = Vec::new();
    for subset in items(object, &["subsets"]) {
        for address in items(subset, &["addresses"]) {
            let ip = string(address, &["ip"]);
            let ports = items(subset, &["ports"]);
            if ports.is_empty() {
                all.push(ip.to_owned());
            }
            all.extend(ports.iter().map(|port| format!("{ip}:{}", count(port, &["port"]))));
        }
    }
    few(all)
}

fn slice(object: &Value, name: Value, age: Value) -> Vec<Value> {
    let ports = items(object, &["ports"]).iter().map(|port| count(port, &["port"]).to_string()).collect();
    let addresses = items(object, &["endpoints"])
        .iter()
        .flat_map(|e| items(e, &["addresses"]))
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let unset = |text: String| if text == "<none>" { "<unset>".to_owned() } else { text };
    vec![
        name,
        string(object, &["addressType"]).into(),
        unset(few(ports)).into(),
        unset(few(addresses)).into(),
        age,
    ]
}

fn few(mut all: Vec<String>) -> String {
    let rest = all.len().saturating_sub(3);
    all.truncate(3);
    match (all.is_empty(), rest) {
        (true, _) => "<none>".into(),
        (false, 0) => all.join(","),
        (false, rest) => format!("{} + {rest} more...", all.join(",")),
    }
}

fn modes(modes: &[Value]) -> String {
    let short = |mode: &Value| match mode.as_str() {
        Some("ReadWriteOnce") => "RWO",
        Some("ReadOnlyMany") => "ROX",
        Some("ReadWriteMany") => "RWX",
        Some("ReadWriteOncePod") => "RWOP",
        _ => "",
    };
    modes.iter().map(short).collect::<Vec<_>>().join(",")
}

fn event(object: &Value, name: Value) -> Vec<Value> {
    let time = |field: &str| string(object, &[field]);
    let last = [time("lastTimestamp"), time("eventTime"), time("firstTimestamp")];
    let last = last.into_iter().find(|t| !t.is_empty()).unwrap_or_default();
    let about = at(object, &["involvedObject"]);
    let kind = string(about, &["kind"]).to_lowercase();
    vec![
        age(last).into(),
        time("type").into(),
        time("reason").into(),
        format!("{kind}/{}", string(about, &["name"])).into(),
        string(about, &["fieldPath"]).into(),
        string(object, &["source", "component"]).into(),
        time("message").trim().into(),
        age(if time("firstTimestamp").is_empty() { last } else { time("firstTimestamp") }).into(),
        number(object, &["count"]).unwrap_or(1).into(),
        name,
    ]
}

fn workload(kind: &Kind, object: &Value, name: Value, age: Value) -> Vec<Value> {
    let (spec, status) = (at(object, &["spec"]), at(object, &["status"]));
    let desired = count(spec, &["replicas"]);
    let template = at(spec, &["template", "spec"]);
    let mut cells = match kind.name {
        "Deployment" => vec![
            name,
            format!("{}/{desired}", count(status, &["readyReplicas"])).into(),
            count(status, &["updatedReplicas"]).into(),
            count(status, &["availableReplicas"]).into(),
            age,
        ],
        "ReplicaSet" => vec![
            name,
            desired.into(),
            count(status, &["replicas"]).into(),
            count(status, &["readyReplicas"]).into(),
            age,
        ],
        "DaemonSet" => vec![
            name,
            count(status, &["desiredNumberScheduled"]).into(),
            count(status, &["currentNumberScheduled"]).into(),
            count(status, &["numberReady"]).into(),
            count(status, &["updatedNumberScheduled"]).into(),
            count(status, &["numberAvailable"]).into(),
            labels(at(template, &["nodeSelector"])).into(),
            age,
        ],
        _ => job(object, name, age),
    };
    cells.push(containers(template, "name").into());
    cells.push(containers(template, "image").into());
    cells.push(labels(at(spec, &["selector", "matchLabels"])).into());
    cells
}

fn cron_job(object: &Value, name: Value, age: Value) -> Vec<Value> {
    let (spec, status) = (at(object, &["spec"]), at(object, &["status"]));
    let suspended = at(spec, &["suspend"]).as_bool() == Some(true);
    let last = match string(status, &["lastScheduleTime"]) {
        "" => "<none>".to_owned(),
        time => self::age(time),
    };
    let job = at(spec, &["jobTemplate", "spec"]);
    let pod = at(job, &["template", "spec"]);
    vec![
        name,
        string(spec, &["schedule"]).into(),
        or(string(spec, &["timeZone"]), "<none>"),
        if suspended { "True" } else { "False" }.into(),
        items(status, &["active"]).len().into(),
        last.into(),
        age,
        containers(pod, "name").into(),
        containers(pod, "image").into(),
        labels(at(job, &["selector", "matchLabels"])).into(),
    ]
}

/// Kind, group and name of the controller, as `statefulset.apps/web`.
fn controller(object: &Value) -> String {
    let Some(owner) = meta::controller(object) else { return "<none>".to_owned() };
    let kind = string(owner, &["kind"]).to_lowercase();
    let group = string(owner, &["apiVersion"]).split_once('/').map(|(group, _)| group);
    let dot = if group.is_some() { "." } else { "" };
    format!("{kind}{dot}{}/{}", group.unwrap_or_default(), string(owner, &["name"]))
}

fn job(object: &Value, name: Value, age: Value) -> Vec<Value> {
    let (spec, status) = (at(object, &["spec"]), at(object, &["status"]));
    let is = |wanted: &str| {
        items(status, &["conditions"])
            .iter()
            .any(|c| string(c, &["type"]) == wanted && string(c, &["status"]) == "True")
    };
    let word = [
        ("Complete", "Complete"),
        ("Failed", "Failed"),
        ("Suspended", "Suspended"),
        ("FailureTarget", "FailureTarget"),
    ]
    .into_iter()
    .find(|(condition, _)| is(condition))
    .map_or(if meta::deleting(object) { "Terminating" } else { "Running" }, |(_, word)| word);
    let succeeded = count(status, &["succeeded"]);
    let completions = match (number(spec, &["completions"]), count(spec, &["parallelism"])) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, many) if many > 1 => format!("{succeeded}/1 of {many}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let (from, to) = (string(status, &["startTime"]), string(status, &["completionTime"]));
    let took = between(from, to).map(duration).unwrap_or_default();
    vec![name, word.into(), completions.into(), took.into(), age]
}

fn storage_class(object: &Value, name: Value, age: Value) -> Vec<Value> {
    let default =
        string(object, &["metadata", "annotations", "storageclass.kubernetes.io/is-default-class"]) == "true";
    let name = name.as_str().unwrap_or_default();
    let name = if default { format!("{name} (default)") } else { name.to_owned() };
    let expands = at(object, &["allowVolumeExpansion"]).as_bool() == Some(true);
    vec![
        name.into(),
        string(object, &["provisioner"]).into(),
        string(object, &["reclaimPolicy"]).into(),
        string(object, &["volumeBindingMode"]).into(),
        expands.into(),
        age,
    ]
}
