//! Places of a container that only the runtime makes: a volume there would hide what programs and the
//! runtime itself rely on, or be written by the runtime.

use std::path::Path;

use d2k_engine::{Mount, Source, Trouble};

/// Files of `/proc` that show limits instead of the machine, as LXCFS makes them; runc lets them be mounted.
const SHOWN: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// Whether a mount is made. The machine's `/dev` at `/dev` is not: the runtime would make its nodes in it,
/// and a container has the nodes that it may use in a `/dev` of its own.
///
/// # Errors
/// `CreateContainerError` for a place that nothing can be mounted at.
pub fn is_made(mount: &Mount) -> Result<bool, Trouble> {
    let source = match &mount.source {
        Source::Managed(path) | Source::Host(path) => path.as_path(),
        Source::Memory(name) | Source::Volume(name) => Path::new(name),
    };
    let refused = |why: &str| {
        let (source, target) = (source.display(), mount.target.display());
        let message = format!("error mounting \"{source}\" to rootfs at \"{target}\": \"{target}\" {why}");
        Err(Trouble::new("CreateContainerError", message))
    };
    let target = mount.target.as_path();
    if target == Path::new("/dev") {
        return match source == target {
            true => Ok(false),
            false => refused("cannot be mounted because the runtime makes the devices there"),
        };
    }
    if target == Path::new("/proc") && source != target {
        return refused("cannot be mounted because it is not of type proc");
    }
    let inside = target.starts_with("/proc") && target != Path::new("/proc");
    if inside && !SHOWN.iter().any(|shown| target == Path::new(shown)) {
        return refused("cannot be mounted because it is inside /proc");
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

    use super::*;

    #[test]
    fn only_the_runtime_makes_devices_and_processes() {
        let made = |source: &str, target: &str| is_made(&Mount::new(target, Source::Host(source.into())));
        assert!(!made("/dev", "/dev").unwrap());
        for (source, target) in [("/a", "/x"), ("/a", "/dev/x"), ("/a", "/proc/cpuinfo"), ("/proc", "/proc")]
        {
            assert!(made(source, target).unwrap(), "{source} at {target}");
        }
        for (source, target) in [("/a", "/dev"), ("/a", "/proc"), ("/a", "/proc/x"), ("/a", "/proc/sys")] {
            let words = made(source, target).unwrap_err().message;
            assert!(
                words.starts_with(&format!("error mounting \"/a\" to rootfs at \"{target}\": ")),
                "{words}"
            );
        }
    }
}
