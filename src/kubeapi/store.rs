//! Where objects live: memory, with one counter of versions, a bounded log of changes for watches,
//! and a journal on disk. Every write is one step under one lock, so versions have no gaps for readers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;
use tokio::sync::watch;

use super::changes::{Action, Change, Changes};
use super::journal::Journal;
use super::kinds::{KINDS, Kind};
use super::meta;
use super::packed::{self, Wire};
use super::status::{Result, Status};

/// How much is kept, and how safely.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Length from which on the journal is shortened when most of it is history, in bytes.
    pub journal: u64,
    /// Length of the changes of one kind that a watch may come back for, in bytes of their objects' text.
    pub changes: usize,
    /// Number of Events, the newest ones.
    pub events: usize,
    /// Number of connections to the API server at once.
    pub connections: usize,
    /// Whether a client's write is answered only when it is on the disk, so that it outlives the machine's power and not only the
    /// process.
    pub sync: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { journal: 32 << 20, changes: 512 << 10, events: 1000, connections: 2000, sync: false }
    }
}

/// What a write makes of an object.
#[derive(Debug)]
pub enum Write {
    /// It is this now.
    Put(Value),
    /// It is this now, if that can be written down: a client has asked for it, and relies on it.
    Make(Value),
    /// It is gone; this is what it was last.
    Remove(Value),
    /// It stays.
    Keep,
}

/// All objects.
pub struct Store {
    inner: Mutex<Inner>,
    limits: Limits,
    /// The version up to which all is on the disk; who waits for more holds it.
    synced: tokio::sync::Mutex<u64>,
    /// The newest version of each kind.
    newest: HashMap<&'static str, watch::Sender<u64>>,
}

/// Tells that objects of some kinds have changed.
pub struct Bell(Vec<watch::Receiver<u64>>);

impl Bell {
    /// What has changed until now is no news.
    pub fn hush(&mut self) {
        for newest in &mut self.0 {
            newest.mark_unchanged();
        }
    }

    /// Waits for the next change; `false` if the store is gone.
    pub async fn rings(&mut self) -> bool {
        let all = self.0.iter_mut().map(|newest| Box::pin(newest.changed()));
        futures::future::select_all(all).await.0.is_ok()
    }
}

struct Inner {
    version: u64,
    kinds: HashMap<&'static str, Objects>,
    journal: Option<Journal>,
}

struct Objects {
    /// Whether they are in the journal.
    durable: bool,
    all: BTreeMap<(String, String), Arc<Value>>,
    changes: Changes,
}

/// A list as it was at one version.
pub struct List {
    /// The objects, by namespace and name.
    pub items: Vec<Arc<Value>>,
    /// The version.
    pub version: u64,
}

impl Inner {
    /// Writes down what is not to be there otherwise.
    fn must_write(&mut self, text: &str, version: u64) -> Result<()> {
        self.tidy_journal();
        match &mut self.journal {
            Some(journal) => {
                journal.append_or_refuse(text, version).map_err(|error| Status::plain(error.to_string()))
            }
            None => Ok(()),
        }
    }

    fn tidy_journal(&mut self) {
        if let Some(journal) = &mut self.journal
            && journal.is_due()
        {
            let all = self.kinds.values().filter(|objects| objects.durable);
            let all = all.flat_map(|objects| objects.all.values().cloned());
            journal.compact(all.collect(), self.version);
        }
    }
}

impl Store {
    /// A store of what a journal holds; without one, in memory only.
    pub fn new(journal: Option<(Journal, Vec<Value>, u64)>, limits: Limits) -> Self {
        let none = |kind: &Kind| Objects {
            durable: kind.durable,
            all: BTreeMap::default(),
            changes: Changes::default(),
        };
        let mut kinds: HashMap<&'static str, Objects> =
            KINDS.iter().map(|kind| (kind.plural, none(kind))).collect();
        let (journal, objects, version) = match journal {
            Some((journal, objects, version)) => (Some(journal), objects, version),
            None => (None, Vec::new(), 0),
        };
        for mut object in objects {
            packed::pack(&mut object);
            let kind =
                super::kinds::of(meta::string(&object, &["apiVersion"]), meta::string(&object, &["kind"]));
            if let Some(objects) = kind.and_then(|k| kinds.get_mut(k.plural)) {
                let key = (meta::namespace(&object).to_owned(), meta::name(&object).to_owned());
                objects.all.insert(key, Arc::new(object));
            }
        }
        // What was before this process began cannot be watched from.
        let version = version.max(1);
        for objects in kinds.values_mut() {
            objects.changes = Changes::after(version.saturating_sub(1));
        }
        let newest = KINDS.iter().map(|kind| (kind.plural, watch::Sender::new(version))).collect();
        let inner = Mutex::new(Inner { version, kinds, journal });
        Self { inner, limits, synced: tokio::sync::Mutex::new(0), newest }
    }

    /// An empty one in memory, with the usual limits.
    #[cfg(test)]
    pub fn in_memory() -> Self {
        Self::new(None, Limits::default())
    }

    /// How much is kept.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Waits until all that was written is on the disk, if the limits ask for it. Those who wait at the same time share one sync.
    ///
    /// # Errors
    /// 500, why it is not there.
    pub async fn sync(&self) -> Result<()> {
        if !self.limits.sync {
            return Ok(());
        }
        let wanted = self.version();
        let mut synced = self.synced.lock().await;
        if *synced >= wanted {
            return Ok(());
        }
        let plain = |error: &dyn std::fmt::Display| Status::plain(error.to_string());
        let (file, version) = {
            let inner = self.lock();
            let file = inner.journal.as_ref().map(Journal::file).transpose();
            (file.map_err(|error| plain(&error))?, inner.version)
        };
        if let Some(file) = file {
            let done = tokio::task::spawn_blocking(move || file.sync_data()).await;
            done.map_err(|error| plain(&error))?.map_err(|error| plain(&error))?;
        }
        *synced = version;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// The newest version.
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// Tells of every change of these kinds, of which there is at least one.
    pub fn bell(&self, kinds: &[&Kind]) -> Bell {
        let newest = kinds.iter().filter_map(|kind| self.newest.get(kind.plural));
        Bell(newest.map(watch::Sender::subscribe).collect())
    }

    /// One object.
    pub fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let inner = self.lock();
        inner.kinds.get(kind.plural)?.all.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// All objects of a kind, of one namespace or of all (empty).
    pub fn list(&self, kind: &Kind, namespace: &str) -> List {
        let inner = self.lock();
        let all = inner.kinds.get(kind.plural).into_iter().flat_map(|objects| &objects.all);
        let items = all
            .filter(|((place, _), _)| namespace.is_empty() || place == namespace)
            .map(|(_, object)| object.clone())
            .collect();
        List { items, version: inner.version }
    }

    /// How many objects of a kind fit.
    pub fn count(&self, kind: &Kind, fits: impl Fn(&Value) -> bool) -> usize {
        let inner = self.lock();
        let all = inner.kinds.get(kind.plural).into_iter().flat_map(|objects| objects.all.values());
        all.filter(|object| fits(object)).count()
    }

    /// One step: what `change` makes of the object. The answer is the object after it (the last
    /// state of one that is gone), and whether it has changed.
    ///
    /// # Errors
    /// Those of `change`.
    pub fn write(
        &self,
        kind: &'static Kind,
        namespace: &str,
        name: &str,
        change: impl FnOnce(Option<&Arc<Value>>) -> Result<Write>,
    ) -> Result<Arc<Value>> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let Some(objects) = inner.kinds.get(kind.plural) else { return Err(Status::no_resource()) };
        let key = (namespace.to_owned(), name.to_owned());
        let previous = objects.all.get(&key).cloned();
        let wanted = change(previous.as_ref())?;
        let is_asked_for = matches!(wanted, Write::Make(_));
        let (action, mut object) = match (wanted, &previous) {
            (Write::Keep, Some(object)) => return Ok(object.clone()),
            (Write::Keep, None) => return Err(Status::not_found(kind, name)),
            (Write::Put(object) | Write::Make(object), Some(before)) if packed::same(&object, before) => {
                return Ok(before.clone());
            }
            (Write::Put(object) | Write::Make(object), Some(_)) => (Action::Modified, object),
            (Write::Put(object) | Write::Make(object), None) => (Action::Added, object),
            (Write::Remove(object), _) => (Action::Deleted, object),
        };
        let version = inner.version + 1;
        meta::set(&mut object, "resourceVersion", version.to_string());
        packed::pack(&mut object);
        let text = Wire::whole(&object).text();
        if is_asked_for && kind.durable {
            inner.must_write(&text, version)?;
        }
        inner.version = version;
        let object = Arc::new(object);
        let Some(objects) = inner.kinds.get_mut(kind.plural) else { return Err(Status::no_resource()) };
        match action {
            Action::Deleted => objects.all.remove(&key),
            _ => objects.all.insert(key, object.clone()),
        };
        if let (true, false, Some(journal)) = (kind.durable, is_asked_for, &mut inner.journal) {
            journal.append(action == Action::Deleted, &object, &text, version);
        }
        let change = Change { version, action, object: object.clone(), previous };
        objects.changes.note(change, text, self.limits.changes);
        inner.tidy_journal();
        drop(guard);
        if let Some(newest) = self.newest.get(kind.plural) {
            newest.send_modify(|now| *now = version.max(*now));
        }
        Ok(object)
    }

    /// The changes of a kind after a version, and the version that they lead to.
    ///
    /// # Errors
    /// 410 if the log does not go back that far.
    pub fn since(&self, kind: &Kind, version: u64) -> Result<(Vec<Change>, u64)> {
        let inner = self.lock();
        let Some(objects) = inner.kinds.get(kind.plural) else { return Err(Status::no_resource()) };
        let changes = objects.changes.since(version).map_err(|oldest| Status::expired(version, oldest))?;
        Ok((changes, inner.version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;
    use serde_json::json;

    #[test]
    fn what_a_client_makes_is_refused_where_it_cannot_be_written_down_and_the_rest_goes_on() {
        let folder = std::env::temp_dir().join(format!("d2k-store-full-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let journal = Journal::full(&folder.join("journal"));
        let store = Store::new(Some((journal, Vec::new(), 7)), Limits::default());
        let kind = &kinds::CONFIG_MAP;
        let object =
            |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
        let refused = store.write(kind, "", "asked", |_| Ok(Write::Make(object("asked")))).unwrap_err();
        let path = folder.join("journal");
        let words = "cannot be written: No space left on device (os error 28)";
        assert_eq!(refused, Status::plain(format!("the journal {} {words}", path.display())));
        assert!(store.get(kind, "", "asked").is_none() && store.version() == 7);
        store.write(kind, "", "own", |_| Ok(Write::Put(object("own")))).unwrap();
        assert_eq!(store.version(), 8);
        store.write(kind, "", "asked", |_| Ok(Write::Make(object("asked")))).unwrap_err();
        // There is space again: everything is written anew, and then this, too.
        std::thread::sleep(std::time::Duration::from_secs(2));
        store.write(kind, "", "asked", |_| Ok(Write::Make(object("asked")))).unwrap();
        let (_, objects, version) = Journal::open(&folder.join("journal"), 1 << 20).unwrap();
        assert_eq!((objects.len(), version), (2, 9));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[tokio::test]
    async fn a_write_that_cannot_be_synced_is_not_answered_as_done() {
        let folder = std::env::temp_dir().join(format!("d2k-store-sync-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("journal");
        let limits = Limits { sync: true, ..Limits::default() };
        let store = Store::new(Some(Journal::open(&path, 1 << 20).unwrap()), limits);
        let kind = &kinds::CONFIG_MAP;
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
        store.write(kind, "", "a", |_| Ok(Write::Make(object.clone()))).unwrap();
        store.sync().await.unwrap();
        assert_eq!(*store.synced.lock().await, store.version());
        // A disk that takes nothing any more: the cluster's own writes go on, and are not on it.
        let full = Store::new(Some((Journal::full(&path), Vec::new(), 1)), limits);
        full.write(kind, "", "a", |_| Ok(Write::Put(object))).unwrap();
        let words = "cannot be written: No space left on device (os error 28)";
        assert_eq!(
            full.sync().await.unwrap_err(),
            Status::plain(format!("the journal {} {words}", path.display()))
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn events_and_leases_are_not_in_the_journal_and_all_else_is() {
        let folder = std::env::temp_dir().join(format!("d2k-store-durable-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("journal");
        let store = Store::new(Some(Journal::open(&path, 1 << 20).unwrap()), Limits::default());
        for kind in KINDS {
            let object =
                json!({"apiVersion": kind.api_version(), "kind": kind.name, "metadata": {"name": "a"}});
            store.write(kind, "", "a", |_| Ok(Write::Make(object))).unwrap();
        }
        let (_, objects, _) = Journal::open(&path, 1 << 20).unwrap();
        let there: Vec<&str> = objects.iter().map(|object| meta::string(object, &["kind"])).collect();
        let missing: Vec<&str> =
            KINDS.iter().map(|kind| kind.name).filter(|name| !there.contains(name)).collect();
        assert_eq!(missing, ["Event", "Lease"]);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
