//! Images as Docker's clients see them: what was pulled through d2k, each remembered in a ConfigMap,
//! and what the containers of the namespace run. The nodes hold the layers; d2k holds the facts.

use std::collections::BTreeMap;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Daemon;
use d2k_common::fault::{Fault, Result};
use d2k_common::image::{Access, ImageFacts};
use d2k_policy::bindings::images::exports::d2k::policy::images::{self, Purpose};
use d2k_registry::{Credentials, Platform, PullItem, Reference, RegistryError, RegistryErrorKind};
use d2k_translate::keys::{self, role};
use d2k_translate::record::json;

/// An image that d2k knows, under one of its names.
#[derive(Debug, Clone)]
pub struct Image {
    /// Full reference that clients use.
    pub name: String,
    /// What its registry says; `reference` in it is what Pods run.
    pub facts: ImageFacts,
    /// Name of its ConfigMap; empty if only containers know it.
    pub object: String,
    /// When it was given this name, if that is known.
    pub tagged: Option<jiff::Timestamp>,
}

/// The client that asks for an image in order to run it.
pub(crate) struct Puller<'a> {
    /// The credentials that the client sent for the registry, if any.
    pub credentials: Option<&'a Credentials>,
    /// `?platform=`, empty for any.
    pub platform: &'a str,
    /// The client's identity, as far as its connection tells.
    pub client: &'a str,
}

fn object_name(reference: &str) -> String {
    let hash = hex::encode(Sha256::digest(reference));
    format!("d2k-image-{}", hash.get(..16).unwrap_or(&hash))
}

fn read(map: &ConfigMap) -> Option<Image> {
    if map.metadata.labels.as_ref()?.get(keys::ROLE)? != role::IMAGE {
        return None;
    }
    let data = map.data.as_ref()?;
    Some(Image {
        name: data.get("name")?.clone(),
        facts: serde_json::from_str(data.get("facts")?).ok()?,
        object: map.metadata.name.clone()?,
        tagged: map.metadata.creation_timestamp.as_ref().map(|time| time.0),
    })
}

/// Docker names the tag that it looked for.
pub(crate) fn no_such(key: &str) -> Fault {
    let is_id = key.starts_with("sha256:");
    let name = Reference::parse(key).ok().filter(|_| !is_id).map_or_else(|| key.to_owned(), |r| r.familiar());
    Fault::not_found(format!("No such image: {name}"))
}

/// The reason why a command cannot be had where there are no images on this machine.
pub(crate) fn needs_local_images(command: &str) -> Fault {
    let words = match command {
        "save" => {
            "save is not possible: the images are the cluster's nodes'. Save from the registry, for example with \
             `skopeo copy docker://IMAGE docker-archive:FILE` or `crane pull`"
        }
        "load" => {
            "load is not possible: the images are the cluster's nodes'. Push the image to a registry that the \
             cluster reaches, and run it from there"
        }
        _ => "an image cannot be imported, Kubernetes pulls from registries only; push it to one",
    };
    Fault::not_implemented(format!("d2k: {words}"))
}

impl Daemon {
    /// Every image, by name.
    pub fn images(&self) -> Vec<Image> {
        if let Some(local) = &self.local {
            return local.all();
        }
        let maps = self.cluster.cache::<ConfigMap>().all();
        let mut all: BTreeMap<String, Image> =
            maps.iter().filter_map(|m| read(&m.object)).map(|i| (i.name.clone(), i)).collect();
        for container in self.containers() {
            let facts = &container.record.image;
            let asked = container.record.body.image.clone().unwrap_or_default();
            let known = all.values().any(|i| i.facts.id == facts.id);
            if let (Ok(reference), false) = (Reference::parse(&asked), known) {
                let name = reference.to_string();
                all.entry(name.clone()).or_insert(Image {
                    name,
                    facts: facts.clone(),
                    object: String::new(),
                    tagged: None,
                });
            }
        }
        all.into_values().collect()
    }

    /// The image that a client means: a name, a full ID, or a unique prefix of one.
    ///
    /// # Errors
    /// 404 in Docker's words.
    pub fn image(&self, key: &str) -> Result<Image> {
        if let Some(local) = &self.local {
            return local.get(key);
        }
        let missing = || no_such(key);
        let all = self.images();
        if let Ok(reference) = Reference::parse(key) {
            let name = reference.to_string();
            if let Some(found) =
                all.iter().find(|i| i.name == name || repo_digest(i).as_deref() == Some(&name))
            {
                return Ok(found.clone());
            }
        }
        let hex = key.strip_prefix("sha256:").unwrap_or(key);
        if hex.len() < 4 || !hex.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(missing());
        }
        let fits = |i: &&Image| i.facts.id.strip_prefix("sha256:").is_some_and(|id| id.starts_with(hex));
        let mut ids: Vec<&str> = all.iter().filter(fits).map(|i| i.facts.id.as_str()).collect();
        ids.dedup();
        match ids.as_slice() {
            [_] => all.iter().find(fits).cloned().ok_or_else(missing),
            _ => Err(missing()),
        }
    }

    /// All names of the image of an ID.
    pub fn image_names(&self, id: &str) -> Vec<Image> {
        self.images().into_iter().filter(|i| i.facts.id == id).collect()
    }

    async fn remember(&self, name: &str, facts: &ImageFacts) -> Result<()> {
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(object_name(name)),
                labels: Some(BTreeMap::from([(keys::ROLE.to_owned(), role::IMAGE.to_owned())])),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([
                ("name".to_owned(), name.to_owned()),
                ("facts".to_owned(), json(facts)),
            ])),
            ..ConfigMap::default()
        };
        self.cluster.apply(&map).await?;
        let object = object_name(name);
        let seen = || {
            let now = self.cluster.cache::<ConfigMap>().get(&object)?;
            read(&now.object).filter(|i| i.facts == *facts).map(|_| ())
        };
        self.cluster.wait(std::time::Duration::from_secs(5), seen).await;
        Ok(())
    }

    /// The image of a create call: one that is known, else what its registry says; and the Secret that its
    /// Pods need. The client pulls when this is a 404, and gets the registry's own words then.
    pub(crate) async fn image_for_create(
        &self,
        asked: &str,
        meant: &str,
        puller: &Puller<'_>,
    ) -> Result<(ImageFacts, Option<String>)> {
        if let Some(local) = &self.local {
            // An image that lies here is everybody's, as with Docker. What does not lie here the client
            // pulls, and creates again.
            let known = self.image(asked).or_else(|_| {
                Reference::parse(meant)?;
                local.get(meant)
            });
            return known.map(|image| (image.facts, None));
        }
        if let Ok(known) = self.image(asked) {
            return self.image_for_client(asked, known, puller).await;
        }
        let reference = Reference::parse(meant)?;
        let registry = match puller.platform.parse::<Platform>() {
            Ok(platform) => self.registry.for_platform(platform),
            Err(_) => self.registry.clone(),
        };
        match registry.image(&reference, puller.credentials).await {
            Ok(mut facts) => {
                let secret = self.opened(&mut facts, puller.credentials, puller.client).await;
                let name = Reference::parse(asked)?.to_string();
                self.remember(&name, &facts).await?;
                Ok((facts, secret))
            }
            Err(error) if error.is_unreachable() => {
                tracing::warn!(image = asked, %error, "no registry in reach; nothing is known of the image");
                let mut facts = self.registry.synthesised(&reference);
                let secret = self.opened(&mut facts, puller.credentials, puller.client).await;
                Ok((facts, secret))
            }
            Err(error) => {
                self.note_refusal(&reference, &error, puller.credentials, puller.client).await;
                Err(no_such(meant))
            }
        }
    }

    /// A known image, for a client that may have it: everybody if it is public; else who has opened it by
    /// a login, with this call or a pull before. Of others the registry is asked what it would give them.
    async fn image_for_client(
        &self,
        asked: &str,
        known: Image,
        puller: &Puller<'_>,
    ) -> Result<(ImageFacts, Option<String>)> {
        let Image { name, mut facts, object, .. } = known;
        let reference = Reference::parse(&facts.reference)?;
        if facts.access == Access::Public {
            return Ok((facts, None));
        }
        if puller.credentials.is_some() {
            match self.registry.opens(&reference, puller.credentials).await {
                Ok(()) => {
                    facts.synthesised = false;
                    let secret = self.opened(&mut facts, puller.credentials, puller.client).await;
                    return Ok((facts, secret));
                }
                Err(error) => self.note_refusal(&reference, &error, puller.credentials, puller.client).await,
            }
        }
        if let Some(secret) = self.login_of(&reference, puller.client) {
            return Ok((facts, secret));
        }
        if facts.synthesised && !object.is_empty() {
            // The registry did not answer to the pull; the nodes will ask it.
            return Ok((facts, None));
        }
        match self.registry.opens(&reference, None).await {
            Ok(()) => {
                facts.access = Access::Public;
                if !object.is_empty() {
                    self.remember(&name, &facts).await?;
                }
                Ok((facts, None))
            }
            Err(error) if error.is_unreachable() && facts.access == Access::Unknown => Ok((facts, None)),
            Err(error) => {
                tracing::debug!(image = asked, %error, "the image is not for this client");
                Err(no_such(asked))
            }
        }
    }

    async fn note_refusal(
        &self,
        reference: &Reference,
        error: &RegistryError,
        credentials: Option<&Credentials>,
        client: &str,
    ) {
        let refused = matches!(error.kind, RegistryErrorKind::Denied | RegistryErrorKind::BadCredentials);
        if let Some(credentials) = credentials.filter(|_| refused) {
            self.refused(reference, credentials, client).await;
        }
    }

    /// Pulls an image: the progress lines, or the failure that came before the first of them.
    ///
    /// # Errors
    /// The registry's words, as Docker puts them.
    pub async fn pull(
        self: std::sync::Arc<Self>,
        reference: Reference,
        credentials: Option<Credentials>,
        platform: Option<Platform>,
        client: String,
    ) -> Result<BoxStream<'static, Value>> {
        let asked = reference.to_string();
        let decided = self.policies.current().image(&question(&asked, Purpose::Pull))?;
        for warning in &decided.warnings {
            tracing::warn!(image = asked, "{warning}");
        }
        let meant = Reference::parse(&decided.plan.reference)?;
        if let Some(local) = self.local.clone() {
            let lines = self.pull_here(local, reference, &meant, credentials, platform).await?;
            return Ok(lines.boxed());
        }
        let known = self.image(&asked).ok().filter(|i| !i.object.is_empty()).map(|i| i.facts.digest);
        let registry = platform.map_or_else(|| self.registry.clone(), |p| self.registry.for_platform(p));
        let mut items = Box::pin(registry.pull(&meant, credentials.as_ref(), known.as_deref()).peekable());
        if let Some(PullItem::Failed(error)) = items.as_mut().peek().await {
            self.note_refusal(&meant, error, credentials.as_ref(), &client).await;
            return Err(error.clone().into());
        }
        Ok(async_stream::stream! {
            while let Some(item) = items.next().await {
                match item {
                    PullItem::Progress(line) => yield line,
                    PullItem::Failed(error) => yield d2k_registry::pull::error_line(&error.to_string()),
                    PullItem::Done(facts) => {
                        let opened_by = (credentials.as_ref(), client.as_str());
                        if let Err(fault) = self.pulled(&reference, *facts, opened_by).await {
                            yield d2k_registry::pull::error_line(&fault.message);
                        }
                    }
                }
            }
        }
        .boxed())
    }

    async fn pulled(
        &self,
        reference: &Reference,
        mut facts: ImageFacts,
        (credentials, client): (Option<&Credentials>, &str),
    ) -> Result<()> {
        self.opened(&mut facts, credentials, client).await;
        let name = reference.to_string();
        // The earlier answer of a registry is better than facts that were synthesised without one.
        let known = self.image(&name).is_ok_and(|image| !image.facts.synthesised && !image.object.is_empty());
        if !facts.synthesised || !known {
            self.remember(&name, &facts).await?;
        }
        let attributes = BTreeMap::from([("name".to_owned(), reference.familiar_name())]);
        self.tell_of("image", "pulled", &reference.familiar(), attributes);
        Ok(())
    }

    /// Gives an image another name. What Pods run stays the name that the registry knows.
    ///
    /// # Errors
    /// 404 for an unknown image, 400 for a name that is none.
    pub async fn tag_image(&self, key: &str, target: &Reference) -> Result<()> {
        if let Some(local) = &self.local {
            return self.tag_here(local, key, target).await;
        }
        let image = self.image(key)?;
        self.remember(&target.to_string(), &image.facts).await?;
        let attributes = BTreeMap::from([("name".to_owned(), target.familiar())]);
        self.tell_of("image", "tagged", &image.facts.id, attributes);
        Ok(())
    }

    /// Forgets an image; returns the names and, with the last of them, the ID.
    ///
    /// # Errors
    /// 409 if a container uses it and `force` is not given.
    pub async fn remove_image(&self, key: &str, force: bool) -> Result<(Vec<String>, Option<String>)> {
        if let Some(local) = &self.local {
            return self.remove_here(local, key, force).await;
        }
        let image = self.image(key)?;
        let id = image.facts.id.clone();
        let by_id = Reference::parse(key).map_or(true, |r| r.to_string() != image.name);
        let names = self.image_names(&id);
        if by_id && names.len() > 1 && !force {
            return Err(Fault::conflict(format!(
                "conflict: unable to delete {key} (must be forced) - image is referenced in multiple repositories"
            )));
        }
        let going: Vec<Image> = if by_id { names.clone() } else { vec![image] };
        let last = going.len() == names.len();
        if let Some(user) =
            self.containers().into_iter().find(|c| c.record.image.id == id).filter(|_| last && !force)
        {
            let state = if user.state().running() { "running" } else { "stopped" };
            return Err(Fault::conflict(format!(
                "conflict: unable to remove repository reference \"{key}\" (must force) - container {} is using its \
                 referenced image {} ({state})",
                user.record.id.get(..12).unwrap_or_default(),
                id.get(7..19).unwrap_or_default()
            )));
        }
        let mut untagged = Vec::new();
        for image in going {
            if !image.object.is_empty() {
                self.cluster.delete::<ConfigMap>(&image.object, None).await?;
            }
            let familiar = Reference::parse(&image.name).map_or(image.name.clone(), |r| r.familiar());
            self.tell_of("image", "untagged", &id, BTreeMap::from([("name".to_owned(), familiar.clone())]));
            untagged.push(familiar);
        }
        if last {
            self.tell_of("image", "removed", &id, BTreeMap::from([("name".to_owned(), id.clone())]));
        }
        Ok((untagged, last.then_some(id)))
    }

    /// A stable ID of this daemon: it is the namespace that clients talk to.
    pub fn system_id(&self) -> String {
        let text = format!("{}/{}", self.cluster.server(), self.cluster.namespace());
        let hash = hex::encode(Sha256::digest(text));
        hash.get(..36).unwrap_or(&hash).to_owned()
    }
}

/// `name@sha256:…` of an image.
pub fn repo_digest(image: &Image) -> Option<String> {
    let reference = Reference::parse(&image.facts.reference).ok()?;
    (!image.facts.digest.is_empty()).then(|| format!("{}@{}", reference.name(), image.facts.digest))
}

/// Refuses what is neither the name of an image nor a full ID, before anybody is asked about it.
///
/// # Errors
/// 400 in Docker's words.
pub(crate) fn check_name(text: &str) -> Result<()> {
    let is_id = text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if is_id { Ok(()) } else { Reference::parse(text).map(|_| ()) }
}

/// Which image is meant by a reference.
pub(crate) fn question(reference: &str, purpose: Purpose) -> images::Input {
    images::Input { reference: reference.to_owned(), purpose, extra: Vec::new() }
}
