//! OpenAPI v3 documents, one a group and version: the schemas of the kinds for `kubectl explain` and
//! `kubectl apply`, and the write parameters by which clients find out what the server supports.

use axum::body::Body;
use axum::http::{Response, StatusCode};
use k8s_openapi::api::{apps, batch, core, discovery, storage};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::kinds::{KINDS, Kind};
use super::meta;
use super::reply::plain;
use super::schema::types::{self, Relation, Shape};

/// Version 2 in the encoding of protocol buffers, which `kubectl` asks for: the field `swagger`, no more.
/// The schemas are in version 3 only.
const VERSION_2: &[u8] = b"\x0a\x032.0";
/// Its media type.
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The document at a path, if it is one of OpenAPI.
pub fn document(path: &str) -> Option<Response<Body>> {
    if path == "/openapi/v2" {
        return Some(plain(StatusCode::OK, PROTOBUF, VERSION_2));
    }
    let rest = path.strip_prefix("/openapi/v3")?;
    let value = match rest {
        "" => index(),
        "/api/v1" => of_group(""),
        _ => {
            let (group, version) = rest.strip_prefix("/apis/")?.split_once('/')?;
            KINDS.iter().find(|k| k.group == group && k.version == version)?;
            of_group(group)
        }
    };
    Some(plain(StatusCode::OK, "application/json", value.to_string()))
}

fn index() -> Value {
    let mut paths = Map::new();
    for kind in KINDS {
        let place = place(kind);
        paths.insert(place.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{place}")}));
    }
    json!({"paths": paths})
}

fn place(kind: &Kind) -> String {
    if kind.group.is_empty() { "api/v1".to_owned() } else { format!("apis/{}/{}", kind.group, kind.version) }
}

fn of_group(group: &str) -> Value {
    let mut settings = SchemaSettings::openapi3();
    settings.meta_schema = None;
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for kind in KINDS.iter().filter(|k| k.group == group) {
        let schema = add(&mut generator, kind);
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
    json!({
        "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.34.0"},
        "paths": paths, "components": {"schemas": schemas},
    })
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
fn add(generator: &mut SchemaGenerator, kind: &Kind) -> String {
    fn one<T: schemars::JsonSchema>(generator: &mut SchemaGenerator) -> String {
        generator.subschema_for::<T>();
        T::schema_name().into_owned()
    }
    match kind.name {
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
        "Deployment" => one::<apps::v1::Deployment>(generator),
        "ReplicaSet" => one::<apps::v1::ReplicaSet>(generator),
        "Job" => one::<batch::v1::Job>(generator),
        "EndpointSlice" => one::<discovery::v1::EndpointSlice>(generator),
        _ => one::<storage::v1::StorageClass>(generator),
    }
}

/// The schema with what Kubernetes says besides: which kind it is, and how its lists are merged.
fn finished(name: &str, mut schema: Value) -> Value {
    let kind = name.rsplit('.').next().unwrap_or(name);
    if let Some(known) = KINDS.iter().find(|k| k.name == kind && name.contains(".api.")) {
        let named = json!([{"group": known.group, "version": known.version, "kind": known.name}]);
        meta::map(&mut schema).insert("x-kubernetes-group-version-kind".into(), named);
    }
    if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|field| field.as_str() != Some("metadata"));
        if required.is_empty() {
            meta::map(&mut schema).remove("required");
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
        let map = meta::map(property);
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
