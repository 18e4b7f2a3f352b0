//! The fields of the container's own configuration (the top level of a create request).

use super::{Field, mapped, noop, warned};

pub(super) const FIELDS: &[Field] = &[
    mapped(
        "Image",
        "`image`, under the full name that the registry was asked with; pulled if the node lacks it",
    ),
    mapped("Cmd", "`args`, byte for byte (`$(` is escaped); `command` where the entrypoint is taken away"),
    mapped("Entrypoint", "`command`; `[\"\"]` takes the image's entrypoint away"),
    mapped(
        "Env",
        "`env`, byte for byte; a name without a value takes the image's away (the helper; else warning)",
    ),
    mapped("WorkingDir", "`workingDir`"),
    mapped(
        "User",
        "`runAsUser`, `runAsGroup`: numbers or `root`; another name by the helper, which begins as root",
    ),
    mapped("Hostname", "`hostname`, as one lower-case DNS label (warning if that changes it)"),
    warned(
        "Domainname",
        "a Pod has no domain name of its own; containers find each other by the names of their networks",
    ),
    mapped("AttachStdin", "remembered; attach works before and after the start"),
    mapped("AttachStdout", "remembered; with `--rm` or no restart policy it makes the container a Job"),
    mapped("AttachStderr", "remembered, as AttachStdout"),
    mapped("Tty", "`tty`"),
    mapped("OpenStdin", "`stdin`"),
    mapped("StdinOnce", "`stdinOnce`"),
    mapped("ExposedPorts", "`ports` of the container; published with `-P`"),
    mapped("Volumes", "a PersistentVolumeClaim each, removed with `rm -v` and `--rm`"),
    mapped("Healthcheck", "run by d2k inside the container, with Docker's states and log"),
    mapped("Labels", "annotations, byte for byte"),
    mapped("StopTimeout", "`terminationGracePeriodSeconds`; 10 if not set"),
    mapped(
        "StopSignal",
        "the image's own is what Kubernetes sends; another one is sent by exec (warning without the helper)",
    ),
    noop("Shell", "only `docker build` uses it; inspect shows it"),
    noop("OnBuild", "only `docker build` uses it; inspect shows it"),
    noop("ArgsEscaped", "for Windows images; Docker ignores it on Linux"),
    noop("name", "some clients repeat the query in the body; the query counts"),
    noop("platform", "some clients repeat the query in the body; the query counts"),
    warned("NetworkDisabled", "a Pod always has a network; a NetworkPolicy can close it"),
    warned("MacAddress", "the cluster's network gives a Pod its address"),
];
