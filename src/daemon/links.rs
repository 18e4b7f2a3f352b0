//! Containers that know others by links: who they are, their Services, and the addresses in them, which
//! are written anew with those of the networks.

use std::collections::HashMap;

use bollard_stubs::models::ContainerCreateBody;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::Mutex;

use super::Daemon;
use super::decisions;
use d2k_common::fault::{Fault, Kind as FaultKind, Result};
use d2k_translate::container::Container;
use d2k_translate::links;
use d2k_translate::network::{Member, member_names};
use d2k_translate::record::Record;
use d2k_translate::request::Link;
use d2k_translate::state::Phase;

/// The links of all containers that have any, by ID.
#[derive(Default)]
pub struct Links(Mutex<HashMap<String, Vec<Link>>>);

impl Links {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<String, Vec<Link>>) -> T) -> T {
        act(&mut self.0.lock())
    }

    /// Takes note of a container's links.
    pub(crate) fn note(&self, record: &Record) {
        let links = links::of(record);
        if links.is_empty() {
            self.forget(&record.id);
        } else {
            self.with(|all| all.insert(record.id.clone(), links));
        }
    }

    /// Forgets a container that is gone.
    pub(crate) fn forget(&self, id: &str) {
        self.with(|all| all.remove(id));
    }

    /// Whether another container knows this one by a link.
    pub(crate) fn lead_to(&self, record: &Record) -> bool {
        self.with(|all| all.values().flatten().any(|link| links::means(link, record)))
    }

    /// Whether a container is called so by a link.
    pub(crate) fn use_alias(&self, alias: &str) -> bool {
        self.with(|all| all.values().flatten().any(|link| link.alias.eq_ignore_ascii_case(alias)))
    }

    fn all(&self) -> Vec<(String, Vec<Link>)> {
        self.with(|all| all.iter().map(|(id, links)| (id.clone(), links.clone())).collect())
    }
}

impl Daemon {
    /// Refuses links of Docker's default network to containers that do not exist.
    pub(crate) fn require_linked(&self, body: &ContainerCreateBody) -> Result<()> {
        let host = body.host_config.clone().unwrap_or_default();
        if !matches!(host.network_mode.as_deref(), None | Some("" | "default" | "bridge")) {
            return Ok(());
        }
        for text in host.links.iter().flatten() {
            let link = Link::parse(text)?;
            // Not 404: the CLI takes that for a missing image.
            self.container(&link.target).map_err(|fault| {
                Fault::invalid(format!("could not get container for {}: {}", link.target, fault.message))
            })?;
        }
        Ok(())
    }

    /// Makes what a container needs to find the containers that it is linked to.
    pub(crate) async fn ensure_links(&self, record: &Record) -> Result<()> {
        self.links.note(record);
        if links::of(record).is_empty() {
            return Ok(());
        }
        let name = links::object_name(record);
        if self.cluster.cache::<Service>().get(&name).is_none() {
            let set = self.policies.current();
            let asked = decisions::container(record);
            let made = self.create_shaped(&set, links::service(record), Some(&asked), &mut Vec::new()).await;
            // Another d2k may have made it.
            made.map(|_| ())
                .or_else(|fault| if fault.kind == FaultKind::Conflict { Ok(()) } else { Err(fault) })?;
        }
        self.sync_networks().await;
        Ok(())
    }

    /// Removes the addresses of a container's links; its Service goes with its other ones.
    pub(crate) async fn remove_links(&self, record: &Record) -> Result<()> {
        self.links.forget(&record.id);
        if links::of(record).is_empty() {
            return Ok(());
        }
        let name = links::object_name(record);
        self.networks_written.forget(&name);
        self.cluster.delete_uncached::<EndpointSlice>(&name).await
    }

    /// Writes the addresses of all linked containers.
    pub(super) async fn sync_links(&self) {
        for (id, all) in self.links.all() {
            let Some(container) = self.container_by_id(&id) else { continue };
            let name = links::object_name(&container.record);
            // Before its first start it has no names.
            if self.cluster.cache::<Service>().get(&name).is_none() {
                continue;
            }
            let mut members: Vec<Member> = all.iter().filter_map(|link| self.linked(link)).collect();
            members.sort();
            if !self.networks_written.changed(&name, &members) {
                continue;
            }
            let slice = links::endpoints(&container.record, &members);
            if let Err(error) = self.cluster.apply(&slice).await
                && error.kind != FaultKind::NotFound
            {
                self.networks_written.forget(&name);
                tracing::warn!(container = %container.record.name, %error, "the names of its links could not be written");
            }
        }
    }

    /// A linked container under the names of the link, while it has an address.
    fn linked(&self, link: &Link) -> Option<Member> {
        let other = self.container(&link.target).ok()?;
        let record = &other.record;
        let names = [link.alias.as_str(), record.name.as_str(), record.id.get(..12)?];
        Some(Member { address: address(&other)?, names: member_names(names) })
    }

    /// The variables that tell a container of those that it is linked to on the default network.
    pub(crate) fn link_variables(&self, record: &Record) -> Vec<(String, String)> {
        let variables = |link: Link| {
            let other = self.container(&link.target).ok()?;
            let address = address(&other).unwrap_or_default();
            Some(links::variables(&link, &record.name, &other.record, &address))
        };
        links::of_bridge(record).into_iter().filter_map(variables).flatten().collect()
    }
}

/// The address of a container that others may look for: before it runs, since its names must resolve before
/// its first instruction, and not when it ends.
pub(super) fn address(container: &Container) -> Option<String> {
    let (pod, state) = (container.pod()?, container.state());
    // Until it runs, what is known of its state is the end of the run before.
    let over = state.phase == Phase::Exited && Some(&state.run.pod) == pod.metadata.uid.as_ref();
    if over || pod.metadata.deletion_timestamp.is_some() { None } else { container.ip() }
}
