//! Objects in the encoding of protocol buffers, which typed Go clients send (`kubectl create`, operators):
//! they are read into what the same object is in JSON. Answers are JSON, which all of them accept.
//!
//! `protobuf/fields.txt` has a line for each message: number, name and type of its fields, as the
//! specification of Kubernetes 1.34 has them. Types: `s` text, `b` boolean, `i` number, `d` number with
//! a fraction, `y` bytes, `q` quantity, `t` and `m` time (`m` with fractions), `n` number or text, `f` JSON;
//! else a message. `*` is a list, `%` a map of texts, `+` in place of a name is a message whose
//! fields are its parent's, and `?` a field that is not there if it is empty or 0.

use std::collections::HashMap;
use std::string::FromUtf8Error;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// The media type.
pub const MEDIA: &str = "application/vnd.kubernetes.protobuf";

/// What all objects begin with.
const MAGIC: &[u8] = b"k8s\0";
/// Messages in messages; the deepest that there is has some 20.
const DEEPEST: usize = 64;

static FIELDS: &str = include_str!("protobuf/fields.txt");

/// Why a body is no object in the encoding of protocol buffers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// The body does not begin as all objects do.
    #[error("provided data does not appear to be a protobuf message")]
    NoMagic,
    /// The API has no such kind.
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    UnknownKind { kind: String, api_version: String },
    /// `protobuf/fields.txt` names a message and does not have it.
    #[error("no message {0}")]
    UnknownMessage(&'static str),
    /// Messages are nested deeper than `DEEPEST`.
    #[error("messages are nested too deeply")]
    TooDeep,
    /// The message ends within the number of a field.
    #[error("a field without an end")]
    EndlessField,
    /// The message ends within a value, or the value has an encoding that Kubernetes does not use.
    #[error("field {0} is cut off")]
    CutOff(u64),
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    NotUtf8(#[from] FromUtf8Error),
    /// The field of a text holds a number.
    #[error("a text is a number")]
    NotText,
    /// The field of a message holds a number.
    #[error("a message is a number")]
    NotMessage,
}

type Result<T> = std::result::Result<T, ProtobufError>;

/// One field of a message.
struct Field {
    name: &'static str,
    form: &'static str,
    /// Not there if it is empty or 0.
    optional: bool,
}

type Message = HashMap<u64, Field>;

fn messages() -> &'static HashMap<&'static str, Message> {
    static ALL: OnceLock<HashMap<&'static str, Message>> = OnceLock::new();
    ALL.get_or_init(|| {
        let field = |text: &'static str| {
            let mut words = text.split(' ');
            let (number, name, form) = (words.next()?.parse().ok()?, words.next()?, words.next()?);
            let bare = form.trim_end_matches('?');
            Some((number, Field { name, form: bare, optional: bare.len() < form.len() }))
        };
        let line = |line: &'static str| {
            let (name, fields) = line.split_once(": ")?;
            Some((name, fields.split(", ").filter_map(field).collect()))
        };
        FIELDS.lines().filter_map(line).collect()
    })
}

/// The object of a body.
///
/// # Errors
/// Bytes that are no message, or one of an unknown kind.
pub fn read(body: &[u8]) -> Result<Value> {
    let body = body.strip_prefix(MAGIC).ok_or(ProtobufError::NoMagic)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for (number, wire) in fields(body)? {
        match (number, wire) {
            (1, Wire::Bytes(named)) => {
                for (number, wire) in fields(named)? {
                    *(if number == 1 { &mut api_version } else { &mut kind }) = wire.text();
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let Some(known) = message_of(&api_version, &kind) else {
        return Err(ProtobufError::UnknownKind { kind, api_version });
    };
    let mut object = message(known, raw, 0)?;
    object.insert("kind".into(), kind.into());
    object.insert("apiVersion".into(), api_version.into());
    Ok(Value::Object(object))
}

fn message_of(api_version: &str, kind: &str) -> Option<&'static str> {
    let group =
        api_version.split_once('/').map_or("core", |(group, _)| group.split('.').next().unwrap_or(group));
    let named =
        if kind == "DeleteOptions" { "meta.DeleteOptions".to_owned() } else { format!("{group}.{kind}") };
    messages().get_key_value(named.as_str()).map(|(name, _)| *name)
}

/// A value as it is written.
#[derive(Debug, Clone, Copy)]
enum Wire<'a> {
    Number(u64),
    Double(f64),
    Bytes(&'a [u8]),
}

impl Wire<'_> {
    fn text(self) -> String {
        match self {
            Wire::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        }
    }

    fn number(self) -> i64 {
        match self {
            Wire::Number(number) => number.cast_signed(),
            _ => 0,
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Wire::Bytes(bytes) => bytes,
            _ => &[],
        }
    }
}

/// The fields of a message as they come.
fn fields(mut rest: &[u8]) -> Result<Vec<(u64, Wire<'_>)>> {
    let mut all = Vec::new();
    while !rest.is_empty() {
        let (tag, after) = varint(rest).ok_or(ProtobufError::EndlessField)?;
        let (wire, after) = one(tag & 7, after).ok_or(ProtobufError::CutOff(tag >> 3))?;
        all.push((tag >> 3, wire));
        rest = after;
    }
    Ok(all)
}

fn one(kind: u64, rest: &[u8]) -> Option<(Wire<'_>, &[u8])> {
    match kind {
        0 => varint(rest).map(|(number, rest)| (Wire::Number(number), rest)),
        1 => rest.split_first_chunk().map(|(b, rest)| (Wire::Double(f64::from_le_bytes(*b)), rest)),
        2 => {
            let (length, rest) = varint(rest)?;
            let (bytes, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            Some((Wire::Bytes(bytes), rest))
        }
        5 => rest.split_first_chunk().map(|(b, rest)| (Wire::Double(f32::from_le_bytes(*b).into()), rest)),
        _ => None,
    }
}

fn varint(rest: &[u8]) -> Option<(u64, &[u8])> {
    let end = rest.iter().take(10).position(|byte| byte & 0x80 == 0)?;
    let (digits, rest) = rest.split_at_checked(end + 1)?;
    let number =
        digits.iter().enumerate().fold(0, |sum, (at, byte)| sum | u64::from(byte & 0x7f) << (7 * at));
    Some((number, rest))
}

fn message(name: &'static str, bytes: &[u8], depth: usize) -> Result<Map<String, Value>> {
    let known = messages().get(name).ok_or(ProtobufError::UnknownMessage(name))?;
    if depth > DEEPEST {
        return Err(ProtobufError::TooDeep);
    }
    let mut map = Map::new();
    for (number, wire) in fields(bytes)? {
        let Some(field) = known.get(&number) else { continue };
        if let Some(form) = field.form.strip_prefix('*') {
            let value = value(form, wire, depth)?;
            let list = map.entry(field.name).or_insert_with(|| json!([]));
            list.as_array_mut().into_iter().for_each(|list| list.push(value.clone()));
        } else if let Some(form) = field.form.strip_prefix('%') {
            let (key, value) = entry(form, wire, depth)?;
            let all = map.entry(field.name).or_insert_with(|| json!({}));
            all.as_object_mut().into_iter().for_each(|all| drop(all.insert(key.clone(), value.clone())));
        } else if field.name == "+" {
            map.extend(message(field.form, wire.bytes(), depth + 1)?);
        } else {
            let value = value(field.form, wire, depth)?;
            let nothing = value.is_null() || field.optional && is_zero(&value);
            if !nothing {
                map.insert(field.name.to_owned(), value);
            }
        }
    }
    Ok(map)
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(yes) => !yes,
        _ => false,
    }
}

fn entry(form: &'static str, wire: Wire<'_>, depth: usize) -> Result<(String, Value)> {
    let (mut key, mut value) = (String::new(), self::value(form, Wire::Bytes(&[]), depth)?);
    for (number, wire) in fields(wire.bytes())? {
        match number {
            1 => key = wire.text(),
            2 => value = self::value(form, wire, depth)?,
            _ => {}
        }
    }
    Ok((key, value))
}

fn value(form: &'static str, wire: Wire<'_>, depth: usize) -> Result<Value> {
    Ok(match form {
        "s" => match wire {
            Wire::Bytes(bytes) => String::from_utf8(bytes.to_vec())?.into(),
            _ => return Err(ProtobufError::NotText),
        },
        "b" => (wire.number() != 0).into(),
        "i" => wire.number().into(),
        "d" => match wire {
            Wire::Double(number) => number.into(),
            other => other.number().into(),
        },
        "y" => STANDARD.encode(wire.bytes()).into(),
        "q" => parts(wire)?.get(&1).map(|text| text.text()).unwrap_or_default().into(),
        "t" | "m" => time(&parts(wire)?, form == "m"),
        "n" => {
            let parts = parts(wire)?;
            let at = |number| parts.get(&number).copied().unwrap_or(Wire::Number(0));
            if at(1).number() == 0 { at(2).number().into() } else { at(3).text().into() }
        }
        "f" => {
            let text = parts(wire)?.get(&1).map(|text| text.text()).unwrap_or_default();
            serde_json::from_str(&text).unwrap_or(Value::Null)
        }
        name => Value::Object(message(name, wire.bytes(), depth + 1)?),
    })
}

fn parts(wire: Wire<'_>) -> Result<HashMap<u64, Wire<'_>>> {
    match wire {
        Wire::Bytes(bytes) => Ok(fields(bytes)?.into_iter().collect()),
        _ => Err(ProtobufError::NotMessage),
    }
}

/// `null` for no time.
fn time(parts: &HashMap<u64, Wire<'_>>, fractions: bool) -> Value {
    let at = |number| parts.get(&number).map_or(0, |wire| wire.number());
    let nanos = i32::try_from(at(2)).unwrap_or_default();
    match jiff::Timestamp::new(at(1), nanos) {
        Ok(time) if !parts.is_empty() && fractions => {
            time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string().into()
        }
        Ok(time) if !parts.is_empty() => super::meta::seconds(time).into(),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `kubectl create namespace k3` sends.
    const NAMESPACE: &[u8] =
        b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09Namespace\x12\x1a\x0a\x12\x0a\x02k3\x12\x00\x1a\x00\
        \x22\x00\x2a\x002\x008\x00B\x00\x12\x00\x1a\x02\x0a\x00\x1a\x00\x22\x00";

    #[test]
    fn a_namespace_is_read() {
        let wanted = json!({
            "kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "k3"}, "spec": {}, "status": {},
        });
        assert_eq!(read(NAMESPACE), Ok(wanted));
    }

    #[test]
    fn what_is_cut_off_or_unknown_is_refused() {
        let cases: [(&[u8], &str); 4] = [
            (b"{}", "provided data does not appear to be a protobuf message"),
            (b"k8s\0\x80", "a field without an end"),
            (&NAMESPACE[..40], "field 2 is cut off"),
            (b"k8s\0\x0a\x07\x0a\x02v1\x12\x01X", "no kind \"X\" is registered for version \"v1\""),
        ];
        for (body, words) in cases {
            assert_eq!(read(body).unwrap_err().to_string(), words);
        }
    }

    #[test]
    fn a_field_with_a_value_of_another_type_is_refused() {
        let cases: [(&[u8], &str); 3] = [
            (b"\x12\x04\x0a\x02\x08\x05", "a text is a number"),
            (b"\x12\x05\x0a\x03\x0a\x01\xff", "a text is not UTF-8"),
            (b"\x12\x04\x0a\x02\x40\x05", "a message is a number"),
        ];
        for (raw, words) in cases {
            let body = [&NAMESPACE[..21], raw].concat();
            assert_eq!(read(&body).unwrap_err().to_string(), words);
        }
    }

    #[test]
    fn every_type_of_a_field_is_known() {
        let plain = ["s", "b", "i", "d", "y", "q", "t", "m", "n", "f"];
        for field in messages().values().flat_map(HashMap::values) {
            let form = field.form.trim_start_matches(['*', '%']);
            assert!(plain.contains(&form) || messages().contains_key(form), "{}: {form}", field.name);
        }
    }
}
