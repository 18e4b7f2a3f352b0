//! Questions to the policies, in the words of `wit/`: a container as it was asked for, and who
//! decided what about it.

use bollard_stubs::models::RestartPolicyNameEnum;

use super::Daemon;
use super::images::question;
use d2k_common::fault::Result;
use d2k_policy::bindings::images::exports::d2k::policy::images::Purpose;
use d2k_policy::bindings::naming::exports::d2k::policy::naming;
use d2k_policy::bindings::ports::exports::d2k::policy::ports;
use d2k_policy::bindings::types::{
    Container, Mount, MountKind as Kind, Port, Protocol, PublishedPort, RestartPolicy,
};
use d2k_policy::bindings::workload::exports::d2k::policy::workload;
use d2k_policy::set::{Decided, Set};
use d2k_translate::bindings;
use d2k_translate::mounts::{self, MountKind};
use d2k_translate::record::Record;
use d2k_translate::security::Privileges;
use d2k_translate::service;

pub use naming::What;

/// Labels and the like, in the order of their names.
pub(crate) fn pairs<'a>(map: impl IntoIterator<Item = (&'a String, &'a String)>) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = map.into_iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    pairs.sort();
    pairs
}

impl Daemon {
    /// What a Kubernetes object is called.
    pub(crate) fn object_named(
        &self,
        set: &Set,
        what: What,
        docker_name: &str,
        labels: Vec<(String, String)>,
        taken_by_other: Option<&str>,
    ) -> Result<Decided<naming::Plan>> {
        set.name(&naming::Input {
            what,
            docker_name: docker_name.to_owned(),
            labels,
            taken_by_other: taken_by_other.map(str::to_owned),
            extra: Vec::new(),
        })
    }

    /// Asks every policy that judges a create about a container as `record` has it now, and makes
    /// nothing: for a request that was changed after its create, and for a start under policies
    /// that were changed since. What they would choose (a name, a size) stays as it was chosen at
    /// the create; only a refusal counts. Returns their warnings.
    ///
    /// # Errors
    /// A refusal in the policy's words, a plan that makes no sense, or a failed call.
    pub(crate) async fn judge(&self, set: &Set, record: &Record) -> Result<Vec<String>> {
        let asked = container(record);
        let mut warnings = set.image(&question(&asked.image, Purpose::Create))?.warnings;
        let input = workload::Input { container: asked.clone(), extra: Vec::new() };
        warnings.extend(set.workload(&input)?.warnings);
        let named = self.object_named(set, What::Container, &record.name, asked.labels.clone(), None)?;
        warnings.extend(named.warnings);
        warnings.extend(self.judge_volumes(set, record)?);
        warnings.extend(self.host_paths(set, record).await?.warnings);
        warnings.extend(set.ports(&ports::Input { container: asked, extra: Vec::new() })?.warnings);
        Ok(warnings)
    }
}

/// A container as the client asked for it, with what its image adds.
///
/// `privileged` is true for whatever reaches beyond Docker's default: `--privileged`, a namespace of
/// the node, a capability that Docker's default set has not, a confinement that is switched off. So a
/// policy that looks at nothing else refuses all of them; one that wants to tell them apart finds
/// them in `extra` (see [`privileges`]).
pub(crate) fn container(record: &Record) -> Container {
    let (body, host) = (&record.body, record.host());
    let exposed = bindings::exposed(record);
    let asked_for = Privileges::of(&host);
    Container {
        name: record.name.clone(),
        image: body.image.clone().unwrap_or_default(),
        labels: pairs(&record.docker_labels()),
        env: body.env.clone().unwrap_or_default(),
        entrypoint: body.entrypoint.clone().unwrap_or_default(),
        command: body.cmd.clone().unwrap_or_default(),
        user: body.user.clone().unwrap_or_default(),
        published: record
            .ports
            .iter()
            .filter(|p| p.host_port != 0)
            .map(|p| PublishedPort { container: port(p.container_port, &p.protocol), host: p.host_port })
            .collect(),
        publish_all: host.publish_all_ports.unwrap_or(false),
        exposed: exposed.iter().map(|(number, protocol)| port(*number, protocol)).collect(),
        mounts: mounts_of(record),
        networks: record.networks.keys().cloned().collect(),
        restart: restart(record),
        auto_remove: host.auto_remove.unwrap_or(false),
        foreground: body.attach_stdout.unwrap_or(false),
        interactive: body.open_stdin.unwrap_or(false),
        tty: record.tty(),
        privileged: asked_for.any(),
        memory: host.memory.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
        nano_cpus: host.nano_cpus.and_then(|cpus| u64::try_from(cpus).ok()).unwrap_or(0),
        extra: privileges(&asked_for),
    }
}

/// Why a container counts as privileged, as pairs of `extra`, each only where there is something
/// to say and with commas between its words: `cap-add` (added capabilities beyond Docker's default
/// set), `host-namespaces` (`ipc`, `network`, `pid`), `privileged` (`true` for the flag itself) and
/// `unconfined` (`apparmor`, `seccomp`, `selinux`, `systempaths`).
fn privileges(asked_for: &Privileges) -> Vec<(String, String)> {
    let flag = if asked_for.privileged { "true" } else { "" };
    let all = [
        ("cap-add", asked_for.capabilities.join(",")),
        ("host-namespaces", asked_for.host_namespaces.join(",")),
        ("privileged", flag.to_owned()),
        ("unconfined", asked_for.unconfined.join(",")),
    ];
    let said = all.into_iter().filter(|(_, words)| !words.is_empty());
    said.map(|(name, words)| (name.to_owned(), words)).collect()
}

fn port(number: u16, protocol: &str) -> Port {
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        other => Protocol::Other(other.to_owned()),
    };
    Port { number, protocol }
}

fn restart(record: &Record) -> RestartPolicy {
    let policy = record.host().restart_policy.unwrap_or_default();
    let retries = policy.maximum_retry_count.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    match policy.name {
        Some(RestartPolicyNameEnum::ALWAYS) => RestartPolicy::Always,
        Some(RestartPolicyNameEnum::UNLESS_STOPPED) => RestartPolicy::UnlessStopped,
        Some(RestartPolicyNameEnum::ON_FAILURE) => RestartPolicy::OnFailure(retries),
        Some(RestartPolicyNameEnum::NO | RestartPolicyNameEnum::EMPTY) | None => RestartPolicy::Never,
    }
}

fn mounts_of(record: &Record) -> Vec<Mount> {
    let plans = mounts::plan(&record.body, &record.image, &[]).map(|m| m.plans).unwrap_or_default();
    let mount = |plan: mounts::MountPlan| {
        let (kind, source) = match plan.kind {
            MountKind::Named(name) => (Kind::Volume, name),
            MountKind::Anonymous => (Kind::Anonymous, String::new()),
            MountKind::Bind(bind) => (Kind::Other("bind".into()), bind.source),
            MountKind::Tmpfs(_) => (Kind::Tmpfs, String::new()),
            MountKind::Shm(_) => (Kind::Other("shm".into()), String::new()),
        };
        Mount { kind, source, target: plan.target, read_only: plan.read_only, extra: Vec::new() }
    };
    plans.into_iter().map(mount).collect()
}

/// A Service as a policy wants it, in Kubernetes' words.
pub(crate) fn service_plan(plan: ports::Service) -> service::Plan {
    service::Plan {
        kind: match plan.kind {
            ports::ServiceKind::LoadBalancer => "LoadBalancer".to_owned(),
            ports::ServiceKind::NodePort => "NodePort".to_owned(),
            ports::ServiceKind::ClusterIp => "ClusterIP".to_owned(),
            ports::ServiceKind::Other(kind) => kind,
        },
        labels: plan.labels.into_iter().collect(),
        annotations: plan.annotations.into_iter().collect(),
        load_balancer_class: plan.load_balancer_class,
        source_ranges: plan.source_ranges,
        external_traffic_policy: plan.external_traffic_policy,
    }
}
