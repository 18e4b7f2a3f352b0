//! The helper in front of a container's process (`d2k-init`, in `src/init`): which containers need
//! it, which can have it, and the command line that puts it there.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, Container, PodSpec, SecretVolumeSource, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sha2::{Digest, Sha256};

use super::keys::{self, role};
use super::literal::literal;
use super::mounts::{self, MountPlan};
use super::record::{Helper, Record};
use super::request::argv;
use d2k_common::signal;

#[path = "../init/protocol.rs"]
pub mod protocol;

/// The helper's programs by architecture (`kubernetes.io/arch`), which is also the image's word for it.
const PROGRAMS: [(&str, &[u8]); 2] = [
    ("amd64", include_bytes!("../init/d2k-init-amd64")),
    ("arm64", include_bytes!("../init/d2k-init-arm64")),
];
/// The names of the ConfigMaps: a new program has a new name, so running Pods keep theirs.
static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let name = |(architecture, program): &(&str, &[u8])| {
        let digest = hex::encode(Sha256::digest(program));
        format!("d2k-init-{architecture}-{}", digest.get(..10).unwrap_or_default())
    };
    PROGRAMS.iter().map(name).collect()
});
/// The name of the volume, and of the program in the ConfigMap.
const NAME: &str = "d2k-init";
/// The name of the volume with files that were copied before the start.
const FILES_NAME: &str = "d2k-files";
/// How long a container that may run again waits for its reader, in seconds: without d2k it runs unread.
const PATIENCE: u32 = 10;

/// When the helper is used, as the `workload` policy has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Where the request needs it.
    Auto,
    /// Wherever it can be used.
    Always,
    /// Never.
    Never,
}

/// Why a request needs the helper, and what differs from Docker without it.
fn needs(record: &Record) -> Vec<(&'static str, &'static str)> {
    let host = record.host();
    let attached = record.is_attached();
    let kept: Vec<&String> = unset(record).collect();
    [
        (attached, "streams", "standard error arrives as standard output"),
        (
            record.open_stdin() || record.tty(),
            "terminal",
            "what is written before a client is attached comes from the log",
        ),
        (host.init == Some(true), "init", "the program runs as process 1 and must reap its children itself"),
        (record.runs_once(), "run once", "Kubernetes may start the process again before d2k can stop it"),
        (other_signal(record), "stop signal", "the stop signal is sent by the image's own kill command"),
        (record.has_named_user(), "user", "a user's name is not known"),
        (!kept.is_empty(), "environment", "variables of the image that were taken away are still there"),
        (mounts_volumes(record), "volumes", "an empty volume does not get the image's files and their owner"),
    ]
    .into_iter()
    .filter_map(|(needed, what, differs)| needed.then_some((what, differs)))
    .collect()
}

/// Whether a container mounts volumes that may need the image's files.
fn mounts_volumes(record: &Record) -> bool {
    let mounts = mounts::plan(&record.body, &record.image, &[]);
    mounts.is_ok_and(|mounts| mounts.plans.iter().any(MountPlan::takes_image_files))
}

fn other_signal(record: &Record) -> bool {
    let asked = record.body.stop_signal.as_deref().unwrap_or_default();
    let own = if record.image.stop_signal.is_empty() { "SIGTERM" } else { &record.image.stop_signal };
    !asked.is_empty() && signal::number(asked).ok() != signal::number(own).ok()
}

/// Variables of the image that `-e NAME` takes away.
fn unset(record: &Record) -> impl Iterator<Item = &String> {
    let known = |name: &String| {
        record.image.env.iter().any(|entry| entry.split_once('=').is_some_and(|(own, _)| own == name))
    };
    record.body.env.iter().flatten().filter(move |entry| !entry.contains('=') && known(entry))
}

/// Why a container cannot have the helper.
fn obstacle(record: &Record) -> Option<String> {
    let (entrypoint, command) = argv(&record.body, &record.image);
    let architecture = record.image.architecture.as_str();
    if record.image.synthesised || (entrypoint.is_empty() && command.is_empty()) {
        return Some("the image's entrypoint is not known, no registry has answered".to_owned());
    }
    if record.image.os != "linux" || !PROGRAMS.iter().any(|(known, _)| *known == architecture) {
        let (os, known) = (&record.image.os, PROGRAMS.map(|(name, _)| name).join(" and "));
        return Some(format!("the image is for {os}/{architecture}, and the helper for linux on {known}"));
    }
    if record.host().pid_mode.as_deref() == Some("host") {
        return Some("it would see the node's processes (--pid host)".to_owned());
    }
    None
}

/// Whether a container has the helper, and what differs where it needs it and cannot have it.
pub fn decide(record: &Record, wanted: Use, warnings: &mut Vec<String>) -> Option<Helper> {
    let needs = needs(record);
    let obstacle = match wanted {
        Use::Never => Some("the workload policy says helper: never".to_owned()),
        Use::Auto | Use::Always => obstacle(record),
    };
    if needs.is_empty() && wanted != Use::Always {
        return None;
    }
    if let Some(obstacle) = obstacle {
        if !needs.is_empty() {
            warnings.push(without(&obstacle, record));
        }
        return None;
    }
    let mut because: Vec<String> = needs.iter().map(|(what, _)| (*what).to_owned()).collect();
    if because.is_empty() {
        because.push("asked for by policy".to_owned());
    }
    Some(Helper { architecture: record.image.architecture.clone(), because })
}

/// What differs from Docker without the helper.
pub fn without(obstacle: &str, record: &Record) -> String {
    let differs: Vec<&str> = needs(record).into_iter().map(|(_, differs)| differs).collect();
    format!("the container runs without d2k's helper, since {obstacle}: {}", differs.join("; "))
}

/// The name of the ConfigMap with the helper for an architecture.
pub fn config_map_name(architecture: &str) -> String {
    let at = PROGRAMS.iter().position(|(known, _)| *known == architecture);
    at.and_then(|at| NAMES.get(at)).cloned().unwrap_or_default()
}

/// The ConfigMap with the helper for an architecture. It never changes: another program has another name.
pub fn config_map(architecture: &str) -> ConfigMap {
    let program = PROGRAMS.iter().find(|(known, _)| *known == architecture).map(|(_, program)| *program);
    let labels = [(keys::ROLE, role::HELPER), ("app.kubernetes.io/managed-by", "d2k")];
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(config_map_name(architecture)),
            labels: Some(labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
            ..ObjectMeta::default()
        },
        binary_data: program.map(|p| BTreeMap::from([(NAME.to_owned(), ByteString(p.to_vec()))])),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}

/// The ConfigMap that a Pod has its helper from.
pub fn used_by(spec: &PodSpec) -> Option<&str> {
    let volume = spec.volumes.iter().flatten().find(|volume| volume.name == NAME)?;
    volume.config_map.as_ref().map(|source| source.name.as_str())
}

/// Puts the helper in front of the process.
pub(super) fn apply(
    record: &Record,
    helper: &Helper,
    files: Option<&str>,
    container: &mut Container,
    spec: &mut PodSpec,
) {
    let (entrypoint, command) = argv(&record.body, &record.image);
    let mut line = vec![protocol::PATH.to_owned(), "run".to_owned()];
    line.extend(options(record));
    if let Some(secret) = files {
        line.push("--files".to_owned());
        mount_files(secret, container, spec);
    }
    line.push("--".to_owned());
    line.extend(entrypoint.iter().chain(&command).map(|word| literal(word)));
    container.command = Some(line);
    container.args = None;
    if record.waits() {
        // Leave to run comes in by it.
        container.stdin = Some(true);
        if !record.open_stdin() && !record.tty() {
            // containerd takes the other streams away with one that ends, where input may come more
            // than once (`ContainerIO.Attach`).
            container.stdin_once = Some(true);
        }
    }
    container.volume_mounts.get_or_insert_default().push(mount());
    spec.volumes.get_or_insert_default().push(Volume {
        name: NAME.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: config_map_name(&helper.architecture),
            default_mode: Some(0o555),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    });
    let nodes = spec.node_selector.get_or_insert_default();
    nodes.insert("kubernetes.io/arch".to_owned(), helper.architecture.clone());
}

/// The helper's place in a container.
pub(super) fn mount() -> VolumeMount {
    VolumeMount {
        name: NAME.to_owned(),
        mount_path: protocol::FOLDER.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

fn mount_files(secret: &str, container: &mut Container, spec: &mut PodSpec) {
    container.volume_mounts.get_or_insert_default().push(VolumeMount {
        name: FILES_NAME.to_owned(),
        mount_path: protocol::FILES.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    });
    spec.volumes.get_or_insert_default().push(Volume {
        name: FILES_NAME.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            // Read once, by root, before the process runs.
            default_mode: Some(0o400),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    });
}

/// Whether the helper can put files in their places before the process runs: it must be root, and the
/// file system writable. Where it cannot, each file is mounted by itself.
pub fn unpacks(record: &Record) -> bool {
    let asked = record.body.user.as_deref().filter(|user| !user.is_empty()).unwrap_or(&record.image.user);
    let name = asked.split(':').next().unwrap_or_default();
    let root = matches!(name, "" | "0" | "root") || record.has_named_user();
    record.helper.is_some() && root && record.host().readonly_rootfs != Some(true)
}

fn options(record: &Record) -> Vec<String> {
    let mut options = Vec::new();
    let mut add = |words: &[&str]| options.extend(words.iter().map(|word| (*word).to_owned()));
    if record.waits() {
        match record.restarts_always() {
            true => add(&["--wait-seconds", &PATIENCE.to_string()]),
            false => add(&["--wait"]),
        }
        if record.is_attached() {
            add(&["--fail-late"]);
        }
    }
    if record.tty() {
        add(&["--tty"]);
    } else if !record.open_stdin() {
        add(&["--no-input"]);
    }
    if record.host().init == Some(true) {
        add(&["--init"]);
    }
    if record.has_named_user() {
        add(&["--user", &literal(record.body.user.as_deref().unwrap_or_default())]);
    }
    for name in unset(record) {
        add(&["--unset", name]);
    }
    options
}

/// The command line of one of the helper's own commands.
pub fn command<const N: usize>(words: [&str; N]) -> Vec<String> {
    std::iter::once(protocol::PATH).chain(words).map(str::to_owned).collect()
}

/// Why the container's process could not be run, if the helper says so in the termination message.
pub fn failure(message: Option<&str>) -> Option<String> {
    let words = message?.strip_prefix(protocol::FAILURE)?;
    let runtime = "failed to create shim task: OCI runtime create failed: runc create failed: unable to start \
                   container process";
    match words.starts_with("exec") {
        true => Some(format!("{runtime}: error during container init: {words}: unknown")),
        false => Some(words.to_owned()),
    }
}
