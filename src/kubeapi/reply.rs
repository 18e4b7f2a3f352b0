//! The forms of an answer: objects as they are, their metadata only, or tables for people
//! (API concepts, "Receiving resources as Tables", "Metadata-only fetches"); pretty if asked.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};

use super::kinds::Kind;
use super::meta;
use super::packed::{Wire, metadata_only};
use super::status::{Result, Status};
use super::table::{self, Include};
use super::warnings;

/// What an object is sent as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum Shape {
    #[default]
    Object,
    Metadata,
    Table,
}

/// What a client accepts.
#[derive(Debug, Clone, Default)]
pub struct Form {
    /// The shape of objects.
    pub shape: Shape,
    /// Discovery of all groups in one document.
    pub aggregated: bool,
    /// YAML instead of JSON.
    pub yaml: bool,
    /// What the rows of a table have of their objects (`includeObject`).
    pub include: Include,
}

/// Media types that answers can have; what asks for protocol buffers takes JSON.
const KNOWN: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

impl Form {
    /// The first form of the `Accept` header that is known.
    ///
    /// # Errors
    /// 406 if there is none.
    pub fn of(headers: &HeaderMap) -> Result<Self> {
        let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let (mut asked, mut written) = (false, false);
        for media in accept.flat_map(|value| value.split(',')) {
            asked = true;
            let mut parts = media.trim().split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let parameter = |wanted: &str| {
                let mut all = media.split(';').map(str::trim);
                all.find_map(|p| p.strip_prefix(wanted)?.strip_prefix('=').map(str::to_owned))
                    .unwrap_or_default()
            };
            if !KNOWN.contains(&name) && !matches!(name, "*/*" | "application/*") {
                continue;
            }
            written = true;
            let (shape, aggregated) = match (parameter("as").as_str(), parameter("v").as_str()) {
                ("Table", "v1") => (Shape::Table, false),
                ("PartialObjectMetadata" | "PartialObjectMetadataList", "v1") => (Shape::Metadata, false),
                ("APIGroupDiscoveryList", "v2") => (Shape::Object, true),
                ("", _) => (Shape::Object, false),
                _ => continue,
            };
            return Ok(Self {
                shape,
                aggregated,
                yaml: name == "application/yaml",
                include: Include::default(),
            });
        }
        if !asked {
            return Ok(Self::default());
        }
        Err(Status::not_acceptable(written, &KNOWN.join(", ")))
    }
}

impl Form {
    /// With what the query asks for besides.
    pub fn including(mut self, include: &str) -> Self {
        self.include = match include {
            "None" => Include::None,
            "Object" => Include::Object,
            _ => Include::Metadata,
        };
        self
    }
}

/// An answer.
pub struct Reply {
    code: u16,
    /// JSON.
    text: String,
    warnings: Vec<String>,
}

/// A list in an answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed<T> {
    kind: String,
    api_version: String,
    metadata: Value,
    items: Vec<T>,
}

impl<T: Serialize> Listed<T> {
    fn text(&self) -> String {
        // Objects have no keys but strings, so this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Reply {
    /// Any value.
    pub fn json(code: u16, value: &Value) -> Self {
        Self { code, text: value.to_string(), warnings: Vec::new() }
    }

    /// An error.
    pub fn status(status: &Status) -> Self {
        Self::json(status.code, &status.object())
    }

    /// One object.
    pub fn object(code: u16, kind: &Kind, object: &Value, form: &Form) -> Self {
        let text = match form.shape {
            Shape::Object => Wire::whole(object).text(),
            Shape::Metadata => metadata_only(object).to_string(),
            Shape::Table => {
                let version = meta::text(object, "resourceVersion");
                table::of(kind, &[object], version, true, form.include).to_string()
            }
        };
        Self { code, text, warnings: Vec::new() }
    }

    /// A list; `next` is the token of its next piece and how much is left, where that is known.
    pub fn list(
        kind: &Kind,
        items: &[Arc<Value>],
        version: &str,
        next: Option<(String, Option<usize>)>,
        form: &Form,
    ) -> Self {
        let mut metadata = json!({"resourceVersion": version});
        if let Some((token, rest)) = next {
            meta::map(&mut metadata).insert("continue".into(), token.into());
            if let Some(rest) = rest {
                meta::map(&mut metadata).insert("remainingItemCount".into(), rest.into());
            }
        }
        let text = match form.shape {
            Shape::Object => Listed {
                kind: format!("{}List", kind.name),
                api_version: kind.api_version(),
                metadata,
                items: items.iter().map(|object| Wire::item(object)).collect(),
            }
            .text(),
            Shape::Metadata => Listed {
                kind: "PartialObjectMetadataList".into(),
                api_version: "meta.k8s.io/v1".into(),
                metadata,
                items: items.iter().map(|object| metadata_only(object)).collect(),
            }
            .text(),
            Shape::Table => {
                let objects: Vec<&Value> = items.iter().map(|o| &**o).collect();
                let mut table = table::of(kind, &objects, version, true, form.include);
                meta::map(&mut table).insert("metadata".into(), metadata);
                table.to_string()
            }
        };
        Self { code: 200, text, warnings: Vec::new() }
    }

    /// With warnings for the client's user (RFC 7234, 5.5, code 299).
    pub fn warned(mut self, warnings: &[String]) -> Self {
        self.warnings.extend_from_slice(warnings);
        self
    }

    /// The HTTP answer.
    pub fn response(mut self, form: &Form) -> Response<Body> {
        let yaml = if form.yaml { yaml(&self.text) } else { None };
        let media = if yaml.is_some() { "application/yaml" } else { "application/json" };
        let text = yaml.unwrap_or_else(|| {
            self.text.push('\n');
            self.text
        });
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        for warning in warnings::bounded(&self.warnings) {
            let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
            // As Kubernetes: text that is no ASCII is sent as it is, and one with control characters is not sent.
            if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
                headers.append(header::WARNING, value);
            }
        }
        response
    }
}

fn yaml(json: &str) -> Option<String> {
    let value: Value = serde_json::from_str(json).ok()?;
    serde_yaml_ng::to_string(&value).ok()
}

impl Shape {
    /// The object of a bookmark.
    pub fn bookmark(self, object: &Value) -> Value {
        match self {
            Self::Object => object.clone(),
            Self::Metadata => metadata_only(object),
            Self::Table => json!({
                "kind": "Table", "apiVersion": "meta.k8s.io/v1", "columnDefinitions": [], "rows": [],
                "metadata": {"resourceVersion": meta::text(object, "resourceVersion")},
            }),
        }
    }
}

/// An answer without a body of its own.
pub fn plain(status: StatusCode, content: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content));
    response
}
