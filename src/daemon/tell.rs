//! Publishing Docker events with the attributes that clients read: labels, `image`, `name`, and
//! what belongs to the action.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Daemon;
use super::bus::Event;
use super::decisions::pairs;
use d2k_policy::bindings::events::exports::d2k::policy::events::{self, Input};
use d2k_translate::record::Record;

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
            attributes: fitting(attributes),
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

/// Bytes of one attribute of an event. An exec's command or an image's label can be far longer, and
/// whoever reads events looks at its beginning.
const ATTRIBUTE_BYTES: usize = 8 << 10;
/// Bytes of all attributes: a policy may repeat them in three events of one reply (256 KiB).
const ATTRIBUTES_BYTES: usize = 64 << 10;

/// Attributes that a policy can hold and repeat: long values are cut, and say so. Where the names of
/// labels alone are too many, those with the longest are left out, so that `name` and `image` stay.
fn fitting(attributes: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let size = |limit: usize| attributes.iter().map(|(k, v)| k.len() + v.len().min(limit)).sum::<usize>();
    let limits = std::iter::successors(Some(ATTRIBUTE_BYTES), |limit| Some(limit / 2).filter(|l| *l >= 64));
    let limit = limits.into_iter().find(|limit| size(*limit) <= ATTRIBUTES_BYTES).unwrap_or(64);
    let mut left = ATTRIBUTES_BYTES;
    let mut cut = pairs(attributes);
    cut.iter_mut().for_each(|(_, value)| *value = shortened(std::mem::take(value), limit));
    cut.sort_by_key(|(name, _)| name.len());
    cut.retain(|(name, value)| {
        let fits = left.checked_sub(name.len() + value.len());
        left = fits.unwrap_or(0);
        fits.is_some()
    });
    cut.sort();
    cut
}

fn shortened(text: String, limit: usize) -> String {
    /// The end of a value that was cut.
    const MARK: &str = "...";
    if text.len() <= limit {
        return text;
    }
    let end = (0..=limit - MARK.len()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned() + MARK
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

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(all: &[(&str, String)]) -> BTreeMap<String, String> {
        all.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    #[test]
    fn ordinary_attributes_stay_as_they_are() {
        let all =
            attributes(&[("image", "nginx".into()), ("name", "web".into()), ("tier", "x".repeat(8 << 10))]);
        assert_eq!(fitting(&all), pairs(&all));
    }

    #[test]
    fn long_attributes_are_cut_so_that_a_policy_can_repeat_them() {
        let command = attributes(&[("command", "é".repeat(200_000)), ("name", "web".into())]);
        let cut = fitting(&command);
        assert!(cut[0].1.len() <= ATTRIBUTE_BYTES && cut[0].1.ends_with("é..."), "{}", cut[0].1.len());
        assert_eq!(cut[1], ("name".to_owned(), "web".to_owned()));
        let labels: BTreeMap<_, _> = (0..1000).map(|n| (format!("label-{n:04}"), "x".repeat(5000))).collect();
        let cut = fitting(&labels);
        assert!(cut.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>() <= ATTRIBUTES_BYTES);
        assert!(cut.len() > 800, "{}", cut.len());
    }
}
