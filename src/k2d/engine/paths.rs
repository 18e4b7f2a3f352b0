//! Paths of this process as the engine sees them: if k2d runs in a container itself, a folder of its own is somewhere else
//! on the machine, and the engine mounts by the machine's paths.

use std::path::{Path, PathBuf};

use http::StatusCode;
use serde_json::Value;

use super::client::{Client, Result};
use super::json::{at, text};

/// Where the places of this process are on the machine.
#[derive(Debug, Default)]
pub struct Paths {
    container: Option<String>,
    /// Places here and on the machine, the longest first.
    mounts: Vec<(PathBuf, PathBuf)>,
}

impl Paths {
    /// Finds out whether this process runs in a container of this engine.
    ///
    /// # Errors
    /// The engine's.
    pub async fn find(client: &Client) -> Result<Self> {
        let about = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let Some(id) = container_of(&about) else { return Ok(Self::default()) };
        match client.get(&format!("/containers/{id}/json")).await {
            Ok(inspected) => Ok(Self::of(&inspected)),
            // A container of another engine, which this one runs in, too.
            Err(error) if error.is(StatusCode::NOT_FOUND) => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    fn of(inspected: &Value) -> Self {
        let all = at(inspected, &["Mounts"]).as_array().into_iter().flatten();
        let mut mounts: Vec<(PathBuf, PathBuf)> = all
            .map(|mount| (text(mount, &["Destination"]).into(), text(mount, &["Source"]).into()))
            .collect();
        mounts.sort_by_key(|(here, _)| std::cmp::Reverse(here.components().count()));
        Self { container: Some(text(inspected, &["Id"]).to_owned()), mounts }
    }

    /// The ID of the container that this process runs in.
    pub fn container(&self) -> Option<&str> {
        self.container.as_deref()
    }

    /// Whether the machine has what this process keeps there.
    pub fn is_outside(&self, path: &Path) -> bool {
        self.container.is_none() || self.mounts.iter().any(|(here, _)| path.starts_with(here))
    }

    /// The path on the machine.
    pub fn outside(&self, path: &Path) -> PathBuf {
        let moved =
            self.mounts.iter().find_map(|(here, there)| Some(there.join(path.strip_prefix(here).ok()?)));
        moved.unwrap_or_else(|| path.to_owned())
    }
}

/// The ID of the container that these mounts are of: engines mount a file of the container's own folder at `/etc/hostname`.
fn container_of(mountinfo: &str) -> Option<&str> {
    let line = mountinfo.lines().find(|line| line.split(' ').nth(4) == Some("/etc/hostname"))?;
    let root = line.split(' ').nth(3)?;
    root.split('/').find(|part| part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_container_knows_itself_by_its_host_name() {
        let id = "0123456789abcdef".repeat(4);
        let info = format!(
            "1 2 8:1 / / rw - overlay overlay rw\n3 1 8:1 /lib/docker/containers/{id}/hostname /etc/hostname rw - ext4 x rw\n"
        );
        assert_eq!(container_of(&info), Some(id.as_str()));
        assert_eq!(container_of("1 2 8:1 / / rw - ext4 x rw\n"), None);
    }

    #[test]
    fn the_longest_mount_decides_where_a_path_is() {
        let paths = Paths::of(&json!({"Id": "c", "Mounts": [
            {"Destination": "/var/lib/k2d", "Source": "/data"},
            {"Destination": "/var/lib/k2d/pods", "Source": "/fast"},
        ]}));
        assert_eq!(paths.outside(Path::new("/var/lib/k2d/pods/a")), Path::new("/fast/a"));
        assert_eq!(paths.outside(Path::new("/var/lib/k2d/b")), Path::new("/data/b"));
        assert_eq!(paths.outside(Path::new("/etc")), Path::new("/etc"));
        assert!(paths.is_outside(Path::new("/var/lib/k2d")) && !paths.is_outside(Path::new("/etc")));
    }
}
