//! Errors as Kubernetes tells them: `Status` objects (meta/v1), with the words that clients know.

use serde_json::{Value, json};

use super::kinds::{self, Kind};

/// A refusal.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// HTTP status.
    pub code: u16,
    /// Machine-readable reason.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// `details`, if any.
    pub details: Value,
}

/// What a verb answers.
pub type Result<T> = std::result::Result<T, Status>;

impl Status {
    fn new(code: u16, reason: &'static str, message: String) -> Self {
        Self { code, reason, message, details: Value::Null }
    }

    fn about(mut self, kind: &Kind, name: &str) -> Self {
        self.details = json!({"name": name, "group": kind.group, "kind": kind.plural});
        self
    }

    /// 404 for an object.
    pub fn not_found(kind: &Kind, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} {name:?} not found", kind.resource())).about(kind, name)
    }

    /// 404 for a path that is not served.
    pub fn no_resource() -> Self {
        Self {
            details: json!({}),
            ..Self::new(404, "NotFound", "the server could not find the requested resource".into())
        }
    }

    /// 409 for a name that is taken.
    pub fn exists(kind: &Kind, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{} {name:?} already exists", kind.resource()))
            .about(kind, name)
    }

    /// 409 for a write that is behind.
    pub fn conflict(kind: &Kind, name: &str, words: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {words}", kind.resource());
        Self::new(409, "Conflict", message).about(kind, name)
    }

    /// 409 of a delete with conditions, which names the kind and not the resource.
    pub fn conflict_of_kind(kind: &Kind, name: &str, words: &str) -> Self {
        let named = if kind.group.is_empty() {
            kind.name.to_owned()
        } else {
            format!("{}.{}", kind.name, kind.group)
        };
        let message = format!("Operation cannot be fulfilled on {named} {name:?}: {words}");
        let details = json!({"name": name, "group": kind.group, "kind": kind.name});
        Self { details, ..Self::new(409, "Conflict", message) }
    }

    /// 409 of the write that was based on an older object.
    pub fn modified(kind: &Kind, name: &str) -> Self {
        let words =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, words)
    }

    /// 409 of a server-side apply.
    pub fn apply_conflict(message: String, causes: Vec<Value>) -> Self {
        Self { details: json!({"causes": causes}), ..Self::new(409, "Conflict", message) }
    }

    /// 422: fields that are wrong, each with its reason (`FieldValueRequired`, …) and words.
    pub fn invalid(kind: &Kind, name: &str, causes: &[Cause]) -> Self {
        let mut words: Vec<String> = Vec::new();
        for cause in causes {
            let word = format!("{}: {}", cause.field, cause.message);
            if !words.contains(&word) {
                words.push(word);
            }
        }
        let words = match words.as_slice() {
            [one] => one.clone(),
            all => format!("[{}]", all.join(", ")),
        };
        let named = if kind.group.is_empty() {
            kind.name.to_owned()
        } else {
            format!("{}.{}", kind.name, kind.group)
        };
        let message = format!("{named} {name:?} is invalid: {words}");
        let causes: Vec<Value> = causes
            .iter()
            .map(|c| json!({"reason": c.reason, "message": c.message, "field": c.field}))
            .collect();
        Self {
            details: json!({"name": name, "group": kind.group, "kind": kind.name, "causes": causes}),
            ..Self::new(422, "Invalid", message)
        }
    }

    /// 422 for the parameters of a request; `options` is `PatchOptions` and the like.
    pub fn options(options: &str, causes: &[Cause]) -> Self {
        let mut status = Self::invalid(&kinds::OPTIONS, "", causes);
        status.message = status.message.replacen("Options", options, 1);
        if let Some(details) = status.details.as_object_mut() {
            details.insert("kind".into(), options.into());
        }
        status
    }

    /// 422 of a JSON patch that does not fit.
    pub fn unfit() -> Self {
        let words = "the server rejected our request due to an error in our request";
        Self { details: json!({}), ..Self::new(422, "Invalid", words.into()) }
    }

    /// 422 of a patch whose result is not of its kind.
    pub fn bad_patch(patch: &str, words: &str) -> Self {
        let cause = Cause::invalid("patch", &patch.into(), words);
        let causes = [json!({"reason": cause.reason, "message": cause.message, "field": cause.field})];
        let message = format!(" \"\" is invalid: patch: {}", cause.message);
        Self { details: json!({"causes": causes}), ..Self::new(422, "Invalid", message) }
    }

    /// 413 with the words alone.
    pub fn too_large(message: String) -> Self {
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// 415 of a patch of another format.
    pub fn no_such_patch() -> Self {
        let message = "415: Unsupported Media Type".into();
        Self { details: json!({}), ..Self::new(415, "UnsupportedMediaType", message) }
    }

    /// 500 with the words alone.
    pub fn plain(message: impl Into<String>) -> Self {
        Self::new(500, "", message.into())
    }

    /// 406: no media type is known, or none in the form that is asked for.
    pub fn not_acceptable(written: bool, known: &str) -> Self {
        if written {
            let words = format!("only the following media types are accepted: {known}");
            return Self::new(406, "NotAcceptable", words);
        }
        let words = format!("406: Not Acceptable\n\nAvailable representations: {known}");
        Self { details: json!({}), ..Self::new(406, "NotAcceptable", words) }
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message.into())
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized".into())
    }

    /// 403.
    pub fn forbidden(kind: &Kind, name: &str, words: &str) -> Self {
        Self::new(403, "Forbidden", format!("{} {name:?} is forbidden: {words}", kind.resource()))
            .about(kind, name)
    }

    /// 403 of a user who has not the right: with what was asked for, `group` and `resource` empty where that is only a path.
    pub fn not_allowed(group: &str, resource: &str, name: &str, words: &str) -> Self {
        // Nothing that looks like a page, as Kubernetes has it.
        let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let resource_of = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
        let about = match (resource_of.as_str(), name) {
            ("", _) => String::new(),
            (resource, "") => format!("{resource} is "),
            (resource, name) => format!("{resource} {name:?} is "),
        };
        let details = json!({"name": name, "group": group, "kind": resource});
        Self { details, ..Self::new(403, "Forbidden", format!("{about}forbidden: {words}")) }
    }

    /// 405.
    pub fn no_method() -> Self {
        let words = "the server does not allow this method on the requested resource";
        Self { details: json!({}), ..Self::new(405, "MethodNotAllowed", words.into()) }
    }

    /// 410: the version is not known any more.
    pub fn expired(asked: u64, oldest: u64) -> Self {
        Self::new(410, "Expired", format!("too old resource version: {asked} ({oldest})"))
    }

    /// 410 of a continued list.
    pub fn continue_expired() -> Self {
        let words = "The provided continue parameter is too old to display a consistent list result. You must start \
                     a new list without the continue parameter.";
        Self::new(410, "Expired", words.into())
    }

    /// 415.
    pub fn media_type(got: &str, wanted: &str) -> Self {
        let words = format!(
            "the body of the request was in an unknown format - accepted media types include: {wanted}"
        );
        let status = Self::new(415, "UnsupportedMediaType", words);
        tracing::debug!(got, "media type not known");
        status
    }

    /// 500.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {}", message.into()))
    }

    /// 504 of a precondition or read that waits for a version to come.
    pub fn too_large_version(asked: u64, now: u64) -> Self {
        Self {
            details: json!({
                "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
                "retryAfterSeconds": 1
            }),
            ..Self::new(
                504,
                "Timeout",
                format!("Timeout: Too large resource version: {asked}, current: {now}"),
            )
        }
    }

    /// The object that is sent.
    pub fn object(&self) -> Value {
        let mut object = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if let Some(map) = object.as_object_mut() {
            if self.reason.is_empty() {
                map.remove("reason");
            }
            if !self.details.is_null() {
                // What is empty is not told: the core group, an object without a name.
                let mut details = self.details.clone();
                if let Some(details) = details.as_object_mut() {
                    details.retain(|_, value| value.as_str() != Some(""));
                }
                map.insert("details".into(), details);
            }
        }
        object
    }
}

/// A field that is wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Cause {
    /// Path, `spec.containers[0].image`.
    pub field: String,
    /// `FieldValueRequired`, `FieldValueInvalid`, …
    pub reason: &'static str,
    /// Words.
    pub message: String,
}

impl Cause {
    /// A field that must be there.
    pub fn required(field: impl Into<String>, words: &str) -> Self {
        let message =
            if words.is_empty() { "Required value".into() } else { format!("Required value: {words}") };
        Self { field: field.into(), reason: "FieldValueRequired", message }
    }

    /// A field with a value that cannot be.
    pub fn invalid(field: impl Into<String>, value: &Value, words: &str) -> Self {
        Self {
            field: field.into(),
            reason: "FieldValueInvalid",
            message: format!("Invalid value: {value}: {words}"),
        }
    }

    /// A field with a value out of a list.
    pub fn unsupported(field: impl Into<String>, value: &Value, known: &[&str]) -> Self {
        let known: Vec<String> = known.iter().map(|k| format!("{k:?}")).collect();
        let message = format!("Unsupported value: {value}: supported values: {}", known.join(", "));
        Self { field: field.into(), reason: "FieldValueNotSupported", message }
    }

    /// A field that must not be there, or not so.
    pub fn forbidden(field: impl Into<String>, words: &str) -> Self {
        Self { field: field.into(), reason: "FieldValueForbidden", message: format!("Forbidden: {words}") }
    }

    /// A value that names nothing.
    pub fn not_found(field: impl Into<String>, value: &Value) -> Self {
        Self { field: field.into(), reason: "FieldValueNotFound", message: format!("Not found: {value}") }
    }

    /// A value that is there twice.
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self {
            field: field.into(),
            reason: "FieldValueDuplicate",
            message: format!("Duplicate value: {value}"),
        }
    }
}
