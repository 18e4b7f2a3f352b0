//! Docker's event stream: what happens is published once, kept for a while, and sent to whoever
//! listens. A slow listener loses events of its own, never anybody else's.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::broadcast;

/// How many past events are kept for `--since`; dockerd keeps 256.
const KEPT: usize = 4096;
/// How many events a listener may be behind.
const BEHIND: usize = 4096;

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

/// Everybody's events.
pub struct Bus {
    /// Since when events are kept: what is older is history.
    pub began: Timestamp,
    past: Mutex<VecDeque<Arc<Event>>>,
    live: broadcast::Sender<Arc<Event>>,
}

impl Default for Bus {
    fn default() -> Self {
        Self { began: Timestamp::now(), past: Mutex::default(), live: broadcast::Sender::new(BEHIND) }
    }
}

impl Bus {
    /// Publishes an event. Times never go back, so that clients can sort and resume by them.
    pub fn publish(&self, mut event: Event) {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = past.back()
            && event.time <= last.time
        {
            event.time = last.time + jiff::SignedDuration::from_nanos(1);
        }
        let event = Arc::new(event);
        if past.len() >= KEPT {
            past.pop_front();
        }
        past.push_back(event.clone());
        // Sent under the lock: history and live stream meet without gap or repetition.
        let _ = self.live.send(event);
    }

    /// The kept events, oldest first, and the stream of those that follow them.
    pub fn subscribe(&self) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        (past.iter().cloned().collect(), self.live.subscribe())
    }

    /// How many clients listen.
    pub fn listeners(&self) -> usize {
        self.live.receiver_count()
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
        assert_eq!(live.recv().await.unwrap().action, "start");
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
