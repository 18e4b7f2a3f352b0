//! The controllers: each keeps one kind as its objects want it, by the same loop. A controller looks
//! again at an object when it, or one that it owns, has changed; nothing is polled.

mod claims;
mod cron_jobs;
mod daemon_sets;
mod deployments;
mod endpoints;
mod garbage;
mod jobs;
mod namespaces;
mod owners;
mod replica_sets;
mod revisions;
mod rollout;
mod scheduler;
mod stateful_sets;
pub mod storage;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod too_many;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::changes::Change;
use super::kinds::Kind;
use super::meta;
use super::verbs::Api;
use storage::Storage;

/// Namespace and name of an object.
pub(crate) type Key = (String, String);

/// What a controller works with.
#[derive(Clone)]
pub struct Context {
    /// The objects.
    pub api: Arc<Api>,
    /// Where the volumes of claims are.
    pub storage: Arc<dyn Storage>,
    /// Name of the only Node.
    pub node: String,
    /// The Node's address, where Services of type LoadBalancer are.
    pub address: std::net::IpAddr,
    /// The certificate of the cluster's authority, as Pods get it.
    pub authority: String,
}

/// One controller.
pub(crate) trait Controller: Send + Sync + 'static {
    /// The kinds whose changes matter.
    const KINDS: &'static [&'static Kind];
    /// The object to look at when one has changed.
    fn key(&self, context: &Context, kind: &Kind, change: &Change) -> Vec<Key>;
    /// Brings an object to what it wants; when to look again, if time alone changes something.
    fn reconcile(&self, context: &Context, key: &Key) -> Option<Duration>;
}

/// Starts all controllers.
pub fn start(context: &Context, stopping: &CancellationToken) {
    run(deployments::Deployments, context, stopping);
    run(replica_sets::ReplicaSets, context, stopping);
    run(daemon_sets::DaemonSets, context, stopping);
    run(stateful_sets::StatefulSets, context, stopping);
    run(cron_jobs::CronJobs, context, stopping);
    run(jobs::Jobs, context, stopping);
    run(endpoints::Endpoints, context, stopping);
    run(claims::Claims::default(), context, stopping);
    run(namespaces::Namespaces, context, stopping);
    run(scheduler::Scheduler, context, stopping);
    run(garbage::Garbage, context, stopping);
    tokio::spawn(super::events::expire(context.api.clone(), stopping.clone()));
}

pub(crate) use namespaces::furnish;

/// The key of an object.
pub(crate) fn key_of(object: &Value) -> Key {
    (meta::namespace(object).to_owned(), meta::name(object).to_owned())
}

fn run(controller: impl Controller, context: &Context, stopping: &CancellationToken) {
    let (context, stopping) = (context.clone(), stopping.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = work(controller, context) => {}
            () = stopping.cancelled() => {}
        }
    });
}

async fn work<C: Controller>(controller: C, context: Context) {
    let mut bell = context.api.store.bell(C::KINDS);
    let mut seen: BTreeMap<usize, u64> = BTreeMap::new();
    let mut timers: BTreeMap<Key, Instant> = BTreeMap::new();
    loop {
        bell.hush();
        let mut due: BTreeSet<Key> = BTreeSet::new();
        for (at, kind) in C::KINDS.iter().enumerate() {
            collect(&controller, &context, kind, seen.entry(at).or_default(), &mut due);
        }
        let now = Instant::now();
        due.extend(timers.iter().filter(|(_, at)| **at <= now).map(|(key, _)| key.clone()));
        for key in due {
            timers.remove(&key);
            // A time that no clock reaches never comes.
            let again = controller.reconcile(&context, &key);
            if let Some(at) = again.and_then(|again| Instant::now().checked_add(again)) {
                timers.insert(key, at);
            }
        }
        let next = timers.values().min().copied();
        tokio::select! {
            rings = bell.rings() => if !rings { return },
            () = async { match next { Some(at) => tokio::time::sleep_until(at).await, None => std::future::pending().await } } => {}
        }
    }
}

/// What has changed since the last look; everything at the first one, or if the log is too short.
fn collect(
    controller: &impl Controller,
    context: &Context,
    kind: &Kind,
    seen: &mut u64,
    due: &mut BTreeSet<Key>,
) {
    let changes = if *seen == 0 { None } else { context.api.store.since(kind, *seen).ok() };
    if let Some((changes, version)) = changes {
        for change in &changes {
            due.extend(controller.key(context, kind, change));
        }
        *seen = version;
        return;
    }
    let list = context.api.list(kind, "");
    for object in list.items {
        let change =
            Change { version: list.version, action: super::changes::Action::Added, object, previous: None };
        due.extend(controller.key(context, kind, &change));
    }
    *seen = list.version;
}
