//! One lock a container, so that start, stop and remove of the same container follow one another,
//! and the reservation of Docker names while a create is under way.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

/// The locks in use.
#[derive(Default)]
pub struct Locks {
    containers: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    names: Mutex<HashSet<String>>,
}

impl Locks {
    /// Waits for the lock of a container.
    pub async fn container(&self, id: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut all = self.containers.lock();
            // Locks that nobody holds or waits for are dropped here, so the map stays small.
            all.retain(|_, lock| Arc::strong_count(lock) > 1);
            all.entry(id.to_owned()).or_default().clone()
        };
        lock.lock_owned().await
    }

    /// Reserves a Docker name until the guard is dropped; `None` if it is reserved.
    pub fn name(self: &Locks, name: &str) -> Option<NameGuard<'_>> {
        let fresh = self.names.lock().insert(name.to_owned());
        fresh.then(|| NameGuard { locks: self, name: name.to_owned() })
    }
}

/// A reserved name.
pub struct NameGuard<'a> {
    locks: &'a Locks,
    name: String,
}

impl Drop for NameGuard<'_> {
    fn drop(&mut self) {
        self.locks.names.lock().remove(&self.name);
    }
}
