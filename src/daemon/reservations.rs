//! A container's name is unique in the namespace, whichever d2k creates or renames it. The name is
//! reserved by a ConfigMap that is called by its hash: Kubernetes lets one create of it succeed.
//!
//! A reservation holds as long as a workload with its ID bears its name. One without such a workload is
//! of a create or rename that is under way, or of a d2k that was killed in the middle of one. It can be
//! taken over when nobody has changed it for [`ABANDONED`], as measured by the one who waits, so that no
//! clocks are compared. Whoever takes longer than half of that to make the workload writes the
//! reservation once more, which succeeds only if it was not taken over meanwhile.
//!
//! Containers of an earlier version have no reservation; their names are found in the caches.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::Daemon;
use d2k_common::fault::{Fault, Kind, Result};
use d2k_translate::container::{Container, Kind as WorkloadKind};
use d2k_translate::keys::{self, role};
use d2k_translate::record::Record;

/// How long a reservation without a workload must stay as it is until another container gets the name.
const ABANDONED: Duration = Duration::from_secs(10);
/// Between two looks at a reservation that somebody else has.
const LOOK: Duration = Duration::from_millis(50);
/// How long a create or rename waits for a name in all: others may take it over in turn.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How often reservations are looked through for those whose workload has gone unseen.
const COLLECT: Duration = Duration::from_secs(3600);

/// Keys of the ConfigMap.
const NAME: &str = "name";
const ID: &str = "id";

/// A name that this process has reserved for a container.
pub(crate) struct Reservation {
    name: String,
    id: String,
    /// `resourceVersion` of the ConfigMap.
    version: String,
    /// Before it was asked for.
    since: Instant,
}

fn object_name(name: &str) -> String {
    let hash = hex::encode(Sha256::digest(name));
    format!("d2k-name-{}", hash.get(..32).unwrap_or(&hash))
}

fn holder(map: &ConfigMap) -> &str {
    map.data.as_ref().and_then(|data| data.get(ID)).map_or("", String::as_str)
}

fn name_of(map: &ConfigMap) -> &str {
    map.data.as_ref().and_then(|data| data.get(NAME)).map_or("", String::as_str)
}

fn short(id: &str) -> &str {
    id.get(..32).unwrap_or(id)
}

fn version_of(map: &ConfigMap) -> String {
    map.metadata.resource_version.clone().unwrap_or_default()
}

impl Reservation {
    /// The name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Daemon {
    /// Reserves a name for a container that is about to bear it.
    ///
    /// # Errors
    /// 409 in Docker's words if another container has it or is about to.
    pub(crate) async fn reserve_name(&self, name: &str, id: &str) -> Result<Reservation> {
        let end = Instant::now() + LONGEST_WAIT;
        let mut unchanged = (String::new(), Instant::now());
        loop {
            let since = Instant::now();
            let reserved = |version| Reservation { name: name.to_owned(), id: id.to_owned(), version, since };
            match self.cluster.create_uncached(&object(name, id)).await {
                Ok(made) => return Ok(reserved(version_of(&made))),
                Err(fault) if fault.kind == Kind::Conflict => {}
                Err(fault) => return Err(fault),
            }
            let Some(found) = self.cluster.read::<ConfigMap>(&object_name(name)).await? else {
                continue;
            };
            let (version, other) = (version_of(&found), holder(&found));
            if other == id {
                // The answer to an earlier try was lost.
                return Ok(reserved(version));
            }
            if self.bears(other, name) || Instant::now() >= end {
                return Err(self.name_conflict(name, Some(other)));
            }
            if unchanged.0 != version {
                unchanged = (version, Instant::now());
            } else if unchanged.1.elapsed() >= ABANDONED {
                if self.is_borne(other, name).await? {
                    return Err(self.name_conflict(name, Some(other)));
                }
                match self.take_over(name, id, &version).await {
                    Ok(version) => return Ok(reserved(version)),
                    Err(fault) if matches!(fault.kind, Kind::Conflict | Kind::NotFound) => {}
                    Err(fault) => return Err(fault),
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Makes sure that a reservation still holds, now that the container bears the name.
    ///
    /// # Errors
    /// 409 in Docker's words if it took so long that another container has the name.
    pub(crate) async fn confirm_name(&self, reservation: &Reservation) -> Result<()> {
        if reservation.since.elapsed() < ABANDONED / 2 {
            return Ok(());
        }
        match self.take_over(&reservation.name, &reservation.id, &reservation.version).await {
            Ok(_) => return Ok(()),
            Err(fault) if matches!(fault.kind, Kind::Conflict | Kind::NotFound) => {}
            Err(fault) => return Err(fault),
        }
        // The answer to an earlier try may have been lost.
        let found = self.cluster.read::<ConfigMap>(&object_name(&reservation.name)).await?;
        let other = found.as_ref().map(holder);
        if other == Some(reservation.id.as_str()) {
            return Ok(());
        }
        Err(self.name_conflict(&reservation.name, other))
    }

    /// Writes a reservation anew if it is still at this version; the version that it has then.
    async fn take_over(&self, name: &str, id: &str, version: &str) -> Result<String> {
        let taken = json!({
            "metadata": {
                "resourceVersion": version,
                "labels": {keys::CONTAINER: short(id)},
                // A change of itself, also where the holder stays the same.
                "annotations": {keys::CREATED: jiff::Timestamp::now().to_string()},
            },
            "data": {ID: id},
        });
        let taken = self.cluster.patch_uncached::<ConfigMap>(&object_name(name), &taken).await?;
        Ok(version_of(&taken))
    }

    /// Gives a name back, unless another container has it by now. A failure is logged: a reservation
    /// without a workload holds for seconds only.
    pub(crate) async fn release_name(&self, name: &str, id: &str) {
        let object = object_name(name);
        let released = async {
            match self.cluster.read::<ConfigMap>(&object).await? {
                Some(found) if holder(&found) == id => self.cluster.delete_exactly(&found).await,
                _ => Ok(()),
            }
        };
        if let Err(fault) = released.await {
            tracing::debug!(
                name,
                error = fault.message,
                "the name of a container stays reserved for a while"
            );
        }
    }

    /// Releases, at start and from time to time, the names of containers that have gone unseen.
    pub(crate) async fn collect_reservations(&self) {
        let mut before: BTreeMap<String, String> = BTreeMap::new();
        loop {
            let idle = self.idle_reservations().await;
            // Idle at two looks without a change: no create or rename is under way.
            for found in &idle {
                let name = found.metadata.name.clone().unwrap_or_default();
                if before.get(&name) == Some(&version_of(found))
                    && let Err(fault) = self.collect_reservation(found).await
                {
                    tracing::debug!(object = name, error = fault.message, "an unused reservation stays");
                }
            }
            let pause = if before.is_empty() && !idle.is_empty() { ABANDONED * 2 } else { COLLECT };
            before = idle
                .iter()
                .map(|map| (map.metadata.name.clone().unwrap_or_default(), version_of(map)))
                .collect();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stopping.cancelled() => return,
            }
        }
    }

    async fn idle_reservations(&self) -> Vec<ConfigMap> {
        let labels = format!("{}={}", keys::ROLE, role::NAME);
        let mut idle = match self.cluster.list::<ConfigMap>(&labels).await {
            Ok(all) => all,
            Err(fault) => {
                tracing::debug!(error = fault.message, "the reserved names cannot be listed");
                return Vec::new();
            }
        };
        let borne: HashMap<String, String> =
            self.records().map(|record| (record.id.clone(), record.name.clone())).collect();
        idle.retain(|map| borne.get(holder(map)).map(String::as_str) != Some(name_of(map)));
        idle
    }

    async fn collect_reservation(&self, found: &ConfigMap) -> Result<()> {
        if self.is_borne(holder(found), name_of(found)).await? {
            return Ok(());
        }
        self.cluster.delete_exactly(found).await
    }

    /// Gives the name of a container back whose workload was deleted. Another d2k may only be making its
    /// Job anew.
    pub(crate) async fn release_name_of(&self, container: &Container) {
        let record = &container.record;
        if container.kind == WorkloadKind::Job
            && self.is_borne(&record.id, &record.name).await.unwrap_or(true)
        {
            return;
        }
        self.release_name(&record.name, &record.id).await;
    }

    /// Whether a container bears a name, as far as the caches know.
    fn bears(&self, id: &str, name: &str) -> bool {
        self.records().any(|record| record.id == id && record.name == name)
    }

    /// The same as the cluster has it now; a container whose Job is being made anew counts. That it is
    /// being made anew is asked first: when that is over, its Job is there.
    async fn is_borne(&self, id: &str, name: &str) -> Result<bool> {
        if self.cluster.exists::<ConfigMap>(&super::replace::kept_name(id)).await? {
            return Ok(true);
        }
        let labels = format!("{}={}", keys::CONTAINER, short(id));
        let deployments = self.cluster.list::<Deployment>(&labels).await?;
        let jobs = self.cluster.list::<Job>(&labels).await?;
        let mut all = deployments.iter().map(|d| &d.metadata).chain(jobs.iter().map(|j| &j.metadata));
        Ok(all.any(|meta| Record::read(meta).is_some_and(|r| r.id == id && r.name == name)))
    }

    pub(crate) fn name_conflict(&self, name: &str, owner: Option<&str>) -> Fault {
        let owner = owner.unwrap_or("that is being created");
        Fault::conflict(format!(
            "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have to remove \
             (or rename) that container to be able to reuse that name."
        ))
    }
}

fn object(name: &str, id: &str) -> ConfigMap {
    let labels = [
        (keys::ROLE.to_owned(), role::NAME.to_owned()),
        (keys::CONTAINER.to_owned(), short(id).to_owned()),
        ("app.kubernetes.io/managed-by".to_owned(), "d2k".to_owned()),
    ];
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(object_name(name)),
            labels: Some(labels.into()),
            ..ObjectMeta::default()
        },
        data: Some([(NAME.to_owned(), name.to_owned()), (ID.to_owned(), id.to_owned())].into()),
        ..ConfigMap::default()
    }
}
