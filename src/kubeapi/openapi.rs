//! OpenAPI documents. Those of version 3, one for each group and version, are data: the schemas of the kinds for
//! `kubectl explain` and `kubectl apply`, and the write parameters by which clients find out what the server
//! supports. The package in `openapi/generate` writes them, so that the API server links none of the types.

use std::io::Read;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use flate2::read::GzDecoder;
use serde_json::{Map, Value, json};

use super::reply::plain;

/// Version 2 in the encoding of protocol buffers, which `kubectl` asks for: the field `swagger`, no more.
/// The schemas are in version 3 only.
const VERSION_2: &[u8] = b"\x0a\x032.0";
/// Its media type.
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The documents of version 3, compressed by gzip, by their places below `/openapi/v3`.
static DOCUMENTS: &[(&str, &[u8])] = &[
    ("api/v1", include_bytes!("openapi/api.v1.json.gz")),
    ("apis/apps/v1", include_bytes!("openapi/apis.apps.v1.json.gz")),
    ("apis/batch/v1", include_bytes!("openapi/apis.batch.v1.json.gz")),
    ("apis/coordination.k8s.io/v1", include_bytes!("openapi/apis.coordination.k8s.io.v1.json.gz")),
    ("apis/discovery.k8s.io/v1", include_bytes!("openapi/apis.discovery.k8s.io.v1.json.gz")),
    ("apis/storage.k8s.io/v1", include_bytes!("openapi/apis.storage.k8s.io.v1.json.gz")),
];

/// The document at a path, if it is one of OpenAPI; compressed for a client that accepts that.
pub fn document(path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
    if path == "/openapi/v2" {
        return Some(plain(StatusCode::OK, PROTOBUF, VERSION_2));
    }
    let rest = path.strip_prefix("/openapi/v3")?;
    if rest.is_empty() {
        return Some(plain(StatusCode::OK, "application/json", index().to_string()));
    }
    let place = rest.strip_prefix('/')?;
    let (_, compressed) = DOCUMENTS.iter().find(|(known, _)| *known == place)?;
    let gzip = accepts_gzip(headers);
    let body = if gzip { Body::from(*compressed) } else { Body::from(decompressed(compressed)?) };
    let mut response = plain(StatusCode::OK, "application/json", body);
    if gzip {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    Some(response)
}

fn index() -> Value {
    let address = |place: &str| json!({"serverRelativeURL": format!("/openapi/v3/{place}")});
    let paths: Map<String, Value> =
        DOCUMENTS.iter().map(|(place, _)| ((*place).to_owned(), address(place))).collect();
    json!({"paths": paths})
}

/// Whether the client takes gzip (RFC 9110, 12.5.3): named, and not with a weight of zero.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let all = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        named && weight.is_none_or(|weight| weight.parse::<f32>().is_ok_and(|weight| weight > 0.0))
    })
}

/// The bytes of a document; a test reads each.
fn decompressed(document: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    GzDecoder::new(document).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::kinds::{KINDS, Kind};

    fn place(kind: &Kind) -> String {
        format!("{}/{}", if kind.group.is_empty() { "api" } else { "apis" }, kind.api_version())
    }

    fn accepting(encodings: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT_ENCODING, encodings.parse().unwrap())])
    }

    async fn bytes(response: Response<Body>) -> Vec<u8> {
        axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec()
    }

    fn references<'a>(value: &'a Value, all: &mut Vec<&'a str>) {
        match value {
            Value::Object(map) => {
                all.extend(map.get("$ref").and_then(Value::as_str));
                map.values().for_each(|value| references(value, all));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, all)),
            _ => {}
        }
    }

    #[test]
    fn each_kind_is_in_the_document_of_its_group() {
        let places: BTreeSet<String> = KINDS.iter().map(|kind| place(kind)).collect();
        assert_eq!(places, DOCUMENTS.iter().map(|(place, _)| (*place).to_owned()).collect());
        for (of, compressed) in DOCUMENTS {
            let document: Value = serde_json::from_slice(&decompressed(compressed).unwrap()).unwrap();
            let kinds: Vec<_> = KINDS.iter().filter(|kind| place(kind) == *of).collect();
            let paths = document["paths"].as_object().unwrap();
            assert_eq!(paths.len(), 2 * kinds.len(), "{of}");
            for kind in kinds {
                let namespace = if kind.namespaced { "namespaces/{namespace}/" } else { "" };
                let all = format!("/{of}/{namespace}{}", kind.plural);
                assert!(paths[&all]["post"].is_object() && paths[&all]["get"].is_object(), "{all}");
                let one = &paths[&format!("{all}/{{name}}")];
                for method in ["get", "put", "patch", "delete"] {
                    let named = &one[method]["x-kubernetes-group-version-kind"];
                    assert_eq!(named["kind"], kind.name, "{all} {method}");
                }
            }
            let mut named = Vec::new();
            references(&document, &mut named);
            assert!(!named.is_empty());
            for name in named {
                let pointer = name.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some_and(Value::is_object), "{of}: {name}");
            }
        }
    }

    #[tokio::test]
    async fn the_stored_bytes_go_to_a_client_that_accepts_gzip_and_their_content_to_others() {
        for (place, compressed) in DOCUMENTS {
            let path = format!("/openapi/v3/{place}");
            let encoded = document(&path, &accepting("br;q=1, GZIP ; q=0.5")).unwrap();
            assert_eq!(encoded.headers()[header::CONTENT_ENCODING], "gzip", "{place}");
            assert_eq!(bytes(encoded).await, *compressed, "{place}");
            for headers in [HeaderMap::new(), accepting("identity, gzip;q=0"), accepting("br")] {
                let plain = document(&path, &headers).unwrap();
                assert!(!plain.headers().contains_key(header::CONTENT_ENCODING), "{place}");
                assert_eq!(plain.headers()[header::CONTENT_TYPE], "application/json", "{place}");
                assert_eq!(bytes(plain).await, decompressed(compressed).unwrap(), "{place}");
            }
        }
    }

    #[tokio::test]
    async fn the_index_names_each_document() {
        let headers = HeaderMap::new();
        let index = bytes(document("/openapi/v3", &headers).unwrap()).await;
        let index: Value = serde_json::from_slice(&index).unwrap();
        for address in index["paths"].as_object().unwrap().values() {
            let address = address["serverRelativeURL"].as_str().unwrap();
            assert!(document(address, &headers).is_some(), "{address}");
        }
        for other in ["/openapi/v3/apis/apps/v2", "/openapi/v3x", "/openapi", "/api/v1"] {
            assert!(document(other, &headers).is_none(), "{other}");
        }
    }
}
