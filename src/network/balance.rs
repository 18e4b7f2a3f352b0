//! Which endpoint of a Service the next connection goes to: round robin, or the one that the client
//! had before where the Service asks for that.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::services::Target;

/// Clients whose endpoint is remembered; the ones not seen for longest are forgotten first.
const REMEMBERED_MAX: usize = 4096;
/// For so long an endpoint counts as new: a Pod without a readiness probe is ready when its program starts, and not only when it
/// listens.
const NEW: Duration = Duration::from_secs(5);

/// The endpoints of a listener, with what is remembered about them.
#[derive(Debug)]
pub(super) struct Balance {
    pub target: Target,
    /// Since when each endpoint is one.
    since: HashMap<SocketAddr, Instant>,
    next: AtomicUsize,
    remembered: Mutex<HashMap<IpAddr, (SocketAddr, Instant)>>,
}

impl Balance {
    pub fn new(target: Target) -> Self {
        let since = since(&target, &HashMap::new());
        Self { target, since, next: AtomicUsize::new(0), remembered: Mutex::default() }
    }

    /// The same with other endpoints: the turn goes on and clients stay where they are.
    pub fn with(&self, target: Target) -> Self {
        let remembered = self.remembered.lock().clone();
        let next = AtomicUsize::new(self.next.load(Ordering::Relaxed));
        let since = since(&target, &self.since);
        Self { target, since, next, remembered: Mutex::new(remembered) }
    }

    /// Whether an endpoint is so new that its program may not listen yet.
    pub fn has_new(&self) -> bool {
        self.since.values().any(|since| since.elapsed() < NEW)
    }

    /// The endpoints in the order in which they are to be tried for a client.
    pub fn order(&self, client: IpAddr) -> Vec<SocketAddr> {
        let mut endpoints = self.target.endpoints.clone();
        if endpoints.is_empty() {
            return endpoints;
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % endpoints.len();
        endpoints.rotate_left(turn);
        let Some(affinity) = self.target.affinity else { return endpoints };
        let remembered = self.remembered.lock();
        if let Some((had, seen)) = remembered.get(&client)
            && seen.elapsed() < affinity
            && let Some(at) = endpoints.iter().position(|endpoint| endpoint == had)
        {
            endpoints.rotate_left(at);
        }
        endpoints
    }

    /// Remembers where a client's connection went.
    pub fn went(&self, client: IpAddr, endpoint: SocketAddr) {
        if self.target.affinity.is_none() {
            return;
        }
        let mut remembered = self.remembered.lock();
        if remembered.len() >= REMEMBERED_MAX && !remembered.contains_key(&client) {
            let oldest = remembered.iter().min_by_key(|(_, (_, seen))| *seen).map(|(client, _)| *client);
            oldest.map(|client| remembered.remove(&client));
        }
        remembered.insert(client, (endpoint, Instant::now()));
    }
}

fn since(target: &Target, before: &HashMap<SocketAddr, Instant>) -> HashMap<SocketAddr, Instant> {
    let now = Instant::now();
    target.endpoints.iter().map(|endpoint| (*endpoint, *before.get(endpoint).unwrap_or(&now))).collect()
}
