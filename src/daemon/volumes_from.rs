//! The mounts that a container takes from others (`--volumes-from`). They are resolved once, when it
//! is created, and kept in its record. A record that has only names is of an earlier version: it is
//! resolved at each look, with a bound on depth and each container followed once, since a rename may
//! have made a circle of such names.

use std::collections::HashMap;

use bollard_stubs::models::ContainerCreateBody;

use super::Daemon;
use super::volumes::anonymous_name;
use d2k_common::fault::{Fault, Result};
use d2k_translate::mounts::{self, Inherited, MountKind, MountPlan};
use d2k_translate::record::Record;

/// How many containers may follow one another by name in records of an earlier version.
const MAX_DEPTH: usize = 32;

/// The result of a walk over records of an earlier version: the mounts that each container takes from
/// others, by ID; `None` while these are being looked for.
type Walk = HashMap<String, Option<Vec<Inherited>>>;

impl Daemon {
    /// The mounts that a new container takes from others, to be kept in its record.
    ///
    /// # Errors
    /// 400 in Docker's words if one of them does not exist, an entry cannot be read, or there are too many.
    pub(crate) fn resolve_volumes_from(&self, body: &ContainerCreateBody) -> Result<Vec<Inherited>> {
        let from = body.host_config.as_ref().and_then(|host| host.volumes_from.as_deref());
        self.follow(from.unwrap_or_default(), &mut Walk::new(), 0)
    }

    /// The mounts that a container took from others.
    ///
    /// # Errors
    /// 400 for a record of an earlier version whose other containers are gone or take from one another
    /// in a circle.
    pub(crate) fn inherited_mounts(&self, record: &Record) -> Result<Vec<MountPlan>> {
        let mut walk = Walk::new();
        Ok(self.inherited(record, &mut walk, 0)?.iter().map(Inherited::plan).collect())
    }

    fn inherited(&self, record: &Record, walk: &mut Walk, depth: usize) -> Result<Vec<Inherited>> {
        if let Some(kept) = &record.inherited {
            return Ok(kept.clone());
        }
        if record.volumes_from().is_empty() {
            return Ok(Vec::new());
        }
        match walk.get(&record.id) {
            Some(Some(known)) => return Ok(known.clone()),
            Some(None) => return Err(circle(record)),
            None => {}
        }
        walk.insert(record.id.clone(), None);
        let found = self.follow(record.volumes_from(), walk, depth + 1)?;
        walk.insert(record.id.clone(), Some(found.clone()));
        Ok(found)
    }

    /// The mounts of the containers that these entries name, those that they took themselves included.
    fn follow(&self, from: &[String], walk: &mut Walk, depth: usize) -> Result<Vec<Inherited>> {
        if depth > MAX_DEPTH {
            return Err(Fault::invalid(format!(
                "volumes-from: more than {MAX_DEPTH} containers take volumes from one another"
            )));
        }
        let mut all = Vec::new();
        for (key, read_only) in mounts::volumes_from(from)? {
            // Not 404, like dockerd: the CLI takes that for a missing image.
            let other = self.container(key).map_err(|fault| Fault::invalid(fault.message))?.record;
            let deeper: Vec<MountPlan> =
                self.inherited(&other, walk, depth)?.iter().map(Inherited::plan).collect();
            for plan in mounts::plan(&other.body, &other.image, &deeper)?.plans {
                let (volume, bind) = match plan.kind {
                    MountKind::Named(name) => (name, None),
                    MountKind::Anonymous => (anonymous_name(&other, &plan.target), None),
                    MountKind::Bind(bind) => (String::new(), Some(bind)),
                    MountKind::Tmpfs(_) | MountKind::Shm(_) => continue,
                };
                let taken = Inherited {
                    from: other.id.clone(),
                    volume,
                    bind,
                    target: plan.target,
                    read_only: plan.read_only || read_only,
                    subpath: plan.subpath,
                };
                mounts::inherit(&mut all, taken)?;
            }
        }
        Ok(all)
    }
}

fn circle(record: &Record) -> Fault {
    Fault::invalid(format!(
        "volumes-from: container {} takes volumes from itself by way of others; create it again",
        record.name
    ))
}
