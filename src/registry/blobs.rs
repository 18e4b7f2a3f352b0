//! The bytes of an image: its layers streamed from the place that described it, with the same
//! mirrors and credentials, continued where a connection was lost, and checked against their digests.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use sha2::{Digest, Sha256, Sha512};
use tokio::sync::mpsc;

use d2k_common::image::ImageFacts;

use super::Registry;
use super::auth::Credentials;
use super::config::Document;
use super::error::RegistryError;
use super::image::Found;
use super::layer::Layer;
use super::reference::Reference;

/// How often a blob is continued after a lost connection, as often as Docker does.
const RETRIES: u32 = 5;
/// The wait before the first of them; each further one is as much longer.
const WAIT: Duration = Duration::from_millis(200);

/// An image at one place, ready to be fetched.
pub struct Remote<'a> {
    found: Found<'a>,
}

impl Registry {
    /// Finds an image at the first place that has it.
    pub async fn locate<'a>(
        &'a self,
        reference: &'a Reference,
        credentials: Option<&'a Credentials>,
    ) -> Result<Remote<'a>, RegistryError> {
        Ok(Remote { found: self.find(reference, credentials).await? })
    }
}

impl Remote<'_> {
    /// What manifest and config say.
    pub fn facts(&self) -> &ImageFacts {
        &self.found.facts
    }

    /// The layers, lowest first.
    pub fn layers(&self) -> &[Layer] {
        &self.found.layers
    }

    /// The config, byte by byte as the registry has it.
    pub fn config(&self) -> &[u8] {
        &self.found.config
    }

    /// Sends the bytes of a layer to `into`; what they are is for a [`Verifier`] at the other end.
    /// Where that end is gone the fetch ends without an error: its owner knows why.
    pub async fn fetch(
        &self,
        layer: &Layer,
        into: &mpsc::Sender<io::Result<Bytes>>,
    ) -> Result<(), RegistryError> {
        let mut got = 0;
        let mut retries = 0;
        loop {
            let before = got;
            match self.part(layer, &mut got, into).await {
                Err(error) if error.is_unreachable() && retries < RETRIES => {
                    // Whoever sent something is worth as many tries as one who just began.
                    retries = if got > before { 1 } else { retries + 1 };
                    tracing::debug!("blob {} after {got} bytes: {error}", layer.digest);
                    tokio::time::sleep(WAIT * retries).await;
                }
                ended => return ended,
            }
        }
    }

    async fn part(
        &self,
        layer: &Layer,
        got: &mut u64,
        into: &mpsc::Sender<io::Result<Bytes>>,
    ) -> Result<(), RegistryError> {
        let place = &self.found.place;
        let size = u64::try_from(layer.size).unwrap_or(0);
        let mut response = place.open_blob(&layer.digest, *got).await?;
        // A registry that knows no ranges sends what is here already once more.
        let mut skip = if response.status() == StatusCode::PARTIAL_CONTENT { 0 } else { *got };
        loop {
            let next = tokio::time::timeout(place.patience(), response.chunk()).await;
            let next = next.map_err(|_| RegistryError::unreachable(place.place(), "the answer stopped"))?;
            let next = next.map_err(|error| {
                let lost = RegistryError::from_request(place.place(), error);
                RegistryError::unreachable(place.place(), &lost.message)
            })?;
            let Some(mut chunk) = next else {
                break;
            };
            let known = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
            skip -= known as u64;
            let chunk = chunk.split_off(known);
            *got += chunk.len() as u64;
            if *got > size {
                return Err(RegistryError::other(format!(
                    "{} sent more than the {size} bytes that blob {} has",
                    place.place(),
                    layer.digest
                )));
            }
            if !chunk.is_empty() && into.send(Ok(chunk)).await.is_err() {
                return Ok(());
            }
        }
        if *got < size {
            let why = format!("blob {} ended after {got} of {size} bytes", layer.digest);
            return Err(RegistryError::unreachable(place.place(), &why));
        }
        Ok(())
    }
}

/// Reads a config as registries and archives of images have it.
pub fn read_config(config: &[u8], layers: &[Layer]) -> Result<ImageFacts, RegistryError> {
    let document: Document = serde_json::from_slice(config)
        .map_err(|error| RegistryError::other(format!("the image's config is malformed: {error}")))?;
    Ok(document.into_facts(layers))
}

/// Digests bytes as they pass.
pub struct Verifier {
    wanted: String,
    hasher: Hasher,
}

enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Verifier {
    /// A verifier for the digest `wanted`; refuses an algorithm that it does not know.
    pub fn new(wanted: &str) -> Result<Self, RegistryError> {
        let (hasher, length) = match wanted.split_once(':') {
            Some(("sha256", hex)) => (Hasher::Sha256(Sha256::new()), hex.len() == 64),
            Some(("sha512", hex)) => (Hasher::Sha512(Sha512::new()), hex.len() == 128),
            _ => return Err(RegistryError::other(format!("unsupported digest algorithm: {wanted}"))),
        };
        let hex = wanted.split(':').next_back().unwrap_or_default();
        if !length || !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(RegistryError::other(format!("{wanted} is no digest")));
        }
        Ok(Self { wanted: wanted.to_owned(), hasher })
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.hasher {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// Whether the bytes were what the digest says.
    pub fn finish(self) -> Result<(), RegistryError> {
        let actual = match self.hasher {
            Hasher::Sha256(hasher) => format!("sha256:{}", hex::encode(hasher.finalize())),
            Hasher::Sha512(hasher) => format!("sha512:{}", hex::encode(hasher.finalize())),
        };
        if actual == self.wanted {
            return Ok(());
        }
        Err(RegistryError::other(format!(
            "{actual} was received where {} was asked for: the bytes are damaged or not the right ones",
            self.wanted
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Door, Fake, reader};
    use super::*;

    async fn fetched(
        registry: &Registry,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Vec<u8> {
        let remote = registry.locate(reference, credentials).await.expect("image");
        let layer = remote.layers()[1].clone();
        let (sender, mut chunks) = mpsc::channel(16);
        remote.fetch(&layer, &sender).await.expect("blob");
        drop(sender);
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            bytes.extend_from_slice(&chunk.expect("chunk"));
        }
        let mut verifier = Verifier::new(&layer.digest).expect("digest");
        verifier.update(&bytes);
        verifier.finish().expect("the right bytes");
        bytes
    }

    #[tokio::test]
    async fn layers_come_through_every_door_and_through_mirrors() {
        for (door, repository) in
            [(Door::Open, "library/app"), (Door::Basic, "private/app"), (Door::Bearer, "private/app")]
        {
            let fake = Fake::start(door).await;
            let ann = Credentials { server: fake.host.clone(), ..Credentials::basic("ann", "pw") };
            let reference = fake.reference(&format!("{repository}:1"));
            assert_eq!(fetched(&reader(&[]), &reference, Some(&ann)).await, b"layer number two");
        }
        let fake = Fake::start(Door::Bearer).await;
        let registry = reader(&[format!("docker.io=http://{}", fake.host)]);
        let reference = Reference::parse("app:1").expect("reference");
        assert_eq!(fetched(&registry, &reference, None).await, b"layer number two");
        let remote = registry.locate(&reference, None).await.expect("image");
        assert_eq!(remote.facts().id, fake.config);
        let facts = read_config(remote.config(), remote.layers()).expect("config");
        assert_eq!((facts.cmd.as_slice(), facts.size), (["sh".to_owned()].as_slice(), 9 + 16));
    }

    #[test]
    fn digests_are_checked_in_both_algorithms() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        Verifier::new(empty).expect("digest").finish().expect("nothing");
        let mut other = Verifier::new(empty).expect("digest");
        other.update(b"x");
        assert!(other.finish().expect_err("x").message.contains(empty));
        let long = format!("sha512:{}", hex::encode(Sha512::digest(b"")));
        Verifier::new(&long).expect("digest").finish().expect("nothing");
        for bad in [
            "",
            "md5:00",
            "sha256:12",
            "sha256:../../../../../../../../../../../../../../../../../../../../../x",
        ] {
            assert!(Verifier::new(bad).is_err(), "{bad}");
        }
    }
}
