//! The four ways to change a part of an object (Kubernetes API concepts, "Patch and apply").

pub mod apply;
pub mod fields;
pub mod lists;
pub mod strategic;

use serde_json::Value;

use super::status::{Result, Status};

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
            other => Err(Status::media_type(
                other,
                "application/json-patch+json, application/merge-patch+json, \
                 application/strategic-merge-patch+json, application/apply-patch+yaml",
            )),
        }
    }
}

/// Changes an object by a patch of any format but apply.
///
/// # Errors
/// 400 where the patch cannot be read, 422 where it does not fit.
pub fn patched(format: Format, kind: &str, object: &Value, patch: &Value) -> Result<Value> {
    let mut changed = object.clone();
    match format {
        Format::Json => {
            let steps: json_patch::Patch = serde_json::from_value(patch.clone())
                .map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?;
            json_patch::patch(&mut changed, &steps).map_err(|e| Status {
                code: 422,
                reason: "Invalid",
                message: format!("the server rejected our request due to an error in our request: {e}"),
                details: Value::Null,
            })?;
        }
        Format::Merge => json_patch::merge(&mut changed, patch),
        Format::Strategic | Format::Apply => strategic::merge(kind, &mut changed, patch)?,
    }
    Ok(changed)
}
