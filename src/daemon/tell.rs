//! Publishing Docker events with the attributes that clients read: labels, `image`, `name`, and
//! what belongs to the action.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Daemon;
use super::bus::Event;
use super::decisions::pairs;
use crate::policy::bindings::events::exports::d2k::policy::events::{self, Input};
use crate::translate::record::Record;

impl Daemon {
    /// Publishes an event of a container.
    pub(crate) fn tell<const N: usize>(&self, record: &Record, change: &str, extra: [(&str, String); N]) {
        for event in self.container_events(record, change, extra, Timestamp::now()) {
            self.publish(event);
        }
    }

    /// Publishes an event of another object.
    pub(crate) fn tell_of(
        &self,
        subject: &str,
        change: &str,
        id: &str,
        attributes: BTreeMap<String, String>,
    ) {
        for event in self.events_of(subject, change, id, &attributes, Timestamp::now()) {
            self.publish(event);
        }
    }

    /// The events of a change of a container.
    pub(crate) fn container_events<const N: usize>(
        &self,
        record: &Record,
        change: &str,
        extra: [(&str, String); N],
        time: Timestamp,
    ) -> Vec<Event> {
        let mut attributes = record.docker_labels();
        attributes.insert("image".into(), record.body.image.clone().unwrap_or_default());
        attributes.insert("name".into(), record.name.clone());
        attributes.extend(extra.map(|(key, value)| (key.to_owned(), value)));
        self.events_of("container", change, &record.id, &attributes, time)
    }

    /// Docker's events of a change, as the policies word them. A policy that fails is an operator's
    /// trouble, not a reason for clients to miss what they wait for: the next one is asked.
    pub(crate) fn events_of(
        &self,
        subject: &str,
        change: &str,
        id: &str,
        attributes: &BTreeMap<String, String>,
        time: Timestamp,
    ) -> Vec<Event> {
        let input = Input {
            subject: subject.to_owned(),
            change: change.to_owned(),
            object_kind: object_kind(subject).to_owned(),
            id: id.to_owned(),
            attributes: pairs(attributes),
            extra: Vec::new(),
        };
        let decided = match self.policies.current().event(&input) {
            Ok(decided) => decided.plan.events,
            Err(fault) => {
                tracing::warn!(subject, change, error = fault.message, "an event is lost");
                Vec::new()
            }
        };
        let event = |event: events::Event| Event {
            kind: event.kind,
            action: event.action,
            id: id.to_owned(),
            attributes: event.attributes.into_iter().collect(),
            time,
        };
        decided.into_iter().map(event).collect()
    }

    fn publish(&self, event: Event) {
        tracing::debug!(kind = event.kind, action = %event.action, id = %event.id, "event");
        self.events.publish(event);
    }
}

/// The kind of object behind what Docker's events are about.
fn object_kind(subject: &str) -> &'static str {
    match subject {
        "container" => "Deployment",
        "volume" => "PersistentVolumeClaim",
        "network" => "Service",
        "image" => "ConfigMap",
        _ => "",
    }
}
