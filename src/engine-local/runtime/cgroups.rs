//! The cgroups of one daemon: where they are (both versions of the kernel's interface), what their
//! counters say, and their removal. Limits are set by `libcontainer`.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use d2k_engine::{Limits, Usage};

/// Where everyone looks for cgroups.
const ROOT: &str = "/sys/fs/cgroup";

/// What cannot be done with cgroups.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The list of what is mounted.
    #[error("/proc/self/mountinfo cannot be read: {0}")]
    Mounts(#[source] io::Error),
    /// The machine has none.
    #[error("no cgroup file system is mounted; mount it at /sys/fs/cgroup")]
    NotMounted,
    /// This process may not make one.
    #[error(
        "the cgroup {0} cannot be made: {1}; run as root, or in a container with --privileged, where \
         /sys/fs/cgroup can be written"
    )]
    Make(PathBuf, #[source] io::Error),
    /// A file with a limit, and the limit.
    #[error("{0} does not take {1}: {2}")]
    Limit(PathBuf, String, #[source] io::Error),
    /// One that is there stays.
    #[error("the cgroup {0} cannot be removed: {1}")]
    Remove(PathBuf, #[source] io::Error),
    /// One stays because of what is in it.
    #[error("the cgroup {0} still has processes; end them and remove it")]
    Busy(PathBuf),
}

/// The folder in every hierarchy that all containers of a daemon are below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroups {
    /// Relative to every hierarchy: `d2k-<name>`, below the cgroup that belongs to us.
    name: PathBuf,
    /// Mount points with the controllers that each has; of version 2 a single one without any.
    hierarchies: Vec<(PathBuf, Vec<String>)>,
    unified: bool,
}

impl Cgroups {
    /// Finds what the machine has.
    pub fn detect(name: &str) -> Result<Self, CgroupError> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(CgroupError::Mounts)?;
        let (mut old, mut new) = (Vec::new(), Vec::new());
        for line in mounts.lines() {
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let Some(at) = before.split(' ').nth(4) else { continue };
            let mut after = after.split(' ');
            match (after.next(), after.nth(1)) {
                (Some("cgroup"), Some(options)) => {
                    old.push((PathBuf::from(at), options.split(',').map(str::to_owned).collect()));
                }
                (Some("cgroup2"), _) => new.push((PathBuf::from(at), Vec::new())),
                _ => {}
            }
        }
        let unified = old.is_empty();
        let mut hierarchies = if unified { new.into_iter().take(1).collect() } else { old };
        hierarchies.sort();
        hierarchies.dedup();
        if hierarchies.is_empty() {
            return Err(CgroupError::NotMounted);
        }
        let folder = PathBuf::from(format!("d2k-{name}"));
        let root = hierarchies.first().map(|(at, _)| at.clone()).unwrap_or_default();
        let name = if unified { base(&root).join(folder) } else { folder };
        Ok(Self { name, hierarchies, unified })
    }

    /// Whether this is version 2.
    pub fn unified(&self) -> bool {
        self.unified
    }

    /// The path of a container's cgroup below every hierarchy, as the OCI configuration names it.
    pub fn path(&self, container: &str) -> PathBuf {
        Path::new("/").join(&self.name).join(container)
    }

    /// The folder of a container's cgroup of version 2; none with version 1.
    pub fn unified_folder(&self, container: &str) -> Option<PathBuf> {
        let (root, _) = self.hierarchies.first().filter(|_| self.unified)?;
        Some(root.join(&self.name).join(container))
    }

    /// What a container sees of version 1: where, and the folder that is there; nothing of version 2.
    pub fn views(&self, container: &str) -> Vec<(PathBuf, PathBuf)> {
        let mut all = Vec::new();
        for (at, controllers) in
            self.hierarchies.iter().filter(|(_, known)| !self.unified && self.used(known))
        {
            let folder = at.join(&self.name).join(container);
            // Two controllers in one hierarchy have a name of their own each, too.
            let names = controllers.iter().map(|controller| Path::new(ROOT).join(controller));
            let places = names.filter(|place| place != at && place.is_dir());
            all.extend(places.chain([at.clone()]).map(|place| (place, folder.clone())));
        }
        all.retain(|(place, _)| place.starts_with(ROOT));
        all
    }

    /// Lets the children of our own cgroup of version 2 have limits. A cgroup with processes may not, but
    /// for the topmost: they move into one beside the containers'. To be called by the outer process.
    pub fn make_room(&self) {
        let Some((root, _)) = self.hierarchies.first().filter(|_| self.unified) else { return };
        let own = root.join(self.name.parent().unwrap_or(Path::new("")));
        let known = fs::read_to_string(own.join("cgroup.controllers")).unwrap_or_default();
        let enable = || {
            let mut all = known.split_whitespace().filter(|name| ["cpu", "memory", "pids"].contains(name));
            all.try_for_each(|name| fs::write(own.join("cgroup.subtree_control"), format!("+{name}")))
        };
        if !enable().is_err_and(|error| error.kind() == ErrorKind::ResourceBusy) {
            return;
        }
        let beside = own.join("d2k-others");
        let _ = fs::create_dir(&beside);
        let processes = fs::read_to_string(own.join("cgroup.procs")).unwrap_or_default();
        for process in processes.lines() {
            let _ = fs::write(beside.join("cgroup.procs"), process);
        }
        // Where it still is not possible, a container with a limit says so.
        let _ = enable();
    }

    /// Tries to make the parent folder everywhere.
    pub fn probe(&self) -> Result<(), CgroupError> {
        for (hierarchy, _) in self.hierarchies.iter().filter(|(_, controllers)| self.used(controllers)) {
            let folder = hierarchy.join(&self.name).join("probe");
            let made = fs::create_dir_all(&folder).and_then(|()| fs::remove_dir(&folder));
            made.map_err(|error| CgroupError::Make(folder, error))?;
        }
        Ok(())
    }

    fn used(&self, controllers: &[String]) -> bool {
        // Named hierarchies (systemd's) have none that a container is put in.
        self.unified || !controllers.iter().any(|controller| controller.starts_with("name="))
    }

    /// Whether the machine can limit the number of processes.
    pub fn counts_processes(&self) -> bool {
        match self.unified_folder("") {
            Some(folder) => {
                // Beside hierarchies of version 1, version 2 has the controllers that they leave.
                let above = folder.parent().unwrap_or(&folder).join("cgroup.controllers");
                fs::read_to_string(above).is_ok_and(|known| known.split_whitespace().any(|c| c == "pids"))
            }
            None => self.place("pids", "").is_some(),
        }
    }

    fn place(&self, controller: &str, container: &str) -> Option<PathBuf> {
        let (hierarchy, _) = self
            .hierarchies
            .iter()
            .find(|(_, controllers)| self.unified || controllers.iter().any(|known| known == controller))?;
        Some(hierarchy.join(&self.name).join(container))
    }

    fn file(&self, controller: &str, container: &str, name: &str) -> Option<String> {
        fs::read_to_string(self.place(controller, container)?.join(name)).ok()
    }

    /// Changes the limits of a container that runs; what is not limited any more has none.
    pub fn limit(&self, container: &str, limits: &Limits) -> Result<(), CgroupError> {
        let quota = limits.cpu_milli.map(|milli| milli.saturating_mul(100).max(1000));
        let or = |value: Option<i64>, none: &str| value.map_or_else(|| none.to_owned(), |v| v.to_string());
        let files = if self.unified {
            vec![
                ("memory", "memory.max", or(limits.memory, "max")),
                ("cpu", "cpu.max", format!("{} 100000", or(quota, "max"))),
                ("pids", "pids.max", or(limits.pids, "max")),
            ]
        } else {
            vec![
                ("memory", "memory.limit_in_bytes", or(limits.memory, "-1")),
                ("cpu", "cpu.cfs_quota_us", or(quota, "-1")),
                ("cpu", "cpu.shares", limits.cpu_shares.unwrap_or(1024).clamp(2, 262_144).to_string()),
                ("pids", "pids.max", or(limits.pids, "max")),
            ]
        };
        for (controller, name, value) in files {
            let Some(path) = self.place(controller, container) else { continue };
            let path = path.join(name);
            fs::write(&path, &value).map_err(|error| CgroupError::Limit(path, value, error))?;
        }
        Ok(())
    }

    /// Whether the kernel has killed a process of the container for its memory limit.
    pub fn oom_killed(&self, container: &str) -> bool {
        let file = if self.unified { "memory.events" } else { "memory.oom_control" };
        let text = self.file("memory", container, file).unwrap_or_default();
        field(&text, "oom_kill").unwrap_or(0) > 0
    }

    /// What a container uses; none if it has no cgroup any more.
    pub fn usage(&self, container: &str) -> Option<Usage> {
        let statistics = self.file("memory", container, "memory.stat").unwrap_or_default();
        let (cpu_nanos, memory, cache) = if self.unified {
            (
                field(&self.file("cpu", container, "cpu.stat")?, "usage_usec")?.saturating_mul(1000),
                number(&self.file("memory", container, "memory.current").unwrap_or_default()),
                field(&statistics, "inactive_file"),
            )
        } else {
            (
                number(&self.file("cpuacct", container, "cpuacct.usage")?),
                number(&self.file("memory", container, "memory.usage_in_bytes").unwrap_or_default()),
                field(&statistics, "total_inactive_file"),
            )
        };
        let processes = number(&self.file("pids", container, "pids.current").unwrap_or_default());
        let (received, sent) = self.processes(container).first().map(|pid| traffic(*pid)).unwrap_or_default();
        Some(Usage {
            cpu_nanos,
            memory: memory.saturating_sub(cache.unwrap_or(0)),
            processes,
            received,
            sent,
        })
    }

    /// The processes of a container as the caller's PID namespace numbers them.
    pub fn processes(&self, container: &str) -> Vec<i32> {
        let mut found: Vec<i32> = self
            .hierarchies
            .iter()
            .filter(|(_, controllers)| self.used(controllers))
            .filter_map(|(at, _)| {
                fs::read_to_string(at.join(&self.name).join(container).join("cgroup.procs")).ok()
            })
            .flat_map(|text| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<_>>())
            .filter(|pid| *pid > 0)
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Removes a container's cgroups.
    pub fn remove(&self, container: &str) -> Result<(), CgroupError> {
        self.hierarchies.iter().try_for_each(|(at, _)| remove_tree(&at.join(&self.name).join(container)))
    }

    /// Removes all of this daemon's cgroups.
    pub fn remove_all(&self) -> Result<(), CgroupError> {
        self.hierarchies.iter().try_for_each(|(at, _)| remove_tree(&at.join(&self.name)))
    }
}

/// The cgroup of version 2 that is ours: the topmost as root, else the one that this process is in, which
/// a service manager may have given to the user.
fn base(root: &Path) -> PathBuf {
    let writable = rustix::fs::access(root, rustix::fs::Access::WRITE_OK).is_ok();
    let table = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = table.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    // A process that has been moved beside the containers is not to be taken for the owner.
    let own = own.strip_suffix("d2k-others").unwrap_or(own).trim_end_matches('/');
    if writable { PathBuf::new() } else { PathBuf::from(own) }
}

/// Removes cgroups from the leaves up. Processes that have just been killed leave a moment later.
fn remove_tree(folder: &Path) -> Result<(), CgroupError> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    for _ in 0..100 {
        match fs::remove_dir(folder) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(CgroupError::Remove(folder.to_owned(), error)),
        }
    }
    Err(CgroupError::Busy(folder.to_owned()))
}

/// Bytes received and sent in the network namespace of a process, but for its loopback interface.
fn traffic(pid: i32) -> (u64, u64) {
    let table = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    let lines =
        table.lines().filter_map(|line| line.trim().split_once(':')).filter(|(name, _)| *name != "lo");
    // proc_net_dev(5): eight columns of what came in, eight of what went out, bytes first.
    let columns = lines.map(|(_, columns)| columns.split_whitespace().map(number).collect::<Vec<_>>());
    columns.fold((0, 0), |(received, sent), all| {
        (received + all.first().unwrap_or(&0), sent + all.get(8).unwrap_or(&0))
    })
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(field(text, "oom_kill"), Some(3));
        assert_eq!(field("inactive_file 5\ntotal_inactive_file 7\n", "total_inactive_file"), Some(7));
        assert_eq!(field(text, "oom"), None);
        assert_eq!(number(" 12\n"), 12);
    }
}
