//! A policy folder of its own for each test, and short forms of questions.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use d2k_common::fault::Fault;
use d2k_policy::bindings::events::exports::d2k::policy::events;
use d2k_policy::bindings::naming::exports::d2k::policy::naming::{Input, What};
use d2k_policy::set::Decided;
use d2k_policy::{Options, Policies};

/// A component of `plugins/`.
pub fn component(member: &str) -> Vec<u8> {
    let name = member.rsplit('/').next().unwrap();
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .join("plugins")
        .join(member)
        .join(format!("{name}.wasm"));
    fs::read(path).unwrap()
}

/// A folder that is removed at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("policies-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> &Self {
        fs::write(self.0.join(name), bytes).unwrap();
        self
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.0.join(name)).unwrap();
    }

    pub fn options(&self) -> Options {
        Options { directory: Some(self.0.clone()), cache: Some(cache()), ..Options::default() }
    }

    pub fn policies(&self) -> Arc<Policies> {
        Policies::new(self.options()).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A folder for a cache that nobody else uses.
pub fn kept() -> Folder {
    let folder = Folder::new();
    fs::set_permissions(&folder.0, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    folder
}

/// Compiled once for all tests.
pub fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("policy-cache")
}

/// What a container's object is called.
pub fn name(policies: &Policies, docker_name: &str) -> Result<String, Fault> {
    decided(policies, docker_name).map(|decided| decided.plan.name)
}

pub fn decided(
    policies: &Policies,
    docker_name: &str,
) -> Result<Decided<d2k_policy::bindings::naming::exports::d2k::policy::naming::Plan>, Fault> {
    policies.current().name(&Input {
        what: What::Container,
        docker_name: docker_name.into(),
        labels: Vec::new(),
        taken_by_other: None,
        extra: Vec::new(),
    })
}

/// How Docker's events tell of a start.
pub fn event(policies: &Policies) -> Result<String, Fault> {
    let decided = policies.current().event(&events::Input {
        subject: "container".into(),
        change: "started".into(),
        object_kind: "Job".into(),
        id: "abc".into(),
        attributes: Vec::new(),
        extra: Vec::new(),
    })?;
    Ok(decided.plan.events[0].action.clone())
}

/// The settings file that makes the hostile policy do something.
pub fn deed(deed: &str) -> String {
    format!("hostile: {{settings: {{deed: {deed}}}}}\n")
}

pub fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
