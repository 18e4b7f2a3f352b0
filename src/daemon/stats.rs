//! `docker stats` from the metrics API, where the cluster has one; zeroes where it has not.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::time::MissedTickBehavior;

use super::Daemon;
use d2k_cluster::Usage;
use d2k_common::fault::Result;
use d2k_translate::container::Container;
use d2k_translate::quantity;
use d2k_translate::stats::{Counters, Sample};

/// How long the metrics API may take: what comes later is zero, and nobody waits for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The meters of the containers that somebody looks at.
#[derive(Default)]
pub struct Meters {
    available: OnceCell<bool>,
    counters: Mutex<HashMap<String, (Instant, Counters)>>,
}

impl Daemon {
    /// Looks once whether the cluster has metrics, and says so in the log.
    pub async fn probe_metrics(&self) -> bool {
        let probe = || async {
            let found = tokio::time::timeout(PATIENCE, self.cluster.has_metrics()).await.unwrap_or(false);
            if found {
                tracing::info!("docker stats shows the metrics of metrics.k8s.io");
            } else {
                tracing::info!(
                    "no metrics: metrics.k8s.io is not there or not granted; docker stats shows zeroes"
                );
            }
            found
        };
        *self.stats.available.get_or_init(probe).await
    }

    /// One sample of a container; `before` is the sample that precedes it in the stream.
    ///
    /// # Errors
    /// None at present: what cannot be measured is zero.
    pub async fn sample(&self, container: &Container, before: Option<&Sample>) -> Result<Sample> {
        let record = &container.record;
        let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let limit = record.host().memory.and_then(|m| u64::try_from(m).ok()).filter(|m| *m > 0);
        let mut sample = Sample {
            id: record.id.clone(),
            name: record.name.clone(),
            read: String::new(),
            preread: before.map(|b| b.read.clone()).unwrap_or_default(),
            before: before.map(|b| b.now),
            now: Counters::default(),
            processors,
            limit: 0,
            processes: 0,
            received: 0,
            sent: 0,
        };
        let Some(pod) = container.running_pod() else {
            return Ok(sample);
        };
        sample.read = Timestamp::now().to_string();
        sample.limit = limit.unwrap_or_else(machine_memory);
        let usage = self.usage_of(&pod).await.unwrap_or_default();
        let largest = |all: &[String]| all.iter().filter_map(|n| n.parse().ok()).max().unwrap_or(0);
        sample.processes = sum(&usage.processes, quantity::bytes);
        (sample.received, sample.sent) = (largest(&usage.received), largest(&usage.sent));
        let (cpu, memory) = (sum(&usage.cpu, quantity::nanocores), sum(&usage.memory, quantity::bytes));
        sample.now = self.integrate(&record.id, cpu, memory, processors);
        Ok(sample)
    }

    async fn usage_of(&self, pod: &str) -> Option<Usage> {
        if !self.probe_metrics().await {
            return None;
        }
        tokio::time::timeout(PATIENCE, self.cluster.usage(pod)).await.ok()?.ok()?
    }

    fn integrate(&self, id: &str, nanocores: u64, memory: u64, processors: u64) -> Counters {
        let mut all = self.stats.counters.lock();
        let now = Instant::now();
        let (last, counters) = all.get(id).copied().unwrap_or((now, Counters::first(processors)));
        let counters = counters.after(nanocores, memory, processors, now.duration_since(last));
        all.retain(|_, (seen, _)| now.duration_since(*seen) < Duration::from_secs(3600));
        all.insert(id.to_owned(), (now, counters));
        counters
    }
}

fn sum(all: &[String], read: fn(&Quantity) -> Option<i64>) -> u64 {
    all.iter().filter_map(|q| u64::try_from(read(&Quantity(q.clone()))?).ok()).sum()
}

/// Bytes of memory of this machine, for clients that must have a number; a Role cannot read nodes.
pub fn machine_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text
        .lines()
        .find_map(|l| l.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    total.map_or(1 << 30, |kib: u64| kib * 1024)
}

/// Samples of a container, one a second, until it is removed.
pub fn stream(
    daemon: Arc<Daemon>,
    id: String,
) -> impl futures::Stream<Item = serde_json::Value> + Send + 'static {
    async_stream::stream! {
        let mut before: Option<Sample> = None;
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            second.tick().await;
            let Some(container) = daemon.container_by_id(&id) else { return };
            let Ok(sample) = daemon.sample(&container, before.as_ref()).await else { return };
            yield sample.json();
            before = Some(sample);
        }
    }
}
