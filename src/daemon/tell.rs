//! Publishing Docker events with the attributes that clients read: labels, `image`, `name`, and
//! what belongs to the action.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Daemon;
use super::bus::Event;
use crate::translate::record::Record;

impl Daemon {
    /// Publishes an event of a container.
    pub(crate) fn tell<const N: usize>(&self, record: &Record, action: &str, extra: [(&str, String); N]) {
        self.publish(container_event(record, action, extra, Timestamp::now()));
    }

    /// Publishes an event of another object.
    pub(crate) fn tell_of(
        &self,
        kind: &'static str,
        action: &str,
        id: &str,
        attributes: BTreeMap<String, String>,
    ) {
        self.publish(Event {
            kind,
            action: action.into(),
            id: id.into(),
            attributes,
            time: Timestamp::now(),
        });
    }

    fn publish(&self, event: Event) {
        if self.policies.event(event.kind, &event.action) {
            tracing::debug!(kind = event.kind, action = %event.action, id = %event.id, "event");
            self.events.publish(event);
        }
    }
}

/// An event of a container.
pub(crate) fn container_event<const N: usize>(
    record: &Record,
    action: &str,
    extra: [(&str, String); N],
    time: Timestamp,
) -> Event {
    let mut attributes = record.docker_labels();
    attributes.insert("image".into(), record.body.image.clone().unwrap_or_default());
    attributes.insert("name".into(), record.name.clone());
    attributes.extend(extra.map(|(key, value)| (key.to_owned(), value)));
    Event { kind: "container", action: action.into(), id: record.id.clone(), attributes, time }
}
