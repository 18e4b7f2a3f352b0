//! Which watches are broken, and since when: what the caches show may be old then. A watch that
//! goes on says nothing until there is news, so the API server is asked itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kube::runtime::utils::Backoff;
use parking_lot::Mutex;

/// A watch that ends is begun again within a second or two; only then is it trouble.
const USUAL: Duration = Duration::from_secs(5);

/// The watches that are broken, by kind.
#[derive(Default)]
pub struct Watches(Mutex<BTreeMap<String, Instant>>);

impl Watches {
    /// A watch gave an event.
    pub fn works(&self, kind: &str) {
        self.0.lock().remove(kind);
    }

    /// A watch failed; true if it is the first one that does.
    pub fn broke(&self, kind: &str) -> bool {
        let mut broken = self.0.lock();
        let first = broken.is_empty();
        broken.entry(kind.to_owned()).or_insert_with(Instant::now);
        first
    }

    /// The API server answers again: every watch goes on within `Soon`.
    pub fn all_work(&self) {
        self.0.lock().clear();
    }

    /// The kind whose watch has been broken the longest, and for how many seconds, if that is long.
    pub fn broken(&self) -> Option<(String, u64)> {
        let broken = self.0.lock();
        let (kind, since) = broken.iter().min_by_key(|(_, since)| **since)?;
        let long = since.elapsed();
        (long >= USUAL).then(|| (kind.clone(), long.as_secs()))
    }
}

/// The pauses before a watch is tried again: short, since clients wait for what it tells.
#[derive(Default)]
pub struct Soon(u32);

const LONGEST: Duration = Duration::from_secs(3);

impl Iterator for Soon {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = Duration::from_millis(250).saturating_mul(1 << self.0.min(5)).min(LONGEST);
        self.0 = self.0.saturating_add(1);
        Some(pause.mul_f64(rand::random_range(0.75..1.25)))
    }
}

impl Backoff for Soon {
    fn reset(&mut self) {
        self.0 = 0;
    }
}
