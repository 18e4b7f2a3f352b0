//! The watch cache of one kind: every object of the namespace by name, kept by a single task.
//! Entries carry a slot for what readers derive from the object, so it is derived once.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use super::Cached;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// One cached object.
pub struct Entry<K> {
    /// The object as the API server sent it, without managed fields.
    pub object: Arc<K>,
    memo: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl<K> Entry<K> {
    /// Wraps an object.
    pub fn new(object: K) -> Self {
        Self { object: Arc::new(object), memo: OnceLock::new() }
    }

    /// What `derive` makes of the object, computed on the first call and kept with the entry.
    /// All callers of one entry must ask for the same type; another type is derived anew.
    pub fn memo<T: Send + Sync + 'static>(&self, derive: impl Fn(&K) -> T) -> Arc<T> {
        let kept = self.memo.get_or_init(|| Arc::new(derive(&self.object))).clone();
        kept.downcast::<T>().unwrap_or_else(|_| Arc::new(derive(&self.object)))
    }
}

/// Every object of one kind, by name.
pub struct Cache<K> {
    state: RwLock<State<K>>,
}

struct State<K> {
    objects: BTreeMap<String, Arc<Entry<K>>>,
    /// Names of the objects of a group, so that a container's Pods are found without a scan.
    groups: HashMap<String, Vec<String>>,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self { state: RwLock::new(State { objects: BTreeMap::new(), groups: HashMap::new() }) }
    }
}

impl<K: Cached> Cache<K> {
    fn read(&self) -> RwLockReadGuard<'_, State<K>> {
        self.state.read()
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<K>> {
        self.state.write()
    }

    /// The object of this name.
    pub fn get(&self, name: &str) -> Option<Arc<Entry<K>>> {
        self.read().objects.get(name).cloned()
    }

    /// All objects, by name.
    pub fn all(&self) -> Vec<Arc<Entry<K>>> {
        self.read().objects.values().cloned().collect()
    }

    /// The objects of a group ([`Cached::group`]).
    pub fn group(&self, group: &str) -> Vec<Arc<Entry<K>>> {
        let state = self.read();
        let names = state.groups.get(group).map(Vec::as_slice).unwrap_or_default();
        names.iter().filter_map(|name| state.objects.get(name).cloned()).collect()
    }

    /// Whether the cache is at least as new as this version of an object, or newer than its end.
    pub(crate) fn holds(&self, meta: &ObjectMeta) -> bool {
        let Some(name) = meta.name.as_deref() else {
            return true;
        };
        self.get(name).is_some_and(|entry| {
            let cached = entry.object.meta();
            cached.uid != meta.uid || version(cached) >= version(meta)
        })
    }

    pub(crate) fn put(&self, entry: Arc<Entry<K>>) -> Option<Arc<Entry<K>>> {
        let name = entry.object.meta().name.clone().unwrap_or_default();
        let mut state = self.write();
        if let Some(group) = entry.object.group() {
            let names = state.groups.entry(group).or_default();
            if !names.contains(&name) {
                names.push(name.clone());
            }
        }
        state.objects.insert(name, entry)
    }

    pub(crate) fn remove(&self, name: &str) -> Option<Arc<Entry<K>>> {
        let mut state = self.write();
        let removed = state.objects.remove(name)?;
        if let Some(group) = removed.object.group()
            && let Some(names) = state.groups.get_mut(&group)
        {
            names.retain(|other| other != name);
            if names.is_empty() {
                state.groups.remove(&group);
            }
        }
        Some(removed)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.read().objects.keys().cloned().collect()
    }
}

/// Resource versions of one resource are comparable integers (KEP-5504, stable in Kubernetes 1.35;
/// true of every etcd-backed server before).
pub(crate) fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
}
