//! The shape of objects: each is read as its type of the Kubernetes API has it, so that wrong types are
//! refused and unknown fields are found, as the API server's decoder does.

pub mod decode;
pub mod types;

use serde_json::Value;

use super::kinds::{KINDS, Kind};
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
pub fn conform(kind: &Kind, object: Value) -> Result<(Value, Vec<String>)> {
    let mut unknown = Vec::new();
    let typed = decode::decode(types::of(kind.name), object, &mut unknown)
        .map_err(|error| unhandled(kind.name, kind.version, kind, &error.to_string()))?;
    Ok((typed, unknown))
}

/// What a patch has made of an object, as its kind has it; `shown` is what an error shows of it.
///
/// # Errors
/// 422 for a value of the wrong type, or an unknown field where none is allowed.
pub fn patched(
    kind: &Kind,
    object: Value,
    strategic: bool,
    twice: &[String],
    validation: Validation,
    shown: impl FnOnce() -> String,
) -> Result<(Value, Vec<String>)> {
    let mut unknown = Vec::new();
    let of = types::of(kind.name);
    let read = if strategic {
        decode::convert(of, object, &mut unknown)
    } else {
        decode::decode(of, object, &mut unknown)
    };
    let typed = match read {
        Ok(typed) => typed,
        Err(error) => return Err(Status::bad_patch(&shown(), &error.to_string())),
    };
    let warnings = words(twice, &unknown);
    match validation {
        Validation::Ignore => Ok((typed, Vec::new())),
        Validation::Strict if !warnings.is_empty() => {
            Err(Status::bad_patch(&shown(), &format!("strict decoding error: {}", warnings.join(", "))))
        }
        _ => Ok((typed, warnings)),
    }
}

/// An object that the cluster itself has made, in the same form.
pub fn normal(kind: &Kind, object: Value) -> Value {
    let keep = object.clone();
    decode::decode(types::of(kind.name), object, &mut Vec::new()).unwrap_or_else(|error| {
        let words = error.to_string();
        tracing::error!(kind = kind.name, words, "an object of the cluster's own has not its type");
        keep
    })
}

/// The object says of which kind it is, and that is this one; what it does not say is filled in.
///
/// # Errors
/// 400 if it is another one.
pub fn typed(kind: &Kind, object: &mut Value) -> Result<()> {
    let given = |field: &str| meta::string(object, &[field]).to_owned();
    let (name, version) = (given("kind"), given("apiVersion"));
    let name = if name.is_empty() { kind.name.to_owned() } else { name };
    let version = if version.is_empty() { kind.api_version() } else { version };
    if name != kind.name || version != kind.api_version() {
        let (group, short) = version.split_once('/').unwrap_or(("", &version));
        let known = KINDS.iter().any(|k| k.name == name && k.group == group && k.version == short);
        let words = if known {
            let internal = if kind.group.is_empty() { "core" } else { kind.group };
            let internal = internal.split('.').next().unwrap_or_default();
            format!("converting (v1.{name}) to ({internal}.{}): unknown conversion", kind.name)
        } else {
            format!(
                "no kind {name:?} is registered for version {version:?} in scheme \"pkg/runtime/scheme.go:110\""
            )
        };
        return Err(unhandled(&name, short, kind, &words));
    }
    let map = meta::map(object);
    map.insert("kind".into(), name.into());
    map.insert("apiVersion".into(), version.into());
    Ok(())
}

fn unhandled(name: &str, version: &str, kind: &Kind, words: &str) -> Status {
    Status::bad_request(format!(
        "{name} in version {version:?} cannot be handled as a {}: {words}",
        kind.name
    ))
}

/// What unknown fields, and those that are there twice, mean: warnings, or a refusal.
///
/// # Errors
/// 400 if they are not allowed.
pub fn judge(
    kind: &Kind,
    twice: &[String],
    unknown: &[String],
    validation: Validation,
) -> Result<Vec<String>> {
    let all = words(twice, unknown);
    match validation {
        Validation::Ignore => Ok(Vec::new()),
        Validation::Warn => Ok(all),
        Validation::Strict => {
            if all.is_empty() {
                return Ok(all);
            }
            let words = format!("strict decoding error: {}", all.join(", "));
            Err(unhandled(kind.name, kind.version, kind, &words))
        }
    }
}

fn words(twice: &[String], unknown: &[String]) -> Vec<String> {
    let twice = twice.iter().map(|field| format!("duplicate field {field:?}"));
    twice.chain(unknown.iter().map(|field| format!("unknown field {field:?}"))).collect()
}
