//! Docker's event stream: what happens is published once, kept for a while within a number of bytes, and read by
//! all listeners from what is kept. A slow listener loses events of its own, never anybody else's, and holds none.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use tokio::sync::watch;

/// How many past events are kept for `--since`; dockerd keeps 256.
const EVENTS_MAX: usize = 4096;
/// How many bytes the kept events take together: each carries the labels of its object.
const EVENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// One Docker event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `container`, `volume`, `network`, `image` or `daemon`.
    pub kind: String,
    /// `start`, `die`, `exec_create: sh -c true`, …
    pub action: String,
    /// ID of the object, or its name where it has no ID.
    pub id: String,
    /// Attributes: labels, `name`, `image`, `exitCode`, …
    pub attributes: BTreeMap<String, String>,
    /// When it happened.
    pub time: Timestamp,
}

impl Event {
    /// Docker's JSON for the event. `legacy` adds the fields that API versions below 1.52 have.
    pub fn json(&self, legacy: bool) -> Value {
        let mut value = json!({
            "Type": self.kind,
            "Action": self.action,
            "Actor": {"ID": self.id, "Attributes": self.attributes},
            "scope": "local",
            "time": self.time.as_second(),
            "timeNano": i64::try_from(self.time.as_nanosecond()).unwrap_or(i64::MAX),
        });
        if legacy && let Some(fields) = value.as_object_mut() {
            fields.insert("status".into(), json!(self.action));
            if matches!(self.kind.as_str(), "container" | "image") {
                fields.insert("id".into(), json!(self.id));
            }
            if let Some(image) = self.attributes.get("image").filter(|_| self.kind == "container") {
                fields.insert("from".into(), json!(image));
            }
        }
        value
    }
}

impl Event {
    /// Bytes that the event takes in memory, about.
    fn size(&self) -> usize {
        let attributes: usize = self.attributes.iter().map(|(k, v)| k.len() + v.len() + 96).sum();
        self.kind.len() + self.action.len() + self.id.len() + attributes + 256
    }
}

/// Everybody's events.
pub struct Bus {
    /// Since when events are kept: what is older is history.
    pub began: Timestamp,
    past: Mutex<Past>,
    /// The number of the last event.
    last: watch::Sender<u64>,
    listeners: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Past {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// How many events have been published.
    count: u64,
}

impl Default for Bus {
    fn default() -> Self {
        Self {
            began: Timestamp::now(),
            past: Mutex::default(),
            last: watch::Sender::new(0),
            listeners: Arc::default(),
        }
    }
}

impl Bus {
    fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock()
    }

    /// Publishes an event. Times never go back, so that clients can sort and resume by them.
    pub fn publish(&self, mut event: Event) {
        let mut past = self.past();
        if let Some(last) = past.events.back()
            && event.time <= last.time
        {
            event.time = last.time + jiff::SignedDuration::from_nanos(1);
        }
        past.bytes += event.size();
        past.count += 1;
        past.events.push_back(Arc::new(event));
        // The newest stays, however large it is: its listeners have not seen it.
        while past.events.len() > EVENTS_MAX || (past.bytes > EVENT_BYTES_MAX && past.events.len() > 1) {
            let Some(oldest) = past.events.pop_front() else { break };
            past.bytes -= oldest.size();
        }
        self.last.send_replace(past.count);
    }

    /// The kept events, oldest first, and the listener for those that follow them.
    pub fn subscribe(&self) -> (Vec<Arc<Event>>, Listener) {
        let past = self.past();
        self.listeners.fetch_add(1, Ordering::Relaxed);
        let listener =
            Listener { seen: past.count, last: self.last.subscribe(), listeners: self.listeners.clone() };
        (past.events.iter().cloned().collect(), listener)
    }

    /// The next event of a listener, and how many it has lost before.
    pub async fn next(&self, listener: &mut Listener) -> (Arc<Event>, u64) {
        loop {
            {
                let past = self.past();
                let kept = past.count - past.events.len() as u64;
                let lost = kept.saturating_sub(listener.seen);
                let at = usize::try_from(listener.seen.max(kept) - kept).unwrap_or(usize::MAX);
                if let Some(event) = past.events.get(at) {
                    listener.seen = kept + at as u64 + 1;
                    return (event.clone(), lost);
                }
                listener.last.mark_unchanged();
            }
            // The sender lives as long as this.
            let _ = listener.last.changed().await;
        }
    }

    /// How many clients listen.
    pub fn listeners(&self) -> usize {
        self.listeners.load(Ordering::Relaxed)
    }
}

/// A place in the stream of events.
#[derive(Debug)]
pub struct Listener {
    seen: u64,
    last: watch::Receiver<u64>,
    listeners: Arc<AtomicUsize>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.listeners.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(action: &str, second: i64) -> Event {
        let time = Timestamp::from_second(second).unwrap();
        Event {
            kind: "container".into(),
            action: action.into(),
            id: "a".into(),
            attributes: BTreeMap::new(),
            time,
        }
    }

    #[tokio::test]
    async fn a_listener_sees_the_past_once_and_then_what_follows() {
        let bus = Bus::default();
        bus.publish(event("create", 1));
        let (past, mut live) = bus.subscribe();
        bus.publish(event("start", 2));
        assert_eq!(past.len(), 1);
        assert_eq!(bus.next(&mut live).await.0.action, "start");
        assert_eq!(bus.listeners(), 1);
        drop(live);
        assert_eq!(bus.listeners(), 0);
    }

    #[tokio::test]
    async fn a_listener_that_waits_gets_the_next_event() {
        let bus = Arc::new(Bus::default());
        let (_, mut live) = bus.subscribe();
        let own = bus.clone();
        let waiting = tokio::spawn(async move { own.next(&mut live).await.0.action.clone() });
        tokio::task::yield_now().await;
        bus.publish(event("start", 1));
        assert_eq!(waiting.await.unwrap(), "start");
    }

    #[tokio::test]
    async fn large_events_are_kept_within_a_number_of_bytes_and_a_slow_listener_holds_none() {
        let bus = Bus::default();
        let (_, mut slow) = bus.subscribe();
        for second in 0..100 {
            let mut large = event("create", second);
            large.attributes.insert("label".into(), "x".repeat(1024 * 1024));
            bus.publish(large);
        }
        let kept = bus.subscribe().0.len();
        assert!((6..=8).contains(&kept), "{kept}");
        let (first, lost) = bus.next(&mut slow).await;
        assert_eq!((first.time.as_second(), lost), (100 - kept as i64, 100 - kept as u64));
        let (second, lost) = bus.next(&mut slow).await;
        assert_eq!((second.time.as_second(), lost), (101 - kept as i64, 0));
    }

    #[test]
    fn times_never_go_back() {
        let bus = Bus::default();
        bus.publish(event("create", 5));
        bus.publish(event("start", 3));
        let (past, _live) = bus.subscribe();
        assert!(past[1].time > past[0].time);
    }

    #[test]
    fn old_clients_get_the_fields_that_they_crash_without() {
        let mut event = event("start", 1);
        event.attributes.insert("image".into(), "busybox".into());
        let legacy = event.json(true);
        assert_eq!(
            (&legacy["status"], &legacy["from"], &legacy["id"]),
            (&json!("start"), &json!("busybox"), &json!("a"))
        );
        assert!(event.json(false).get("status").is_none());
    }
}
