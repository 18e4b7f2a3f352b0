//! Reads a value as a type of the API, as the API server's decoder does: wrong types are an error in its
//! words, unknown fields are found, and what is written is what Go would write (empty fields that may
//! be left out are, others are there).

use serde_json::{Map, Value, json};

use super::types::{self, Field, Shape, Struct};

/// Why a value is not one of its type, in the words of Go's decoder and of Kubernetes' converter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The decoder has another type for the whole object, or for a type that reads itself.
    #[error("json: cannot unmarshal {found} into Go value of type {expected}")]
    WrongType { found: String, expected: String },
    /// The decoder has another type for a field.
    #[error("json: cannot unmarshal {found} into Go struct field {path} of type {expected}")]
    WrongFieldType { path: String, found: String, expected: String },
    /// The converter needs an object with the fields of a type.
    #[error("cannot restore struct from: {found}")]
    NoStruct { found: &'static str },
    /// The converter needs an object with any fields.
    #[error("cannot restore map from {found}")]
    NoMap { found: &'static str },
    /// The converter needs a list.
    #[error("cannot restore slice from {found}")]
    NoSlice { found: &'static str },
    /// The converter needs a text, a number or a boolean, and found something else.
    #[error("unrecognized type: {expected}")]
    NoScalar { expected: String },
    /// Bytes are not in base64.
    #[error("illegal base64 data at input byte {at}")]
    Base64 { at: usize },
    /// A time is not as RFC 3339 has it.
    #[error("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\"")]
    Time { text: String },
    /// A quantity is none.
    #[error("{}", d2k_quantity::MALFORMED)]
    Quantity,
}

type Result<T> = std::result::Result<T, DecodeError>;

/// Reads a value; its fields that the type has not are added to `unknown`.
///
/// # Errors
/// The decoder's words.
pub fn decode(of: &'static Struct, value: Value, unknown: &mut Vec<String>) -> Result<Value> {
    read(of, value, unknown, false)
}

/// The same with the words of the converter by which a strategic merge patch is read.
///
/// # Errors
/// The converter's words.
pub fn convert(of: &'static Struct, value: Value, unknown: &mut Vec<String>) -> Result<Value> {
    read(of, value, unknown, true)
}

fn read(of: &'static Struct, value: Value, unknown: &mut Vec<String>, converts: bool) -> Result<Value> {
    let place = String::new();
    let mut decoder = Decoder { stack: Vec::new(), owner: "", place, wrong: None, converts, unknown };
    let object = decoder.object(of, value)?;
    match decoder.wrong {
        Some(error) => Err(error),
        None => Ok(object.unwrap_or_else(|| zero(&Shape::Struct(of.name)))),
    }
}

struct Decoder<'a> {
    /// The fields on the way, as errors name them.
    stack: Vec<&'static str>,
    /// The type whose field is read.
    owner: &'static str,
    /// The same way with the places of items, as unknown fields are named.
    place: String,
    /// The first value of a wrong type; the rest is read nevertheless.
    wrong: Option<DecodeError>,
    /// With the words of the converter.
    converts: bool,
    unknown: &'a mut Vec<String>,
}

impl Decoder<'_> {
    fn object(&mut self, of: &'static Struct, value: Value) -> Result<Option<Value>> {
        let map = match value {
            Value::Object(map) => map,
            other => return Ok(self.mismatch(&other, &Shape::Struct(of.name))),
        };
        let mut made = Map::new();
        let owner = std::mem::replace(&mut self.owner, types::plain(of.name));
        for (name, value) in map {
            let length = self.place.len();
            if length > 0 {
                self.place.push('.');
            }
            self.place.push_str(&name);
            match of.field(&name) {
                Some(field) => {
                    self.stack.push(field.name);
                    let read = if value.is_null() { None } else { self.value(&field.shape, value)? };
                    self.stack.pop();
                    if let Some(read) =
                        read.filter(|read| !(field.optional && !field.pointer && is_empty(field, read)))
                    {
                        made.insert(name, read);
                    }
                }
                None => self.unknown.push(self.place.clone()),
            }
            self.place.truncate(length);
        }
        self.owner = owner;
        complete(of, &mut made);
        Ok(Some(Value::Object(made)))
    }

    fn value(&mut self, shape: &Shape, value: Value) -> Result<Option<Value>> {
        Ok(match (shape, value) {
            (Shape::Struct(name), value) => self.object(types::of(name), value)?,
            (Shape::Any, value) => Some(value),
            (Shape::List(item), Value::Array(items)) => Some(self.list(item, items)?),
            (Shape::Map(_, of), Value::Object(map)) => Some(self.map(of, map)?),
            (Shape::Quantities, Value::Object(map)) => Some(self.map(&Shape::Quantity, map)?),
            (Shape::Text(_), value @ Value::String(_)) | (Shape::Flag, value @ Value::Bool(_)) => Some(value),
            (Shape::Float, value @ Value::Number(_)) => Some(value),
            (Shape::Int32, Value::Number(number)) => self.whole(&number, shape, |n| i32::try_from(n).is_ok()),
            (Shape::Int64, Value::Number(number)) => self.whole(&number, shape, |_| true),
            (Shape::Bytes, Value::String(text)) => Some(bytes(text)?),
            (Shape::Time, value) => time(value)?,
            (Shape::MicroTime, value) => time(value)?,
            (Shape::Quantity, value) => Some(amount(&value)?),
            (Shape::IntOrString, value @ Value::String(_)) => Some(value),
            (Shape::IntOrString, value) => {
                let number = value.as_i64().filter(|n| i32::try_from(*n).is_ok());
                let wrong =
                    || DecodeError::WrongType { found: named(&value, true), expected: "int32".to_owned() };
                Some(number.ok_or_else(wrong)?.into())
            }
            (shape, other) => self.mismatch(&other, shape),
        })
    }

    fn list(&mut self, item: &Shape, items: Vec<Value>) -> Result<Value> {
        let mut all = Vec::with_capacity(items.len());
        for (at, value) in items.into_iter().enumerate() {
            let length = self.place.len();
            self.place.push_str(&format!("[{at}]"));
            let read = if value.is_null() { None } else { self.value(item, value)? };
            self.place.truncate(length);
            all.push(read.unwrap_or_else(|| zero(item)));
        }
        Ok(Value::Array(all))
    }

    fn map(&mut self, of: &Shape, map: Map<String, Value>) -> Result<Value> {
        let mut all = Map::new();
        for (key, value) in map {
            let length = self.place.len();
            self.place.push('.');
            self.place.push_str(&key);
            let read = if value.is_null() { None } else { self.value(of, value)? };
            self.place.truncate(length);
            all.insert(key, read.unwrap_or_else(|| zero(of)));
        }
        Ok(Value::Object(all))
    }

    fn whole(
        &mut self,
        number: &serde_json::Number,
        shape: &Shape,
        fits: impl Fn(i64) -> bool,
    ) -> Option<Value> {
        match number.as_i64().filter(|n| fits(*n)) {
            Some(number) => Some(number.into()),
            None => self.mismatch(&Value::Number(number.clone()), shape),
        }
    }

    /// Notes the first value of a wrong type.
    fn mismatch(&mut self, value: &Value, shape: &Shape) -> Option<Value> {
        if self.wrong.is_none() {
            self.wrong =
                Some(if self.converts { converted(value, shape) } else { self.decoded(value, shape) });
        }
        None
    }

    /// What the decoder says of a value of the wrong type.
    fn decoded(&self, value: &Value, shape: &Shape) -> DecodeError {
        let found = named(value, matches!(shape, Shape::Int32 | Shape::Int64));
        let expected = shape.go();
        if self.stack.is_empty() {
            return DecodeError::WrongType { found, expected };
        }
        let path = format!("{}.{}", self.owner, self.stack.join("."));
        DecodeError::WrongFieldType { path, found, expected }
    }
}

/// What the converter says of a value of the wrong type.
fn converted(value: &Value, shape: &Shape) -> DecodeError {
    let found = match value {
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) | Value::Null => "map",
    };
    match shape {
        Shape::Struct(_) => DecodeError::NoStruct { found },
        Shape::Map(..) | Shape::Quantities => DecodeError::NoMap { found },
        Shape::List(_) | Shape::Bytes => DecodeError::NoSlice { found },
        Shape::Text(_) => DecodeError::NoScalar { expected: "string".to_owned() },
        other => DecodeError::NoScalar { expected: other.go() },
    }
}

/// What Go calls a value of JSON; a number that does not fit is told.
fn named(value: &Value, number: bool) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(n) if number => format!("number {n}"),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
        Value::Array(_) => "array".into(),
        Value::Object(_) => "object".into(),
    }
}

fn is_empty(field: &Field, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0) && field.shape != Shape::IntOrString,
        Value::Object(map) => map.is_empty() && !matches!(field.shape, Shape::Struct(_) | Shape::Any),
    }
}

/// What Go writes although nobody has said it.
fn complete(of: &Struct, made: &mut Map<String, Value>) {
    for field in &of.fields {
        let written = !field.optional || (matches!(field.shape, Shape::Struct(_)) && !field.pointer);
        if written && !made.contains_key(field.name) {
            let nothing = if field.pointer { Value::Null } else { zero(&field.shape) };
            made.insert(field.name.to_owned(), nothing);
        }
    }
}

/// The value of a type that nobody has said.
fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::Text(_) => "".into(),
        Shape::Int32 | Shape::Int64 | Shape::Float | Shape::IntOrString => 0.into(),
        Shape::Flag => false.into(),
        Shape::Quantity => "0".into(),
        Shape::Struct(name) => {
            let mut made = Map::new();
            complete(types::of(name), &mut made);
            Value::Object(made)
        }
        Shape::Any => json!({}),
        _ => Value::Null,
    }
}

fn bytes(text: String) -> Result<Value> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    let clean: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
    let body = clean.trim_end_matches('=');
    let padding = clean.len() - body.len();
    if let Some(at) = clean.bytes().take(body.len()).position(|b| !legal(b)) {
        return Err(DecodeError::Base64 { at });
    }
    if !clean.len().is_multiple_of(4) || padding > 2 {
        return Err(DecodeError::Base64 { at: clean.len() - clean.len() % 4 });
    }
    Ok(clean.into())
}

fn time(value: Value) -> Result<Option<Value>> {
    let Value::String(text) = value else {
        let found = named(&value, false);
        return Err(DecodeError::WrongType { found, expected: "string".to_owned() });
    };
    if text.parse::<jiff::Timestamp>().is_ok() {
        return Ok(Some(text.into()));
    }
    Err(DecodeError::Time { text })
}

fn amount(value: &Value) -> Result<Value> {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    // Kubernetes' decoder allows blanks around a quantity.
    let text = text.trim();
    match d2k_quantity::thousandths(text) {
        Some(_) => Ok(d2k_quantity::canonical(text).into()),
        None => Err(DecodeError::Quantity),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_words_of_the_decoder() {
        let cases = [
            ("Pod", json!([]), "json: cannot unmarshal array into Go value of type v1.Pod"),
            (
                "Deployment",
                json!({"spec": {"replicas": "x"}}),
                "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                "Deployment",
                json!({"spec": {"replicas": 1.5}}),
                "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            ("ConfigMap", json!({"binaryData": {"a": "ab!="}}), "illegal base64 data at input byte 2"),
            ("ConfigMap", json!({"binaryData": {"a": "abcde"}}), "illegal base64 data at input byte 4"),
            (
                "Pod",
                json!({"metadata": {"creationTimestamp": 5}}),
                "json: cannot unmarshal number into Go value of type string",
            ),
            (
                "Pod",
                json!({"metadata": {"creationTimestamp": "x"}}),
                "parsing time \"x\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"x\" as \"2006\"",
            ),
            (
                "Pod",
                json!({"spec": {"containers": [{"resources": {"limits": {"cpu": "x"}}}]}}),
                "quantities must match the regular expression \
                 '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ),
            (
                "Service",
                json!({"spec": {"ports": [{"targetPort": 5_000_000_000_u64}]}}),
                "json: cannot unmarshal number 5000000000 into Go value of type int32",
            ),
        ];
        for (kind, value, words) in cases {
            let shown = value.to_string();
            let error = decode(types::of(kind), value, &mut Vec::new()).unwrap_err();
            assert_eq!(error.to_string(), words, "{shown}");
        }
    }

    #[test]
    fn errors_of_a_patch_have_the_words_of_the_converter() {
        let cases = [
            (json!({"spec": 5}), "cannot restore struct from: int64"),
            (json!({"metadata": {"labels": "x"}}), "cannot restore map from string"),
            (json!({"spec": {"template": {"spec": {"containers": true}}}}), "cannot restore slice from bool"),
            (json!({"metadata": {"name": 1.5}}), "unrecognized type: string"),
            (json!({"spec": {"replicas": "x"}}), "unrecognized type: int32"),
        ];
        for (value, words) in cases {
            let shown = value.to_string();
            let error = convert(types::of("Deployment"), value, &mut Vec::new()).unwrap_err();
            assert_eq!(error.to_string(), words, "{shown}");
        }
    }
}
