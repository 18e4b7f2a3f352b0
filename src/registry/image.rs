//! Reading an image: from its name to the manifest for our platform, its config and its layers,
//! at the first place (mirror or registry) that has it.

use bollard_stubs::models::{DistributionInspect, OciDescriptor, OciPlatform};
use http::header;
use serde_json::Value;

use d2k_common::image::ImageFacts;

use super::Registry;
use super::auth::Credentials;
use super::config::Document;
use super::error::{RegistryError, RegistryErrorKind};
use super::layer::Layer;
use super::reference::Reference;
use super::repository::Repository;
use super::settings::Platform;
use super::transport::{Answer, check_digest, sha256};
use super::wire::{DOCKER_CONFIG, DOCKER_LIST, DOCKER_MANIFEST, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST};
use super::wire::{Entry, Index, Manifest};

/// Media types of what a name may lead to.
const MANIFESTS: [&str; 4] = [OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST];

/// An image for one platform, as found at one place.
pub(super) struct Found<'a> {
    /// The place, for questions about its blobs.
    pub(super) place: Repository<'a>,
    pub(super) facts: ImageFacts,
    pub(super) layers: Vec<Layer>,
    /// The config as it was sent: its digest is the image's ID.
    pub(super) config: Vec<u8>,
}

/// What a name leads to.
struct Named {
    media_type: String,
    digest: String,
    size: i64,
    body: Body,
}

enum Body {
    Image(Manifest),
    Index(Index),
}

impl Registry {
    /// Everything that manifest and config say about the image.
    pub async fn image(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<ImageFacts, RegistryError> {
        Ok(self.find(reference, credentials).await?.facts)
    }

    /// The layers of the image, lowest first.
    pub async fn layers(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<Vec<Layer>, RegistryError> {
        Ok(self.find(reference, credentials).await?.layers)
    }

    /// What `GET /distribution/{name}/json` tells: the descriptor of the name and its platforms.
    pub async fn distribution(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<DistributionInspect, RegistryError> {
        let mut failures = Failures::default();
        for endpoint in self.transport.places.endpoints(reference.registry()) {
            let place = Repository::new(&self.transport, endpoint, reference, credentials);
            match describe(&place, reference).await {
                Ok(inspect) => return Ok(inspect),
                Err(error) => failures.add(error),
            }
        }
        Err(failures.verdict(reference))
    }

    /// Whether the manifest of a name is given to these credentials, or to nobody in particular.
    ///
    /// # Errors
    /// The registry's refusal, or that it does not answer.
    pub async fn opens(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<(), RegistryError> {
        let mut failures = Failures::default();
        for endpoint in self.transport.places.endpoints(reference.registry()) {
            let place = Repository::new(&self.transport, endpoint, reference, credentials);
            match place.has_manifest(reference.wanted(), &MANIFESTS.join(", ")).await {
                Ok(()) => return Ok(()),
                Err(error) => failures.add(error),
            }
        }
        Err(failures.verdict(reference))
    }

    /// What stands in for the facts of an image that no registry in reach describes.
    pub fn synthesised(&self, reference: &Reference) -> ImageFacts {
        ImageFacts {
            reference: reference.to_string(),
            id: sha256(reference.to_string().as_bytes()),
            digest: reference.digest().unwrap_or_default().to_owned(),
            architecture: self.platform.architecture.clone(),
            os: self.platform.os.clone(),
            synthesised: true,
            ..ImageFacts::default()
        }
    }

    pub(super) async fn find<'a>(
        &'a self,
        reference: &'a Reference,
        credentials: Option<&'a Credentials>,
    ) -> Result<Found<'a>, RegistryError> {
        let mut failures = Failures::default();
        for endpoint in self.transport.places.endpoints(reference.registry()) {
            let place = Repository::new(&self.transport, endpoint, reference, credentials);
            match read(&place, reference, &self.platform).await {
                Ok((facts, layers, config)) => {
                    return Ok(Found { place, facts, layers, config });
                }
                Err(error) => failures.add(error),
            }
        }
        Err(failures.verdict(reference))
    }
}

/// What several places said. An answer weighs more than silence: a mirror's "no such image" stands
/// although the registry behind it cannot be reached. Of several answers the registry's own, the
/// last, stands.
#[derive(Default)]
struct Failures {
    answer: Option<RegistryError>,
    silence: Option<RegistryError>,
}

impl Failures {
    fn add(&mut self, error: RegistryError) {
        match error.kind {
            RegistryErrorKind::Unreachable => self.silence = Some(error),
            _ => self.answer = Some(error),
        }
    }

    fn verdict(self, reference: &Reference) -> RegistryError {
        let nobody = || RegistryError::other(format!("there is no place to ask for {reference}"));
        self.answer.or(self.silence).unwrap_or_else(nobody)
    }
}

async fn read(
    place: &Repository<'_>,
    reference: &Reference,
    platform: &Platform,
) -> Result<(ImageFacts, Vec<Layer>, Vec<u8>), RegistryError> {
    let named = named(place, reference.wanted()).await?;
    let manifest = match named.body {
        Body::Image(manifest) => manifest,
        Body::Index(index) => {
            let entry = choose(&index.manifests, platform).ok_or_else(|| no_platform(platform))?;
            match self::named(place, &entry.digest).await?.body {
                Body::Image(manifest) => manifest,
                Body::Index(_) => {
                    return Err(RegistryError::other("the manifest list leads to another list"));
                }
            }
        }
    };
    let layers: Vec<Layer> = manifest
        .layers
        .iter()
        .map(|layer| Layer {
            digest: layer.digest.clone(),
            size: layer.size.max(0),
            foreign: layer.urls.as_ref().is_some_and(|urls| !urls.is_empty()),
        })
        .collect();
    let (document, config) = document(place, &manifest).await?;
    let facts = ImageFacts {
        reference: reference.to_string(),
        id: manifest.config.digest.clone(),
        digest: named.digest,
        ..document.into_facts(&layers)
    };
    Ok((facts, layers, config))
}

async fn document(place: &Repository<'_>, manifest: &Manifest) -> Result<(Document, Vec<u8>), RegistryError> {
    let kind = manifest.config.media_type.as_str();
    let known = [OCI_CONFIG, DOCKER_CONFIG, "application/octet-stream"];
    if !known.contains(&kind) {
        return Err(RegistryError::other(format!(
            "this is no container image: its config has the media type {kind}"
        )));
    }
    let bytes = place.blob(&manifest.config.digest).await?;
    let document = serde_json::from_slice(&bytes).map_err(|error| {
        RegistryError::other(format!("image config {} is malformed: {error}", manifest.config.digest))
    })?;
    Ok((document, bytes))
}

async fn describe(
    place: &Repository<'_>,
    reference: &Reference,
) -> Result<DistributionInspect, RegistryError> {
    let named = named(place, reference.wanted()).await?;
    let platforms = match named.body {
        Body::Index(index) => index.manifests.iter().filter_map(listed_platform).cloned().collect(),
        Body::Image(manifest) => {
            let (config, _) = document(place, &manifest).await?;
            let platform = OciPlatform {
                architecture: config.architecture,
                os: config.os,
                variant: config.variant,
                ..OciPlatform::default()
            };
            vec![platform]
        }
    };
    let descriptor = OciDescriptor {
        media_type: Some(named.media_type),
        digest: Some(named.digest),
        size: Some(named.size),
        ..OciDescriptor::default()
    };
    Ok(DistributionInspect { descriptor, platforms })
}

async fn named(place: &Repository<'_>, wanted: &str) -> Result<Named, RegistryError> {
    let answer = place.manifest(wanted, &MANIFESTS.join(", ")).await?;
    let digest = sha256(&answer.body);
    let digest = if wanted.contains(':') {
        check_digest(&answer.body, wanted)?;
        wanted.to_owned()
    } else {
        digest
    };
    let media_type = media_type(&answer);
    let malformed =
        |error: serde_json::Error| RegistryError::other(format!("manifest {digest} is malformed: {error}"));
    let body = match media_type.as_str() {
        OCI_INDEX | DOCKER_LIST => Body::Index(serde_json::from_slice(&answer.body).map_err(malformed)?),
        OCI_MANIFEST | DOCKER_MANIFEST => {
            Body::Image(serde_json::from_slice(&answer.body).map_err(malformed)?)
        }
        other => {
            return Err(RegistryError::other(format!(
                "unsupported manifest media type {other:?} of {digest}"
            )));
        }
    };
    let size = i64::try_from(answer.body.len()).unwrap_or(i64::MAX);
    Ok(Named { media_type, digest, size, body })
}

/// The document's own word goes before the header's: servers of plain files send any header.
fn media_type(answer: &Answer) -> String {
    let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if let Some(own) = document.get("mediaType").and_then(Value::as_str) {
        return own.to_owned();
    }
    let sent =
        answer.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let sent = sent.split(';').next().unwrap_or_default().trim();
    match sent {
        OCI_INDEX | DOCKER_LIST | OCI_MANIFEST | DOCKER_MANIFEST => sent.to_owned(),
        _ if document.get("manifests").is_some() => OCI_INDEX.to_owned(),
        _ if document.get("config").is_some() => OCI_MANIFEST.to_owned(),
        other => other.to_owned(),
    }
}

/// The entry for the platform; its variant decides only if one was asked for.
fn choose<'a>(entries: &'a [Entry], wanted: &Platform) -> Option<&'a Entry> {
    entries.iter().find(|entry| {
        listed_platform(entry).is_some_and(|listed| {
            let variant = listed.variant.as_deref().unwrap_or_default();
            listed.os.as_deref() == Some(wanted.os.as_str())
                && listed.architecture.as_deref() == Some(wanted.architecture.as_str())
                && (wanted.variant.is_empty() || is_variant(&wanted.architecture, variant, &wanted.variant))
        })
    })
}

/// 64-bit ARM without a variant is `v8`.
fn is_variant(architecture: &str, listed: &str, wanted: &str) -> bool {
    listed == wanted || (architecture == "arm64" && listed.is_empty() && wanted == "v8")
}

fn listed_platform(entry: &Entry) -> Option<&OciPlatform> {
    entry.platform.as_ref().filter(|platform| platform.os.as_deref() != Some("unknown"))
}

fn no_platform(platform: &Platform) -> RegistryError {
    let words = format!("no matching manifest for {platform} in the manifest list entries");
    RegistryError { kind: RegistryErrorKind::NotFound, message: words }
}
