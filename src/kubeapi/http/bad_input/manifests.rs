//! A valid object of each kind, with most of the fields that something acts on.

use serde_json::{Value, json};

use crate::kinds::Kind;
use crate::meta;

/// A `spec` of a Pod with most of what there is.
fn pod() -> Value {
    json!({
        "restartPolicy": "Always", "terminationGracePeriodSeconds": 5, "hostname": "h", "subdomain": "s",
        "nodeSelector": {"disk": "fast"}, "priorityClassName": "system-node-critical",
        "securityContext": {"runAsUser": 5, "fsGroup": 0, "sysctls": [{"name": "kernel.shm_rmid_forced", "value": "0"}]},
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["fast"]}]},
        ]}}},
        "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}],
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
        "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a.b"]}],
        "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["a.b"], "options": [{"name": "ndots", "value": "2"}]},
        "imagePullSecrets": [{"name": "s"}], "readinessGates": [{"conditionType": "a.b/c"}],
        "initContainers": [{"name": "side", "image": "i", "restartPolicy": "Always"}],
        "containers": [{
            "name": "c", "image": "i:1", "command": ["a"], "args": ["$(A)"], "tty": true, "workingDir": "/",
            "env": [
                {"name": "A", "value": "$(B)"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
                {"name": "D", "valueFrom": {"configMapKeyRef": {"name": "a", "key": "k", "optional": true}}},
            ],
            "envFrom": [{"prefix": "P_", "secretRef": {"name": "s", "optional": true}}],
            "ports": [{"name": "web", "containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1"}],
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}},
            "livenessProbe": {"httpGet": {"port": "web"}, "periodSeconds": 1, "initialDelaySeconds": 1},
            "readinessProbe": {"tcpSocket": {"port": 80}}, "startupProbe": {"exec": {"command": ["a"]}},
            "lifecycle": {"preStop": {"sleep": {"seconds": 1}}, "stopSignal": "SIGTERM"},
            "securityContext": {"capabilities": {"add": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}},
            "volumeMounts": [
                {"name": "tmp", "mountPath": "/tmp", "subPathExpr": "$(B)"},
                {"name": "all", "mountPath": "/all", "readOnly": true, "recursiveReadOnly": "IfPossible"},
            ],
        }],
        "volumes": [
            {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}, {"name": "host", "hostPath": {"path": "/x", "type": ""}},
            {"name": "all", "projected": {"defaultMode": 420, "sources": [
                {"configMap": {"name": "a", "optional": true, "items": [{"key": "k", "path": "a/b", "mode": 256}]}},
                {"downwardAPI": {"items": [{"path": "p", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            ]}},
            {"name": "claim", "persistentVolumeClaim": {"claimName": "a"}},
        ],
    })
}

fn template(policy: &str) -> Value {
    let mut template =
        json!({"metadata": {"labels": {"app": "a"}, "annotations": {"x": "y"}}, "spec": pod()});
    template["spec"]["restartPolicy"] = policy.into();
    template
}

fn claim() -> Value {
    json!({
        "accessModes": ["ReadWriteOnce"], "storageClassName": "standard", "resources": {"requests": {"storage": "1Mi"}},
    })
}

/// The fields of a kind that makes Pods.
fn workload(kind: &Kind) -> Option<Value> {
    let selector =
        json!({"matchLabels": {"app": "a"}, "matchExpressions": [{"key": "app", "operator": "Exists"}]});
    let job = json!({
        "parallelism": 2, "completions": 3, "completionMode": "Indexed", "backoffLimit": 1, "activeDeadlineSeconds": 600,
        "ttlSecondsAfterFinished": 60, "suspend": false, "template": template("Never"),
    });
    let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}});
    Some(match kind.name {
        "Pod" => json!({"spec": pod()}),
        "Deployment" => json!({"spec": {
            "replicas": 2, "minReadySeconds": 1, "progressDeadlineSeconds": 60, "revisionHistoryLimit": 2, "paused": false,
            "strategy": rolling, "selector": selector, "template": template("Always"),
        }}),
        "ReplicaSet" => {
            json!({"spec": {"replicas": 2, "selector": selector, "template": template("Always")}})
        }
        "StatefulSet" => json!({"spec": {
            "replicas": 2, "serviceName": "s", "podManagementPolicy": "Parallel", "ordinals": {"start": 1},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}, "selector": selector,
            "template": template("Always"), "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim()}],
        }}),
        "DaemonSet" => json!({"spec": {
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": selector, "template": template("Always"),
        }}),
        "Job" => json!({"spec": job}),
        "CronJob" => json!({"spec": {
            "schedule": "*/5 1-3 * * 1,2", "timeZone": "Europe/Zurich", "startingDeadlineSeconds": 9,
            "concurrencyPolicy": "Forbid", "failedJobsHistoryLimit": 1,
            "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": job},
        }}),
        _ => return None,
    })
}

/// The fields of another kind.
fn other(kind: &Kind) -> Value {
    match kind.name {
        "Service" => json!({"spec": {
            "type": "LoadBalancer", "selector": {"app": "a"}, "sessionAffinity": "ClientIP", "ipFamilies": ["IPv4"],
            "ports": [{"name": "web", "port": 80, "targetPort": "web", "protocol": "TCP"}],
        }}),
        "PersistentVolumeClaim" => json!({"spec": claim()}),
        "PersistentVolume" => json!({"spec": {
            "capacity": {"storage": "1Mi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"},
            "claimRef": {"namespace": "default", "name": "a"},
        }}),
        "StorageClass" => {
            json!({"provisioner": "d2k.io/local", "reclaimPolicy": "Retain", "parameters": {"a": "b"}})
        }
        "ConfigMap" => json!({"data": {"k": "v"}, "binaryData": {"b": "AAAA"}, "immutable": false}),
        "Secret" => json!({"stringData": {"k": "v"}, "data": {"d": "AAAA"}, "type": "Opaque"}),
        "ServiceAccount" => {
            json!({"imagePullSecrets": [{"name": "s"}], "automountServiceAccountToken": true})
        }
        "Node" => json!({"spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}}),
        "Event" => {
            json!({"involvedObject": {"kind": "Pod", "name": "a", "namespace": "default"}, "reason": "R", "count": 1})
        }
        "Lease" => {
            json!({"spec": {"holderIdentity": "h", "leaseDurationSeconds": 1, "renewTime": "2026-01-01T00:00:00.000000Z"}})
        }
        "Endpoints" => json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]}),
        "EndpointSlice" => json!({
            "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}}], "ports": [{"port": 80}],
        }),
        "ControllerRevision" => json!({"revision": 1, "data": {"spec": {"template": template("Always")}}}),
        _ => json!({}),
    }
}

/// A valid object of a kind.
pub fn manifest(kind: &Kind) -> Value {
    let more = workload(kind).unwrap_or_else(|| other(kind));
    let mut object = json!({"kind": kind.name, "apiVersion": kind.api_version(), "metadata": {
        "name": "a", "labels": {"app": "a"}, "annotations": {"x": "y"}, "finalizers": [],
    }});
    meta::map(&mut object).extend(more.as_object().cloned().unwrap_or_default());
    object
}
