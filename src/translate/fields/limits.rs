//! The resource limits of `HostConfig`.

use serde_json::Value;

use super::{Field, Treatment, Unset, mapped, warned, warned_or};

const BLKIO: &str = "Kubernetes has no limits for reading and writing disks";
const REALTIME: &str = "Kubernetes has no real-time scheduling";
const CPUSET: &str =
    "a Pod cannot choose CPUs or memory nodes; the kubelet's CPU manager can give it whole CPUs";
const WINDOWS: &str = "for Windows containers only";

/// No swap beyond the memory limit is what Kubernetes does; twice the limit is what dockerd fills in by itself.
fn no_swap_asked(host: &Value, swap: &Value) -> bool {
    let memory = host.get("Memory").and_then(Value::as_i64).unwrap_or_default();
    let swap = swap.as_i64().unwrap_or_default();
    memory > 0 && (swap == memory || swap == memory.saturating_mul(2))
}

pub(super) const FIELDS: &[Field] = &[
    mapped("HostConfig.Memory", "`limits.memory`; nothing is reserved unless MemoryReservation says so"),
    mapped("HostConfig.MemoryReservation", "`requests.memory`"),
    Field {
        path: "HostConfig.MemorySwap",
        treatment: Treatment::Warned("a Pod cannot choose its swap, the node's settings decide"),
        unset: Unset::When(no_swap_asked),
    },
    warned_or("HostConfig.MemorySwappiness", &["-1"], "the node's settings decide about swap"),
    warned("HostConfig.KernelMemory", "kernel memory counts against the memory limit"),
    warned("HostConfig.KernelMemoryTCP", "kernel memory counts against the memory limit"),
    warned("HostConfig.OomKillDisable", "Kubernetes always ends a container that passes its memory limit"),
    mapped("HostConfig.NanoCpus", "`limits.cpu`, in thousandths of a CPU"),
    mapped("HostConfig.CpuQuota", "`limits.cpu`, with CpuPeriod"),
    mapped("HostConfig.CpuPeriod", "`limits.cpu`, with CpuQuota"),
    mapped("HostConfig.CpuShares", "`requests.cpu` (1024 shares are one CPU), at most the limit"),
    warned("HostConfig.CpuRealtimePeriod", REALTIME),
    warned("HostConfig.CpuRealtimeRuntime", REALTIME),
    warned("HostConfig.CpusetCpus", CPUSET),
    warned("HostConfig.CpusetMems", CPUSET),
    warned("HostConfig.CgroupParent", "Kubernetes chooses the cgroup"),
    warned("HostConfig.BlkioWeight", BLKIO),
    warned("HostConfig.BlkioWeightDevice", BLKIO),
    warned("HostConfig.BlkioDeviceReadBps", BLKIO),
    warned("HostConfig.BlkioDeviceWriteBps", BLKIO),
    warned("HostConfig.BlkioDeviceReadIOps", BLKIO),
    warned("HostConfig.BlkioDeviceWriteIOps", BLKIO),
    warned(
        "HostConfig.Devices",
        "a device belongs to one node; ask for what a device plugin offers (--gpus), or use --privileged",
    ),
    warned("HostConfig.DeviceCgroupRules", "Kubernetes has no rules for devices; --privileged allows all"),
    mapped(
        "HostConfig.DeviceRequests",
        "`nvidia.com/gpu`, `amd.com/gpu`, `gpu.intel.com/i915`, or the CDI vendor's resource",
    ),
    warned_or(
        "HostConfig.PidsLimit",
        &["-1"],
        "a Pod cannot choose its number of processes, the kubelet's podPidsLimit decides",
    ),
    warned(
        "HostConfig.Ulimits",
        "Kubernetes has no field for ulimits, the runtime's defaults hold; the program can lower them with ulimit",
    ),
    warned("HostConfig.CpuCount", WINDOWS),
    warned("HostConfig.CpuPercent", WINDOWS),
    warned("HostConfig.IOMaximumIOps", WINDOWS),
    warned("HostConfig.IOMaximumBandwidth", WINDOWS),
];
