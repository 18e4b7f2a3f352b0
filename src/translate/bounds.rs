//! How large a request may be about which policies are asked. Checked before the first of them is,
//! so that what no client sends in earnest is the client's mistake (400), and never looks like a
//! policy that failed. The bounds are far above what is in use and far below what a policy can
//! hold (16 MiB of memory, of which a question takes about three times its size).

use std::collections::HashMap;
use std::io;

use bollard_stubs::models::{ContainerCreateBody, NetworkCreateRequest, VolumeCreateRequest};
use serde_json::Value;

use d2k_common::fault::{Fault, Result};

/// Bytes of the name of a container, volume or network: the longest name of a file, which dockerd
/// makes of a volume's name.
pub const NAME_BYTES: usize = 255;
/// Bytes of an argument, and of an environment variable with its name: Linux runs no program with a
/// longer one (`MAX_ARG_STRLEN` is 128 KiB with the byte that ends it).
pub const ARGUMENT_BYTES: usize = (128 << 10) - 1;
/// Bytes of a path: `PATH_MAX` is 4 KiB with the byte that ends it.
pub const PATH_BYTES: usize = (4 << 10) - 1;
/// Bytes of all labels of an object, and of all options: Kubernetes takes no more annotations, in
/// which d2k keeps them.
pub const LABELS_BYTES: usize = 256 << 10;
/// Bytes of a whole request as JSON: what etcd takes of an object is about 1.5 MiB.
pub const REQUEST_BYTES: usize = 1 << 20;
/// Entries of one list or map: variables, labels, arguments, mounts.
pub const ENTRIES: usize = 4096;
/// Ports that are exposed or published: a range for media streams has 10,001.
pub const PORTS: usize = 20_000;
/// Networks that a container is in.
pub const NETWORKS: usize = 256;

/// Checks a create request of a container.
///
/// # Errors
/// 400 with the field that is too large.
pub fn container(name: &str, body: &ContainerCreateBody, raw: &Value) -> Result<()> {
    self::name("container", name)?;
    arguments("environment variable", &body.env)?;
    arguments("argument of Cmd", &body.cmd)?;
    arguments("argument of Entrypoint", &body.entrypoint)?;
    let health = body.healthcheck.as_ref().and_then(|check| check.test.clone());
    arguments("argument of Healthcheck", &health)?;
    labels("labels", body.labels.as_ref())?;
    let host = body.host_config.clone().unwrap_or_default();
    labels("annotations", host.annotations.as_ref())?;
    let ports = body.exposed_ports.iter().flatten().map(String::as_str);
    let published = host.port_bindings.iter().flatten();
    let bindings = published.map(|(port, all)| (port.as_str(), all.as_ref().map_or(0, Vec::len)));
    let all = ports.map(|port| (port, 1)).chain(bindings);
    let count = all.fold(0, |sum: usize, (port, times)| sum.saturating_add(span(port) * times.max(1)));
    most("ports", count, PORTS)?;
    let networks = body.networking_config.as_ref().and_then(|n| n.endpoints_config.as_ref());
    most("networks", networks.map_or(0, HashMap::len), NETWORKS)?;
    for network in networks.into_iter().flat_map(HashMap::keys) {
        self::name("network", network)?;
    }
    mounts(body, &host)?;
    longest("HostConfig.NetworkMode", host.network_mode.as_deref(), NAME_BYTES + "container:".len())?;
    longest("User", body.user.as_deref(), NAME_BYTES)?;
    request(raw)
}

fn mounts(body: &ContainerCreateBody, host: &bollard_stubs::models::HostConfig) -> Result<()> {
    most("mounts", host.mounts.as_ref().map_or(0, Vec::len), ENTRIES)?;
    most("mounts", host.binds.as_ref().map_or(0, Vec::len), ENTRIES)?;
    most("mounts", host.tmpfs.as_ref().map_or(0, HashMap::len), ENTRIES)?;
    most("mounts", body.volumes.as_ref().map_or(0, Vec::len), ENTRIES)?;
    most("containers in VolumesFrom", host.volumes_from.as_ref().map_or(0, Vec::len), ENTRIES)?;
    for mount in host.mounts.iter().flatten() {
        longest("target of a mount", mount.target.as_deref(), PATH_BYTES)?;
        let options = mount.volume_options.as_ref();
        labels("labels of a volume", options.and_then(|options| options.labels.as_ref()))?;
        let driver = options.and_then(|options| options.driver_config.as_ref());
        labels("options of a volume", driver.and_then(|driver| driver.options.as_ref()))?;
    }
    let paths = host.tmpfs.iter().flat_map(HashMap::keys).chain(body.volumes.iter().flatten());
    // Source, target and options of a bind, each at most a path.
    let binds = host.binds.iter().flatten().map(|bind| (bind, 3 * PATH_BYTES));
    for (path, limit) in paths.map(|path| (path, PATH_BYTES)).chain(binds) {
        longest("target of a mount", Some(path), limit)?;
    }
    Ok(())
}

/// Checks a create request of a volume.
///
/// # Errors
/// 400 with the field that is too large.
pub fn volume(request: &VolumeCreateRequest, name: &str) -> Result<()> {
    self::name("volume", name)?;
    labels("labels", request.labels.as_ref())?;
    labels("options", request.driver_opts.as_ref())
}

/// Checks a create request of a network.
///
/// # Errors
/// 400 with the field that is too large.
pub fn network(request: &NetworkCreateRequest) -> Result<()> {
    name("network", &request.name)?;
    labels("labels", request.labels.as_ref())?;
    labels("options", request.options.as_ref())?;
    self::request(request)
}

/// Checks the length of a name.
///
/// # Errors
/// 400 if it has more than [`NAME_BYTES`].
pub fn name(what: &str, name: &str) -> Result<()> {
    if name.len() <= NAME_BYTES {
        return Ok(());
    }
    let begin: String = name.chars().take(32).collect();
    Err(Fault::invalid(format!(
        "invalid {what} name ({begin}...): it has {} bytes, at most {NAME_BYTES} are allowed",
        name.len()
    )))
}

/// Checks the size of a whole request.
///
/// # Errors
/// 400 if it has more than [`REQUEST_BYTES`] as JSON.
pub fn request(request: &impl serde::Serialize) -> Result<()> {
    match json_bytes(request) {
        bytes if bytes > REQUEST_BYTES => Err(Fault::invalid(format!(
            "the request is too large: it has {bytes} bytes, at most {REQUEST_BYTES} are allowed"
        ))),
        _ => Ok(()),
    }
}

/// Bytes of a value as JSON, without making it.
pub fn json_bytes(value: &impl serde::Serialize) -> usize {
    struct Counter(usize);
    impl io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    // Text that is no JSON never becomes a question either.
    let _ = serde_json::to_writer(&mut counter, value);
    counter.0
}

fn arguments(what: &str, all: &Option<Vec<String>>) -> Result<()> {
    let all = all.as_deref().unwrap_or_default();
    most(&format!("{what}s"), all.len(), ENTRIES)?;
    all.iter().try_for_each(|one| longest(what, Some(one), ARGUMENT_BYTES))
}

fn labels(what: &str, all: Option<&HashMap<String, String>>) -> Result<()> {
    let Some(all) = all else { return Ok(()) };
    most(what, all.len(), ENTRIES)?;
    match all.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() {
        bytes if bytes > LABELS_BYTES => Err(Fault::invalid(format!(
            "the {what} are too large: they have {bytes} bytes, at most {LABELS_BYTES} are allowed"
        ))),
        _ => Ok(()),
    }
}

fn most(what: &str, count: usize, limit: usize) -> Result<()> {
    if count <= limit {
        return Ok(());
    }
    Err(Fault::invalid(format!("too many {what}: {count}, at most {limit} are allowed")))
}

fn longest(what: &str, text: Option<&str>, limit: usize) -> Result<()> {
    let text = text.unwrap_or_default();
    if text.len() <= limit {
        return Ok(());
    }
    // Of `NAME=value` the name is enough to find it.
    let name = text.split('=').next().unwrap_or_default();
    let begin: String = name.chars().take(32).collect();
    Err(Fault::invalid(format!(
        "invalid {what} ({begin}...): it has {} bytes, at most {limit} are allowed",
        text.len()
    )))
}

/// How many ports `80/tcp` or `7000-7002/udp` stands for, without listing them; 1 where it is wrong,
/// which another check tells.
fn span(port: &str) -> usize {
    let numbers = port.split('/').next().unwrap_or_default();
    let bounds = numbers.split_once('-').and_then(|(first, last)| {
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        last.checked_sub(first)
    });
    bounds.map_or(1, |more| usize::from(more) + 1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checked(name: &str, raw: Value) -> Result<()> {
        container(name, &serde_json::from_value(raw.clone()).unwrap(), &raw)
    }

    fn many(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("N{number}=x")).collect()
    }

    fn labelled(count: usize, value: &str) -> HashMap<String, String> {
        (0..count).map(|number| (format!("label.{number}"), value.to_owned())).collect()
    }

    #[test]
    fn what_is_in_use_passes() {
        let ports: HashMap<String, Value> = (10_000..=20_000)
            .map(|port| (format!("{port}/udp"), json!([{"HostPort": port.to_string()}])))
            .collect();
        let large = json!({
            "Image": "busybox", "Env": [format!("BIG={}", "x".repeat(100_000))], "Cmd": many(2000),
            "Labels": labelled(200, &"x".repeat(1000)), "HostConfig": {"PortBindings": ports},
        });
        assert_eq!(checked(&"n".repeat(NAME_BYTES), large), Ok(()));
        let request =
            VolumeCreateRequest { labels: Some(labelled(100, "x")), ..VolumeCreateRequest::default() };
        assert_eq!(volume(&request, "data"), Ok(()));
    }

    #[test]
    fn each_thing_that_is_too_large_is_named() {
        let long = "x".repeat(ARGUMENT_BYTES + 1);
        let mounts: Vec<Value> =
            (0..=ENTRIES).map(|n| json!({"Type": "tmpfs", "Target": format!("/{n}")})).collect();
        let networks: HashMap<String, Value> = (0..=NETWORKS).map(|n| (format!("n{n}"), json!({}))).collect();
        for (raw, words) in [
            (
                json!({"Env": [format!("A={long}")]}),
                "invalid environment variable (A...): it has 131074 bytes",
            ),
            (json!({"Env": many(ENTRIES + 1)}), "too many environment variables: 4097, at most 4096"),
            (json!({"Cmd": [long]}), "invalid argument of Cmd"),
            (json!({"Entrypoint": [long]}), "invalid argument of Entrypoint"),
            (json!({"Healthcheck": {"Test": ["CMD", long]}}), "invalid argument of Healthcheck"),
            (
                json!({"Labels": {"a": "x".repeat(LABELS_BYTES)}}),
                "the labels are too large: they have 262145 bytes",
            ),
            (json!({"Labels": labelled(ENTRIES + 1, "")}), "too many labels"),
            (json!({"ExposedPorts": {"1-20001/tcp": {}}}), "too many ports: 20001, at most 20000"),
            (json!({"HostConfig": {"PortBindings": {"1-10001/tcp": [{}, {}]}}}), "too many ports: 20002"),
            (json!({"HostConfig": {"Mounts": mounts}}), "too many mounts"),
            (
                json!({"HostConfig": {"Tmpfs": {(format!("/{}", "x".repeat(PATH_BYTES))): ""}}}),
                "target of a mount",
            ),
            (json!({"NetworkingConfig": {"EndpointsConfig": networks}}), "too many networks: 257"),
            (json!({"User": "u".repeat(300)}), "invalid User"),
            (
                json!({"HostConfig": {"ExtraHosts": [long, long, long, long, long, long, long, long]}}),
                "the request is too large",
            ),
        ] {
            let fault = checked("web", raw).expect_err(words);
            assert_eq!(fault.kind, d2k_common::fault::Kind::Invalid);
            assert!(fault.message.contains(words), "{} has not {words:?}", fault.message);
            assert!(fault.message.len() < 200, "{}", fault.message);
        }
        assert!(checked(&"n".repeat(256), json!({})).is_err());
    }

    #[test]
    fn a_range_counts_as_its_ports() {
        assert_eq!(
            [span("80"), span("80/tcp"), span("7000-7002/udp"), span("9-8"), span("x")],
            [1, 1, 3, 1, 1]
        );
    }
}
