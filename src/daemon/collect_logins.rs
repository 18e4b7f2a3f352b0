//! Deletes logins that serve nobody any more: those that no workload names and nobody has presented for
//! some minutes, and those with which the nodes fail because the registry refuses them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};

use super::Daemon;
use super::pull_secrets::{Login, earlier_name, is_earlier, named_by};
use d2k_common::image::Access;
use d2k_registry::Reference;
use d2k_translate::keys::{self, role};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(10);
/// How long after it was presented a login stays that no workload names: creates follow the pull.
const UNUSED_MINUTES: i64 = 15;
/// How often a login with which nodes fail is tried at its registry, at most.
const TRIED_AGAIN: Duration = Duration::from_secs(300);

/// State that one pass hands to the next.
#[derive(Default)]
struct Earlier {
    /// The logins that no workload named.
    idle: BTreeSet<String>,
    /// When each login with which nodes failed was tried.
    tried: BTreeMap<String, Instant>,
    /// Secrets of an earlier version that may be there.
    old: BTreeSet<String>,
}

impl Daemon {
    /// Deletes, from time to time, the logins that serve nobody.
    pub(crate) async fn collect_logins(self: Arc<Self>) {
        if self.local.is_some() {
            return;
        }
        let mut earlier = Earlier { old: self.earlier_logins(), ..Earlier::default() };
        loop {
            let maps = self.cluster.cache::<ConfigMap>().all();
            if maps.iter().any(|entry| Login::of(&entry.object).is_some()) || !earlier.old.is_empty() {
                let used = self.logins_in_use();
                self.collect_unused_logins(&used, &mut earlier).await;
                self.collect_refused_logins(&mut earlier).await;
                self.collect_earlier_logins(&used, &mut earlier).await;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.stopping.cancelled() => return,
            }
        }
    }

    async fn collect_unused_logins(&self, used: &BTreeSet<String>, earlier: &mut Earlier) {
        let mut idle = BTreeSet::new();
        let border = Timestamp::now() - SignedDuration::from_mins(UNUSED_MINUTES);
        for entry in self.cluster.cache::<ConfigMap>().all() {
            let Some(login) = Login::of(&entry.object) else { continue };
            if used.contains(login.name()) || login.presented().is_some_and(|time| time > border) {
                continue;
            }
            // At two looks: a workload may be about to be made, or made anew.
            if !earlier.idle.contains(login.name()) {
                idle.insert(login.name().to_owned());
                continue;
            }
            self.forget_login(login.name()).await;
            self.forget_images(login.repository()).await;
        }
        earlier.idle = idle;
    }

    /// An image that only a login opens is not there any more when the last login has gone: clients that
    /// look for it pull it again, with their credentials.
    async fn forget_images(&self, repository: &str) {
        let maps = self.cluster.cache::<ConfigMap>().all();
        if maps.iter().filter_map(|e| Login::of(&e.object)).any(|login| login.repository() == repository) {
            return;
        }
        let containers = self.containers();
        for image in self.images() {
            let is_of = Reference::parse(&image.facts.reference).is_ok_and(|r| r.name() == repository);
            let is_used = containers.iter().any(|c| c.record.image.id == image.facts.id);
            if !is_of || is_used || image.facts.access != Access::Private || image.object.is_empty() {
                continue;
            }
            if let Err(error) = self.cluster.delete::<ConfigMap>(&image.object, None).await {
                tracing::warn!(image = image.name, %error, "an image without a login was not forgotten");
            }
        }
    }

    /// A kubelet that has credentials tries no pull without them: a login that the registry refuses would
    /// keep it from an image that is public by now.
    async fn collect_refused_logins(&self, earlier: &mut Earlier) {
        earlier.tried.retain(|_, at| at.elapsed() < TRIED_AGAIN);
        for name in self.logins_of_failing_pods() {
            let Some(entry) = self.cluster.cache::<ConfigMap>().get(&name) else { continue };
            let Some(login) = Login::of(&entry.object) else { continue };
            if earlier.tried.contains_key(&name) {
                continue;
            }
            earlier.tried.insert(name.clone(), Instant::now());
            if self.is_refused_now(&login).await {
                tracing::info!(
                    repository = login.repository(),
                    "the registry refuses a login; it is deleted"
                );
                self.forget_login(&name).await;
            }
        }
    }

    /// The names of Secrets that an earlier version may have written, one for each registry. They cannot
    /// be listed, so those of the registries of known images are looked for.
    fn earlier_logins(&self) -> BTreeSet<String> {
        let references = self.images().into_iter().map(|image| image.facts.reference);
        let registry = |text: String| Some(earlier_name(Reference::parse(&text).ok()?.registry()));
        references.filter_map(registry).chain(self.logins_in_use()).filter(|name| is_earlier(name)).collect()
    }

    async fn collect_earlier_logins(&self, used: &BTreeSet<String>, earlier: &mut Earlier) {
        let unused: Vec<String> = earlier.old.difference(used).cloned().collect();
        for name in unused {
            earlier.old.remove(&name);
            let found = self.cluster.read::<Secret>(&name).await;
            let ours = found.is_ok_and(|secret| {
                let labels = secret.and_then(|secret| secret.metadata.labels);
                labels.is_some_and(|labels| labels.get(keys::ROLE).is_some_and(|r| r == role::REGISTRY))
            });
            if ours && let Err(error) = self.cluster.delete_uncached::<Secret>(&name).await {
                tracing::warn!(secret = name, %error, "a login that serves nobody was not deleted");
            }
        }
    }

    fn logins_in_use(&self) -> BTreeSet<String> {
        let mut used = BTreeSet::new();
        for entry in self.cluster.cache::<Deployment>().all() {
            let spec = entry.object.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
            used.extend(spec.into_iter().flat_map(named_by));
        }
        for entry in self.cluster.cache::<Job>().all() {
            let spec = entry.object.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
            used.extend(spec.into_iter().flat_map(named_by));
        }
        for entry in self.cluster.cache::<Pod>().all() {
            used.extend(entry.object.spec.iter().flat_map(named_by));
        }
        // A stopped Job is nowhere while it is made anew.
        used.extend(self.records().filter_map(|record| record.pull_secret.clone()));
        used
    }

    /// The logins of Pods whose image cannot be pulled.
    fn logins_of_failing_pods(&self) -> BTreeSet<String> {
        let fails = |pod: &Pod| {
            let statuses = pod.status.iter().flat_map(|status| {
                let init = status.init_container_statuses.iter().flatten();
                status.container_statuses.iter().flatten().chain(init)
            });
            let mut reasons =
                statuses.filter_map(|status| status.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
            reasons.any(|reason| matches!(reason, "ErrImagePull" | "ImagePullBackOff"))
        };
        let pods = self.cluster.cache::<Pod>().all();
        let failing = pods.iter().filter(|entry| fails(&entry.object));
        failing.flat_map(|entry| entry.object.spec.iter().flat_map(named_by)).collect()
    }
}
