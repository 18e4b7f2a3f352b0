//! The generic verbs on any kind: create, update, patch, delete. What every write has in common
//! (metadata, defaults, checks, ownership of fields) is done here, once.

mod delete;
mod write;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use d2k_engine::Feature;
use serde_json::Value;

pub use delete::{DeleteOptions, Deleted, Propagation};
pub use write::scale_of;

use super::kinds::{self, Kind};
use super::meta;
use super::patch::manager::Manager;
use super::schema::Validation;
use super::status::{Cause, Result, Status};
use super::store::{List, Store};

/// Keeps a claim until no Pod uses it.
pub const PROTECTION: &str = "kubernetes.io/pvc-protection";

/// Addresses and names that the API server gives out.
#[derive(Debug, Clone)]
pub struct Settings {
    /// First address of the range of Services.
    pub services: Ipv4Addr,
    /// Length of the range's prefix, at most 24.
    pub services_prefix: u8,
    /// Name of the default storage class.
    pub storage_class: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { services: Ipv4Addr::new(10, 96, 0, 0), services_prefix: 16, storage_class: "standard".into() }
    }
}

/// The objects with the rules of Kubernetes about them.
pub struct Api {
    /// Where they live.
    pub store: Store,
    settings: Settings,
    /// What the engine that runs the Pods does not do.
    lacks: Vec<Feature>,
}

/// Addresses at the beginning of the range of Services that are given to nobody.
const OWN_ADDRESSES: u32 = 16;

/// The parts of the cluster itself, as a manager of fields.
const CONTROLLERS: &str = "d2k-controllers";

/// What a write is about, besides its body.
#[derive(Debug, Clone)]
pub struct Target {
    /// Kind.
    pub kind: &'static Kind,
    /// Namespace, empty for kinds without.
    pub namespace: String,
    /// Name, empty for a create.
    pub name: String,
    /// `status`, `scale`, `resize`, or empty.
    pub subresource: String,
    /// Who writes.
    pub manager: Manager,
    /// Everything but the write itself.
    pub dry_run: bool,
    /// What is done about unknown fields.
    pub validation: Validation,
    /// Fields that the body had twice.
    pub twice: Vec<String>,
}

impl Target {
    /// An object, written by a part of the cluster itself.
    pub fn own(kind: &'static Kind, namespace: &str, name: &str) -> Self {
        Self {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: String::new(),
            manager: Manager { name: CONTROLLERS.into(), ..Manager::default() },
            dry_run: false,
            validation: Validation::Ignore,
            twice: Vec::new(),
        }
    }

    /// The same for a subresource.
    pub fn of(mut self, subresource: &str) -> Self {
        self.subresource = subresource.to_owned();
        self.manager.subresource = subresource.to_owned();
        self
    }
}

/// An object that was written.
#[derive(Debug, Clone)]
pub struct Written {
    /// As it is now.
    pub object: Arc<Value>,
    /// It was not there before.
    pub created: bool,
    /// For the client's user.
    pub warnings: Vec<String>,
}

impl Written {
    /// With warnings of a step before.
    fn after(mut self, mut warnings: Vec<String>) -> Self {
        warnings.append(&mut self.warnings);
        Self { warnings, ..self }
    }
}

impl Api {
    /// An API over a store.
    pub fn new(store: Store, settings: Settings) -> Self {
        Self { store, settings, lacks: Vec::new() }
    }

    /// The same over an engine without these features: clients are warned where they use them.
    pub fn without(self, lacks: Vec<Feature>) -> Self {
        Self { lacks, ..self }
    }

    /// One object.
    ///
    /// # Errors
    /// 404.
    pub fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Result<Arc<Value>> {
        self.store.get(kind, namespace, name).ok_or_else(|| Status::not_found(kind, name))
    }

    /// All objects of a kind, of one namespace or of all (empty).
    pub fn list(&self, kind: &Kind, namespace: &str) -> List {
        self.store.list(kind, namespace)
    }

    /// Changes an object as a part of the cluster does; nothing if it is gone.
    ///
    /// # Errors
    /// Those of an update.
    pub fn modify(&self, target: &Target, change: impl FnOnce(&mut Value)) -> Result<Option<Arc<Value>>> {
        match self.change(target, |old| {
            let mut object = old.clone();
            change(&mut object);
            Ok(object)
        }) {
            Ok(written) => Ok(Some(written.object)),
            Err(status) if status.code == 404 => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// A namespace takes objects.
    fn require_namespace(&self, target: &Target, name: &str) -> Result<()> {
        if !target.kind.namespaced {
            return Ok(());
        }
        let namespace = self.get(&kinds::NAMESPACE, "", &target.namespace)?;
        if meta::deleting(&namespace) && target.kind.name != "Event" {
            let words = format!(
                "unable to create new content in namespace {} because it is being terminated",
                target.namespace
            );
            let mut status = Status::forbidden(target.kind, name, &words);
            let causes = serde_json::json!([{
                "reason": "NamespaceTerminating", "field": "metadata.namespace",
                "message": format!("namespace {} is being terminated", target.namespace),
            }]);
            meta::map(&mut status.details).insert("causes".into(), causes);
            return Err(status);
        }
        Ok(())
    }

    /// Gives a Service its addresses and ports, and a claim its class.
    fn allocate(&self, target: &Target, object: &mut Value, old: Option<&Value>) -> Result<()> {
        match target.kind.name {
            "Service" => self.allocate_service(target, object, old),
            "PersistentVolumeClaim" if old.is_none() => {
                let spec = meta::map(meta::child(object, "spec"));
                if !spec.contains_key("storageClassName") {
                    spec.insert("storageClassName".into(), self.settings.storage_class.as_str().into());
                }
                let mut finalizers: Vec<String> =
                    meta::list(object, "finalizers").into_iter().map(str::to_owned).collect();
                if !finalizers.iter().any(|finalizer| finalizer == PROTECTION) {
                    finalizers.push(PROTECTION.to_owned());
                }
                meta::set(object, "finalizers", finalizers);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn allocate_service(&self, target: &Target, object: &mut Value, old: Option<&Value>) -> Result<()> {
        let kind = target.kind;
        let name = meta::name(object).to_owned();
        let others = self.list(kind, "").items;
        let others: Vec<&Arc<Value>> = others.iter().filter(|o| meta::uid(o) != meta::uid(object)).collect();
        let spec = meta::child(object, "spec");
        if let Some(old) = old {
            drop_of_type(meta::at(old, &["spec"]), spec);
        }
        let typed = meta::string(spec, &["type"]).to_owned();
        let kept = old.map(|old| meta::string(old, &["spec", "clusterIP"])).unwrap_or_default();
        let address = match meta::string(spec, &["clusterIP"]) {
            "" if !kept.is_empty() => kept.to_owned(),
            "" => self.free_address(&others)?,
            given => given.to_owned(),
        };
        if typed == "ExternalName" {
            meta::map(spec).remove("clusterIP");
            meta::map(spec).remove("clusterIPs");
        } else {
            // One that it has may not be changed, which is told first: by validation.
            let is_new = kept.is_empty() && address != "None";
            if is_new && others.iter().any(|o| meta::string(o, &["spec", "clusterIP"]) == address) {
                let words = format!("failed to allocate IP {address}: provided IP is already allocated");
                return Err(Status::invalid(
                    kind,
                    &name,
                    &[Cause::invalid("spec.clusterIPs", &serde_json::json!([address]), &words)],
                ));
            }
            let first = u32::from(self.settings.services);
            let mask = u32::MAX << (32 - u32::from(self.settings.services_prefix));
            let inside = |address: Ipv4Addr| u32::from(address) & mask == first;
            if is_new && !address.parse().is_ok_and(inside) {
                let words = format!(
                    "failed to allocate IP {address}: the provided IP ({address}) is not in the valid range. \
                     The range of valid IPs is {}/{}",
                    self.settings.services, self.settings.services_prefix
                );
                let cause = Cause::invalid("spec.clusterIPs", &serde_json::json!([address]), &words);
                return Err(Status::invalid(kind, &name, &[cause]));
            }
            meta::map(spec).insert("clusterIP".into(), address.as_str().into());
            meta::map(spec).insert("clusterIPs".into(), serde_json::json!([address]));
        }
        allocate_ports(target, &name, spec, &others, old)
    }

    fn free_address(&self, others: &[&Arc<Value>]) -> Result<String> {
        let first = u32::from(self.settings.services);
        // The first ones are the API server's and DNS's own.
        let size = (1_u32 << (32 - u32::from(self.settings.services_prefix))) - 2 - OWN_ADDRESSES;
        let taken: BTreeSet<&str> = others.iter().map(|o| meta::string(o, &["spec", "clusterIP"])).collect();
        let start = rand::random_range(0..size);
        (0..size)
            .map(|step| Ipv4Addr::from(first + OWN_ADDRESSES + (start + step) % size).to_string())
            .find(|address| !taken.contains(address.as_str()))
            .ok_or_else(|| Status::internal("failed to allocate a serviceIP: range is full"))
    }
}

/// A Service that becomes one of another type loses what only its old type had, if nobody has changed it.
fn drop_of_type(old: &Value, new: &mut Value) {
    let (before, now) = (meta::string(old, &["type"]).to_owned(), meta::string(new, &["type"]).to_owned());
    let outside = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    let mut gone: Vec<&str> = Vec::new();
    if outside(&before) && !outside(&now) {
        gone.extend(["externalTrafficPolicy", "healthCheckNodePort"]);
    }
    if before == "LoadBalancer" && now != "LoadBalancer" {
        gone.extend(["allocateLoadBalancerNodePorts", "loadBalancerClass"]);
    }
    if before != "ExternalName" && now == "ExternalName" {
        gone.extend(["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"]);
    }
    meta::map(new).retain(|field, value| !gone.contains(&field.as_str()) || old.get(field) != Some(value));
}

/// Gives the ports of a Service that is seen from outside their node ports.
fn allocate_ports(
    target: &Target,
    name: &str,
    spec: &mut Value,
    others: &[&Arc<Value>],
    old: Option<&Value>,
) -> Result<()> {
    let kind = target.kind;
    let typed = meta::string(spec, &["type"]);
    let external = typed == "NodePort"
        || (typed == "LoadBalancer"
            && meta::at(spec, &["allocateLoadBalancerNodePorts"]).as_bool() != Some(false));
    let mut taken: BTreeSet<i64> = others
        .iter()
        .flat_map(|o| meta::items(o, &["spec", "ports"]))
        .filter_map(|port| meta::number(port, &["nodePort"]))
        .collect();
    let before = old.map(|old| meta::items(old, &["spec", "ports"]).to_vec()).unwrap_or_default();
    for port in super::defaults::list(spec, "ports") {
        if !external {
            meta::map(port).remove("nodePort");
            continue;
        }
        let same = before
            .iter()
            .find(|o| o.get("port") == port.get("port") && o.get("protocol") == port.get("protocol"));
        let wanted = meta::number(port, &["nodePort"])
            .filter(|p| *p > 0)
            .or_else(|| same.and_then(|o| meta::number(o, &["nodePort"])));
        let number = match wanted {
            Some(number) if taken.contains(&number) => {
                let cause = Cause::invalid(
                    "spec.ports[0].nodePort",
                    &number.into(),
                    "provided port is already allocated",
                );
                return Err(Status::invalid(kind, name, &[cause]));
            }
            Some(number) if !(30000..=32767).contains(&number) && !target.dry_run => {
                let words =
                    "provided port is not in the valid range. The range of valid ports is 30000-32767";
                return Err(Status::invalid(
                    kind,
                    name,
                    &[Cause::invalid("spec.ports[0].nodePort", &number.into(), words)],
                ));
            }
            Some(number) => number,
            None => free_port(&taken)?,
        };
        taken.insert(number);
        meta::map(port).insert("nodePort".into(), number.into());
    }
    Ok(())
}

fn free_port(taken: &BTreeSet<i64>) -> Result<i64> {
    let start: i64 = rand::random_range(0..2768);
    (0..2768)
        .map(|step| 30000 + (start + step) % 2768)
        .find(|port| !taken.contains(port))
        .ok_or_else(|| Status::internal("failed to allocate a nodePort: range is full"))
}

impl Api {
    /// Gives a Pod its Node, as the scheduler's binding does.
    ///
    /// # Errors
    /// 404, 409 if it has one.
    pub fn change_node(&self, target: &Target, node: &str) -> Result<()> {
        let mut taken = String::new();
        let bound = self.modify(target, |pod| {
            taken = meta::string(pod, &["spec", "nodeName"]).to_owned();
            if taken.is_empty() {
                meta::map(meta::child(pod, "spec")).insert("nodeName".into(), node.into());
            }
        })?;
        if !taken.is_empty() {
            let words = format!("pod {} is already assigned to node {taken:?}", target.name);
            return Err(Status::conflict(&kinds::BINDING, &target.name, &words));
        }
        let bound = bound.ok_or_else(|| Status::not_found(target.kind, &target.name))?;
        let status = Target::own(target.kind, meta::namespace(&bound), meta::name(&bound)).of("status");
        self.modify(&status, super::conditions::scheduled)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_are_given_until_none_is_left() {
        let services =
            Settings { services: Ipv4Addr::new(10, 0, 0, 0), services_prefix: 27, ..Settings::default() };
        let api = Api::new(Store::in_memory(), services);
        api.create(&Target::own(&kinds::NAMESPACE, "", ""), json!({"metadata": {"name": "default"}}))
            .unwrap();
        let make = |number: u32| {
            let service =
                json!({"metadata": {"name": format!("s{number}")}, "spec": {"ports": [{"port": 80}]}});
            api.create(&Target::own(&kinds::SERVICE, "default", ""), service)
        };
        let addresses: BTreeSet<String> = (0..14)
            .map(|number| meta::string(&make(number).unwrap().object, &["spec", "clusterIP"]).to_owned())
            .collect();
        assert_eq!(addresses.len(), 14);
        assert!(addresses.contains("10.0.0.16") && addresses.contains("10.0.0.29"), "{addresses:?}");
        let full = make(14).unwrap_err();
        assert_eq!(full.message, "Internal error occurred: failed to allocate a serviceIP: range is full");
    }

    #[test]
    fn a_name_that_is_made_is_a_label() {
        let api = Api::new(Store::in_memory(), Settings::default());
        let namespace = json!({"metadata": {"generateName": "a".repeat(63)}});
        let made = api.create(&Target::own(&kinds::NAMESPACE, "", ""), namespace).unwrap();
        assert_eq!(meta::name(&made.object).len(), 63);
    }
}
