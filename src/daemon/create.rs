//! `docker create`: checks the request, resolves what it names (image, volumes, networks, ports),
//! asks the policies, and makes the objects. Either all of them are made or none is left.

use std::collections::BTreeMap;

use bollard_stubs::models::ContainerCreateBody;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PodTemplateSpec, Service};
use serde_json::Value;

use super::Daemon;
use super::decisions::{self, What, pairs};
use super::images::Puller;
use super::locks::NameGuard;
use super::networks::{membership, random_id};
use super::publish::Reserved;
use super::reservations::Reservation;
use d2k_common::fault::{Fault, Kind as FaultKind, Result};
use d2k_policy::bindings::images::exports::d2k::policy::images::Purpose;
use d2k_policy::bindings::ports::exports::d2k::policy::ports;
use d2k_policy::bindings::workload::exports::d2k::policy::workload::{self as workload_policy, WorkloadKind};
use d2k_policy::component::Hook;
use d2k_policy::set::Set;
use d2k_registry::Credentials;
use d2k_translate::container::{Container, Kind};
use d2k_translate::pod::{context::PodContext, pod_template};
use d2k_translate::record::{Membership, PublishedPort, Record, RunState};
use d2k_translate::{bindings, bounds, fields, helper, names, service, validate, workload};

/// How many generated names are tried before the container is called by its ID.
const NAMES_TRIED: usize = 100;

/// A create call.
pub struct Request {
    /// `?name=`, empty for a generated one.
    pub name: String,
    /// `?platform=`, empty for any.
    pub platform: String,
    /// The body, typed.
    pub body: ContainerCreateBody,
    /// The body as it came.
    pub raw: Value,
    /// Credentials for the registry, if the client sent any.
    pub credentials: Option<Credentials>,
    /// The client's identity, as far as its connection tells (`peer.rs` of the HTTP front).
    pub client: String,
}

/// The answer.
pub struct Created {
    /// 64 hex digits.
    pub id: String,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl Daemon {
    /// Creates a container.
    ///
    /// # Errors
    /// 400 for a wrong request, 404 if the image is unknown, 409 if the name is in use.
    pub async fn create(&self, request: Request) -> Result<Created> {
        let mut warnings = fields::check(&request.raw)?;
        let asked = request.body.image.clone().unwrap_or_default();
        if asked.is_empty() {
            return Err(Fault::invalid("no image specified: \"Image\" is empty or missing"));
        }
        super::images::check_name(&asked)?;
        bounds::container(&request.name, &request.body, &request.raw)?;
        let set = self.policies.current();
        let meant = set.image(&super::images::question(&asked, Purpose::Create))?;
        warnings.extend(meant.warnings);
        let puller = Puller {
            credentials: request.credentials.as_ref(),
            platform: &request.platform,
            client: &request.client,
        };
        let (image, pull_secret) = self.image_for_create(&asked, &meant.plan.reference, &puller).await?;
        validate::request(&request.body, &image)?;
        self.require_linked(&request.body)?;
        let inherited = self.resolve_volumes_from(&request.body)?;
        let id = random_id();
        let (_guard, reserved) = self.take_name(&request.name, &id).await?;
        let (ports, _ports) = match self.choose_ports(&request.body, &mut warnings).await {
            Ok(chosen) => chosen,
            Err(fault) => {
                self.release_name(reserved.name(), &id).await;
                return Err(fault);
            }
        };
        let mut record = Record {
            id,
            object: String::new(),
            name: reserved.name().to_owned(),
            created: Timestamp::now(),
            networks: self.memberships(&request.body),
            inherited: Some(inherited),
            body: request.body,
            raw: request.raw,
            image,
            pull_secret,
            ports,
            state: RunState::default(),
            warnings: Vec::new(),
            staged: false,
            helper: None,
            leave: None,
            paused: String::new(),
            decided: [(Hook::Images.name().to_owned(), meant.by)].into(),
        };
        if let Err(fault) = self.make(&set, &mut record, &reserved, &mut warnings).await {
            self.release_name(&record.name, &record.id).await;
            return Err(fault);
        }
        for warning in &warnings {
            tracing::warn!(container = %record.name, "{warning}");
        }
        Ok(Created { id: record.id, warnings })
    }

    /// Reserves the name that was asked for, or one of d2k's choice.
    async fn take_name(&self, asked: &str, id: &str) -> Result<(NameGuard<'_>, Reservation)> {
        let asked = asked.strip_prefix('/').unwrap_or(asked);
        if !asked.is_empty() {
            validate::name(asked)?;
            return self.try_name(asked, id).await;
        }
        for name in std::iter::repeat_with(names::random).take(NAMES_TRIED) {
            match self.try_name(&name, id).await {
                Err(fault) if fault.kind == FaultKind::Conflict => {}
                taken => return taken,
            }
        }
        self.try_name(id, id).await
    }

    async fn try_name(&self, name: &str, id: &str) -> Result<(NameGuard<'_>, Reservation)> {
        let guard = self.locks.name(name).ok_or_else(|| self.name_conflict(name, None))?;
        if let Some(owner) = self.name_owner(name) {
            return Err(self.name_conflict(name, Some(&owner)));
        }
        Ok((guard, self.reserve_name(name, id).await?))
    }

    /// Networks of a new container: the network mode, and those of `NetworkingConfig`. One that does
    /// not exist is an error of start, as with Docker: the CLI takes a 404 here for a missing image.
    fn memberships(&self, body: &ContainerCreateBody) -> BTreeMap<String, Membership> {
        let mode = body.host_config.as_ref().and_then(|h| h.network_mode.clone()).unwrap_or_default();
        let mode = if matches!(mode.as_str(), "" | "default") { "bridge".to_owned() } else { mode };
        let endpoints =
            body.networking_config.as_ref().and_then(|n| n.endpoints_config.clone()).unwrap_or_default();
        let mut wanted: BTreeMap<String, _> = endpoints.into_iter().map(|(k, v)| (k, Some(v))).collect();
        if !mode.starts_with("container:") {
            wanted.entry(mode).or_insert(None);
        }
        let mut memberships = BTreeMap::new();
        for (key, settings) in wanted {
            let key = if key == "default" { "bridge".to_owned() } else { key };
            match self.network(&key) {
                Ok(found) => memberships.insert(found.name.clone(), membership(&found, settings.as_ref())),
                Err(_) => memberships.insert(key, Membership::default()),
            };
        }
        memberships
    }

    async fn choose_ports(
        &self,
        body: &ContainerCreateBody,
        warnings: &mut Vec<String>,
    ) -> Result<(Vec<PublishedPort>, Vec<Reserved<'_>>)> {
        let (mut ports, mut reserved) = (Vec::new(), Vec::new());
        for binding in bindings::read(body, warnings)? {
            let host_port = match binding.host {
                bindings::Host::Port(port) => port,
                bindings::Host::Any => self.reserve(&binding.protocol, None, &mut reserved).await?,
                bindings::Host::Range(first, last) => {
                    self.reserve(&binding.protocol, Some((first, last)), &mut reserved).await?
                }
            };
            let port = PublishedPort {
                container_port: binding.container_port,
                protocol: binding.protocol,
                host_port,
            };
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
        Ok((ports, reserved))
    }

    async fn reserve<'a>(
        &'a self,
        protocol: &str,
        range: Option<(u16, u16)>,
        reserved: &mut Vec<Reserved<'a>>,
    ) -> Result<u16> {
        let picked = self.pick_port(protocol, range).await?;
        let port = picked.port;
        reserved.push(picked);
        Ok(port)
    }

    async fn make(
        &self,
        set: &Set,
        record: &mut Record,
        reserved: &Reservation,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        let workload = set.workload(&workload_question(record))?;
        warnings.extend(workload.warnings);
        record.decided.insert(Hook::Workload.name().to_owned(), workload.by);
        self.choose_helper(record, &workload.plan.helper, warnings).await;
        self.choose_object_name(set, record, warnings)?;
        self.require_sources(record, false).await?;
        let binds = self.host_paths(set, record).await?;
        warnings.extend(binds.warnings);
        if !binds.by.is_empty() {
            record.decided.insert(Hook::Volumes.name().to_owned(), binds.by.join(", "));
        }
        let mut made_volumes = Vec::new();
        let job = matches!(workload.plan.kind, WorkloadKind::Job);
        let result = async {
            self.make_volumes(set, record, &mut made_volumes, warnings).await?;
            self.make_workload(set, record, job, warnings).await?;
            self.require_admission(record).await?;
            self.confirm_name(reserved).await
        }
        .await;
        if result.is_err() {
            self.unmake(record, &made_volumes).await;
        }
        result
    }

    /// An object name that no workload has. That of a Service is seen when it is made.
    fn choose_object_name(&self, set: &Set, record: &mut Record, warnings: &mut Vec<String>) -> Result<()> {
        let labels = pairs(&record.docker_labels());
        let ask = |other| self.object_named(set, What::Container, &record.name, labels.clone(), other);
        let mut named = ask(None)?;
        let name = &named.plan.name;
        let taken = self.containers().iter().any(|c| c.record.object == *name && c.own)
            || self.cluster.cache::<Deployment>().get(name).is_some()
            || self.cluster.cache::<Job>().get(name).is_some();
        if taken {
            named = ask(Some(&record.id))?;
        }
        record.object = named.plan.name;
        warnings.extend(named.warnings);
        record.decided.insert(Hook::Naming.name().to_owned(), named.by);
        Ok(())
    }

    /// Makes the Service and the workload. Where somebody else's object has the name of one of them,
    /// both get another.
    async fn make_workload(
        &self,
        set: &Set,
        record: &mut Record,
        job: bool,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        let (told, ports) = (warnings.len(), record.ports.clone());
        match self.try_workload(set, record, job, warnings).await {
            Err(fault) if fault.kind == FaultKind::Conflict => {}
            result => return result,
        }
        warnings.truncate(told);
        record.ports = ports;
        self.drop_service(record).await;
        let same_name = |c: &Container| c.record.name == record.name && c.record.id != record.id;
        if let Some(other) = self.workload_containers(&record.object).into_iter().find(same_name) {
            // An earlier version made it, which reserves no names.
            return Err(self.name_conflict(&record.name, Some(&other.record.id)));
        }
        let labels = pairs(&record.docker_labels());
        let other = Some(record.id.as_str());
        record.object = self.object_named(set, What::Container, &record.name, labels, other)?.plan.name;
        self.try_workload(set, record, job, warnings).await
    }

    async fn try_workload(
        &self,
        set: &Set,
        record: &mut Record,
        job: bool,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        self.make_service(set, record, warnings).await?;
        let (template, told) = self.template_and_warnings(record, job).await?;
        warnings.extend(told);
        self.create_object(set, record, &template, job, warnings).await
    }

    async fn create_object(
        &self,
        set: &Set,
        record: &mut Record,
        template: &PodTemplateSpec,
        job: bool,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        let asked = decisions::container(record);
        record.warnings.clone_from(warnings);
        if job {
            let object = workload::job(record, template.clone(), true);
            self.create_shaped(set, object, Some(&asked), warnings).await.map(|_| ())
        } else {
            let object = workload::deployment(record, template.clone(), 0);
            self.create_shaped(set, object, Some(&asked), warnings).await.map(|_| ())
        }
    }

    async fn unmake(&self, record: &Record, volumes: &[String]) {
        self.drop_service(record).await;
        if let Some(made) = self.own_container(&record.object, &record.id) {
            // Its name is another container's by now.
            let deleted = match made.kind {
                Kind::Job => self.cluster.delete::<Job>(&record.object, None).await,
                _ => self.cluster.delete::<Deployment>(&record.object, None).await,
            };
            if let Err(error) = deleted {
                tracing::warn!(object = %record.object, %error, "the workload of a failed create was left behind");
            }
        }
        let mut deleted = Vec::new();
        for claim in volumes {
            match self.cluster.begin_delete::<PersistentVolumeClaim>(claim, None).await {
                Ok(()) => deleted.push(claim.clone()),
                Err(error) => tracing::warn!(%claim, %error, "a volume of a failed create was left behind"),
            }
        }
        self.claims_gone(&deleted).await;
    }

    /// Makes the Service that the `ports` policy wants; NodePorts are read back from it.
    async fn make_service(&self, set: &Set, record: &mut Record, warnings: &mut Vec<String>) -> Result<()> {
        let asked = decisions::container(record);
        let decided = set.ports(&ports::Input { container: asked.clone(), extra: Vec::new() })?;
        warnings.extend(decided.warnings);
        record.decided.insert(Hook::Ports.name().to_owned(), decided.by.clone());
        let Some(plan) = decided.plan.service else {
            return Ok(());
        };
        if !self.options.publish_service && !matches!(plan.kind, ports::ServiceKind::NodePort) {
            return Ok(());
        }
        let mut wanted = record.ports.clone();
        if asked.publish_all {
            let missing = bindings::exposed(record).into_iter().filter(|(port, protocol)| {
                !record.ports.iter().any(|p| p.container_port == *port && p.protocol == *protocol)
            });
            wanted.extend(missing.map(|(container_port, protocol)| PublishedPort {
                container_port,
                protocol,
                host_port: 0,
            }));
        }
        let name = self.service_name(record);
        let mut object = service::service(record, &name, &wanted, decisions::service_plan(plan));
        let notes = object.metadata.annotations.get_or_insert_default();
        notes.insert(
            d2k_translate::keys::POLICIES.into(),
            serde_json::json!({"ports": decided.by}).to_string(),
        );
        let made: std::sync::Arc<d2k_cluster::Entry<Service>> =
            self.create_shaped(set, object, Some(&asked), warnings).await?;
        let allocated = service::node_ports(&made.object);
        for port in wanted.iter().filter(|p| p.host_port == 0) {
            let same =
                |a: &&PublishedPort| a.container_port == port.container_port && a.protocol == port.protocol;
            record.ports.extend(allocated.iter().find(same).cloned());
        }
        Ok(())
    }

    /// The Service is called like the workload, unless that would hide a name of a network: a
    /// Service's bare name resolves before the names of a container's networks do.
    fn service_name(&self, record: &Record) -> String {
        let own = record.user_networks().next().is_some();
        let others = || {
            self.containers().iter().any(|c| {
                c.record
                    .user_networks()
                    .any(|(_, m)| m.aliases.iter().any(|a| a.eq_ignore_ascii_case(&record.object)))
            })
        };
        if own || others() || self.links.use_alias(&record.object) {
            format!("{}-ports", record.object)
        } else {
            record.object.clone()
        }
    }

    async fn drop_service(&self, record: &Record) {
        for service in self.cluster.cache::<Service>().group(record.short()) {
            let name = service.object.metadata.name.clone().unwrap_or_default();
            if let Err(error) = self.cluster.delete::<Service>(&name, None).await {
                tracing::warn!(service = %name, %error, "a Service of a failed create was left behind");
            }
        }
    }

    /// The Pod template as the record and the cluster are now.
    pub(crate) async fn template(&self, record: &Record) -> Result<PodTemplateSpec> {
        let is_job = match self.own_container(&record.object, &record.id) {
            Some(container) => container.kind == Kind::Job,
            None => {
                let decided = self.policies.current().workload(&workload_question(record))?;
                matches!(decided.plan.kind, WorkloadKind::Job)
            }
        };
        Ok(self.template_and_warnings(record, is_job).await?.0)
    }

    async fn template_and_warnings(
        &self,
        record: &Record,
        job: bool,
    ) -> Result<(PodTemplateSpec, Vec<String>)> {
        let claims = self.claims(record);
        let found = self.host_paths(&self.policies.current(), record).await?;
        let context = PodContext {
            host_paths: found.paths,
            unused_claims: self.unused(&claims),
            claims,
            inherited: self.inherited_mounts(record)?,
            restart_policy: if job { "Never" } else { "Always" }.to_owned(),
            network_searches: self.search_domains(record),
            link_variables: self.link_variables(record),
            docker_host: self.options.docker_host.clone(),
            pull_secrets: self.pull_secrets(record),
            staged_files: self.staged_files(record).await?,
            staged_secret: (record.staged && helper::unpacks(record))
                .then(|| super::staging::secret_name(record)),
            labels: record.labels(d2k_translate::keys::role::CONTAINER),
            annotations: BTreeMap::from([
                (d2k_translate::keys::ID.to_owned(), record.id.clone()),
                (d2k_translate::keys::NAME.to_owned(), record.name.clone()),
            ]),
        };
        let plan = pod_template(record, &context)?;
        Ok((plan.template, plan.warnings))
    }
}

fn workload_question(record: &Record) -> workload_policy::Input {
    workload_policy::Input { container: decisions::container(record), extra: Vec::new() }
}
