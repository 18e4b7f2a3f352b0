//! The changes of one kind that a watch may come back for. Those who watch read the newest ones at once, so they are kept as
//! they are; older ones are kept as text, a tenth of the size.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;

use super::packed::{self, Wire};

/// Changes that are kept as they are.
const FRESH: usize = 32;
/// Changes that are kept.
const MOST: usize = 512;
/// Changes that are kept however long they are.
const LEAST: usize = 16;

/// What has happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Action {
    Added,
    Modified,
    Deleted,
}

/// One change.
#[derive(Debug, Clone)]
pub struct Change {
    /// Version that it made.
    pub version: u64,
    /// What has happened.
    pub action: Action,
    /// The object as it is, or as it was last.
    pub object: Arc<Value>,
    /// The object before.
    pub previous: Option<Arc<Value>>,
}

/// The newest changes.
#[derive(Default)]
pub struct Changes {
    all: VecDeque<Noted>,
    /// Length of their objects as text, in bytes.
    bytes: usize,
    /// Changes up to this version have been dropped.
    dropped: u64,
}

struct Noted {
    version: u64,
    action: Action,
    text: Arc<str>,
    previous: Option<Previous>,
    /// The object, while the change is fresh.
    object: Option<Arc<Value>>,
}

enum Previous {
    Object(Arc<Value>),
    Text(Arc<str>),
}

impl Changes {
    /// No changes, none of which before this version are known.
    pub fn after(version: u64) -> Self {
        Self { dropped: version, ..Self::default() }
    }

    /// Adds a change, of an object with this text; the oldest ones are dropped from a length of `most_bytes` on.
    pub fn note(&mut self, change: Change, text: String, most_bytes: usize) {
        let Change { version, action, object, previous } = change;
        self.bytes += text.len();
        let (text, previous) = (text.into(), previous.map(Previous::Object));
        self.all.push_back(Noted { version, action, text, previous, object: Some(object) });
        self.age();
        while self.all.len() > MOST || (self.bytes > most_bytes && self.all.len() > LEAST) {
            let Some(first) = self.all.pop_front() else { return };
            self.bytes -= first.text.len();
            self.dropped = first.version;
        }
    }

    /// Keeps as text what is not fresh any more.
    fn age(&mut self) {
        let Some(at) = self.all.len().checked_sub(FRESH + 1) else { return };
        let Some(aged) = self.all.get(at) else { return };
        let Some(Previous::Object(before)) = &aged.previous else {
            if let Some(aged) = self.all.get_mut(at) {
                aged.object = None;
            }
            return;
        };
        let version = super::meta::text(before, "resourceVersion").parse().unwrap_or(0);
        let known = self.all.binary_search_by_key(&version, |noted| noted.version).ok();
        let known = known.and_then(|at| self.all.get(at)).map(|noted| noted.text.clone());
        let text = known.unwrap_or_else(|| Wire::whole(before).text().into());
        if let Some(aged) = self.all.get_mut(at) {
            (aged.object, aged.previous) = (None, Some(Previous::Text(text)));
        }
    }

    /// Those after a version; none if it is too old, and then the version that they go back to.
    ///
    /// # Errors
    /// The oldest version that changes are known after.
    pub fn since(&self, version: u64) -> Result<Vec<Change>, u64> {
        if version < self.dropped {
            return Err(self.dropped);
        }
        let from = self.all.partition_point(|noted| noted.version <= version);
        Ok(self.all.range(from..).map(Noted::change).collect())
    }
}

impl Noted {
    fn change(&self) -> Change {
        let previous = self.previous.as_ref().map(|previous| match previous {
            Previous::Object(object) => object.clone(),
            Previous::Text(text) => read(text),
        });
        let object = self.object.clone().unwrap_or_else(|| read(&self.text));
        Change { version: self.version, action: self.action, object, previous }
    }
}

fn read(text: &str) -> Arc<Value> {
    // It was written from a value.
    let mut object = serde_json::from_str(text).unwrap_or_default();
    packed::pack(&mut object);
    Arc::new(object)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn version(number: u64) -> Arc<Value> {
        let mut object = json!({"metadata": {
            "name": "a", "resourceVersion": number.to_string(), "managedFields": [{"manager": "x"}],
        }});
        packed::pack(&mut object);
        Arc::new(object)
    }

    fn filled(count: u64, most_bytes: usize) -> Changes {
        let mut changes = Changes::after(9);
        for number in 10..10 + count {
            let (object, previous) = (version(number), version(number - 1));
            let text = Wire::whole(&object).text();
            let change =
                Change { version: number, action: Action::Modified, object, previous: Some(previous) };
            changes.note(change, text, most_bytes);
        }
        changes
    }

    #[test]
    fn old_changes_are_told_as_they_were() {
        let changes = filled(100, 1 << 20);
        let told = changes.since(9).unwrap();
        assert_eq!(told.len(), 100);
        for (change, number) in told.iter().zip(10..) {
            assert_eq!(change.version, number);
            assert_eq!(change.object, version(number));
            assert_eq!(change.previous, Some(version(number - 1)));
        }
        let fresh = changes.all.iter().filter(|noted| noted.object.is_some()).count();
        assert_eq!(fresh, FRESH);
        assert!(changes.since(109).unwrap().is_empty());
        assert_eq!(changes.since(8).unwrap_err(), 9);
    }

    #[test]
    fn the_oldest_are_dropped_by_their_length_and_number() {
        let changes = filled(100, 1000);
        assert_eq!(changes.all.len(), LEAST);
        assert_eq!(changes.since(93).unwrap().len(), LEAST);
        assert_eq!(changes.since(92).unwrap_err(), 93);
        assert_eq!(changes.bytes, changes.all.iter().map(|noted| noted.text.len()).sum::<usize>());
        assert_eq!(filled(600, 1 << 20).all.len(), MOST);
    }
}
