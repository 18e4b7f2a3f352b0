//! Whether a plan makes sense, before anything is made of it: an operator's mistake is named as
//! such, and never reaches Kubernetes as a strange object.

use super::bindings::events::exports::d2k::policy::events;
use super::bindings::images::exports::d2k::policy::images;
use super::bindings::naming::exports::d2k::policy::naming;
use super::bindings::ports::exports::d2k::policy::ports;
use super::bindings::volumes::exports::d2k::policy::volumes;
use super::bindings::workload::exports::d2k::policy::workload;
use d2k_translate::network::is_dns_label;
use d2k_translate::quantity;

/// The warnings of a plan that makes sense.
pub(super) type Sound = Result<Vec<String>, Senseless>;

/// Why a plan makes no sense; the policy that gave it is the subject.
#[derive(Debug, thiserror::Error)]
pub(super) enum Senseless {
    #[error(
        "its name {name:?} for {docker_name:?} is not legal: lower-case letters, digits and dashes, a letter first, at \
         most {LONGEST_WORKLOAD} for a container, else 63"
    )]
    Name { name: String, docker_name: String },
    #[error("its kind of Service {0:?} is not known: LoadBalancer, NodePort or ClusterIP")]
    Service(String),
    #[error("its size {size:?} for volume {volume} is no quantity above 0")]
    Size { size: String, volume: String },
    #[error("its access mode {mode:?} for volume {volume} is none of {}", ACCESS_MODES.join(", "))]
    AccessMode { mode: String, volume: String },
    #[error("its kind of workload {0:?} is not known: Deployment or Job")]
    Workload(String),
    #[error("its reference {reference:?} for {asked:?} is no image")]
    Image { reference: String, asked: String },
    #[error("one of its events has no kind or no action")]
    Event,
    #[error("its bind {kind:?} for {path} is not known: host, or a refusal")]
    Bind { kind: String, path: String },
    #[error("its root {root:?} for the bind of {path} is no folder that the path is in")]
    Root { root: String, path: String },
}

/// Kubernetes adds up to 18 characters to a workload's name for its Pods, which are host names.
const LONGEST_WORKLOAD: usize = 45;
const ACCESS_MODES: [&str; 4] = ["ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany", "ReadOnlyMany"];

pub(super) fn naming(input: &naming::Input, plan: &mut naming::Plan) -> Sound {
    let long = matches!(input.what, naming::What::Container) && plan.name.len() > LONGEST_WORKLOAD;
    if !is_dns_label(&plan.name) || !plan.name.starts_with(|c: char| c.is_ascii_lowercase()) || long {
        return Err(Senseless::Name { name: plan.name.clone(), docker_name: input.docker_name.clone() });
    }
    Ok(std::mem::take(&mut plan.warnings))
}

pub(super) fn ports(_input: &ports::Input, plan: &mut ports::Plan) -> Sound {
    if let Some(ports::Service { kind: ports::ServiceKind::Other(kind), .. }) = &plan.service {
        return Err(Senseless::Service(kind.clone()));
    }
    Ok(std::mem::take(&mut plan.warnings))
}

pub(super) fn volumes(input: &volumes::Input, plan: &mut volumes::Plan) -> Sound {
    let positive =
        quantity::volume_size(&plan.size).ok().and_then(|q| quantity::bytes(&q)).is_some_and(|b| b > 0);
    if !positive {
        return Err(Senseless::Size { size: plan.size.clone(), volume: input.name.clone() });
    }
    if !ACCESS_MODES.contains(&plan.access_mode.as_str()) {
        return Err(Senseless::AccessMode { mode: plan.access_mode.clone(), volume: input.name.clone() });
    }
    Ok(std::mem::take(&mut plan.warnings))
}

pub(super) fn workload(_input: &workload::Input, plan: &mut workload::Plan) -> Sound {
    if let workload::WorkloadKind::Other(kind) = &plan.kind {
        return Err(Senseless::Workload(kind.clone()));
    }
    Ok(std::mem::take(&mut plan.warnings))
}

pub(super) fn images(input: &images::Input, plan: &mut images::Plan) -> Sound {
    if plan.reference.is_empty() || plan.reference.contains(char::is_whitespace) {
        let (reference, asked) = (plan.reference.clone(), input.reference.clone());
        return Err(Senseless::Image { reference, asked });
    }
    Ok(std::mem::take(&mut plan.warnings))
}

pub(super) fn events(_input: &events::Input, plan: &mut events::Plan) -> Sound {
    match plan.events.iter().find(|event| event.kind.is_empty() || event.action.is_empty()) {
        Some(_) => Err(Senseless::Event),
        None => Ok(Vec::new()),
    }
}
