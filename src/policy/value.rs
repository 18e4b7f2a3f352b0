//! Values of policies as JSON and back, by the types of the component itself: fixtures, recordings
//! and the commands for the desk speak the names of `wit/`. What is left out is empty.

use serde_json::{Map, Value, json};
use wasmtime::component::Val;
use wasmtime::component::types::{Type, Variant};

/// The first place at which JSON does not fit its type.
#[derive(Debug, Clone, thiserror::Error)]
#[allow(missing_docs)]
pub enum Misfit {
    /// Another kind of value belongs there.
    #[error("{path}: expected {expected}, not {given}")]
    Kind { path: String, expected: String, given: Value },
    /// A record has no field of this name.
    #[error("{path}.{field}: there is no such field; there are {}", .fields.join(", "))]
    Field { path: String, field: String, fields: Vec<String> },
    /// The type has fewer bits than the number.
    #[error("{path}: {number} is too large")]
    Number { path: String, number: u64 },
}

/// A value of a type from its JSON; `path` is named in errors.
///
/// # Errors
/// What does not fit, and where.
pub fn from_json(ty: &Type, json: &Value, path: &str) -> Result<Val, Misfit> {
    let wrong = |expected: &str| misfit(path, expected, json);
    let integer = || json.as_u64().ok_or_else(|| wrong("a number from 0"));
    Ok(match ty {
        _ if json.is_null() => empty(ty),
        Type::Bool => Val::Bool(json.as_bool().ok_or_else(|| wrong("true or false"))?),
        Type::U8 => Val::U8(fit(integer()?, path)?),
        Type::U16 => Val::U16(fit(integer()?, path)?),
        Type::U32 => Val::U32(fit(integer()?, path)?),
        Type::U64 => Val::U64(integer()?),
        Type::String => match json {
            Value::String(text) => Val::String(text.clone()),
            Value::Number(number) => Val::String(number.to_string()),
            Value::Bool(yes) => Val::String(yes.to_string()),
            _ => return Err(wrong("a text")),
        },
        Type::Option(some) => Val::Option(Some(Box::new(from_json(&some.ty(), json, path)?))),
        Type::List(list) => match (json, is_pair(&list.ty())) {
            (Value::Object(map), true) => {
                let pair = |(name, value)| from_json(&list.ty(), &json!([name, value]), path);
                Val::List(map.iter().map(pair).collect::<Result<_, _>>()?)
            }
            (Value::Array(items), _) => {
                let item = |(at, item)| from_json(&list.ty(), item, &format!("{path}[{at}]"));
                Val::List(items.iter().enumerate().map(item).collect::<Result<_, _>>()?)
            }
            _ => return Err(wrong("a list")),
        },
        Type::Tuple(tuple) => {
            let items = json.as_array().ok_or_else(|| wrong("a list"))?;
            let types: Vec<Type> = tuple.types().collect();
            if items.len() != types.len() {
                return Err(wrong(&format!("a list of {}", types.len())));
            }
            let both = types.iter().zip(items);
            Val::Tuple(both.map(|(ty, item)| from_json(ty, item, path)).collect::<Result<_, _>>()?)
        }
        Type::Record(record) => {
            let map = json.as_object().ok_or_else(|| wrong("names and values"))?;
            let fields: Vec<(String, Type)> = record.fields().map(|f| (f.name.to_owned(), f.ty)).collect();
            if let Some(stranger) = map.keys().find(|key| !fields.iter().any(|(name, _)| same(name, key))) {
                let (path, field) = (path.to_owned(), stranger.clone());
                let fields = fields.into_iter().map(|(name, _)| name).collect();
                return Err(Misfit::Field { path, field, fields });
            }
            let field = |(name, ty): (String, Type)| {
                let given = map.iter().find(|(key, _)| same(&name, key)).map_or(&Value::Null, |(_, v)| v);
                Ok((name.clone(), from_json(&ty, given, &format!("{path}.{name}"))?))
            };
            Val::Record(fields.into_iter().map(field).collect::<Result<_, Misfit>>()?)
        }
        Type::Variant(variant) => variant_from_json(variant, json, path)?,
        Type::Enum(cases) => {
            let name = json.as_str().ok_or_else(|| wrong("a word"))?;
            let case = cases.names().find(|case| same(case, name));
            Val::Enum(case.ok_or_else(|| wrong("one of its words"))?.to_owned())
        }
        _ => return Err(wrong("a value that can be written")),
    })
}

fn misfit(path: &str, expected: &str, given: &Value) -> Misfit {
    Misfit::Kind { path: path.to_owned(), expected: expected.to_owned(), given: given.clone() }
}

fn fit<T: TryFrom<u64>>(number: u64, path: &str) -> Result<T, Misfit> {
    T::try_from(number).map_err(|_| Misfit::Number { path: path.to_owned(), number })
}

fn variant_from_json(variant: &Variant, json: &Value, path: &str) -> Result<Val, Misfit> {
    let (name, payload) = match json {
        Value::String(name) => (name.as_str(), &Value::Null),
        Value::Object(map) if map.len() == 1 => match map.iter().next() {
            Some((name, payload)) => (name.as_str(), payload),
            None => ("", &Value::Null),
        },
        _ => ("", &Value::Null),
    };
    let Some(case) = variant.cases().find(|case| same(case.name, name)) else {
        let names: Vec<String> = variant.cases().map(|c| c.name.to_owned()).collect();
        return Err(misfit(path, &format!("one of {}", names.join(", ")), json));
    };
    let payload = match case.ty {
        Some(ty) => Some(Box::new(from_json(&ty, payload, path)?)),
        None => None,
    };
    Ok(Val::Variant(case.name.to_owned(), payload))
}

/// `docker-name`, `docker_name` and `DockerName` are the same name.
fn same(wit: &str, written: &str) -> bool {
    let plain = |text: &str| -> String {
        text.chars().filter(|c| !matches!(c, '-' | '_')).map(|c| c.to_ascii_lowercase()).collect()
    };
    wit == written || plain(wit) == plain(written)
}

fn is_pair(ty: &Type) -> bool {
    match ty {
        Type::Tuple(tuple) => {
            let types: Vec<Type> = tuple.types().collect();
            types.len() == 2 && types.iter().all(|t| matches!(t, Type::String))
        }
        _ => false,
    }
}

/// The value of what is left out: nothing, 0, the first of several.
pub fn empty(ty: &Type) -> Val {
    match ty {
        Type::Bool => Val::Bool(false),
        Type::S8 => Val::S8(0),
        Type::U8 => Val::U8(0),
        Type::S16 => Val::S16(0),
        Type::U16 => Val::U16(0),
        Type::S32 => Val::S32(0),
        Type::U32 => Val::U32(0),
        Type::S64 => Val::S64(0),
        Type::U64 => Val::U64(0),
        Type::Float32 => Val::Float32(0.0),
        Type::Float64 => Val::Float64(0.0),
        Type::Char => Val::Char(' '),
        Type::List(_) => Val::List(Vec::new()),
        Type::Record(record) => {
            Val::Record(record.fields().map(|f| (f.name.to_owned(), empty(&f.ty))).collect())
        }
        Type::Tuple(tuple) => Val::Tuple(tuple.types().map(|ty| empty(&ty)).collect()),
        Type::Variant(variant) => match variant.cases().next() {
            Some(case) => Val::Variant(case.name.to_owned(), case.ty.map(|ty| Box::new(empty(&ty)))),
            None => Val::Option(None),
        },
        Type::Enum(cases) => Val::Enum(cases.names().next().unwrap_or_default().to_owned()),
        Type::Option(_) => Val::Option(None),
        Type::Result(result) => Val::Result(Ok(result.ok().map(|ty| Box::new(empty(&ty))))),
        Type::Flags(_) => Val::Flags(Vec::new()),
        _ => Val::String(String::new()),
    }
}

/// A value as JSON: pairs as an object, a case without more as its name.
pub fn to_json(ty: &Type, value: &Val) -> Value {
    match (ty, value) {
        (Type::List(list), Val::List(items)) if is_pair(&list.ty()) => {
            Value::Object(items.iter().filter_map(pair).collect())
        }
        (Type::List(list), Val::List(items)) => items.iter().map(|item| to_json(&list.ty(), item)).collect(),
        (Type::Record(record), Val::Record(fields)) => {
            let both = record.fields().zip(fields);
            Value::Object(both.map(|(f, (name, value))| (name.clone(), to_json(&f.ty, value))).collect())
        }
        (Type::Tuple(tuple), Val::Tuple(items)) => {
            tuple.types().zip(items).map(|(ty, item)| to_json(&ty, item)).collect()
        }
        (Type::Variant(variant), Val::Variant(name, payload)) => {
            let ty = variant.cases().find(|case| case.name == name).and_then(|case| case.ty);
            match (ty, payload) {
                (Some(ty), Some(payload)) => json!({name: to_json(&ty, payload)}),
                _ => json!(name),
            }
        }
        (Type::Option(some), Val::Option(Some(value))) => to_json(&some.ty(), value),
        (Type::Result(result), Val::Result(value)) => {
            let side = |ty: Option<Type>, value: &Option<Box<Val>>| match (ty, value) {
                (Some(ty), Some(value)) => to_json(&ty, value),
                _ => Value::Null,
            };
            match value {
                Ok(value) => json!({"ok": side(result.ok(), value)}),
                Err(value) => json!({"error": side(result.err(), value)}),
            }
        }
        (_, Val::Bool(yes)) => json!(yes),
        (_, Val::U8(n)) => json!(n),
        (_, Val::U16(n)) => json!(n),
        (_, Val::U32(n)) => json!(n),
        (_, Val::U64(n)) => json!(n),
        (_, Val::S8(n)) => json!(n),
        (_, Val::S16(n)) => json!(n),
        (_, Val::S32(n)) => json!(n),
        (_, Val::S64(n)) => json!(n),
        (_, Val::Float32(n)) => json!(n),
        (_, Val::Float64(n)) => json!(n),
        (_, Val::Char(c)) => json!(c),
        (_, Val::String(text) | Val::Enum(text)) => json!(text),
        (_, Val::Flags(flags)) => json!(flags),
        _ => Value::Null,
    }
}

fn pair(item: &Val) -> Option<(String, Value)> {
    match item {
        Val::Tuple(two) => match two.as_slice() {
            [Val::String(name), Val::String(value)] => Some((name.clone(), json!(value))),
            _ => None,
        },
        _ => None,
    }
}

/// Leaves out what is empty, so that a person sees what there is.
pub fn without_empty(value: Value) -> Value {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Bool(yes) => !yes,
        Value::Number(number) => number.as_u64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    };
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().map(|(k, v)| (k, without_empty(v))).filter(|(_, v)| !is_empty(v));
            Value::Object(kept.collect::<Map<_, _>>())
        }
        Value::Array(items) => items.into_iter().map(without_empty).collect(),
        other => other,
    }
}
