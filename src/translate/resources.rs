//! Memory, CPU and GPU settings of a create request as Kubernetes resource requirements.

use std::collections::BTreeMap;

use bollard_stubs::models::{DeviceRequest, HostConfig};
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::quantity::{of_bytes, of_millicores};
use d2k_common::fault::{Fault, Result};

/// The kernel's own period where a quota comes without one, in microseconds.
const DEFAULT_CPU_PERIOD: i64 = 100_000;

/// The resource requirements that `host` asks for; `None` if it asks for nothing, so that the
/// namespace's own defaults (LimitRange) apply.
pub fn requirements(host: &HostConfig, warnings: &mut Vec<String>) -> Result<Option<ResourceRequirements>> {
    let mut limits: BTreeMap<String, Quantity> = BTreeMap::new();
    let mut requests: BTreeMap<String, Quantity> = BTreeMap::new();
    // Kubernetes takes the limit as the request where none is given: `--memory 4g` would then need
    // 4 GiB free on one node. Docker never reserves anything, so a request of zero is written out.
    if let Some(memory) = positive(host.memory) {
        limits.insert("memory".into(), of_bytes(memory));
        requests.insert("memory".into(), Quantity("0".into()));
    }
    if let Some(reserved) = positive(host.memory_reservation) {
        requests.insert("memory".into(), of_bytes(reserved));
    }
    let ceiling = cpu_limit(host);
    if let Some(milli) = ceiling {
        limits.insert("cpu".into(), of_millicores(milli));
        requests.insert("cpu".into(), Quantity("0".into()));
    }
    if let Some(shares) = positive(host.cpu_shares) {
        // The kubelet turns a request of 1 CPU into 1024 shares; a request may not pass the limit.
        let wanted = (shares * 1000 / 1024).max(1);
        requests.insert("cpu".into(), of_millicores(ceiling.map_or(wanted, |limit| wanted.min(limit))));
    }
    for request in host.device_requests.iter().flatten() {
        let (resource, count) = devices(request, warnings)?;
        // Extended resources cannot be overcommitted: their request always equals their limit.
        limits.insert(resource.clone(), Quantity(count.to_string()));
        requests.insert(resource, Quantity(count.to_string()));
    }
    if limits.is_empty() && requests.is_empty() {
        return Ok(None);
    }
    let filled = |map: BTreeMap<String, Quantity>| (!map.is_empty()).then_some(map);
    Ok(Some(ResourceRequirements { claims: None, limits: filled(limits), requests: filled(requests) }))
}

/// The CPU limit in thousandths of a CPU, from `--cpus` or from quota and period.
fn cpu_limit(host: &HostConfig) -> Option<i64> {
    if let Some(nano) = positive(host.nano_cpus) {
        return Some(ceiling_division(nano, 1_000_000));
    }
    let quota = positive(host.cpu_quota)?;
    let period = positive(host.cpu_period).unwrap_or(DEFAULT_CPU_PERIOD);
    Some(ceiling_division(quota.saturating_mul(1000), period))
}

fn positive(value: Option<i64>) -> Option<i64> {
    value.filter(|number| *number > 0)
}

fn ceiling_division(value: i64, unit: i64) -> i64 {
    value / unit + i64::from(value % unit != 0)
}

/// The extended resource and its number that stand for one of Docker's device requests.
fn devices(request: &DeviceRequest, warnings: &mut Vec<String>) -> Result<(String, i64)> {
    let driver = request.driver.as_deref().unwrap_or_default();
    let ids = request.device_ids.clone().unwrap_or_default();
    if driver == "cdi" {
        return cdi_devices(&ids, warnings);
    }
    let capabilities = request.capabilities.clone().unwrap_or_default();
    let wants_gpu = capabilities.iter().flatten().any(|capability| capability == "gpu");
    let resource = match driver {
        "" | "nvidia" if wants_gpu || driver == "nvidia" => "nvidia.com/gpu",
        "amd" => "amd.com/gpu",
        "intel" => "gpu.intel.com/i915",
        _ => return Err(no_driver(driver, &capabilities)),
    };
    let count = request.count.unwrap_or_default();
    if !ids.is_empty() {
        warnings.push(format!(
            "HostConfig.DeviceRequests: Kubernetes chooses which devices a container gets; {} of {resource} will be asked for instead of {}",
            ids.len(),
            ids.join(", ")
        ));
        return Ok((resource.to_owned(), length(&ids)));
    }
    if count < 0 {
        warnings.push(format!(
            "HostConfig.DeviceRequests: Kubernetes cannot give \"all\" devices of a machine; 1 of {resource} is asked for, give a number for more (--gpus 2)"
        ));
        return Ok((resource.to_owned(), 1));
    }
    Ok((resource.to_owned(), count.max(1)))
}

/// CDI names (`vendor/class=device`) name the same resource as the vendor's device plugin.
fn cdi_devices(ids: &[String], warnings: &mut Vec<String>) -> Result<(String, i64)> {
    let kind = |id: &String| id.split_once('=').map(|(kind, _)| kind.to_owned());
    let first = ids.first().and_then(kind).filter(|kind| kind.contains('/'));
    match first {
        Some(resource) if ids.iter().all(|id| kind(id).as_ref() == Some(&resource)) => {
            warnings.push(format!(
                "HostConfig.DeviceRequests: Kubernetes chooses which devices a container gets; {} of {resource} will be asked for instead of {}",
                ids.len(),
                ids.join(", ")
            ));
            Ok((resource, length(ids)))
        }
        _ => Err(Fault::invalid(format!(
            "CDI device injection failed: {:?} must be names of one kind of device, like vendor.com/class=device",
            ids.join(", ")
        ))),
    }
}

fn length(ids: &[String]) -> i64 {
    i64::try_from(ids.len()).unwrap_or(i64::MAX)
}

fn no_driver(driver: &str, capabilities: &[Vec<String>]) -> Fault {
    let sets: Vec<String> = capabilities.iter().map(|set| format!("[{}]", set.join(" "))).collect();
    Fault::invalid(format!(
        "could not select device driver {driver:?} with capabilities: [{}]",
        sets.join(" ")
    ))
}
