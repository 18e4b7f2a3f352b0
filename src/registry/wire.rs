//! The JSON that registries send: manifests, lists of manifests, and the bodies of refusals.
//!
//! Only the fields that d2k reads are here; any others are ignored, whatever they hold, since registries and build
//! tools add their own. The types of the crate `oci-spec` are too strict: they refuse a body of errors for one code
//! that the specification does not have, and a manifest for a size below zero or for a field that d2k ignores.

use bollard_stubs::models::OciPlatform;
use serde::Deserialize;

/// Media type of OCI's list of manifests.
pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of Docker's list of manifests.
pub(super) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Media type of OCI's manifest.
pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of Docker's manifest (schema 2).
pub(super) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Media type of OCI's config of an image.
pub(super) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Media type of Docker's config of an image.
pub(super) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// A manifest of one image, OCI's or Docker's.
#[derive(Debug, Deserialize)]
pub(super) struct Manifest {
    pub(super) config: Descriptor,
    /// The lowest layer is first.
    pub(super) layers: Vec<Descriptor>,
}

/// A blob that a manifest names.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: String,
    /// In bytes. Broken tools have written negative ones.
    pub(super) size: i64,
    /// Where else the blob is, for layers that the registry need not have.
    pub(super) urls: Option<Vec<String>>,
}

/// A list of manifests, one for each platform; OCI's or Docker's.
#[derive(Debug, Deserialize)]
pub(super) struct Index {
    pub(super) manifests: Vec<Entry>,
}

/// A manifest in a list.
#[derive(Debug, Deserialize)]
pub(super) struct Entry {
    pub(super) digest: String,
    pub(super) platform: Option<OciPlatform>,
}

/// An error that a registry sent with a refusal.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Problem {
    /// Such as `MANIFEST_UNKNOWN`; registries have codes of their own.
    pub(super) code: String,
    #[serde(default)]
    pub(super) message: String,
}

/// The first error in the body of a refusal; `None` if the body has no errors, or is something else such as the
/// page of a gateway.
pub(super) fn first_problem(body: &[u8]) -> Option<Problem> {
    #[derive(Deserialize)]
    struct Envelope {
        errors: Vec<Problem>,
    }
    let envelope: Envelope = serde_json::from_slice(body).ok()?;
    envelope.errors.into_iter().next()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read<T: serde::de::DeserializeOwned>(document: Value) -> Result<T, String> {
        // As bytes, since a registry's documents are read from bytes.
        serde_json::from_slice(document.to_string().as_bytes()).map_err(|error| error.to_string())
    }

    fn descriptor(media_type: &str, size: i64) -> Value {
        json!({"mediaType": media_type, "digest": "sha256:AB", "size": size})
    }

    #[test]
    fn a_manifest_may_lack_its_type_and_have_more_than_we_know() {
        let bare = json!({"schemaVersion": 2, "config": descriptor(OCI_CONFIG, 2), "layers": []});
        assert!(read::<Manifest>(bare).unwrap().layers.is_empty());
        let mut layer = descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", -1);
        layer["urls"] = json!(["https://example.com/layer"]);
        layer["annotations"] = Value::Null;
        layer["data"] = json!({"of": "any type"});
        let full = json!({
            "schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": descriptor(DOCKER_CONFIG, 2),
            "layers": [layer, descriptor("application/vnd.oci.image.layer.v1.tar+zstd", 7)],
            "subject": null, "annotations": {"a": "b"}, "artifactType": "", "history": [{"v1Compatibility": "{}"}],
        });
        let manifest: Manifest = read(full).unwrap();
        assert_eq!(
            (manifest.config.media_type.as_str(), manifest.config.digest.as_str()),
            (DOCKER_CONFIG, "sha256:AB")
        );
        assert_eq!(manifest.layers.iter().map(|layer| layer.size).collect::<Vec<_>>(), [-1, 7]);
        assert_eq!(manifest.layers[0].urls.as_ref().map(Vec::len), Some(1));
        assert!(manifest.layers[1].urls.is_none());
    }

    #[test]
    fn a_manifest_without_what_we_need_is_refused_by_the_name_of_the_field() {
        let config = descriptor(OCI_CONFIG, 2);
        for (document, field) in [
            (json!({"schemaVersion": 2, "layers": []}), "config"),
            (json!({"schemaVersion": 2, "config": config}), "layers"),
            (json!({"config": {"digest": "sha256:ab", "size": 1}, "layers": []}), "mediaType"),
            (json!({"config": config, "layers": [{"mediaType": "x", "digest": "sha256:ab"}]}), "size"),
            (json!({"config": config, "layers": [{"mediaType": "x", "size": 1}]}), "digest"),
        ] {
            let error = read::<Manifest>(document).unwrap_err();
            assert!(error.starts_with(&format!("missing field `{field}`")), "{error}");
        }
        assert!(read::<Manifest>(json!({"config": config, "layers": null})).is_err());
        assert!(read::<Index>(json!({"manifests": null})).is_err());
    }

    #[test]
    fn a_list_has_platforms_of_any_name_and_entries_without_one() {
        let entry = |platform: Value| {
            let mut entry = descriptor(OCI_MANIFEST, 7);
            entry["platform"] = platform;
            entry
        };
        let windows = json!({
            "architecture": "amd64", "os": "windows", "os.version": "10.0", "os.features": ["win32k"], "features": ["sse4"],
        });
        let list = json!({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [
            entry(windows), entry(json!({"architecture": "next", "os": "hurd", "variant": "v9"})), entry(Value::Null),
            {"mediaType": OCI_MANIFEST, "digest": "sha256:cd", "size": 1, "annotations": {"k": "v"}, "artifactType": "x"},
        ]});
        let list: Index = read(list).unwrap();
        let windows = list.manifests[0].platform.clone().unwrap();
        assert_eq!(
            (windows.os_version.as_deref(), windows.os_features),
            (Some("10.0"), Some(vec!["win32k".into()]))
        );
        let other = list.manifests[1].platform.clone().unwrap();
        assert_eq!(
            (other.architecture.as_deref(), other.os.as_deref(), other.variant.as_deref()),
            (Some("next"), Some("hurd"), Some("v9"))
        );
        assert!(list.manifests[2].platform.is_none() && list.manifests[3].platform.is_none());
        assert_eq!(list.manifests[3].digest, "sha256:cd");
    }

    #[test]
    fn the_first_error_of_a_refusal_is_read_whatever_its_code_and_detail() {
        let problem =
            |code: &str, message: &str| Some(Problem { code: code.into(), message: message.into() });
        for detail in
            [json!(null), json!("words"), json!(7), json!([{"Type": "repository"}]), json!({"Tag": "x"})]
        {
            let body = json!({"errors": [
                {"code": "MANIFEST_UNKNOWN", "message": "manifest unknown", "detail": detail},
                {"code": "DENIED"},
            ]});
            let first = first_problem(body.to_string().as_bytes());
            assert_eq!(first, problem("MANIFEST_UNKNOWN", "manifest unknown"));
        }
        let own = br#"{"errors": [{"code": "ARTIFACT_LOCKED"}], "traceId": "1"}"#;
        assert_eq!(first_problem(own), problem("ARTIFACT_LOCKED", ""));
    }

    #[test]
    fn a_body_without_errors_has_none() {
        for body in [
            "",
            "null",
            "<html>502</html>",
            "{}",
            r#"{"errors": []}"#,
            r#"{"errors": null}"#,
            r#"{"errors": [{"message": "no code"}]}"#,
            r#"{"errors": [{"code": 404, "message": "a number"}]}"#,
            r#"{"errors": [{"code": "DENIED", "message": null}]}"#,
            r#"{"errors": [{"code": "DENIED"}, {"message": "no code"}]}"#,
        ] {
            assert_eq!(first_problem(body.as_bytes()), None, "{body}");
        }
    }
}
