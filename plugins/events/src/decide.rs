//! Which of Docker's events a change is.

use d2k_guest::{Settings, name_fits};

use crate::api::{Event, Input, Plan, Refusal};

/// Changes whose event has a name of its own; the others have the name of the change.
const CONTAINER: [(&str, &str); 26] = [
    ("created", "create"),
    ("attached", "attach"),
    ("detached", "detach"),
    ("started", "start"),
    ("signalled", "kill"),
    ("ended", "die"),
    ("out-of-memory", "oom"),
    ("stopped", "stop"),
    ("restarted", "restart"),
    ("renamed", "rename"),
    ("updated", "update"),
    ("resized", "resize"),
    ("copied-in", "extract-to-dir"),
    ("copied-out", "archive-path"),
    ("exported", "export"),
    ("listed-processes", "top"),
    ("paused", "pause"),
    ("unpaused", "unpause"),
    ("removed", "destroy"),
    ("exec-ended", "exec_die"),
    ("exec-detached", "exec_detach"),
    ("committed", "commit"),
    // With what follows the colon from an attribute.
    ("exec-created", "exec_create: "),
    ("exec-started", "exec_start: "),
    ("health-changed", "health_status: "),
    ("pruned", "prune"),
];
const VOLUME: [(&str, &str); 4] =
    [("created", "create"), ("mounted", "mount"), ("unmounted", "unmount"), ("removed", "destroy")];
const NETWORK: [(&str, &str); 4] =
    [("created", "create"), ("joined", "connect"), ("left", "disconnect"), ("removed", "destroy")];
const IMAGE: [(&str, &str); 4] =
    [("pulled", "pull"), ("tagged", "tag"), ("untagged", "untag"), ("removed", "delete")];
const DAEMON: [(&str, &str); 1] = [("reloaded", "reload")];

/// The attributes that become part of an action.
const IN_ACTION: [&str; 2] = ["command", "status"];

pub fn check(settings: &Settings) -> Vec<(String, String)> {
    let empty = |(name, value): (&str, &str)| {
        value
            .is_empty()
            .then(|| (name.to_owned(), "an event to drop, such as exec_start or network/*".to_owned()))
    };
    settings.iter().filter_map(empty).collect()
}

pub fn decide(input: &Input, settings: &Settings) -> Result<Option<Plan>, Refusal> {
    let events = event(input).into_iter().filter(|event| !dropped(event, settings)).collect();
    Ok(Some(Plan { events, extra: Vec::new() }))
}

fn event(input: &Input) -> Option<Event> {
    let table: &[(&str, &str)] = match input.subject.as_str() {
        "container" => &CONTAINER,
        "volume" => &VOLUME,
        "network" => &NETWORK,
        "image" => &IMAGE,
        "daemon" => &DAEMON,
        _ => return None,
    };
    let (_, action) = table.iter().find(|(change, _)| *change == input.change)?;
    let mut attributes = input.attributes.clone();
    let mut action = (*action).to_owned();
    if action.ends_with(": ") {
        let named = |(name, _): &(String, String)| IN_ACTION.contains(&name.as_str());
        if let Some(at) = attributes.iter().position(named) {
            action.push_str(&attributes.remove(at).1);
        }
    }
    Some(Event { kind: input.subject.clone(), action, attributes, extra: Vec::new() })
}

fn dropped(event: &Event, settings: &Settings) -> bool {
    let action = event.action.split(": ").next().unwrap_or_default();
    settings.list("drop").iter().any(|pattern| match pattern.split_once('/') {
        Some((kind, pattern)) => kind == event.kind && name_fits(pattern, action),
        None => name_fits(pattern, action),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(
        subject: &str,
        change: &str,
        attributes: &[(&str, &str)],
        settings: &[(&str, &str)],
    ) -> Vec<Event> {
        let input = Input {
            subject: subject.into(),
            change: change.into(),
            object_kind: String::new(),
            id: "abc".into(),
            attributes: attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            extra: Vec::new(),
        };
        decide(&input, &Settings::of(settings)).unwrap().unwrap().events
    }

    #[test]
    fn changes_have_dockers_names() {
        assert_eq!(told("container", "ended", &[("exitCode", "1")], &[])[0].action, "die");
        assert_eq!(told("network", "joined", &[], &[])[0].action, "connect");
        assert_eq!(told("image", "removed", &[], &[])[0].action, "delete");
        assert_eq!(told("container", "dreamt", &[], &[]), []);
    }

    #[test]
    fn a_command_and_a_health_status_are_part_of_the_action() {
        let attributes = [("command", "sh -c true"), ("execID", "x")];
        let event = &told("container", "exec-created", &attributes, &[])[0];
        assert_eq!(event.action, "exec_create: sh -c true");
        assert_eq!(event.attributes, [("execID".to_owned(), "x".to_owned())]);
        let status = told("container", "health-changed", &[("status", "healthy")], &[]);
        assert_eq!(status[0].action, "health_status: healthy");
    }

    #[test]
    fn settings_drop_events() {
        let settings = [("drop.0", "exec_*"), ("drop.1", "network/*")];
        assert_eq!(told("container", "exec-ended", &[], &settings), []);
        assert_eq!(told("network", "created", &[], &settings), []);
        assert_eq!(told("volume", "created", &[], &settings).len(), 1);
    }
}
