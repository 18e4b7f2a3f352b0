//! The default events: each change is the event that Docker's clients know it by.

mod decide;

d2k_guest::policy! {
    wit: "../../wit",
    world: "events-policy",
    hook: events,
    name: "events",
    summary: "Words changes as Docker's events; settings drop some.",
    settings: [
        ("replay", "on-request", "When docker events begins with the past: on-request (with --since or --until, as Docker) or always."),
        ("drop.*", "", "Events that are not sent: an action such as exec_start, or kind/action such as network/*; * stands for any characters."),
    ],
    check: decide::check,
    decide: decide::decide,
}
