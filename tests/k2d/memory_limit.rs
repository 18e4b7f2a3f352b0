//! A cgroup with a memory limit, of either version of cgroups, and what the kernel says of it (`cgroups(7)`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const ROOT: &str = "/sys/fs/cgroup";
/// How long ended processes may still be in their cgroup.
const LEAVING: Duration = Duration::from_secs(10);

/// The cgroup, with one below for the engine's own processes and one for its containers. It goes with this, once its processes have.
pub struct MemoryLimit {
    name: String,
    folder: PathBuf,
    unified: bool,
}

impl MemoryLimit {
    /// Limits what will be in a new cgroup to so many bytes, without swap.
    ///
    /// # Errors
    /// Those of the kernel, where cgroups are not this process's to change.
    pub fn create(name: &str, bytes: u64) -> io::Result<Self> {
        let unified = Path::new(ROOT).join("cgroup.controllers").exists();
        let root = if unified { PathBuf::from(ROOT) } else { Path::new(ROOT).join("memory") };
        let limit = Self { name: name.to_owned(), folder: root.join(name), unified };
        if unified {
            fs::write(root.join("cgroup.subtree_control"), "+memory")?;
        }
        fs::create_dir(&limit.folder)?;
        let (of_memory, of_swap) = match unified {
            true => ("memory.max", ("memory.swap.max", 0)),
            false => ("memory.limit_in_bytes", ("memory.memsw.limit_in_bytes", bytes)),
        };
        fs::write(limit.folder.join(of_memory), bytes.to_string())?;
        if limit.folder.join(of_swap.0).exists() {
            fs::write(limit.folder.join(of_swap.0), of_swap.1.to_string())?;
        }
        if unified {
            fs::write(limit.folder.join("cgroup.subtree_control"), "+memory")?;
        }
        fs::create_dir(limit.folder.join("engine"))?;
        Ok(limit)
    }

    /// The file by which a process enters it.
    pub fn entrance(&self) -> PathBuf {
        self.folder.join("engine/cgroup.procs")
    }

    /// The parent of the cgroups of containers, as an engine is told.
    pub fn parent(&self) -> String {
        format!("/{}/containers", self.name)
    }

    /// Bytes that are used now, and the most that ever were; with the files that the kernel keeps in memory.
    pub fn used(&self) -> (u64, u64) {
        let (now, most) = match self.unified {
            true => ("memory.current", "memory.peak"),
            false => ("memory.usage_in_bytes", "memory.max_usage_in_bytes"),
        };
        let read = |file: &str| fs::read_to_string(self.folder.join(file)).unwrap().trim().parse().unwrap();
        (read(now), read(most))
    }

    /// Bytes of files that the kernel keeps in memory, and gives back when others need them.
    pub fn cached(&self) -> u64 {
        let fields = if self.unified {
            ["inactive_file", "active_file"]
        } else {
            ["total_inactive_file", "total_active_file"]
        };
        let text = fs::read_to_string(self.folder.join("memory.stat")).unwrap();
        fields.iter().map(|name| field(&text, name)).sum()
    }

    /// How many processes the kernel has killed for the limit, or for that of a container.
    pub fn killed(&self) -> u64 {
        let file = if self.unified { "memory.events" } else { "memory.oom_control" };
        let here = |folder: &Path| {
            let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
            field(&text, "oom_kill")
        };
        // In version 2 the events of those below count here, too.
        if self.unified {
            here(&self.folder)
        } else {
            all(&self.folder).iter().map(|folder| here(folder)).sum()
        }
    }

    /// All processes in it and below.
    pub fn processes(&self) -> Vec<u32> {
        let of = |folder: &PathBuf| fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        let text: String = all(&self.folder).iter().map(of).collect();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    /// Waits for the end of processes that were killed.
    pub fn wait_until_empty(&self) {
        let end = Instant::now() + LEAVING;
        while !self.processes().is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        self.wait_until_empty();
        let hierarchies = fs::read_dir(ROOT).into_iter().flatten().flatten().map(|entry| entry.path());
        for root in hierarchies.chain([PathBuf::from(ROOT)]) {
            for folder in all(&root.join(&self.name)).iter().rev() {
                let _ = fs::remove_dir(folder);
            }
        }
    }
}

/// A folder and all below, parents first.
fn all(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if folder.is_dir() {
        found.push(folder.to_owned());
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            found.extend(all(&entry.path()));
        }
    }
    found
}

/// The number behind a name at the beginning of a line, 0 if there is none.
fn field(text: &str, name: &str) -> u64 {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.filter(|(key, _)| *key == name).find_map(|(_, value)| value.parse().ok()).unwrap_or(0)
}
