//! The OpenAPI v3 documents of the embedded API server, one for each group and version, from the types of
//! `k8s-openapi`: the schemas of the kinds for `kubectl explain` and `kubectl apply`, and the write parameters
//! by which clients find out what the server supports. The API server itself links neither these types nor
//! `schemars`: the repository holds the documents, and this package writes and compares them.

#[path = "../../kinds.rs"]
pub mod kinds;
#[path = "../../schema/types.rs"]
pub mod types;

use std::collections::BTreeMap;

use k8s_openapi::api::{apps, batch, coordination, core, discovery, storage};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use kinds::{KINDS, Kind};
use types::{Relation, Shape};

/// A kind whose type of `k8s-openapi` is not named in `add`.
#[derive(Debug, thiserror::Error)]
#[error("the kind {kind} has no type here: name it in `add`")]
pub struct UntypedKind {
    /// Its name.
    pub kind: &'static str,
}

/// The documents by their places below `/openapi/v3`.
///
/// # Errors
/// A kind has no type of `k8s-openapi`.
pub fn documents() -> Result<BTreeMap<String, String>, UntypedKind> {
    let groups: BTreeMap<String, &str> = KINDS.iter().map(|kind| (place(kind), kind.group)).collect();
    groups.into_iter().map(|(place, group)| Ok((place, of_group(group)?))).collect()
}

fn place(kind: &Kind) -> String {
    if kind.group.is_empty() { "api/v1".to_owned() } else { format!("apis/{}/{}", kind.group, kind.version) }
}

/// The document of a group.
///
/// # Errors
/// A kind of the group has no type of `k8s-openapi`.
fn of_group(group: &str) -> Result<String, UntypedKind> {
    let mut settings = SchemaSettings::openapi3();
    settings.meta_schema = None;
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for kind in KINDS.iter().filter(|k| k.group == group) {
        let schema = add(&mut generator, kind)?;
        let base = if kind.namespaced {
            format!("/{}/namespaces/{{namespace}}/{}", place(kind), kind.plural)
        } else {
            format!("/{}/{}", place(kind), kind.plural)
        };
        let named = json!({"group": kind.group, "version": kind.version, "kind": kind.name});
        let operation = |action: &str, write: bool| operation(action, write, &named, &schema);
        paths.insert(base.clone(), json!({"get": operation("list", false), "post": operation("post", true)}));
        paths.insert(
            format!("{base}/{{name}}"),
            json!({
                "get": operation("get", false), "put": operation("put", true),
                "patch": operation("patch", true), "delete": operation("delete", false),
            }),
        );
    }
    let mut schemas = Map::new();
    for (name, schema) in generator.take_definitions(true) {
        schemas.insert(name.clone(), finished(&name, schema));
    }
    let document = json!({
        "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.34.0"},
        "paths": paths, "components": {"schemas": schemas},
    });
    Ok(document.to_string())
}

fn operation(action: &str, write: bool, named: &Value, schema: &str) -> Value {
    let parameter =
        |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
    let parameters: Vec<Value> = if write {
        ["dryRun", "fieldManager", "fieldValidation"].map(parameter).to_vec()
    } else {
        Vec::new()
    };
    let content = json!({"application/json": {"schema": {"$ref": format!("#/components/schemas/{schema}")}}});
    json!({
        "parameters": parameters, "responses": {"200": {"description": "OK", "content": content}},
        "x-kubernetes-action": action, "x-kubernetes-group-version-kind": named,
    })
}

/// Makes the schema of a kind; its name.
fn add(generator: &mut SchemaGenerator, kind: &Kind) -> Result<String, UntypedKind> {
    fn one<T: schemars::JsonSchema>(generator: &mut SchemaGenerator) -> String {
        generator.subschema_for::<T>();
        T::schema_name().into_owned()
    }
    let name = match kind.name {
        "Namespace" => one::<core::v1::Namespace>(generator),
        "Node" => one::<core::v1::Node>(generator),
        "Pod" => one::<core::v1::Pod>(generator),
        "Service" => one::<core::v1::Service>(generator),
        "Endpoints" => one::<core::v1::Endpoints>(generator),
        "PersistentVolumeClaim" => one::<core::v1::PersistentVolumeClaim>(generator),
        "PersistentVolume" => one::<core::v1::PersistentVolume>(generator),
        "ConfigMap" => one::<core::v1::ConfigMap>(generator),
        "Secret" => one::<core::v1::Secret>(generator),
        "ServiceAccount" => one::<core::v1::ServiceAccount>(generator),
        "Event" => one::<core::v1::Event>(generator),
        "ControllerRevision" => one::<apps::v1::ControllerRevision>(generator),
        "DaemonSet" => one::<apps::v1::DaemonSet>(generator),
        "Deployment" => one::<apps::v1::Deployment>(generator),
        "ReplicaSet" => one::<apps::v1::ReplicaSet>(generator),
        "StatefulSet" => one::<apps::v1::StatefulSet>(generator),
        "CronJob" => one::<batch::v1::CronJob>(generator),
        "Job" => one::<batch::v1::Job>(generator),
        "Lease" => one::<coordination::v1::Lease>(generator),
        "EndpointSlice" => one::<discovery::v1::EndpointSlice>(generator),
        "StorageClass" => one::<storage::v1::StorageClass>(generator),
        other => return Err(UntypedKind { kind: other }),
    };
    Ok(name)
}

/// The schema with what Kubernetes says besides: which kind it is, and how its lists are merged.
fn finished(name: &str, mut schema: Value) -> Value {
    let kind = name.rsplit('.').next().unwrap_or(name);
    if let Some(known) = KINDS.iter().find(|k| k.name == kind && name.contains(".api.")) {
        let named = json!([{"group": known.group, "version": known.version, "kind": known.name}]);
        insert(&mut schema, "x-kubernetes-group-version-kind", named);
    }
    if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|field| field.as_str() != Some("metadata"));
        if required.is_empty() {
            remove(&mut schema, "required");
        }
    }
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (field, property) in properties.into_iter().flatten() {
        let owner = if name.contains(".discovery.") && kind == "EndpointPort" {
            "discovery.EndpointPort"
        } else {
            kind
        };
        let Some(of) = types::of(owner).field(field) else { continue };
        let Some(map) = property.as_object_mut() else { continue };
        if let Some(key) = of.merge {
            map.insert("x-kubernetes-patch-strategy".into(), "merge".into());
            if key != "set" {
                map.insert("x-kubernetes-patch-merge-key".into(), key.into());
            }
        }
        let list = matches!(of.shape, Shape::List(_));
        let (word, value) = match &of.relation {
            Relation::Keys(keys) => {
                map.insert("x-kubernetes-list-map-keys".into(), json!(keys));
                ("x-kubernetes-list-type", "map")
            }
            Relation::Set => ("x-kubernetes-list-type", "set"),
            Relation::Own if list => ("x-kubernetes-list-type", "atomic"),
            Relation::Atomic => ("x-kubernetes-map-type", "atomic"),
            Relation::Own => continue,
        };
        map.insert(word.into(), value.into());
    }
    schema
}

fn insert(value: &mut Value, field: &str, inserted: Value) {
    if let Some(map) = value.as_object_mut() {
        map.insert(field.to_owned(), inserted);
    }
}

fn remove(value: &mut Value, field: &str) {
    if let Some(map) = value.as_object_mut() {
        map.remove(field);
    }
}
