//! Docker volumes: PersistentVolumeClaims, found by their Docker names, made on first use.

use std::collections::{BTreeMap, BTreeSet};

use bollard_stubs::models::VolumeCreateRequest;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use serde_json::json;
use std::sync::Arc;

use super::Daemon;
use super::decisions::{What, pairs};
use super::foreign::Foreign;
use super::networks::random_id;
use d2k_cluster::Entry;
use d2k_common::fault::{Fault, Kind, Result};
use d2k_policy::bindings::volumes::exports::d2k::policy::volumes as policy;
use d2k_policy::component::Hook;
use d2k_policy::set::{Decided, Set};
use d2k_translate::container::Container;
use d2k_translate::keys;
use d2k_translate::mounts::{self, MountKind, MountPlan};
use d2k_translate::record::Record;
use d2k_translate::volume::{self, NewVolume};

type Claim = Arc<Entry<PersistentVolumeClaim>>;

impl Daemon {
    /// All volumes of the namespace.
    pub fn volumes(&self) -> Vec<Claim> {
        let all = self.cluster.cache::<PersistentVolumeClaim>().all();
        all.into_iter().filter(|c| c.object.metadata.deletion_timestamp.is_none()).collect()
    }

    /// The volume of a Docker name.
    ///
    /// # Errors
    /// 404 in Docker's words.
    pub fn volume(&self, name: &str) -> Result<Claim> {
        let found = self.volumes().into_iter().find(|c| volume::name(&c.object) == name);
        found.ok_or_else(|| Fault::not_found(format!("get {name}: no such volume")))
    }

    /// Creates a volume, or returns the one that has the name.
    ///
    /// # Errors
    /// 400 for names, drivers and options that cannot be.
    pub async fn create_volume(&self, request: VolumeCreateRequest) -> Result<Claim> {
        let asked = request.name.clone().unwrap_or_default();
        let anonymous = asked.is_empty();
        let name = if anonymous { random_id() } else { asked };
        let (set, mut warnings) = (self.policies.current(), Vec::new());
        let made = self.ensure_volume(&set, request, &name, anonymous, (None, &mut warnings)).await;
        for warning in warnings {
            tracing::warn!(volume = name, "{warning}");
        }
        made.map(|(claim, _)| claim)
    }

    /// The volume of a name, and whether it was made now.
    async fn ensure_volume(
        &self,
        set: &Set,
        request: VolumeCreateRequest,
        name: &str,
        anonymous: bool,
        (owner, warnings): (Option<&Record>, &mut Vec<String>),
    ) -> Result<(Claim, bool)> {
        volume::check(&request, name)?;
        let labels = pairs(&request.labels.clone().unwrap_or_default());
        let named = self.object_named(set, What::Volume, name, labels, None)?;
        let object = named.plan.name.clone();
        let new = NewVolume { name: name.to_owned(), object, created: Timestamp::now(), anonymous };
        let decided = decide_volume(set, &request, name, anonymous)?;
        if let Ok(found) = self.volume(name) {
            return Ok((found, false));
        }
        warnings.extend(named.warnings.into_iter().chain(decided.warnings));
        let mut claim = volume::claim(&request, &new, &volume_plan(decided.plan))?;
        let by = BTreeMap::from([(Hook::Naming.name(), named.by), (Hook::Volumes.name(), decided.by)]);
        let notes = claim.metadata.annotations.get_or_insert_default();
        notes.insert(keys::POLICIES.into(), json!(by).to_string());
        if let Some(owner) = owner.filter(|_| anonymous) {
            let labels = claim.metadata.labels.get_or_insert_default();
            labels.insert(keys::CONTAINER.into(), owner.short().into());
        }
        // A volume of this name that is still being deleted ends first.
        let object = new.object.clone();
        let cache = || self.cluster.cache::<PersistentVolumeClaim>();
        self.cluster
            .wait(std::time::Duration::from_secs(20), || cache().get(&object).is_none().then_some(()))
            .await;
        match self.create_shaped(set, claim, None, warnings).await {
            Ok(made) => Ok((made, true)),
            // Somebody else made it at the same moment: Docker's create answers with that one.
            Err(fault) if fault.kind == Kind::Conflict => {
                let found = self.volume(name).map_err(|_| fault)?;
                Ok((found, false))
            }
            Err(fault) => Err(fault),
        }
    }

    /// Makes the volumes of a new container that do not exist, and adds their claims to `made`, also where one
    /// of them fails.
    pub(crate) async fn make_volumes(
        &self,
        set: &Set,
        record: &Record,
        made: &mut Vec<String>,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        let inherited = self.inherited_mounts(record)?;
        let plans = mounts::plan(&record.body, &record.image, &inherited)?.plans;
        for plan in plans {
            let (name, anonymous) = match &plan.kind {
                MountKind::Named(name) => (name.clone(), false),
                MountKind::Anonymous => (anonymous_name(record, &plan.target), true),
                MountKind::Bind(_) | MountKind::Tmpfs(_) | MountKind::Shm(_) => continue,
            };
            let (claim, new) = self
                .ensure_volume(set, request_of(&plan), &name, anonymous, (Some(record), warnings))
                .await?;
            if new {
                made.push(claim.object.metadata.name.clone().unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Asks the policies about the volumes that a container mounts; returns their warnings.
    ///
    /// # Errors
    /// A refusal, or a failed call.
    pub(crate) fn judge_volumes(&self, set: &Set, record: &Record) -> Result<Vec<String>> {
        let inherited = self.inherited_mounts(record)?;
        let mut warnings = Vec::new();
        for plan in mounts::plan(&record.body, &record.image, &inherited)?.plans {
            let (name, anonymous) = match &plan.kind {
                MountKind::Named(name) => (name.clone(), false),
                MountKind::Anonymous => (anonymous_name(record, &plan.target), true),
                MountKind::Bind(_) | MountKind::Tmpfs(_) | MountKind::Shm(_) => continue,
            };
            let request = request_of(&plan);
            let labels = pairs(&request.labels.clone().unwrap_or_default());
            warnings.extend(self.object_named(set, What::Volume, &name, labels, None)?.warnings);
            warnings.extend(decide_volume(set, &request, &name, anonymous)?.warnings);
        }
        Ok(warnings)
    }

    /// Docker volume name, or target of an anonymous volume → claim name.
    pub(crate) fn claims(&self, record: &Record) -> BTreeMap<String, String> {
        let inherited = self.inherited_mounts(record).unwrap_or_default();
        let plans =
            mounts::plan(&record.body, &record.image, &inherited).map(|m| m.plans).unwrap_or_default();
        let mut claims = BTreeMap::new();
        for plan in plans {
            let Some(key) = plan.claim_key() else {
                continue;
            };
            let name = match &plan.kind {
                MountKind::Named(name) => name.clone(),
                _ => anonymous_name(record, &plan.target),
            };
            if let Ok(claim) = self.volume(&name) {
                claims.insert(key.to_owned(), claim.object.metadata.name.clone().unwrap_or_default());
            }
        }
        claims
    }

    /// Those of the claims, all by name, that no container was ever started with, as far as is known.
    pub(crate) fn unused(&self, claims: &BTreeMap<String, String>) -> BTreeSet<String> {
        let cache = self.cluster.cache::<PersistentVolumeClaim>();
        let is_used = |claim: &Claim| {
            let notes = claim.object.metadata.annotations.as_ref();
            notes.is_some_and(|notes| notes.contains_key(keys::USED))
        };
        claims
            .values()
            .filter(|name| cache.get(name).is_some_and(|claim| !is_used(&claim)))
            .cloned()
            .collect()
    }

    /// Writes down that a container was started with its volumes. Forgotten, it costs the next start a look.
    pub(crate) async fn note_used(&self, record: &Record) {
        for claim in self.unused(&self.claims(record)) {
            let note = json!({"metadata": {"annotations": {keys::USED: "true"}}});
            if let Err(fault) = self.cluster.patch::<PersistentVolumeClaim>(&claim, &note).await {
                tracing::debug!(claim, error = fault.message, "that a volume is in use is not on record");
            }
        }
    }

    /// The containers that mount a volume.
    pub fn volume_users(&self, claim: &PersistentVolumeClaim) -> Vec<Container> {
        let object = claim.metadata.name.clone().unwrap_or_default();
        let uses = |c: &Container| {
            let declared = c.own && self.claims(&c.record).values().any(|name| *name == object);
            declared || c.pods.iter().any(|pod| pod_mounts(pod, &object))
        };
        self.containers().into_iter().filter(uses).collect()
    }

    /// Removes a volume.
    ///
    /// # Errors
    /// 404 if there is none (unless `force`), 409 if a container uses it.
    pub async fn remove_volume(&self, name: &str, force: bool) -> Result<()> {
        let claim = match self.volume(name) {
            Err(_) if force => return Ok(()),
            other => other?,
        };
        let made = claim.object.metadata.labels.as_ref().and_then(|labels| labels.get(keys::ROLE));
        if made.is_none() && self.options.foreign != Foreign::Manage {
            return Err(Fault::forbidden(format!(
                "volume {name} is a claim that d2k did not make: use kubectl, or set D2K_FOREIGN=manage"
            )));
        }
        let object = claim.object.metadata.name.clone().unwrap_or_default();
        let mut users: Vec<String> =
            self.volume_users(&claim.object).iter().map(|c| c.record.id.clone()).collect();
        if users.is_empty() {
            // Workloads that clients do not see may use it, too.
            let pods = self.cluster.cache::<Pod>().all();
            let using = pods.iter().filter(|pod| pod_mounts(&pod.object, &object));
            users = using.filter_map(|pod| pod.object.metadata.name.clone()).collect();
        }
        if !users.is_empty() {
            let message = format!("remove {name}: volume is in use - [{}]", users.join(", "));
            return Err(Fault::conflict(message));
        }
        self.cluster.delete::<PersistentVolumeClaim>(&object, None).await
    }
}

/// The name of a container's anonymous volume: derived, so that it is found again.
pub(crate) fn anonymous_name(record: &Record, target: &str) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(Sha256::digest(format!("volume {}:{target}", record.id)))
}

fn request_of(plan: &MountPlan) -> VolumeCreateRequest {
    VolumeCreateRequest {
        driver: Some(plan.driver.clone()),
        driver_opts: Some(plan.options.clone().into_iter().collect()),
        labels: Some(plan.labels.clone().into_iter().collect()),
        ..VolumeCreateRequest::default()
    }
}

fn pod_mounts(pod: &Pod, claim: &str) -> bool {
    let volumes = pod.spec.as_ref().and_then(|s| s.volumes.as_ref());
    volumes
        .into_iter()
        .flatten()
        .any(|v| v.persistent_volume_claim.as_ref().is_some_and(|source| source.claim_name == claim))
}

fn decide_volume(
    set: &Set,
    request: &VolumeCreateRequest,
    name: &str,
    anonymous: bool,
) -> Result<Decided<policy::Plan>> {
    let options = request.driver_opts.clone().unwrap_or_default().into_iter().collect();
    let asked = volume::asked(&options)?;
    set.volume(&policy::Input {
        name: name.to_owned(),
        labels: pairs(&request.labels.clone().unwrap_or_default()),
        anonymous,
        size: asked.size.map(|size| size.0),
        storage_class: asked.storage_class,
        access_mode: asked.access_mode,
        extra: Vec::new(),
    })
}

fn volume_plan(plan: policy::Plan) -> volume::Plan {
    volume::Plan {
        size: plan.size,
        storage_class: plan.storage_class,
        access_mode: plan.access_mode,
        labels: plan.labels.into_iter().collect(),
        annotations: plan.annotations.into_iter().collect(),
    }
}
