//! The shape of objects: each is read into its type of the Kubernetes API and written back, so that
//! wrong types are refused and unknown fields are found, as the API server's decoder does.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Event, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret,
    Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::storage::v1::StorageClass;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::kinds::Kind;
use super::meta;
use super::status::{Result, Status};

/// What is done about fields that the kind does not have (`fieldValidation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum Validation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// An object as its kind has it, and the fields that it had besides.
///
/// # Errors
/// 400 for a value of the wrong type.
pub fn conform(kind: &Kind, mut object: Value) -> Result<(Value, Vec<String>)> {
    loosen(&mut object);
    let typed = match kind.name {
        "Namespace" => through::<Namespace>(&object),
        "Node" => through::<Node>(&object),
        "Pod" => through::<Pod>(&object),
        "Service" => through::<Service>(&object),
        "Endpoints" => through::<Endpoints>(&object),
        "PersistentVolumeClaim" => through::<PersistentVolumeClaim>(&object),
        "PersistentVolume" => through::<PersistentVolume>(&object),
        "ConfigMap" => through::<ConfigMap>(&object),
        "Secret" => through::<Secret>(&object),
        "ServiceAccount" => through::<ServiceAccount>(&object),
        "Event" => through::<Event>(&object),
        "Deployment" => through::<Deployment>(&object),
        "ReplicaSet" => through::<ReplicaSet>(&object),
        "Job" => through::<Job>(&object),
        "EndpointSlice" => through::<EndpointSlice>(&object),
        "StorageClass" => through::<StorageClass>(&object),
        other => Err(format!("no type for {other}")),
    };
    let typed = typed.map_err(|words| {
        Status::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: {words}",
            kind.name, kind.version, kind.name
        ))
    })?;
    let mut unknown = Vec::new();
    compare(&object, &typed, "", &mut unknown);
    Ok((typed, unknown))
}

fn through<T: DeserializeOwned + Serialize>(object: &Value) -> std::result::Result<Value, String> {
    let typed = T::deserialize(object).map_err(|e| e.to_string())?;
    serde_json::to_value(typed).map_err(|e| e.to_string())
}

/// What the API takes besides the types of its specification: numbers as quantities.
fn loosen(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (field, child) in map {
                match (field.as_str(), &mut *child) {
                    ("limits" | "requests" | "capacity" | "hard", Value::Object(quantities)) => {
                        for quantity in quantities.values_mut() {
                            if quantity.is_number() {
                                *quantity = quantity.to_string().into();
                            }
                        }
                    }
                    ("sizeLimit", Value::Number(number)) => *child = number.to_string().into(),
                    _ => loosen(child),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(loosen),
        _ => {}
    }
}

fn compare(given: &Value, typed: &Value, path: &str, unknown: &mut Vec<String>) {
    match (given, typed) {
        (Value::Object(given), Value::Object(typed)) => {
            for (field, value) in given {
                let here = if path.is_empty() { field.clone() } else { format!("{path}.{field}") };
                match typed.get(field) {
                    Some(other) => compare(value, other, &here, unknown),
                    None if value.is_null() => {}
                    None => unknown.push(here),
                }
            }
        }
        (Value::Array(given), Value::Array(typed)) => {
            for (at, (value, other)) in given.iter().zip(typed).enumerate() {
                compare(value, other, &format!("{path}[{at}]"), unknown);
            }
        }
        _ => {}
    }
}

/// What unknown fields mean: warnings, or a refusal.
///
/// # Errors
/// 400 if they are not allowed.
pub fn judge(
    kind: &Kind,
    object: &Value,
    unknown: Vec<String>,
    validation: Validation,
) -> Result<Vec<String>> {
    let warnings = unknown.into_iter().map(|field| format!("unknown field {field:?}"));
    match validation {
        Validation::Ignore => Ok(Vec::new()),
        Validation::Warn => Ok(warnings.collect()),
        Validation::Strict => {
            let all: Vec<String> = warnings.collect();
            if all.is_empty() {
                return Ok(all);
            }
            let version = meta::string(object, &["apiVersion"]);
            tracing::debug!(kind = kind.name, version, "unknown fields");
            Err(Status::bad_request(format!(
                "{} in version {:?} cannot be handled as a {}: strict decoding error: {}",
                kind.name,
                kind.version,
                kind.name,
                all.join(", ")
            )))
        }
    }
}
