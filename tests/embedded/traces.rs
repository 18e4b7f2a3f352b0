//! What an embedded cluster could leave on the machine: processes, mounts and cgroups, found by the
//! folder of the cluster.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// All that is there of the cluster in this folder, in words.
pub fn of(data: &Path) -> Vec<String> {
    let folder = data.to_string_lossy();
    let name = format!("d2k-{}", &hex::encode(Sha256::digest(folder.as_bytes()))[..12]);
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let read = |file: &str| fs::read(process.path().join(file)).unwrap_or_default();
        let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        let in_cgroup = String::from_utf8_lossy(&read("cgroup")).contains(&name);
        if command.contains(&*folder) || in_cgroup {
            found.push(format!("process {}: {command}", process.file_name().display()));
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    found.extend(mounts.lines().filter(|line| line.contains(&*folder)).map(|line| format!("mount {line}")));
    let mut folders = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_name() == *name {
                found.push(format!("cgroup {}", entry.path().display()));
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
    found
}
