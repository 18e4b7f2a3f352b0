//! The default volumes: what was asked for, else 1Gi of the cluster's default class, for one node. Binds
//! are mounted on the embedded cluster and refused on others.

mod bind;
mod decide;

d2k_guest::policy! {
    wit: "../../wit",
    world: "volumes-policy",
    hook: volumes,
    name: "volumes",
    summary: "Makes claims of the size, class and mode that were asked for, else of 1Gi for one node; allows or refuses binds.",
    settings: [
        ("size", "1Gi", "Size of a volume for which none is asked."),
        ("storage-class", "", "Storage class of a volume for which none is asked; the cluster's default if empty."),
        ("access-mode", "ReadWriteOnce", "Access mode of a volume for which none is asked."),
        ("max-size", "", "The largest volume; larger ones are refused."),
        ("allow-classes.*", "", "The storage classes that may be asked for; all if none is written."),
        ("bind", "", "What a bind becomes: host, the path of the machine, or refuse; if not written, host on the embedded cluster and refuse on others."),
        ("bind-roots.*", "", "Folders whose content may be bound, without links in them; all if none is written, on the embedded cluster only."),
        ("bind-refused.*", "", "Folders of which no bind may show anything."),
        ("rules.*.label", "", "The rule fits volumes with this label: key, or key=value."),
        ("rules.*.name", "", "The rule fits volumes of this name; * stands for any characters."),
        ("rules.*.size", "", "As above, where the rule fits; the first rule that fits counts."),
        ("rules.*.storage-class", "", "As above, where the rule fits."),
        ("rules.*.access-mode", "", "As above, where the rule fits."),
        ("rules.*.max-size", "", "As above, where the rule fits."),
    ],
    check: decide::check,
    decide: decide::decide,
}
