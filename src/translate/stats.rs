//! `docker stats`: usage as Kubernetes measures it (an average over a window) turned into the
//! counters that Docker's clients take differences of.

use std::time::Duration;

use serde_json::{Value, json};

/// Counters of a container, integrated from averages.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counters {
    /// Nanoseconds of CPU that the container has used.
    pub cpu: u64,
    /// Nanoseconds of CPU that the machine had to give.
    pub system: u64,
    /// Bytes of memory in use.
    pub memory: u64,
}

impl Counters {
    /// Those of a container that nobody has looked at before. Clients take a machine that has given nothing
    /// for a sample that is not there.
    pub fn first(processors: u64) -> Self {
        Self { system: processors.saturating_mul(1_000_000_000), ..Self::default() }
    }

    /// What the counters are after `elapsed` at this usage.
    pub fn after(self, nanocores: u64, memory: u64, processors: u64, elapsed: Duration) -> Self {
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let used = u128::from(nanocores) * u128::from(nanos) / 1_000_000_000;
        Self {
            cpu: self.cpu.saturating_add(u64::try_from(used).unwrap_or(u64::MAX)),
            system: self.system.saturating_add(nanos.saturating_mul(processors)),
            memory,
        }
    }

    fn cpu_json(self, processors: u64) -> Value {
        let mut value = no_cpu();
        if let Some(fields) = value.as_object_mut() {
            let used =
                json!({"total_usage": self.cpu, "usage_in_kernelmode": 0, "usage_in_usermode": self.cpu});
            fields.insert("cpu_usage".into(), used);
            fields.insert("system_cpu_usage".into(), json!(self.system));
            fields.insert("online_cpus".into(), json!(processors));
        }
        value
    }
}

/// What was not measured: without the machine's figures, which are never 0.
fn no_cpu() -> Value {
    json!({
        "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    })
}

/// One object of the stats stream.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Container ID.
    pub id: String,
    /// Docker name.
    pub name: String,
    /// When it was read; empty for a container that does not run.
    pub read: String,
    /// When the one before was read, or empty.
    pub preread: String,
    /// The counters then; `None` for the first object of a stream.
    pub before: Option<Counters>,
    /// The counters now.
    pub now: Counters,
    /// CPUs.
    pub processors: u64,
    /// Bytes of memory that the container may use.
    pub limit: u64,
    /// Processes and threads; 0 where the cluster does not tell.
    pub processes: u64,
    /// Bytes received; 0 where the cluster does not tell.
    pub received: u64,
    /// Bytes sent; 0 where the cluster does not tell.
    pub sent: u64,
}

impl Sample {
    /// Docker's JSON (Docker API, `ContainerStatsResponse`).
    pub fn json(&self) -> Value {
        let time = |t: &str| {
            if t.is_empty() { super::time::NEVER.to_owned() } else { t.to_owned() }
        };
        let runs = !self.read.is_empty();
        let blocks = if runs { json!([]) } else { Value::Null };
        let mut value = json!({
            "id": self.id,
            "name": format!("/{}", self.name),
            "os_type": "linux",
            "read": time(&self.read),
            "preread": time(&self.preread),
            "pids_stats": {},
            "blkio_stats": {
                "io_service_bytes_recursive": blocks, "io_serviced_recursive": blocks,
                "io_queue_recursive": blocks, "io_service_time_recursive": blocks,
                "io_wait_time_recursive": blocks, "io_merged_recursive": blocks,
                "io_time_recursive": blocks, "sectors_recursive": blocks,
            },
            "num_procs": 0,
            "storage_stats": {},
            "cpu_stats": if runs { self.now.cpu_json(self.processors) } else { no_cpu() },
            "precpu_stats": self.before.map_or_else(no_cpu, |before| before.cpu_json(self.processors)),
            "memory_stats": {},
        });
        if let (true, Some(fields)) = (runs, value.as_object_mut()) {
            let stats = json!({"inactive_file": 0, "total_inactive_file": 0});
            let memory = json!({"usage": self.now.memory, "stats": stats, "limit": self.limit});
            if self.processes > 0 {
                fields.insert("pids_stats".into(), json!({"current": self.processes}));
            }
            let network = json!({
                "rx_bytes": self.received, "rx_packets": 0, "rx_errors": 0, "rx_dropped": 0,
                "tx_bytes": self.sent, "tx_packets": 0, "tx_errors": 0, "tx_dropped": 0,
            });
            fields.insert("memory_stats".into(), memory);
            fields.insert("networks".into(), json!({"eth0": network}));
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_of_the_machine_never_begin_at_zero() {
        let first = Counters::first(2);
        assert_eq!((first.cpu, first.system), (0, 2_000_000_000));
    }

    #[test]
    fn a_client_computes_the_percentage_that_kubernetes_measured() {
        // Half a core of two, over 10 s: the CLI shows 50 %.
        let before = Counters::default();
        let now = before.after(500_000_000, 1, 2, Duration::from_secs(10));
        let percent = (now.cpu - before.cpu) as f64 / (now.system - before.system) as f64 * 2.0 * 100.0;
        assert_eq!(percent, 50.0);
    }
}
