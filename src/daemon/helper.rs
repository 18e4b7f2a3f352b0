//! The helper's ConfigMaps in the namespace: written before a container needs one, kept as long as a
//! workload or a Pod refers to it, collected afterwards.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use parking_lot::Mutex;

use super::Daemon;
use d2k_common::fault::Result;
use d2k_policy::bindings::workload::exports::d2k::policy::workload::Helper as Planned;
use d2k_translate::helper::{self, Use, used_by};
use d2k_translate::keys::{self, role};
use d2k_translate::record::Record;

/// How long a ConfigMap that was there is taken to be there still, and how long one stays that
/// nothing refers to.
const FRESH: Duration = Duration::from_secs(60);

/// When each ConfigMap was last seen or written.
#[derive(Default)]
pub struct Known(Mutex<HashMap<String, Instant>>);

impl Known {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<String, Instant>) -> T) -> T {
        act(&mut self.0.lock())
    }

    fn is_fresh(&self, name: &str, within: Duration) -> bool {
        self.with(|all| all.get(name).is_some_and(|at| at.elapsed() < within))
    }
}

impl Daemon {
    /// Decides whether a new container has the helper, and writes the ConfigMap that it needs.
    pub(crate) async fn choose_helper(
        &self,
        record: &mut Record,
        planned: &Planned,
        warnings: &mut Vec<String>,
    ) {
        let wanted = match planned {
            Planned::Auto | Planned::Other(_) => Use::Auto,
            Planned::Always => Use::Always,
            Planned::Never => Use::Never,
        };
        record.helper = helper::decide(record, wanted, warnings);
        if let Err(fault) = self.ensure_helper(record).await {
            record.helper = None;
            let obstacle = format!("its ConfigMap cannot be written ({})", fault.message);
            warnings.push(helper::without(&obstacle, record));
        }
    }

    /// Writes the ConfigMap with the helper that a container needs, unless it is there.
    ///
    /// # Errors
    /// The cluster's words.
    pub(crate) async fn ensure_helper(&self, record: &Record) -> Result<()> {
        let Some(helper) = &record.helper else { return Ok(()) };
        let name = helper::config_map_name(&helper.architecture);
        if self.helpers.is_fresh(&name, FRESH / 2) {
            return Ok(());
        }
        if !self.cluster.exists::<ConfigMap>(&name).await? {
            self.cluster.apply(&helper::config_map(&helper.architecture)).await?;
        }
        self.helpers.with(|all| all.insert(name, Instant::now()));
        Ok(())
    }

    /// Deletes, from time to time, the ConfigMaps that nothing refers to.
    pub(crate) async fn collect_helpers(self: Arc<Self>) {
        let labels = format!("{}={}", keys::ROLE, role::HELPER);
        let mut before = BTreeSet::new();
        loop {
            tokio::select! {
                () = tokio::time::sleep(FRESH) => {}
                () = self.stopping.cancelled() => return,
            }
            let names = match self.cluster.names::<ConfigMap>(&labels).await {
                Ok(names) => names,
                Err(fault) => {
                    tracing::debug!(error = fault.message, "the helper's ConfigMaps cannot be listed");
                    continue;
                }
            };
            let used = self.helpers_in_use();
            let unused = |name: &String| !used.contains(name) && !self.helpers.is_fresh(name, FRESH);
            let idle: BTreeSet<String> = names.into_iter().filter(unused).collect();
            // Unused at two looks: another d2k may have written it for a container that is being made.
            for name in idle.intersection(&before) {
                if let Err(fault) = self.cluster.delete_uncached::<ConfigMap>(name).await {
                    tracing::warn!(config_map = %name, error = fault.message, "an unused helper stays behind");
                }
            }
            before = idle;
        }
    }

    fn helpers_in_use(&self) -> BTreeSet<String> {
        let mut used = BTreeSet::new();
        for entry in self.cluster.cache::<Deployment>().all() {
            let template = entry.object.spec.as_ref().map(|spec| &spec.template);
            used.extend(template.and_then(|t| used_by(t.spec.as_ref()?)).map(str::to_owned));
        }
        for entry in self.cluster.cache::<Job>().all() {
            let template = entry.object.spec.as_ref().map(|spec| &spec.template);
            used.extend(template.and_then(|t| used_by(t.spec.as_ref()?)).map(str::to_owned));
        }
        for entry in self.cluster.cache::<Pod>().all() {
            used.extend(entry.object.spec.as_ref().and_then(used_by).map(str::to_owned));
        }
        used
    }
}
