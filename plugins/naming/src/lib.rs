//! The default names: a Docker name as a DNS label, with a short hash only where a character was lost.

mod decide;

d2k_guest::policy! {
    wit: "../../wit",
    world: "naming-policy",
    hook: naming,
    name: "naming",
    summary: "Names Kubernetes objects after Docker names, and never two alike.",
    settings: [
        ("prefix", "", "Put before every name: at most 20 of lower-case letters, digits and dashes, a letter first."),
    ],
    check: decide::check,
    decide: decide::decide,
}
