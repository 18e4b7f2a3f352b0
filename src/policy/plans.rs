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

pub(super) type Sound = Result<Vec<String>, String>;

/// Kubernetes adds up to 18 characters to a workload's name for its Pods, which are host names.
const LONGEST_WORKLOAD: usize = 45;
const ACCESS_MODES: [&str; 4] = ["ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany", "ReadOnlyMany"];

pub(super) fn naming(input: &naming::Input, plan: &mut naming::Plan) -> Sound {
    let long = matches!(input.what, naming::What::Container) && plan.name.len() > LONGEST_WORKLOAD;
    if !is_dns_label(&plan.name) || !plan.name.starts_with(|c: char| c.is_ascii_lowercase()) || long {
        return Err(format!(
            "its name {:?} for {:?} is not legal: lower-case letters, digits and dashes, a letter first, at most \
             {LONGEST_WORKLOAD} for a container, else 63",
            plan.name, input.docker_name
        ));
    }
    Ok(std::mem::take(&mut plan.warnings))
}

pub(super) fn ports(_input: &ports::Input, plan: &mut ports::Plan) -> Sound {
    if let Some(ports::Service { kind: ports::ServiceKind::Other(kind), .. }) = &plan.service {
        return Err(format!(
            "its kind of Service {kind:?} is not known: LoadBalancer, NodePort or ClusterIP"
        ));
    }
    Ok(std::mem::take(&mut plan.warnings))
}

pub(super) fn volumes(input: &volumes::Input, plan: &mut volumes::Plan) -> Sound {
    let positive =
        quantity::volume_size(&plan.size).ok().and_then(|q| quantity::bytes(&q)).is_some_and(|b| b > 0);
    if !positive {
        return Err(format!("its size {:?} for volume {} is no quantity above 0", plan.size, input.name));
    }
    if !ACCESS_MODES.contains(&plan.access_mode.as_str()) {
        let modes = ACCESS_MODES.join(", ");
        return Err(format!(
            "its access mode {:?} for volume {} is none of {modes}",
            plan.access_mode, input.name
        ));
    }
    Ok(std::mem::take(&mut plan.warnings))
}

pub(super) fn workload(_input: &workload::Input, plan: &mut workload::Plan) -> Sound {
    if let workload::WorkloadKind::Other(kind) = &plan.kind {
        return Err(format!("its kind of workload {kind:?} is not known: Deployment or Job"));
    }
    Ok(std::mem::take(&mut plan.warnings))
}

pub(super) fn images(input: &images::Input, plan: &mut images::Plan) -> Sound {
    if plan.reference.is_empty() || plan.reference.contains(char::is_whitespace) {
        return Err(format!("its reference {:?} for {:?} is no image", plan.reference, input.reference));
    }
    Ok(std::mem::take(&mut plan.warnings))
}

pub(super) fn events(_input: &events::Input, plan: &mut events::Plan) -> Sound {
    match plan.events.iter().find(|event| event.kind.is_empty() || event.action.is_empty()) {
        Some(_) => Err("one of its events has no kind or no action".into()),
        None => Ok(Vec::new()),
    }
}
