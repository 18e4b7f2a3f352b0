//! What inspect and list need beside the container itself, gathered from the caches.

use std::collections::BTreeMap;

use super::Daemon;
use super::pipe::Reader;
use d2k_cluster::TerminalSize;
use d2k_common::fault::{Fault, Result};
use d2k_translate::container::Container;
use d2k_translate::inspect::Context;
use d2k_translate::mounts::{self, MountKind, MountPlan};
use d2k_translate::record::{Membership, Record};
use d2k_translate::state::Phase;

impl Daemon {
    /// The part of a view that all containers share; `api` is the minor version of the client.
    pub fn view_base(&self, api: u32) -> Context {
        let networks: BTreeMap<String, String> =
            self.networks().into_iter().map(|n| (n.name, n.id)).collect();
        Context { networks, api, namespace: self.cluster.namespace().to_owned(), ..Context::default() }
    }

    /// The view of one container.
    pub fn view(&self, container: &Container, base: &Context) -> Context {
        let runs = container.state().phase == Phase::Running;
        Context {
            mounts: self.mounts_of(container),
            health: runs.then(|| self.health(&container.record.id)).flatten(),
            execs: self.execs.running(&container.record.id),
            ..base.clone()
        }
    }

    /// The mounts of a container with the Docker names of their volumes.
    pub fn mounts_of(&self, container: &Container) -> Vec<(MountPlan, String)> {
        let record = &container.record;
        let inherited = self.inherited_mounts(record).unwrap_or_default();
        let plans =
            mounts::plan(&record.body, &record.image, &inherited).map(|m| m.plans).unwrap_or_default();
        plans
            .into_iter()
            .map(|plan| {
                let name = match &plan.kind {
                    MountKind::Named(name) => name.clone(),
                    MountKind::Anonymous => super::volumes::anonymous_name(record, &plan.target),
                    MountKind::Bind(_) | MountKind::Tmpfs(_) | MountKind::Shm(_) => String::new(),
                };
                (plan, name)
            })
            .collect()
    }

    /// The ID of a network by the name under which a container is in it.
    pub fn network_id_of(&self, name: &str, membership: &Membership) -> String {
        self.network_id(name, membership)
    }

    /// Notes a reader of a container's output.
    pub fn reader(&self, id: &str) -> Reader {
        self.attached.enter(id)
    }

    /// Tells the terminal size of a container.
    pub fn resize(&self, record: &Record, size: TerminalSize) {
        self.attached.resize(&record.id, size);
        let extra = [("height", size.height.to_string()), ("width", size.width.to_string())];
        self.tell(record, "resized", extra);
    }

    /// Tells the terminal size of an exec.
    ///
    /// # Errors
    /// 404 for an unknown exec.
    pub fn resize_exec(&self, id: &str, size: TerminalSize) -> Result<()> {
        let exec = self.exec(id)?;
        if exec.exit_code.is_some() {
            return Err(Fault::not_found("no such exec"));
        }
        self.attached.resize(&exec.id, size);
        Ok(())
    }
}
