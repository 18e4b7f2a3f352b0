//! Which watches are broken, and since when: what the caches show may be old then.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A watch that ends is begun again within a second or two; only then is it trouble.
const USUAL: Duration = Duration::from_secs(5);

/// The watches that are broken, by kind.
#[derive(Default)]
pub struct Watches(Mutex<BTreeMap<String, Instant>>);

impl Watches {
    /// A watch gave an event.
    pub fn works(&self, kind: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(kind);
    }

    /// A watch failed.
    pub fn broke(&self, kind: &str) {
        let mut broken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        broken.entry(kind.to_owned()).or_insert_with(Instant::now);
    }

    /// The kind whose watch has been broken the longest, and for how many seconds, if that is long.
    pub fn broken(&self) -> Option<(String, u64)> {
        let broken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (kind, since) = broken.iter().min_by_key(|(_, since)| **since)?;
        let long = since.elapsed();
        (long >= USUAL).then(|| (kind.clone(), long.as_secs()))
    }
}
