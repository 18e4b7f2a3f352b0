//! Walks the table of fields without effect: each row names fields that the API has, and a write that uses one is answered with
//! the row's sentence; and when the API server looks at a write at all.

use std::sync::Arc;

use serde_json::{Value, json};

use super::find::{Found, either, split};
use super::unsupported::{Engines, PLACES, Part, Row, TABLE};
use super::*;
use crate::controllers::testing;
use crate::http::testing::{Answer, Server};
use crate::kinds;
use crate::schema::types::{self, Shape};

const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";

/// What a pattern leads to in the schema, for each of the names in it; an error for a name that is not there.
fn shapes(from: Shape, pattern: &str) -> Result<Vec<Shape>, String> {
    if pattern.is_empty() {
        return Ok(vec![from]);
    }
    let (step, rest) = split(pattern);
    let (names, index) = step.split_once('[').map_or((step, None), |(names, index)| (names, Some(index)));
    let mut all = Vec::new();
    for name in either(names) {
        let Shape::Struct(of) = &from else { return Err(format!("{name} is below no struct")) };
        let field = types::of(of).field(name).ok_or_else(|| format!("{of} has no field {name}"))?;
        let shape = match (index, field.shape.clone()) {
            (None, shape) => shape,
            (Some("*]"), Shape::List(item)) | (Some(_), Shape::Map(_, item)) => *item,
            (Some(_), Shape::Quantities) => Shape::Quantity,
            (Some(index), other) => return Err(format!("{name} is {other:?} and has no [{index}")),
        };
        all.extend(shapes(shape, rest)?);
    }
    Ok(all)
}

#[test]
fn every_row_names_fields_that_the_api_has() {
    for (kind, part, place) in PLACES {
        let kind = kinds::KINDS.iter().find(|one| one.name == *kind).expect(kind);
        for row in TABLE.iter().filter(|row| row.part == *part) {
            for path in row.paths {
                let pattern = [*place, *path].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
                let found = shapes(Shape::Struct(kind.name), &pattern.join("."));
                assert!(found.is_ok(), "{} {path}: {found:?}", kind.name);
            }
        }
    }
    for row in TABLE {
        assert!(PLACES.iter().any(|(_, part, _)| *part == row.part), "{:?}", row.part);
    }
}

#[test]
fn every_sentence_says_whose_it_is() {
    for row in TABLE {
        assert!(row.effect.contains("this cluster"), "{}", row.effect);
    }
}

fn probe(action: Value) -> Value {
    json!({"containers": [{"name": "c", "image": "i", "livenessProbe": action}]})
}

fn security(context: Value) -> Value {
    json!({"containers": [{"name": "c", "image": "i", "securityContext": context}]})
}

fn volume(source: Value) -> Value {
    let mut volume = json!({"name": "v"});
    json_patch::merge(&mut volume, &source);
    json!({"volumes": [volume]})
}

fn limit(name: &str) -> Value {
    json!({"containers": [{"name": "c", "image": "i", "resources": {"limits": {name: "1Gi"}}}]})
}

/// A part of a Pod with each path of the table, in the table's order.
fn examples_of_pods() -> Vec<Value> {
    let spread = |more: Value| {
        let mut constraint = json!({
            "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "a"}},
        });
        json_patch::merge(&mut constraint, &more);
        json!({"topologySpreadConstraints": [constraint]})
    };
    let term =
        json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "a"}}});
    let pod = |field: &str, value: Value| json!({"securityContext": {field: value}});
    let port = json!({"name": "c", "image": "i", "ports": [{"containerPort": 80, "hostPort": 80, "hostIP": "10.0.0.1"}]});
    let resize = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    let hook = json!({"preStop": {"httpGet": {"port": 80, "host": "example.com"}}});
    let with = |field: &str, value: Value| json!({"containers": [{"name": "c", "image": "i", field: value}]});
    vec![
        json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}),
        spread(json!({})),
        spread(json!({"topologyKey": "kubernetes.io/hostname", "minDomains": 2})),
        json!({"priorityClassName": "system-node-critical"}),
        json!({"readinessGates": [{"conditionType": "example.com/ready"}]}),
        json!({"hostPID": true}),
        json!({"hostUsers": false}),
        pod("seccompProfile", json!({"type": "RuntimeDefault"})),
        security(json!({"seccompProfile": {"type": "RuntimeDefault"}})),
        pod("seccompProfile", json!({"type": "Unconfined"})),
        security(json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "p"}})),
        pod("appArmorProfile", json!({"type": "RuntimeDefault"})),
        security(json!({"appArmorProfile": {"type": "RuntimeDefault"}})),
        pod("appArmorProfile", json!({"type": "Unconfined"})),
        security(json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": "p"}})),
        pod("seLinuxOptions", json!({"level": "s0"})),
        security(json!({"seLinuxOptions": {"level": "s0"}})),
        pod("supplementalGroupsPolicy", json!("Strict")),
        security(json!({"procMount": "Unmasked"})),
        json!({"resources": {"limits": {"cpu": "1"}}}),
        limit("ephemeral-storage"),
        limit("memory"),
        limit("cpu"),
        with("resizePolicy", resize),
        json!({"resourceClaims": [{"name": "gpu", "resourceClaimName": "g"}]}),
        with("volumeDevices", json!([{"name": "v", "devicePath": "/dev/x"}])),
        probe(json!({"grpc": {"port": 80}})),
        probe(json!({"tcpSocket": {"port": 80, "host": "example.com"}})),
        with("lifecycle", hook),
        json!({"containers": [port]}),
        json!({"setHostnameAsFQDN": true}),
        volume(json!({"emptyDir": {"sizeLimit": "1Gi"}})),
        volume(json!({"emptyDir": {"medium": "HugePages"}})),
        volume(json!({"csi": {"driver": "d"}})),
        volume(json!({"nfs": {"server": "s", "path": "/"}})),
    ]
}

/// The same of the other parts.
fn examples_of_others() -> Vec<Value> {
    let policy = json!({"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]});
    let source = json!({"kind": "PersistentVolumeClaim", "name": "w"});
    vec![
        json!({"podFailurePolicy": policy}),
        json!({"externalIPs": ["10.0.0.1"]}),
        json!({"type": "LoadBalancer", "loadBalancerIP": "10.0.0.1"}),
        json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/8"]}),
        json!({"type": "LoadBalancer", "loadBalancerClass": "example.com/lb"}),
        json!({"type": "NodePort", "externalTrafficPolicy": "Local"}),
        json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30005}),
        json!({"ports": [{"port": 80, "protocol": "SCTP"}]}),
        json!({"accessModes": ["ReadWriteOncePod"]}),
        json!({"volumeMode": "Block"}),
        json!({"selector": {"matchLabels": {"a": "b"}}}),
        json!({"volumeName": "pv"}),
        json!({"dataSource": source}),
        json!({"volumeAttributesClassName": "fast"}),
        json!({}),
        json!({"parameters": {"type": "fast"}}),
        json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}),
        json!({"taints": [{"key": "k", "effect": "NoExecute"}]}),
    ]
}

/// An object with a part, and where it is made.
fn object(part: Part, with: &Value) -> (&'static str, Value) {
    let mut pod = json!({"containers": [{"name": "c", "image": "i"}]});
    let (path, at, mut object) = match part {
        Part::Pod => (
            "/apis/apps/v1/namespaces/default/deployments",
            "/spec/template/spec",
            json!({"spec": {
                "selector": {"matchLabels": {"app": "a"}}, "template": {"metadata": {"labels": {"app": "a"}}, "spec": pod.take()},
            }}),
        ),
        Part::Job => {
            json_patch::merge(&mut pod, &json!({"restartPolicy": "Never"}));
            ("/apis/batch/v1/namespaces/default/jobs", "/spec", json!({"spec": {"template": {"spec": pod}}}))
        }
        Part::Service => {
            ("/api/v1/namespaces/default/services", "/spec", json!({"spec": {"ports": [{"port": 80}]}}))
        }
        Part::Claim => (
            "/api/v1/namespaces/default/persistentvolumeclaims",
            "/spec",
            json!({"spec": {
                "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
            }}),
        ),
        Part::Volume => (
            "/api/v1/persistentvolumes",
            "/spec",
            json!({"spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"},
            }}),
        ),
        Part::Class => {
            ("/apis/storage.k8s.io/v1/storageclasses", "", json!({"provisioner": "example.com/p"}))
        }
        Part::Namespace => ("/api/v1/namespaces", "", json!({})),
        Part::Node => ("/api/v1/nodes", "/spec", json!({"spec": {}})),
    };
    json_patch::merge(object.pointer_mut(at).unwrap(), with);
    meta::set(&mut object, "name", "a");
    (path, object)
}

/// An API server over an engine that lacks some features.
fn server(lacks: Vec<Feature>) -> Server {
    let api = Arc::into_inner(testing::context().api).expect("nobody else has it");
    Server::new(Arc::new(api.without(lacks)))
}

async fn answer(row: &Row, with: &Value) -> Answer {
    let lacks = match row.engines {
        Engines::Without(feature) => vec![feature],
        _ => Vec::new(),
    };
    let (path, object) = object(row.part, with);
    server(lacks).make(&format!("{path}?dryRun=All"), &object).await
}

#[tokio::test]
async fn every_row_warns_of_what_it_is_about() {
    let paths = TABLE.iter().flat_map(|row| row.paths.iter().map(move |path| (row, *path)));
    let paths: Vec<_> = paths.collect();
    let examples = [examples_of_pods(), examples_of_others()].concat();
    assert_eq!(
        paths.len(),
        examples.len(),
        "each path of each row has one example, in the order of the table"
    );
    for ((row, path), example) in paths.into_iter().zip(examples) {
        let answer = answer(row, &example).await;
        assert_eq!(answer.code, 201, "{path}: {}", answer.text);
        let ours: Vec<&String> = answer.warnings.iter().filter(|words| words.ends_with(row.effect)).collect();
        let [words] = ours.as_slice() else { panic!("{path}: {example}: {:?}", answer.warnings) };
        let shown = Found::whole(&example).find(path);
        let named = |found: &Found<'_>| words.contains(&format!("{}: ", found.path));
        assert!(shown.iter().any(named), "{path}: {words}");
    }
}

#[tokio::test]
async fn a_row_is_silent_where_its_field_has_no_value_of_it() {
    let usual = [
        (
            Part::Pod,
            json!({
                "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
                    "weight": 1, "podAffinityTerm": {"topologyKey": "k", "labelSelector": {"matchLabels": {"a": "b"}}},
                }]}},
                "topologySpreadConstraints": [
                    {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}},
                    {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {}},
                ],
                "tolerations": [{"operator": "Exists"}], "nodeSelector": {"kubernetes.io/os": "linux"},
                "hostUsers": true, "hostPID": false, "setHostnameAsFQDN": false, "schedulerName": "default-scheduler",
                "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}, "supplementalGroupsPolicy": "Merge"},
                "containers": [{
                    "name": "c", "image": "i", "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}],
                    "ports": [{"containerPort": 80, "hostPort": 80, "hostIP": "127.0.0.1"}],
                    "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1"}},
                    "securityContext": {"procMount": "Default", "appArmorProfile": {"type": "RuntimeDefault"}},
                    "livenessProbe": {"httpGet": {"port": 80}},
                }],
                "volumes": [{"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}, {"name": "w", "emptyDir": {}}],
            }),
        ),
        (Part::Job, json!({"backoffLimit": 3})),
        (
            Part::Service,
            json!({"type": "LoadBalancer", "externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Local"}),
        ),
        (Part::Claim, json!({"accessModes": ["ReadWriteMany"], "volumeMode": "Filesystem"})),
        (Part::Class, json!({"volumeBindingMode": "WaitForFirstConsumer"})),
        (
            Part::Namespace,
            json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}}),
        ),
        (Part::Node, json!({"taints": [{"key": "k", "effect": "NoSchedule"}]})),
    ];
    for (part, with) in usual {
        let (path, object) = object(part, &with);
        let answer = server(Vec::new()).make(path, &object).await;
        assert_eq!((answer.code, answer.warnings), (201, Vec::<String>::new()), "{}", answer.text);
    }
}

#[tokio::test]
async fn every_kind_with_a_part_is_walked() {
    let pod = json!({"hostPID": true, "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]});
    let job = json!({"podFailurePolicy": {"rules": [{}]}, "template": {"spec": pod}});
    let always = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"hostPID": true, "containers": pod["containers"]}});
    let set = json!({"selector": {"matchLabels": {"a": "b"}}, "serviceName": "s", "template": always});
    let claims = json!([{"metadata": {"name": "v"}, "spec": {
        "accessModes": ["ReadWriteOncePod"], "resources": {"requests": {"storage": "1Gi"}},
    }}]);
    let effect = "this cluster gives each Pod namespaces of its own";
    for (kind, spec, place) in [
        (&kinds::POD, pod.clone(), "spec"),
        (&kinds::JOB, job.clone(), "spec.template.spec"),
        (
            &kinds::CRON_JOB,
            json!({"schedule": "@daily", "jobTemplate": {"spec": job}}),
            "spec.jobTemplate.spec.template.spec",
        ),
        (&kinds::REPLICA_SET, set.clone(), "spec.template.spec"),
        (&kinds::DAEMON_SET, set.clone(), "spec.template.spec"),
        (&kinds::STATEFUL_SET, set.clone(), "spec.template.spec"),
    ] {
        let object = json!({"kind": kind.name, "spec": spec});
        let words = unsupported::of(kind, &object, &[]);
        let job = place.strip_suffix(".template.spec").filter(|_| kind.group == "batch");
        let first =
            job.map(|job| format!("{job}.podFailurePolicy: this cluster counts all failed Pods alike"));
        let wanted: Vec<String> = first.into_iter().chain([format!("{place}.hostPID: {effect}")]).collect();
        assert_eq!(words, wanted, "{}", kind.name);
    }
    let mut set = json!({"spec": set});
    set["spec"]["volumeClaimTemplates"] = claims;
    let words = unsupported::of(&kinds::STATEFUL_SET, &set, &[]);
    assert!(words[1].starts_with("spec.volumeClaimTemplates[0].spec.accessModes[0]: "), "{words:?}");
}

#[tokio::test]
async fn a_write_is_looked_at_when_it_changes_what_is_wanted() {
    let server = server(Vec::new());
    let (all, mut object) = object(Part::Pod, &json!({"hostPID": true}));
    meta::map(&mut object)
        .extend([("kind".to_owned(), "Deployment".into()), ("apiVersion".to_owned(), "apps/v1".into())]);
    let one = format!("{all}/a");
    let apply = format!("{one}?fieldManager=m&force=true");
    let words = "spec.template.spec.hostPID: this cluster gives each Pod namespaces of its own";
    let text = object.to_string();
    let told = |answer: &Answer| answer.warnings.iter().any(|one| one == words);
    for (method, uri, media, body, warns) in [
        ("PATCH", format!("{apply}&dryRun=All"), APPLY, text.clone(), true),
        ("PATCH", apply.clone(), APPLY, text.clone(), true),
        ("PATCH", apply, APPLY, text, false),
        ("PATCH", one.clone(), MERGE, r#"{"metadata": {"labels": {"a": "b"}}}"#.to_owned(), false),
        ("PATCH", one.clone(), MERGE, r#"{"spec": {"paused": true}}"#.to_owned(), true),
        ("PATCH", format!("{one}/status"), MERGE, r#"{"status": {"replicas": 1}}"#.to_owned(), false),
        ("PATCH", format!("{one}/scale"), MERGE, r#"{"spec": {"replicas": 7}}"#.to_owned(), true),
        ("PATCH", one, MERGE, r#"{"spec": {"template": {"spec": {"hostPID": null}}}}"#.to_owned(), false),
    ] {
        let answer = server.send(method, &uri, media, body.clone()).await;
        assert!(answer.code < 300, "{body}: {}", answer.text);
        assert_eq!(told(&answer), warns, "{uri}: {body}: {:?}", answer.warnings);
    }
}

#[test]
fn a_service_is_looked_at_at_each_write_for_what_kubernetes_tells() {
    let service = json!({"metadata": {"name": "s"}, "spec": {"type": "ClusterIP", "externalName": "a.b", "externalIPs": ["1.2.3.4"]}});
    let told = |old: Option<&Value>| of(&kinds::SERVICE, &service, old, &[]);
    let kubernetes = "spec.externalName is ignored when spec.type is not \"ExternalName\"";
    let ours = "spec.externalIPs: this cluster takes no connections at these addresses";
    assert_eq!(told(None), [kubernetes, ours]);
    assert_eq!(told(Some(&json!({"spec": {}}))), [kubernetes, ours]);
    assert_eq!(told(Some(&service)), [kubernetes]);
}

#[tokio::test]
async fn unknown_fields_are_told_first_and_text_is_quoted() {
    let (path, mut object) = object(Part::Pod, &json!({"hostPID": true, "größe\"": 1}));
    meta::set(&mut object, "name", "a.b");
    let answer = server(Vec::new()).make(path, &object).await;
    let begins = [
        "unknown field \"spec.template.spec.größe\\\"\"",
        "metadata.name: this is used",
        "spec.template.spec.hostPID: ",
    ];
    assert_eq!(answer.warnings.len(), begins.len(), "{:?}", answer.warnings);
    for (words, begin) in answer.warnings.iter().zip(begins) {
        assert!(words.starts_with(begin), "{words}");
    }
}

#[test]
fn all_texts_together_are_bounded() {
    let text = |length: usize, letter: char| letter.to_string().repeat(length);
    let few = [text(10, 'a'), text(10, 'a'), String::new(), text(3000, 'ü')];
    assert_eq!(bounded(&few), [text(10, 'a'), text(3000, 'ü')]);
    let many: Vec<String> = (0..100).map(|number| format!("{number:02}{}", text(500, 'ü'))).collect();
    let sent = bounded(&many);
    assert_eq!(sent.len(), MOST / CUT);
    assert!(sent.iter().all(|text| text.chars().count() == CUT), "each is cut");
}

#[test]
fn the_documents_tell_the_rows_of_an_engine() {
    let exact = unsupported::markdown(Some(&[Feature::MemoryLimit, Feature::CpuLimit]));
    assert!(exact.contains("this cluster runs containers without a seccomp profile"));
    assert!(!exact.contains("its kernel lacks") && !exact.contains("of its engine"));
    let any = unsupported::markdown(None);
    assert!(
        any.contains("with an engine without limits of memory")
            && any.contains("with an engine that has seccomp")
    );
    let columns = |line: &str| line.replace("\\|", "").matches('|').count();
    assert!(any.lines().all(|line| columns(line) == 5), "{any}");
}
