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
    // What follows the colon is an attribute.
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

/// The attribute that becomes part of an action. Attributes have the container's labels among them,
/// so that only the one that belongs to the change is taken.
const IN_ACTION: [(&str, &str); 3] =
    [("exec-created", "command"), ("exec-started", "command"), ("health-changed", "status")];

/// The values of `replay`. d2k reads the setting itself: which events a client gets first is not a question about one.
const REPLAY: [&str; 2] = ["on-request", "always"];

pub fn check(settings: &Settings) -> Vec<(String, String)> {
    let problem = |(name, value): (&str, &str)| {
        let words = match name {
            "replay" if REPLAY.contains(&value) => return None,
            "replay" => format!("\"{value}\" is neither {} nor {}", REPLAY[0], REPLAY[1]),
            _ if value.is_empty() => "an event to drop, such as exec_start or network/*".to_owned(),
            _ => return None,
        };
        Some((name.to_owned(), words))
    };
    settings.iter().filter_map(problem).collect()
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
    if let Some((_, part)) = IN_ACTION.iter().find(|(change, _)| *change == input.change)
        && let Some(at) = attributes.iter().position(|(name, _)| name == part)
    {
        action.push_str(&attributes.remove(at).1);
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
        // The label `command` is the container's own.
        let attributes = [("command", "label"), ("status", "healthy")];
        let event = &told("container", "health-changed", &attributes, &[])[0];
        assert_eq!(event.action, "health_status: healthy");
        assert_eq!(event.attributes, [("command".to_owned(), "label".to_owned())]);
    }

    /// The words in backticks of the sentence on `subject` in the documentation of `change`.
    fn changes_in_wit(subject: &str) -> Vec<String> {
        let wit = include_str!("../../../wit/events.wit");
        let words: String = wit.lines().map(|line| line.trim().trim_start_matches("///")).collect();
        let (_, rest) = words.split_once(&format!(" {subject}: `")).unwrap();
        let (sentence, _) = rest.split_once('.').unwrap();
        let quoted = |(at, word): (usize, &str)| (at % 2 == 0).then(|| word.to_owned());
        sentence.split('`').enumerate().filter_map(quoted).filter(|word| !word.is_empty()).collect()
    }

    #[test]
    fn every_change_of_the_interface_has_an_event() {
        let subjects = [
            ("container", "a container"),
            ("volume", "a volume"),
            ("network", "a network"),
            ("image", "an image"),
        ];
        for (subject, words) in subjects.into_iter().chain([("daemon", "the daemon")]) {
            let changes = changes_in_wit(words);
            assert!(!changes.is_empty(), "{subject}");
            for change in changes {
                let attributes = [("command", "x"), ("status", "x")];
                let events = told(subject, &change, &attributes, &[]);
                assert_eq!(events.len(), 1, "{subject} {change}");
                assert_eq!(events[0].kind, subject);
            }
        }
    }

    #[test]
    fn a_setting_that_means_nothing_is_a_problem() {
        let problems = |settings: &[(&str, &str)]| check(&Settings::of(settings)).len();
        assert_eq!(problems(&[("replay", "always"), ("drop.0", "top")]), 0);
        assert_eq!(problems(&[("replay", "sometimes"), ("drop.0", "")]), 2);
    }

    #[test]
    fn settings_drop_events() {
        let settings = [("drop.0", "exec_*"), ("drop.1", "network/*")];
        assert_eq!(told("container", "exec-ended", &[], &settings), []);
        assert_eq!(told("network", "created", &[], &settings), []);
        assert_eq!(told("volume", "created", &[], &settings).len(), 1);
    }
}
