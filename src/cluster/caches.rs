//! All watch caches, the tasks that fill them, and the stream of changes they give.
//! One counter tells waiters that anything changed: nothing in d2k polls the cluster.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_kind};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio::time::error::Elapsed;
use tokio_util::sync::CancellationToken;

use super::cache::{Cache, Entry, version};
use d2k_translate::keys;

/// A cached object of any kind.
#[derive(Clone)]
#[allow(missing_docs)]
pub enum Object {
    Deployment(Arc<Entry<Deployment>>),
    Job(Arc<Entry<Job>>),
    StatefulSet(Arc<Entry<StatefulSet>>),
    DaemonSet(Arc<Entry<DaemonSet>>),
    Pod(Arc<Entry<Pod>>),
    Service(Arc<Entry<Service>>),
    Claim(Arc<Entry<PersistentVolumeClaim>>),
    ConfigMap(Arc<Entry<ConfigMap>>),
}

/// One change of the namespace, in the order in which the watch of its kind gave it.
pub struct Change {
    /// The object as it is now, or as it was last if it is gone.
    pub object: Object,
    /// What the cache held before.
    pub previous: Option<Object>,
    /// The object is gone.
    pub deleted: bool,
    /// Found by the first list after start: not news.
    pub initial: bool,
}

/// A kind with a watch cache.
pub trait Cached:
    Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + serde::Serialize
    + Send
    + Sync
    + 'static
{
    /// The cache of this kind.
    fn cache(caches: &Caches) -> &Cache<Self>;
    /// Wraps an entry of this kind.
    fn object(entry: Arc<Entry<Self>>) -> Object;
    /// The group under which [`Cache::group`] finds the object: the container it belongs to.
    fn group(&self) -> Option<String> {
        self.meta().labels.as_ref()?.get(keys::CONTAINER).cloned()
    }
}

macro_rules! caches {
    ($($field:ident: $kind:ident as $variant:ident, $labels:expr;)*) => {
        /// The caches of all kinds.
        pub struct Caches {
            $(pub(crate) $field: Cache<$kind>,)*
            /// Counts changes of any kind.
            pub(crate) changed: watch::Sender<u64>,
        }

        impl Caches {
            fn new() -> Self {
                Self { $($field: Cache::default(),)* changed: watch::Sender::new(0) }
            }
        }

        $(impl Cached for $kind {
            fn cache(caches: &Caches) -> &Cache<Self> { &caches.$field }
            fn object(entry: Arc<Entry<Self>>) -> Object { Object::$variant(entry) }
        })*

        /// Starts one watch a kind; returns the tasks' readiness signals.
        fn start_all(feed: &Feed) -> Vec<tokio::sync::oneshot::Receiver<()>> {
            vec![$(feed.start::<$kind>($labels)),*]
        }
    };
}

caches! {
    deployments: Deployment as Deployment, None;
    jobs: Job as Job, None;
    stateful_sets: StatefulSet as StatefulSet, None;
    daemon_sets: DaemonSet as DaemonSet, None;
    pods: Pod as Pod, None;
    services: Service as Service, Some(keys::ROLE);
    claims: PersistentVolumeClaim as Claim, None;
    config_maps: ConfigMap as ConfigMap, Some("d2k.io/role in (network, image, registry)");
}

/// What a watch task needs.
#[derive(Clone)]
pub(super) struct Feed {
    client: Client,
    namespace: String,
    inner: std::sync::Weak<super::Inner>,
    changes: mpsc::UnboundedSender<Change>,
    stopping: CancellationToken,
}

impl super::Cluster {
    pub(super) fn new(
        client: Client,
        namespace: String,
        server: String,
        version: String,
        reach: Option<Arc<dyn super::Reach>>,
        stopping: CancellationToken,
    ) -> (Self, Feed, mpsc::UnboundedReceiver<Change>) {
        let caches = Caches::new();
        let inner = Arc::new(super::Inner {
            client: client.clone(),
            namespace,
            server,
            version,
            caches,
            watches: super::watches::Watches::default(),
            reach,
        });
        let (changes, receiver) = mpsc::unbounded_channel();
        let feed = Feed {
            client,
            namespace: inner.namespace.clone(),
            inner: Arc::downgrade(&inner),
            changes,
            stopping,
        };
        (Self { inner }, feed, receiver)
    }
}

impl Feed {
    /// Fills all caches; returns when each has been listed once or was found to be forbidden.
    ///
    /// # Errors
    /// Some were not filled within `deadline`.
    pub(super) async fn start_and_sync(&self, deadline: Duration) -> Result<(), Elapsed> {
        let ready = futures::future::join_all(start_all(self));
        tokio::time::timeout(deadline, ready).await.map(|_| ())
    }

    fn start<K: Cached>(&self, labels: Option<&'static str>) -> tokio::sync::oneshot::Receiver<()> {
        let (ready, wait) = tokio::sync::oneshot::channel();
        let feed = self.clone();
        tokio::spawn(async move {
            let stopping = feed.stopping.clone();
            stopping.run_until_cancelled(feed.run::<K>(labels, ready)).await
        });
        wait
    }

    async fn run<K: Cached>(self, labels: Option<&'static str>, ready: tokio::sync::oneshot::Sender<()>) {
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut config = watcher::Config::default().any_semantic();
        if let Some(labels) = labels {
            config = config.labels(labels);
        }
        let mut events = watch_kind(api, config).backoff(super::watches::Soon::default()).boxed();
        let mut ready = Some(ready);
        let mut listing = BTreeSet::new();
        loop {
            match events.try_next().await {
                Ok(Some(event)) => {
                    let Some(inner) = self.inner.upgrade() else {
                        return;
                    };
                    inner.watches.works(&K::kind(&()));
                    let done = self.take(&inner.caches, event, &mut listing, ready.is_some());
                    if done && let Some(ready) = ready.take() {
                        let _ = ready.send(());
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    if is_unknown(&error) {
                        tracing::debug!(kind = %K::kind(&()), "the cluster does not have this kind");
                        let _ = ready.map(|ready| ready.send(()));
                        return;
                    }
                    tracing::warn!(kind = %K::kind(&()), %error, "watch interrupted; trying again");
                    let forbidden = error.to_string().contains("forbidden");
                    if forbidden && let Some(ready) = ready.take() {
                        let _ = ready.send(());
                    }
                    if !forbidden && self.inner.upgrade().is_some_and(|i| i.watches.broke(&K::kind(&()))) {
                        tokio::spawn(self.clone().await_answer());
                    }
                }
            }
        }
    }

    /// Asks the API server until it answers.
    async fn await_answer(self) {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let asked = tokio::time::timeout(Duration::from_secs(5), self.client.apiserver_version()).await;
            let Some(inner) = self.inner.upgrade() else { return };
            if matches!(asked, Ok(Ok(_))) {
                inner.watches.all_work();
                return;
            }
        }
    }

    /// Applies one watch event; true when the first list is complete.
    fn take<K: Cached>(
        &self,
        caches: &Caches,
        event: Event<K>,
        listing: &mut BTreeSet<String>,
        initial: bool,
    ) -> bool {
        match event {
            Event::Init => listing.clear(),
            Event::InitApply(object) => {
                listing.insert(object.meta().name.clone().unwrap_or_default());
                self.put(caches, object, initial);
            }
            Event::InitDone => {
                for name in K::cache(caches).names() {
                    if !listing.contains(&name) {
                        self.remove::<K>(caches, &name, None);
                    }
                }
                caches.changed.send_modify(|n| *n += 1);
                return true;
            }
            Event::Apply(object) => self.put(caches, object, false),
            Event::Delete(object) => {
                let name = object.meta().name.clone().unwrap_or_default();
                self.remove(caches, &name, Some(object));
            }
        }
        false
    }

    fn put<K: Cached>(&self, caches: &Caches, mut object: K, initial: bool) {
        object.meta_mut().managed_fields = None;
        let new = version(object.meta());
        let entry = Arc::new(Entry::new(object));
        let previous = K::cache(caches).put(entry.clone());
        let unchanged = previous.as_ref().is_some_and(|old| {
            old.object.meta().uid == entry.object.meta().uid && version(old.object.meta()) == new
        });
        if !unchanged {
            self.tell(K::object(entry), previous.map(K::object), false, initial);
            caches.changed.send_modify(|n| *n += 1);
        }
    }

    fn remove<K: Cached>(&self, caches: &Caches, name: &str, last: Option<K>) {
        let Some(previous) = K::cache(caches).remove(name) else {
            return;
        };
        let entry = last.map_or_else(|| previous.clone(), |object| Arc::new(Entry::new(object)));
        self.tell(K::object(entry), Some(K::object(previous)), true, false);
        caches.changed.send_modify(|n| *n += 1);
    }

    fn tell(&self, object: Object, previous: Option<Object>, deleted: bool, initial: bool) {
        // The receiver lives as long as the daemon; without it nobody wants the news.
        let _ = self.changes.send(Change { object, previous, deleted, initial });
    }
}

/// Whether a cluster does not serve the kind at all: a small one has no StatefulSets.
fn is_unknown(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => {
            status.code == 404 && status.message.contains("could not find the requested resource")
        }
        _ => false,
    }
}

impl super::Cluster {
    /// The cache of a kind.
    pub fn cache<K: Cached>(&self) -> &Cache<K> {
        K::cache(&self.inner.caches)
    }

    /// Waits until `look` finds something, looking again after every change of any cache.
    /// `None` when `deadline` passes first.
    pub async fn wait<T>(&self, deadline: Duration, look: impl FnMut() -> Option<T>) -> Option<T> {
        tokio::time::timeout(deadline, self.until(look)).await.ok()
    }

    /// Waits until `look` finds something, however long that takes.
    pub async fn until<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        let mut changed = self.inner.caches.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if let Some(found) = look() {
                return found;
            }
            if changed.changed().await.is_err() {
                // The sender is in `self`.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Wakes everyone who waits in [`wait`](Self::wait): something outside the caches changed
    /// that their look depends on.
    pub fn nudge(&self) {
        self.inner.caches.changed.send_modify(|n| *n += 1);
    }
}
