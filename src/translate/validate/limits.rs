//! Docker's checks of memory, CPU and kernel limits.

use bollard_stubs::models::HostConfig;

use d2k_common::fault::{Fault, Result};

const SMALLEST_MEMORY: i64 = 6 << 20;

pub(super) fn check(host: &HostConfig) -> Result<()> {
    memory(host)?;
    cpu(host)?;
    let wrong = |words: String| Err(Fault::invalid(words));
    if host.shm_size.is_some_and(|size| size < 0) {
        return wrong("SHM size can not be less than 0".to_owned());
    }
    if let Some(score) = host.oom_score_adj.filter(|score| !(-1000..=1000).contains(score)) {
        return wrong(format!("Invalid value {score}, range for oom score adj is [-1000, 1000]"));
    }
    if host.blkio_weight.is_some_and(|weight| weight != 0 && !(10..=1000).contains(&weight)) {
        return wrong("Range of blkio weight is from 10 to 1000".to_owned());
    }
    Ok(())
}

fn memory(host: &HostConfig) -> Result<()> {
    let wrong = |words: &str| Err(Fault::invalid(words));
    let memory = host.memory.unwrap_or_default();
    let swap = host.memory_swap.unwrap_or_default();
    let reservation = host.memory_reservation.unwrap_or_default();
    if memory != 0 && memory < SMALLEST_MEMORY {
        return wrong("Minimum memory limit allowed is 6MB");
    }
    if memory > 0 && swap > 0 && swap < memory {
        return wrong("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if memory == 0 && swap > 0 {
        return wrong("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    if let Some(swappiness) = host.memory_swappiness.filter(|value| !(-1..=100).contains(value)) {
        return Err(Fault::invalid(format!(
            "Invalid value: {swappiness}, valid memory swappiness range is 0-100"
        )));
    }
    if reservation != 0 && reservation < SMALLEST_MEMORY {
        return wrong("Minimum memory reservation allowed is 6MB");
    }
    if memory > 0 && reservation > memory {
        return wrong("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    Ok(())
}

fn cpu(host: &HostConfig) -> Result<()> {
    let wrong = |words: &str| Err(Fault::invalid(words));
    let of = |value: Option<i64>| value.unwrap_or_default();
    let (nano, period, quota) = (of(host.nano_cpus), of(host.cpu_period), of(host.cpu_quota));
    if nano > 0 && period > 0 {
        return wrong("Conflicting options: Nano CPUs and CPU Period cannot both be set");
    }
    if nano > 0 && quota > 0 {
        return wrong("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
    }
    if nano < 0 || (nano > 0 && nano < 10_000_000) {
        return wrong("Range of CPUs is from 0.01 to the number of CPUs of the cluster's largest node");
    }
    if of(host.cpu_shares) < 0 {
        return Err(Fault::invalid(format!(
            "invalid CPU shares ({}): value must be a positive integer",
            of(host.cpu_shares)
        )));
    }
    if period != 0 && !(1_000..=1_000_000).contains(&period) {
        return wrong("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)");
    }
    if quota > 0 && quota < 1000 {
        return wrong("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    Ok(())
}
