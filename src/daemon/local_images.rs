//! Images of an embedded cluster: they lie on this machine, so everything works that Docker does with
//! images it holds. Where the cluster is somebody else's there are none, and `images` asks registries.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_stream::stream;
use futures::Stream;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::AsyncRead;
use tokio::sync::mpsc;

use super::Daemon;
use super::images::{Image, needs_local_images};
use d2k_common::fault::{Fault, Result};
use d2k_common::image::ImageFacts;
use d2k_engine::{Login, Pull};
use d2k_images::{Entry, How, Images, Import, Loaded, Progress, Removed};
use d2k_registry::pull::error_line;
use d2k_registry::{Credentials, Platform, Reference};

/// Lines that may wait for the client.
const LINES: usize = 64;

/// The images of this machine, and which of them the Pods of the cluster have.
#[derive(Clone)]
pub struct LocalImages {
    /// The images.
    pub images: Images,
    /// IDs of images that Pods have, of any namespace.
    pub used: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
}

impl LocalImages {
    /// All of them, one for each name.
    pub(crate) fn all(&self) -> Vec<Image> {
        self.images.list().iter().flat_map(|entry| self.names_of(entry)).collect()
    }

    /// How the layers of an image become the root of a container, for `docker info`.
    pub fn layers(&self) -> String {
        match self.images.how() {
            How::Overlay { .. } => "overlayfs".to_owned(),
            How::Copy(why) => format!("copies, since {why}"),
        }
    }

    fn names_of(&self, entry: &Entry) -> Vec<Image> {
        let Ok(facts) = self.images.inspect(&entry.id) else { return Vec::new() };
        let image = |name: &str| Image {
            name: name.to_owned(),
            facts: facts.clone(),
            object: String::new(),
            tagged: None,
        };
        match (entry.references.as_slice(), entry.digests.first()) {
            ([], Some(digest)) => vec![image(digest)],
            ([], None) => vec![image(&entry.id)],
            (names, _) => names.iter().map(|name| image(name)).collect(),
        }
    }

    /// The image that a client means.
    pub(crate) fn get(&self, key: &str) -> Result<Image> {
        let entry = self.images.get(key).map_err(|_| super::images::no_such(key))?;
        let facts = self.facts(key, &entry)?;
        let asked =
            Reference::parse(key).ok().map(|r| r.to_string()).filter(|n| entry.references.contains(n));
        let name = asked.or_else(|| entry.references.first().cloned()).unwrap_or_else(|| entry.id.clone());
        Ok(Image { name, facts, object: String::new(), tagged: self.images.here_since(&entry.id) })
    }

    /// What is known of an image; its reference is what Pods run it by.
    fn facts(&self, key: &str, entry: &Entry) -> Result<ImageFacts> {
        let facts = self.images.inspect(key)?;
        let asked =
            Reference::parse(key).ok().map(|r| r.to_string()).filter(|n| entry.references.contains(n));
        let reference = asked.unwrap_or(match facts.reference.as_str() {
            "" => entry.id.clone(),
            own => own.to_owned(),
        });
        Ok(ImageFacts { reference, ..facts })
    }
}

impl Daemon {
    /// Images in use: those of containers, and those of any Pod.
    fn used_images(&self, local: &LocalImages) -> Vec<String> {
        let mut used = (local.used)();
        used.extend(self.containers().iter().map(|container| container.record.image.id.clone()));
        used
    }

    /// Pulls an image onto this machine.
    ///
    /// # Errors
    /// The registry's words, where they come before the first layer.
    pub(crate) async fn pull_here(
        self: &Arc<Self>,
        local: LocalImages,
        reference: Reference,
        meant: &Reference,
        credentials: Option<Credentials>,
        platform: Option<Platform>,
    ) -> Result<impl Stream<Item = Value> + Send + 'static> {
        if let Some(platform) = platform.filter(|platform| *platform != Platform::default()) {
            return Err(Fault::invalid(format!(
                "no matching manifest for {platform}: the embedded cluster runs images of this machine's platform only"
            )));
        }
        let logins: Vec<Login> = credentials.iter().map(|c| login(c, meant)).collect();
        let (sender, mut lines) = mpsc::channel(LINES);
        let (images, name) = (local.images.clone(), meant.to_string());
        let pulling =
            tokio::spawn(async move { images.ensure(&name, Pull::Always, &logins, Some(sender)).await });
        let first = lines.recv().await;
        let daemon = self.clone();
        let mut early = None;
        let mut pulling = Some(pulling);
        if first.is_none()
            && let Some(pulling) = pulling.take()
        {
            // Nothing was told: it has failed, or there was nothing to do.
            let ended = pulling.await.map_err(|e| Fault::internal(e.to_string()))?;
            early = Some(ended.map_err(|trouble| Fault::not_found(trouble.message))?);
        }
        Ok(stream! {
            if let Some(first) = first {
                yield line(&first);
            }
            while let Some(next) = lines.recv().await {
                yield line(&next);
            }
            let ended = match (early, pulling) {
                (Some(_), _) | (None, None) => Ok(()),
                (None, Some(pulling)) => match pulling.await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(trouble)) => Err(trouble.message),
                    Err(error) => Err(error.to_string()),
                },
            };
            match ended {
                Ok(()) => {
                    let attributes = BTreeMap::from([("name".to_owned(), reference.familiar_name())]);
                    daemon.tell_of("image", "pulled", &reference.familiar(), attributes);
                }
                Err(words) => yield error_line(&words),
            }
        })
    }

    /// `docker load`: the lines of the answer.
    ///
    /// # Errors
    /// What is wrong with the archive.
    pub async fn load_images(&self, archive: impl AsyncRead + Send + Unpin) -> Result<Vec<Value>> {
        let local = self.local.as_ref().ok_or_else(|| needs_local_images("load"))?;
        let loaded = local.images.load(archive).await?;
        let lines = loaded.iter().map(|image| match image {
            Loaded::Name(name) => format!("Loaded image: {name}\n"),
            Loaded::Id(id) => format!("Loaded image ID: {id}\n"),
        });
        Ok(lines.map(|text| json!({"stream": text})).collect())
    }

    /// `docker import`: the ID of the image.
    ///
    /// # Errors
    /// What is wrong with the archive, the name or the changes.
    pub async fn import_image(
        &self,
        archive: impl AsyncRead + Send + Unpin,
        reference: Option<Reference>,
        changes: Vec<String>,
        message: String,
    ) -> Result<String> {
        let local = self.local.as_ref().ok_or_else(|| needs_local_images("import"))?;
        let import = Import {
            reference: reference.map(|r| r.to_string()),
            changes,
            message,
            created: Timestamp::now().to_string(),
        };
        local.images.import(archive, import).await
    }

    /// `docker save`: the archive.
    ///
    /// # Errors
    /// 404 for an unknown image.
    pub fn save_images(
        &self,
        names: &[String],
    ) -> Result<impl Stream<Item = std::io::Result<bytes::Bytes>> + Send + use<>> {
        let local = self.local.as_ref().ok_or_else(|| needs_local_images("save"))?;
        local.images.save(names)
    }

    /// Gives an image of this machine another name.
    pub(crate) async fn tag_here(&self, local: &LocalImages, key: &str, target: &Reference) -> Result<()> {
        local.images.tag(key, &target.to_string()).await?;
        let id = local.get(key)?.facts.id;
        let attributes = BTreeMap::from([("name".to_owned(), target.familiar())]);
        self.tell_of("image", "tagged", &id, attributes);
        Ok(())
    }

    /// Removes a name of an image of this machine, and the image with the last of them.
    pub(crate) async fn remove_here(
        &self,
        local: &LocalImages,
        key: &str,
        force: bool,
    ) -> Result<(Vec<String>, Option<String>)> {
        let image = local.get(key)?;
        let removed = local.images.remove(key, force, &self.used_images(local)).await?;
        Ok(self.tell_removed(removed, &image.facts.id))
    }

    /// Removes images of the local engine that nothing uses: names, IDs, and bytes that are free again. `None` where
    /// there is no local engine.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn prune_local_images(&self, all: bool) -> Result<Option<(Vec<Value>, u64)>> {
        let Some(local) = &self.local else { return Ok(None) };
        let pruned = local.images.prune(all, &self.used_images(local)).await?;
        let lines = pruned.removed.iter().map(|removed| match removed {
            Removed::Untagged(name) => json!({"Untagged": familiar(name)}),
            Removed::Deleted(id) => json!({"Deleted": id}),
        });
        let lines = lines.collect();
        self.tell_removed(pruned.removed, "");
        Ok(Some((lines, pruned.reclaimed)))
    }

    fn tell_removed(&self, removed: Vec<Removed>, id: &str) -> (Vec<String>, Option<String>) {
        let (mut untagged, mut deleted) = (Vec::new(), None);
        for line in removed {
            match line {
                Removed::Untagged(name) => {
                    let name = familiar(&name);
                    let attributes = BTreeMap::from([("name".to_owned(), name.clone())]);
                    self.tell_of("image", "untagged", if id.is_empty() { &name } else { id }, attributes);
                    untagged.push(name);
                }
                Removed::Deleted(id) => {
                    self.tell_of("image", "removed", &id, BTreeMap::from([("name".to_owned(), id.clone())]));
                    deleted = Some(id);
                }
            }
        }
        (untagged, deleted)
    }
}

fn familiar(name: &str) -> String {
    Reference::parse(name).map_or_else(|_| name.to_owned(), |reference| reference.familiar())
}

fn login(credentials: &Credentials, reference: &Reference) -> Login {
    let (username, password) = credentials.pair();
    Login { registry: reference.registry().to_owned(), username, password }
}

fn line(progress: &Progress) -> Value {
    let mut line = json!({"status": progress.status});
    if let Some(fields) = line.as_object_mut() {
        if !progress.id.is_empty() {
            fields.insert("id".into(), progress.id.as_str().into());
        }
        if let Some((current, total)) = progress.bytes {
            fields.insert("progressDetail".into(), json!({"current": current, "total": total}));
        } else if !progress.id.is_empty() && !progress.status.starts_with("Pulling from") {
            fields.insert("progressDetail".into(), json!({}));
        }
    }
    line
}
