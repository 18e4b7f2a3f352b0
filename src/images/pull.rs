//! Pulling: manifest and config from the registry, three layers at a time to blobs, and one after the
//! other from blobs to folders, while the next ones still arrive. Who wants the same blob or layer as
//! somebody else waits for it and has it too.

use std::sync::Arc;

use futures::future::try_join_all;
use tokio::sync::{Semaphore, mpsc, oneshot};

use d2k_common::fault::{Fault, Result};
use d2k_engine::{self as engine, Login, Trouble};
use d2k_registry::{Credentials, Reference, Registry, RegistryError, RegistryErrorKind, Remote};

use super::layers::{Part, parts};
use super::progress::{Progress, Teller, short};
use super::stream::{Counted, channel};
use super::{Images, Shared, blocking, host};

/// Layers on the way at one time, as many as Docker has.
const PARALLEL: usize = 3;

impl Images {
    /// Pulls an image, and returns its ID.
    pub(super) async fn pull(
        &self,
        reference: &Reference,
        logins: &[Login],
        progress: Option<mpsc::Sender<Progress>>,
    ) -> engine::Result<String> {
        if host::is(&reference.to_string()) {
            return Ok(host::id());
        }
        let teller = Teller::new(progress);
        let credentials = credentials(reference, logins);
        let trouble = |words: String| {
            let named = words.contains(&reference.familiar_name());
            let familiar = reference.familiar();
            let words = if named { words } else { format!("failed to pull image \"{familiar}\": {words}") };
            Trouble::new("ErrImagePull", words)
        };
        let remote = locate(&self.shared.registry, reference, &credentials).await;
        let remote = remote.map_err(|error| trouble(error.message))?;
        self.fetch(reference, &remote, &teller).await.map_err(|fault| trouble(fault.message))
    }

    async fn fetch(&self, reference: &Reference, remote: &Remote<'_>, teller: &Teller) -> Result<String> {
        let facts = remote.facts();
        let blobs = remote.layers().iter();
        let blobs =
            blobs.map(|layer| (layer.digest.clone(), u64::try_from(layer.size).unwrap_or(0))).collect();
        let parts = parts(blobs, &facts.layers)?;
        let shared = &self.shared;
        let _pin = shared.pin(&facts.id, &parts);
        teller.say(reference.wanted(), format!("Pulling from {}", reference.repository())).await;
        let digest = format!("{}@{}", reference.name(), facts.digest);
        let (known, current) = shared.shelf.read(|index| {
            let known = index.images.get(&facts.id);
            let named = index.named(reference).as_ref() == Some(&facts.id);
            (known.is_some(), named && known.is_some_and(|image| image.digests.contains(&digest)))
        });
        if !known {
            self.layers(remote, &parts, teller).await?;
        }
        if !current {
            let (shared, id, config) = (Arc::clone(shared), facts.id.clone(), remote.config().to_vec());
            // A digest decides what the image is; the tag beside it may mean another by now.
            let names = if reference.digest().is_some() { Vec::new() } else { vec![reference.to_string()] };
            blocking(move || shared.commit(&id, &config, &parts, &names, Some(digest))).await?;
        }
        teller.say("", format!("Digest: {}", facts.digest)).await;
        let news = if current { "Image is up to date for" } else { "Downloaded newer image for" };
        teller.say("", format!("Status: {news} {}", reference.familiar())).await;
        Ok(facts.id.clone())
    }

    async fn layers(&self, remote: &Remote<'_>, parts: &[Part], teller: &Teller) -> Result<()> {
        for part in parts {
            let here = self.shared.store.layer_record(&part.chain).is_some();
            teller.say(short(&part.blob), if here { "Already exists" } else { "Pulling fs layer" }).await;
        }
        let (tell, told): (Vec<_>, Vec<_>) = parts.iter().map(|_| oneshot::channel()).unzip();
        let turns = Semaphore::new(PARALLEL);
        let mut downloads = Vec::new();
        for (part, done) in parts.iter().zip(tell) {
            let turns = &turns;
            downloads.push(async move {
                if turns.available_permits() == 0 {
                    teller.say(short(&part.blob), "Waiting").await;
                }
                let _turn = turns.acquire().await;
                let fresh = self.download(remote, part, teller).await?;
                // Nobody listens where the unpacking has failed, and then that is the failure.
                let _ = done.send(fresh);
                Ok(())
            });
        }
        let unpacking = async {
            for (part, ready) in parts.iter().zip(told) {
                match ready.await {
                    Ok(true) => self.unpack(part, teller).await?,
                    Ok(false) => {}
                    // The download has failed, and its failure counts.
                    Err(_) => return Ok(()),
                }
            }
            Ok(())
        };
        futures::try_join!(try_join_all(downloads), unpacking).map(drop)
    }

    /// Sees to it that the blob of a layer is here; false if not even that is needed.
    async fn download(&self, remote: &Remote<'_>, part: &Part, teller: &Teller) -> Result<bool> {
        let shared = Arc::clone(&self.shared);
        if shared.store.layer_record(&part.chain).is_some() {
            return Ok(false);
        }
        let name = short(&part.blob);
        let lock = shared.locks.lock(&format!("blob {}", part.blob)).await;
        if !shared.store.blob(&part.blob).exists() {
            let wanted = remote.layers().iter().find(|layer| layer.digest == part.blob);
            let layer = wanted.ok_or_else(|| Fault::internal(format!("no layer {}", part.blob)))?;
            let (sender, reader) = channel();
            let reader = Counted::new(reader, teller.counter(name, "Downloading", part.size));
            let blob = part.blob.clone();
            let writing = blocking(move || {
                // The lock is the writer's, who ends later than a client that has gone away.
                let _lock = lock;
                shared.store.write_blob(&blob, reader)
            });
            let fetching = async move {
                let sender = sender;
                remote.fetch(layer, &sender).await
            };
            let (fetched, written) = futures::join!(fetching, writing);
            fetched?;
            written?;
            teller.say(name, "Verifying Checksum").await;
        }
        teller.say(name, "Download complete").await;
        Ok(true)
    }

    async fn unpack(&self, part: &Part, teller: &Teller) -> Result<()> {
        let (shared, name) = (Arc::clone(&self.shared), short(&part.blob));
        let lock = shared.locks.lock(&part.chain).await;
        if shared.store.layer_record(&part.chain).is_none() {
            let told = teller.counter(name, "Extracting", part.size);
            let part = part.clone();
            blocking(move || {
                let _lock = lock;
                unpack_again(&shared, &part, told)
            })
            .await?;
        }
        teller.say(name, "Pull complete").await;
        Ok(())
    }
}

/// A blob that cannot be unpacked is of no use to a later pull either.
fn unpack_again(shared: &Shared, part: &Part, told: impl FnMut(u64)) -> Result<()> {
    let unpacked = shared.unpack_layer(part, told);
    if unpacked.is_err() {
        drop(shared.store.take_away(&shared.store.blob(&part.blob)));
    }
    unpacked
}

/// The first credentials that open the door count, as for a kubelet.
async fn locate<'a>(
    registry: &'a Registry,
    reference: &'a Reference,
    credentials: &'a [Option<Credentials>],
) -> Result<Remote<'a>, RegistryError> {
    let mut refusal = RegistryError::denied(reference);
    for credentials in credentials {
        match registry.locate(reference, credentials.as_ref()).await {
            Err(error)
                if matches!(error.kind, RegistryErrorKind::Denied | RegistryErrorKind::BadCredentials) =>
            {
                refusal = error;
            }
            ended => return ended,
        }
    }
    Err(refusal)
}

/// The credentials for the registry of an image, or none.
fn credentials(reference: &Reference, logins: &[Login]) -> Vec<Option<Credentials>> {
    let all = logins.iter().map(|login| Credentials {
        server: login.registry.clone(),
        ..Credentials::basic(&login.username, &login.password)
    });
    let fitting: Vec<_> = all.filter(|known| known.host() == reference.registry()).map(Some).collect();
    if fitting.is_empty() { vec![None] } else { fitting }
}
