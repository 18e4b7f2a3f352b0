//! Docker networks: synthetic, kept in ConfigMaps, with real names. Whenever a member's address
//! or names change, the EndpointSlices of its networks are written anew from the caches.

use std::collections::BTreeMap;

use bollard_stubs::models::{EndpointSettings, NetworkCreateRequest};
use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use rand::Rng;
use serde_json::{Value, json};

use super::Daemon;
use super::decisions::{What, pairs};
use super::links::address;
use d2k_common::fault::{Fault, Kind as FaultKind, Result};
use d2k_translate::bounds;
use d2k_translate::container::{Container, Kind};
use d2k_translate::keys;
use d2k_translate::links;
use d2k_translate::network::{self, Member, Network, PREDEFINED, member_names};
use d2k_translate::record::{self, Membership, Record};

/// A random Docker ID: 64 hex digits.
pub(crate) fn random_id() -> String {
    hex::encode(rand::rng().random::<[u8; 32]>())
}

impl Daemon {
    /// All networks, Docker's own first.
    pub fn networks(&self) -> Vec<Network> {
        let namespace = self.cluster.namespace();
        let mut all: Vec<Network> =
            PREDEFINED.iter().map(|name| Network::predefined(name, namespace)).collect();
        all.extend(self.cluster.cache::<ConfigMap>().all().iter().filter_map(|m| Network::read(&m.object)));
        all
    }

    /// The network that a client means: full ID, exact name, unique ID prefix.
    ///
    /// # Errors
    /// 404 if there is none, 400 if several fit.
    pub fn network(&self, key: &str) -> Result<Network> {
        let key = if key == "default" { "bridge" } else { key };
        let all = self.networks();
        let exact = all.iter().find(|n| n.id == key).or_else(|| all.iter().find(|n| n.name == key));
        if let Some(found) = exact {
            return Ok(found.clone());
        }
        let hits: Vec<&Network> = all.iter().filter(|n| !key.is_empty() && n.id.starts_with(key)).collect();
        match hits.as_slice() {
            [one] => Ok((*one).clone()),
            [] => Err(Fault::not_found(format!("network {key} not found"))),
            many => Err(Fault::invalid(format!(
                "network {key} is ambiguous ({} matches found on ID prefix)",
                many.len()
            ))),
        }
    }

    /// The ID of a network by the name under which a container is in it.
    pub(crate) fn network_id(&self, name: &str, membership: &Membership) -> String {
        let known = || self.network(name).map(|n| n.id).unwrap_or_default();
        Some(membership.network_id.clone()).filter(|id| !id.is_empty()).unwrap_or_else(known)
    }

    /// Creates a network.
    ///
    /// # Errors
    /// 409 if the name is in use, 400 or 403 for names and drivers that cannot be.
    pub async fn create_network(&self, request: NetworkCreateRequest) -> Result<(Network, String)> {
        check_network(&request)?;
        let name = request.name.clone();
        let _lock = self.network_lock.lock().await;
        if self.networks().iter().any(|n| n.name == name) {
            return Err(Fault::conflict(format!("network with name {name} already exists")));
        }
        let driver = request.driver.clone().filter(|d| !d.is_empty()).unwrap_or_else(|| "bridge".into());
        let set = self.policies.current();
        let labels = pairs(&request.labels.clone().unwrap_or_default());
        let named = self.object_named(&set, What::Network, &name, labels, None)?;
        let (object, mut warnings) = (named.plan.name, named.warnings);
        let network = Network {
            id: random_id(),
            name: name.clone(),
            object,
            created: Timestamp::now(),
            request,
            driver,
        };
        let mut map = network.config_map();
        let notes = map.metadata.annotations.get_or_insert_default();
        notes.insert(keys::POLICIES.into(), json!({"naming": named.by}).to_string());
        self.create_shaped(&set, map, None, &mut warnings).await?;
        self.create_shaped(&set, network.service(), None, &mut warnings).await?;
        self.tell_network("created", &network, BTreeMap::new());
        let warning = format!(
            "network {name} gives its members names but does not isolate them: all Pods of namespace {} reach one \
             another",
            self.cluster.namespace()
        );
        warnings.insert(0, warning);
        let warning = warnings.join("; ");
        tracing::warn!(network = %name, "{warning}");
        Ok((network, warning))
    }

    /// Removes a network.
    ///
    /// # Errors
    /// 403 for Docker's own and for one with running members.
    pub async fn remove_network(&self, key: &str) -> Result<()> {
        let network = self.network(key)?;
        if network::is_predefined(&network.name) {
            let message = format!("{} is a pre-defined network and cannot be removed", network.name);
            return Err(Fault::forbidden(message));
        }
        let _lock = self.network_lock.lock().await;
        let members = self.members(&network);
        let active: Vec<&Container> = members.iter().filter(|c| c.state().running()).collect();
        if let Some(member) = active.first() {
            return Err(Fault::forbidden(format!(
                "error while removing network: network {} has active endpoints (name:\"{}\" id:\"{}\")",
                network.name,
                member.record.name,
                member.record.id.get(..12).unwrap_or_default()
            )));
        }
        self.cluster.delete_uncached::<EndpointSlice>(&network.object).await?;
        self.cluster.delete::<Service>(&network.object, None).await?;
        self.cluster.delete::<ConfigMap>(&network.object, None).await?;
        self.tell_network("removed", &network, BTreeMap::new());
        Ok(())
    }

    fn tell_network(&self, action: &str, network: &Network, mut attributes: BTreeMap<String, String>) {
        attributes.insert("name".into(), network.name.clone());
        attributes.insert("type".into(), network.driver.clone());
        self.tell_of("network", action, &network.id, attributes);
    }

    /// The containers of a network, running or not.
    pub fn members(&self, network: &Network) -> Vec<Container> {
        let is_member = |c: &Container| c.own && c.record.networks.contains_key(&network.name);
        self.containers().into_iter().filter(is_member).collect()
    }

    /// Fails if a container is in a network that does not exist (any more).
    pub(crate) fn require_networks(&self, container: &Container) -> Result<()> {
        for name in container.record.networks.keys() {
            self.network(name)?;
        }
        Ok(())
    }

    /// The search domains of a container's networks and links.
    pub(crate) fn search_domains(&self, record: &Record) -> Vec<String> {
        let (namespace, domain) = (self.cluster.namespace(), &self.options.cluster_domain);
        let networks = record.user_networks().filter_map(|(name, _)| self.network(name).ok());
        // What a link means is looked up before the names of its network.
        links::domain(record, namespace, domain)
            .into_iter()
            .chain(networks.map(|network| network.domain(namespace, domain)))
            .collect()
    }

    /// Connects a container to a network.
    ///
    /// # Errors
    /// 403 if it is in it, 404 if either does not exist.
    pub async fn connect_network(
        &self,
        key: &str,
        container: &str,
        settings: Option<EndpointSettings>,
    ) -> Result<()> {
        let network = self.network(key)?;
        if container.is_empty() {
            return Err(Fault::invalid("invalid name or ID supplied: \"\""));
        }
        let container = self.container(container)?;
        if network.driver == "host" {
            return Err(Fault::invalid(
                "container cannot be disconnected from host network or connected to host network",
            ));
        }
        self.require_own(&container, "connected to a network")?;
        let record = &container.record;
        if record.networks.contains_key(&network.name) && container.state().running() {
            return Err(Fault::forbidden(format!(
                "endpoint with name {} already exists in network {}",
                record.name, network.name
            )));
        }
        let membership = membership(&network, settings.as_ref());
        self.change_networks(&container, |networks| {
            networks.insert(network.name.clone(), membership.clone());
        })
        .await?;
        if container.state().running() && !network::is_predefined(&network.name) {
            tracing::warn!(
                container = %record.name, network = %network.name,
                "the container is known in the network from now on, and resolves its names after a restart"
            );
        }
        self.tell_network("joined", &network, [("container".to_owned(), record.id.clone())].into());
        Ok(())
    }

    /// Disconnects a container from a network.
    ///
    /// # Errors
    /// 403 if it is not in it, 404 if either does not exist.
    pub async fn disconnect_network(&self, key: &str, container: &str) -> Result<()> {
        let network = self.network(key)?;
        let container = self.container(container)?;
        self.require_own(&container, "disconnected from a network")?;
        let record = &container.record;
        if !record.networks.contains_key(&network.name) {
            return Err(Fault::forbidden(format!(
                "container {} is not connected to network {}",
                record.id, network.name
            )));
        }
        self.change_networks(&container, |networks| {
            networks.remove(&network.name);
        })
        .await?;
        self.tell_network("left", &network, [("container".to_owned(), record.id.clone())].into());
        Ok(())
    }

    async fn change_networks(
        &self,
        container: &Container,
        change: impl Fn(&mut BTreeMap<String, Membership>),
    ) -> Result<()> {
        let id = &container.record.id;
        let _lock = self.locks.container(id).await;
        let container = self.container(id)?;
        let mut networks = container.record.networks.clone();
        change(&mut networks);
        self.annotate(&container, &json!({keys::NETWORKS: record::json(&networks)})).await?;
        self.renew_created_job(id).await?;
        self.sync_networks().await;
        Ok(())
    }

    /// A Job that has not run is made anew after a change, since its template is immutable.
    /// A Deployment's template is made at each start.
    pub(crate) async fn renew_created_job(&self, id: &str) -> Result<()> {
        let container = self.container(id)?;
        if container.kind != Kind::Job || container.wanted > 0 || container.pod().is_some() {
            return Ok(());
        }
        let template = self.template(&container.record).await?;
        self.remake_job(&container, template, true).await
    }

    /// Whether others find a container by names that change with its address.
    pub(crate) fn is_looked_for(&self, record: &Record) -> bool {
        record.user_networks().next().is_some() || self.links.lead_to(record)
    }

    /// Writes the members' addresses of all networks. Failures are logged: the next change tries again.
    pub(crate) async fn sync_networks(&self) {
        let _lock = self.network_lock.lock().await;
        for network in self.networks().into_iter().filter(|n| !n.object.is_empty()) {
            let mut members: Vec<Member> =
                self.members(&network).iter().filter_map(|c| self.member(&network, c)).collect();
            members.sort();
            if !self.networks_written.changed(&network.object, &members) {
                continue;
            }
            if let Err(error) = self.cluster.apply(&network.endpoints(&members)).await
                && error.kind != FaultKind::NotFound
            {
                self.networks_written.forget(&network.object);
                tracing::warn!(network = %network.name, %error, "the names of the network could not be written");
            }
        }
        self.sync_links().await;
    }

    fn member(&self, network: &Network, container: &Container) -> Option<Member> {
        let record = &container.record;
        let membership = record.networks.get(&network.name)?;
        let own = [record.name.as_str(), record.id.get(..12)?];
        let host = record.body.hostname.as_deref().filter(|h| !h.is_empty());
        let aliases = membership.aliases.iter().map(String::as_str);
        Some(Member {
            address: address(container)?,
            names: member_names(own.into_iter().chain(host).chain(aliases)),
        })
    }

    /// `Containers` of a network's inspect: the running members.
    pub fn network_containers(&self, network: &Network) -> Value {
        let mut all = serde_json::Map::new();
        let default = |c: &Container| !c.own && network.name == "bridge";
        for container in self.containers() {
            let member = (container.own && container.record.networks.contains_key(&network.name))
                || default(&container);
            if !member || !container.state().running() {
                continue;
            }
            let ip = container.ip().unwrap_or_default();
            all.insert(
                container.record.id.clone(),
                json!({
                    "Name": container.record.name,
                    "EndpointID": d2k_translate::settings::endpoint_id(&container.record.id, &network.name),
                    "MacAddress": "",
                    "IPv4Address": if ip.is_empty() || ip.contains(':') { String::new() } else { format!("{ip}/32") },
                    "IPv6Address": if ip.contains(':') { format!("{ip}/128") } else { String::new() },
                }),
            );
        }
        Value::Object(all)
    }
}

/// A membership from a client's endpoint settings.
pub(crate) fn membership(network: &Network, settings: Option<&EndpointSettings>) -> Membership {
    Membership {
        network_id: network.id.clone(),
        aliases: settings.and_then(|s| s.aliases.clone()).unwrap_or_default(),
        settings: settings.and_then(|s| serde_json::to_value(s).ok()).unwrap_or(Value::Null),
    }
}

fn check_network(request: &NetworkCreateRequest) -> Result<()> {
    let name = request.name.as_str();
    bounds::network(request)?;
    if name.trim().is_empty() {
        return Err(Fault::invalid("invalid name: name is empty"));
    }
    if name.contains('/') {
        return Err(Fault::invalid(format!(
            "invalid name {name}: a slash cannot be part of a path's segment"
        )));
    }
    if network::is_predefined(name) {
        let message = format!("operation is not permitted on predefined {name} network");
        return Err(Fault::forbidden(message));
    }
    for pool in request.ipam.iter().flat_map(|ipam| ipam.config.iter().flatten()) {
        let subnet = pool.subnet.as_deref().unwrap_or_default();
        if !subnet.is_empty() && subnet.parse::<IpNet>().is_err() {
            return Err(Fault::invalid(format!(
                "invalid network config:\ninvalid subnet {subnet}: invalid CIDR block notation"
            )));
        }
    }
    match request.driver.as_deref().unwrap_or_default() {
        "" | "bridge" | "overlay" | "default" => Ok(()),
        "host" | "null" => Err(Fault::forbidden("only one instance of this network is allowed")),
        other => Err(Fault::not_found(format!(
            "could not find plugin {other} in v1 plugin registry: plugin not found"
        ))),
    }
}

/// What was written to the EndpointSlices last, so that only changes are.
#[derive(Default)]
pub struct Written(parking_lot::Mutex<BTreeMap<String, Vec<Member>>>);

impl Written {
    pub(super) fn changed(&self, object: &str, members: &[Member]) -> bool {
        let mut all = self.0.lock();
        let same = all.get(object).is_some_and(|old| old == members);
        if !same {
            all.insert(object.to_owned(), members.to_vec());
        }
        !same
    }

    pub(super) fn forget(&self, object: &str) {
        self.0.lock().remove(object);
    }
}
