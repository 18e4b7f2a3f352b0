//! `--volumes-from`: one entry of the list as a client sends it, and the mounts that a container
//! took from others. These are kept with the container, as dockerd keeps them: what happens to the
//! other container later (rename, update, removal) changes nothing.

use serde::{Deserialize, Serialize};

use super::{Bind, MountKind, MountPlan};
use d2k_common::fault::{Fault, Result};

/// Most entries of `VolumesFrom`; Docker has no bound, and nobody has been seen with more than a few.
const MAX_ENTRIES: usize = 64;
/// Most mounts that a container takes from others. Each is a line of its workload's annotations, which
/// hold 256 KiB together.
const MAX_MOUNTS: usize = 256;

/// A mount that was taken from another container when this one was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inherited {
    /// ID of the container it was taken from, 64 hex digits.
    pub from: String,
    /// Docker name of the volume; 64 hex digits if it is anonymous; empty for a bind.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub volume: String,
    /// The path of the machine, for a bind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind: Option<Bind>,
    /// Where it is mounted: a clean absolute path.
    pub target: String,
    /// Whether the container may only read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// A directory of the volume instead of its root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subpath: Option<String>,
}

impl Inherited {
    /// The mount as a plan. A volume that is still empty gets the files of this container's image if the
    /// other one was never started: Docker would have filled it when the other one was created, mostly
    /// from the same image.
    pub fn plan(&self) -> MountPlan {
        let kind = match &self.bind {
            Some(bind) => MountKind::Bind(bind.clone()),
            None => MountKind::Named(self.volume.clone()),
        };
        MountPlan {
            read_only: self.read_only,
            subpath: self.subpath.clone(),
            ..MountPlan::new(kind, &self.target)
        }
    }
}

/// Adds a mount; a later one of the same target replaces an earlier one, as in Docker.
///
/// # Errors
/// 400 if there are too many.
pub fn add(all: &mut Vec<Inherited>, mount: Inherited) -> Result<()> {
    if let Some(same) = all.iter_mut().find(|other| other.target == mount.target) {
        *same = mount;
        return Ok(());
    }
    if all.len() >= MAX_MOUNTS {
        return Err(Fault::invalid(format!(
            "volumes-from: the other containers have more than {MAX_MOUNTS} mounts; name the volumes that are needed by -v"
        )));
    }
    all.push(mount);
    Ok(())
}

/// The entries of `VolumesFrom`: the name or ID of a container, and whether its volumes may only be read.
///
/// # Errors
/// 400 in Docker's words for an empty entry or an unknown mode, or if there are too many.
pub fn entries(from: &[String]) -> Result<Vec<(&str, bool)>> {
    if from.len() > MAX_ENTRIES {
        return Err(Fault::invalid(format!(
            "volumes-from: {} entries, at most {MAX_ENTRIES} are allowed",
            from.len()
        )));
    }
    from.iter().map(|entry| parse(entry)).collect()
}

fn parse(entry: &str) -> Result<(&str, bool)> {
    if entry.is_empty() {
        return Err(Fault::invalid("volumes-from specification cannot be an empty string"));
    }
    let (key, mode) = entry.split_once(':').unwrap_or((entry, ""));
    let mut read_only = false;
    for word in mode.split(',').filter(|_| !mode.is_empty()) {
        match word {
            "ro" => read_only = true,
            // Relabelling is done by the kubelet.
            "rw" | "z" | "Z" => {}
            _ => return Err(Fault::invalid(format!("invalid mode: {mode}"))),
        }
    }
    Ok((key, read_only))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_have_dockers_modes_and_no_others() {
        let read = |entry: &str| entries(&[entry.to_owned()]).map(|all| (all[0].0.to_owned(), all[0].1));
        assert_eq!(read("web"), Ok(("web".into(), false)));
        assert_eq!(read("web:ro"), Ok(("web".into(), true)));
        assert_eq!(read("web:rw,z"), Ok(("web".into(), false)));
        for wrong in ["", "web:what", "web:nocopy", "web:ro,", "web:rshared", "web:ro:rw"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_number_of_entries_and_mounts_is_bounded() {
        assert!(entries(&vec!["a".to_owned(); MAX_ENTRIES]).is_ok());
        assert!(entries(&vec!["a".to_owned(); MAX_ENTRIES + 1]).is_err());
        let mount = |number: usize| Inherited {
            from: "f".into(),
            volume: format!("v{number}"),
            bind: None,
            target: format!("/{number}"),
            read_only: false,
            subpath: None,
        };
        let mut all = Vec::new();
        for number in 0..MAX_MOUNTS {
            add(&mut all, mount(number)).expect("within the bound");
        }
        assert!(add(&mut all, mount(MAX_MOUNTS)).is_err());
        add(&mut all, Inherited { read_only: true, ..mount(7) }).expect("it replaces another");
        assert!(all[7].read_only && all.len() == MAX_MOUNTS);
    }
}
