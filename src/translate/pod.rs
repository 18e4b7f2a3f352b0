//! A container as a Pod template: the one place where everything a create request asks for of a
//! process comes together. Deployments and Jobs wrap the template; they add nothing to it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerPort, LocalObjectReference, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::fill;
use super::helper;
use super::keys;
use super::mounts;
use super::record::Record;
use super::request;
use super::resources;
use super::security;
use d2k_common::fault::Result;

mod annotations;
pub mod context;
mod hosts;
mod process;
mod storage;

use context::PodContext;

/// Seconds that Docker gives a container to stop if nothing else is said.
pub const DEFAULT_STOP_TIMEOUT: i64 = 10;
/// A year: Docker's "wait for ever" (-1), which Kubernetes has no word for.
const FOR_EVER: i64 = 31_536_000;
/// Container ports only inform: a published range of thousands would make the object too large to store.
const MOST_PORTS: usize = 256;

/// The template and what the user should know about it.
#[derive(Debug, Clone, PartialEq)]
pub struct PodPlan {
    /// The Pod template.
    pub template: PodTemplateSpec,
    /// Where Kubernetes differs from what was asked for.
    pub warnings: Vec<String>,
}

/// The Pod template of a container.
pub fn pod_template(record: &Record, context: &PodContext) -> Result<PodPlan> {
    let body = &record.body;
    let host = record.host();
    let mounts = mounts::plan(body, &record.image, &context.inherited)?;
    let mut warnings = mounts.warnings.clone();
    let has_claims = mounts.plans.iter().any(|plan| plan.claim_key().is_some() && !plan.read_only);
    let security = security::settings(record, has_claims, &mut warnings)?;
    let storage = storage::build(&mounts.plans, context)?;
    let (command, args) = process::command(body, &record.image);
    let mut container = Container {
        name: record.object.clone(),
        image: Some(image(record)),
        // Docker pulls only what is not there, whatever the tag says.
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command,
        args,
        env: process::environment(record, &mounts, context, &mut warnings)?,
        working_dir: process::working_dir(body),
        tty: body.tty.filter(|on| *on),
        stdin: body.open_stdin.filter(|on| *on),
        stdin_once: body.stdin_once.filter(|on| *on && body.open_stdin == Some(true)),
        ports: ports(record, security.host_network),
        resources: resources::requirements(&host, &mut warnings)?,
        security_context: security.container.clone(),
        volume_mounts: storage.mounts,
        ..Container::default()
    };
    let mut spec = PodSpec {
        volumes: storage.volumes,
        restart_policy: Some(context.restart_policy.clone()),
        termination_grace_period_seconds: Some(stop_timeout(record)),
        // A Docker container finds no variables for other containers and no credentials of its host.
        enable_service_links: Some(false),
        automount_service_account_token: Some(false),
        image_pull_secrets: pull_secrets(context),
        ..PodSpec::default()
    };
    security.apply_to_pod(&mut spec);
    hosts::apply(record, &context.network_searches, &mut spec, &mut warnings)?;
    match &record.helper {
        Some(helper) => {
            let files = context.staged_secret.as_deref();
            spec.init_containers = fill::container(&mounts.plans, context, &container).map(|fill| vec![fill]);
            helper::apply(record, helper, files, &mut container, &mut spec);
        }
        None => process::warn_of_signal(record, &mut warnings),
    }
    spec.containers = vec![container];
    let mut labels = context.labels.clone();
    if mounts.docker_socket {
        labels.insert(keys::DOCKER.to_owned(), "true".to_owned());
    }
    let metadata = ObjectMeta {
        labels: filled(&labels),
        annotations: annotations::of_pod(&host, &context.annotations, &mut warnings),
        ..ObjectMeta::default()
    };
    Ok(PodPlan { template: PodTemplateSpec { metadata: Some(metadata), spec: Some(spec) }, warnings })
}

/// The image under the full name that was resolved, or as it was asked for.
fn image(record: &Record) -> String {
    if record.image.reference.is_empty() {
        return record.body.image.clone().unwrap_or_default();
    }
    record.image.reference.clone()
}

fn stop_timeout(record: &Record) -> i64 {
    match record.body.stop_timeout {
        None => DEFAULT_STOP_TIMEOUT,
        Some(seconds) if seconds < 0 => FOR_EVER,
        Some(seconds) => seconds,
    }
}

fn filled(map: &BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    (!map.is_empty()).then(|| map.clone())
}

fn pull_secrets(context: &PodContext) -> Option<Vec<LocalObjectReference>> {
    let secrets: Vec<_> =
        context.pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() }).collect();
    (!secrets.is_empty()).then_some(secrets)
}

/// The exposed and published ports. On the node's network a container port is a host port, which would
/// keep a second Pod off the node; Docker drops ports there too.
fn ports(record: &Record, host_network: bool) -> Option<Vec<ContainerPort>> {
    if host_network {
        return None;
    }
    let host = record.host();
    let exposed = record.body.exposed_ports.iter().flatten().chain(&record.image.exposed_ports);
    let bound = host.port_bindings.iter().flatten().map(|(port, _)| port);
    let mut all: Vec<(u16, String)> =
        exposed.chain(bound).flat_map(|spec| request::ports(spec).unwrap_or_default()).collect();
    all.extend(record.ports.iter().map(|port| (port.container_port, port.protocol.clone())));
    all.sort();
    all.dedup();
    all.truncate(MOST_PORTS);
    let ports: Vec<_> = all
        .into_iter()
        .map(|(port, protocol)| ContainerPort {
            container_port: i32::from(port),
            protocol: Some(protocol.to_ascii_uppercase()),
            ..ContainerPort::default()
        })
        .collect();
    (!ports.is_empty()).then_some(ports)
}
