//! The four ways to change a part of an object (Kubernetes API concepts, "Patch and apply").

pub mod apply;
pub mod fields;
mod json;
mod last_applied;
pub mod lists;
pub mod manager;
pub mod strategic;

use serde_json::Value;

use super::status::{Result, Status};

/// Steps of a JSON patch at most.
const STEPS: usize = 10_000;

/// How a patch is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Format {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl Format {
    /// The format of a media type.
    ///
    /// # Errors
    /// 415 with those that are known.
    pub fn of(media: &str) -> Result<Self> {
        match media.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            _ => Err(Status::no_such_patch()),
        }
    }
}

/// Changes an object by a patch of any format but apply.
///
/// # Errors
/// 400 where the patch cannot be read, 422 where it does not fit.
pub fn patched(format: Format, kind: &str, object: &Value, patch: &Value) -> Result<Value> {
    let mut changed = object.clone();
    let not_read = |words: String| Status::bad_request(format!("error decoding patch: {words}"));
    let no_map = "json: cannot unmarshal array into Go value of type map[string]interface {}";
    match format {
        Format::Json => {
            if !patch.is_array() {
                let words = "json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp";
                return Err(not_read(words.into()));
            }
            let steps = patch.as_array().map_or(0, Vec::len);
            if steps > STEPS {
                return Err(Status::too_large(format!(
                    "The allowed maximum operations in a JSON patch is {STEPS}, got {steps}"
                )));
            }
            json::patch(&mut changed, patch).ok_or_else(Status::unfit)?;
        }
        Format::Merge if !patch.is_object() => return Err(not_read(no_map.into())),
        Format::Merge => json_patch::merge(&mut changed, patch),
        _ if !patch.is_object() => return Err(Status::bad_request(no_map)),
        Format::Strategic | Format::Apply => strategic::merge(kind, &mut changed, patch)?,
    }
    Ok(changed)
}

/// A value as Go prints it, which some errors show.
pub fn go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut all: Vec<String> =
                map.iter().map(|(name, value)| format!("{name}:{}", go(value))).collect();
            all.sort();
            format!("map[{}]", all.join(" "))
        }
        other => other.to_string(),
    }
}
