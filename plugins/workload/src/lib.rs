//! The default workloads: a run that must happen once is a Job, everything else a Deployment.

mod decide;

d2k_guest::policy! {
    wit: "../../wit",
    world: "workload-policy",
    hook: workload,
    name: "workload",
    summary: "Runs once what must run once as a Job, and keeps everything else running as a Deployment.",
    settings: [
        ("foreground", "job", "What a run in the foreground without restarts becomes: job or deployment."),
        ("auto-remove", "job", "What a run with --rm becomes: job or deployment."),
        ("helper", "auto", "Whether d2k's own program is in front of the process: auto, always or never."),
        ("refuse-privileged", "false", "Refuse what reaches beyond Docker's default (--privileged, namespaces of the node, added capabilities, no confinement): true or false."),
        ("rules.*.label", "", "The rule fits containers with this label: key, or key=value."),
        ("rules.*.image", "", "The rule fits containers of this image; * stands for any characters."),
        ("rules.*.name", "", "The rule fits containers of this name; * stands for any characters."),
        ("rules.*.kind", "", "job or deployment, where the rule fits; the first rule that fits counts."),
        ("rules.*.helper", "", "As above, where the rule fits."),
        ("rules.*.refuse", "", "Refuse containers that the rule fits, with this sentence."),
    ],
    check: decide::check,
    decide: decide::decide,
}
