//! Metrics of d2k in one table. Values are kept in the process and rendered as Prometheus text. The table tells
//! nothing of what was run: the port that shows it has no login.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use parking_lot::Mutex;

/// How the values of a metric behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A row of the table of metrics.
#[derive(Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it tells.
    pub help: &'static str,
    /// How its values behave.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
}

/// Requests by method and status.
pub static REQUESTS: Metric = Metric {
    name: "d2k_requests_total",
    help: "Requests of Docker clients that were answered.",
    kind: Kind::Counter,
    labels: &["method", "status"],
};
/// Seconds until a request was answered, by method.
pub static REQUEST_SECONDS: Metric = Metric {
    name: "d2k_request_seconds",
    help: "Seconds until the head of an answer was ready.",
    kind: Kind::Histogram,
    labels: &["method"],
};
/// Open attach and exec streams.
pub static STREAMS: Metric = Metric {
    name: "d2k_streams_open",
    help: "Attach and exec streams that are open.",
    kind: Kind::Gauge,
    labels: &["transport"],
};

/// Seconds of one call of a policy, by hook.
pub static POLICY_SECONDS: Metric = Metric {
    name: "d2k_policy_seconds",
    help: "Seconds of one call of a policy.",
    kind: Kind::Histogram,
    labels: &["hook"],
};
/// Requests that a policy refused.
pub static POLICY_REFUSALS: Metric = Metric {
    name: "d2k_policy_refusals_total",
    help: "Requests that a policy refused.",
    kind: Kind::Counter,
    labels: &["policy", "hook"],
};
/// Calls of policies that failed, by reason: time, memory, reply, trap, request.
pub static POLICY_FAILURES: Metric = Metric {
    name: "d2k_policy_failures_total",
    help: "Calls of policies that failed.",
    kind: Kind::Counter,
    labels: &["policy", "reason"],
};
/// Changes of the set of policies, by result: active, refused, rolled-back.
pub static POLICY_RELOADS: Metric = Metric {
    name: "d2k_policy_reloads_total",
    help: "Changes of the set of policies.",
    kind: Kind::Counter,
    labels: &["result"],
};

/// All metrics, in the order in which they are shown.
pub static TABLE: [&Metric; 7] = [
    &REQUESTS,
    &REQUEST_SECONDS,
    &STREAMS,
    &POLICY_SECONDS,
    &POLICY_REFUSALS,
    &POLICY_FAILURES,
    &POLICY_RELOADS,
];

/// Upper bounds of the histograms' buckets, in seconds.
const BUCKETS: [f64; 13] =
    [0.000_02, 0.000_05, 0.000_2, 0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 5.0, 30.0, 120.0];

type Key = (&'static str, Vec<String>);

#[derive(Debug, Clone, Default)]
struct Series {
    value: f64,
    count: u64,
    buckets: [u64; BUCKETS.len()],
}

static VALUES: Mutex<BTreeMap<Key, Series>> = Mutex::new(BTreeMap::new());

/// Series that are kept: labels are words of d2k and names of policies, which an operator may change for ever.
const SERIES_MAX: usize = 1000;

fn change(metric: &Metric, labels: &[&str], change: impl FnOnce(&mut Series)) {
    let mut values = VALUES.lock();
    change(series(&mut values, metric, labels));
}

/// The series of these labels; beyond [`SERIES_MAX`] that of all others.
fn series<'a>(values: &'a mut BTreeMap<Key, Series>, metric: &Metric, labels: &[&str]) -> &'a mut Series {
    let mut key: Key = (metric.name, labels.iter().map(|&label| label.to_owned()).collect());
    if values.len() >= SERIES_MAX && !values.contains_key(&key) {
        key.1.fill("other".to_owned());
    }
    values.entry(key).or_default()
}

/// Counts one.
pub fn count(metric: &Metric, labels: &[&str]) {
    add(metric, labels, 1.0);
}

/// Adds to a counter or a gauge.
pub fn add(metric: &Metric, labels: &[&str], amount: f64) {
    change(metric, labels, |series| series.value += amount);
}

/// Notes a value of a histogram.
pub fn observe(metric: &Metric, labels: &[&str], value: f64) {
    change(metric, labels, |series| {
        series.value += value;
        series.count += 1;
        for (bucket, bound) in series.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(value <= bound);
        }
    });
}

/// One more on a gauge, until it is dropped.
#[derive(Debug)]
pub struct Open {
    metric: &'static Metric,
    labels: &'static [&'static str],
}

impl Open {
    /// Adds one to a gauge.
    pub fn new(metric: &'static Metric, labels: &'static [&'static str]) -> Self {
        add(metric, labels, 1.0);
        Self { metric, labels }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        add(self.metric, self.labels, -1.0);
    }
}

/// All metrics as Prometheus text.
pub fn render() -> String {
    let values = VALUES.lock().clone();
    let mut text = String::new();
    for metric in TABLE {
        let kind = format!("{:?}", metric.kind).to_lowercase();
        let _ = writeln!(text, "# HELP {} {}\n# TYPE {} {kind}", metric.name, metric.help, metric.name);
        for ((_, labels), series) in values.iter().filter(|((name, _), _)| *name == metric.name) {
            line(&mut text, metric, labels, series);
        }
    }
    text
}

fn line(text: &mut String, metric: &Metric, labels: &[String], series: &Series) {
    let name = metric.name;
    let pairs: Vec<_> = metric.labels.iter().zip(labels).map(|(k, v)| format!("{k}={v:?}")).collect();
    let pairs = pairs.join(",");
    let set = if pairs.is_empty() { String::new() } else { format!("{{{pairs}}}") };
    if metric.kind != Kind::Histogram {
        let _ = writeln!(text, "{name}{set} {}", series.value);
        return;
    }
    let comma = if pairs.is_empty() { "" } else { "," };
    for (bound, count) in BUCKETS.iter().zip(series.buckets) {
        let _ = writeln!(text, "{name}_bucket{{{pairs}{comma}le=\"{bound}\"}} {count}");
    }
    let _ = writeln!(text, "{name}_bucket{{{pairs}{comma}le=\"+Inf\"}} {}", series.count);
    let _ = writeln!(text, "{name}_sum{set} {}\n{name}_count{set} {}", series.value, series.count);
}

#[cfg(test)]
mod tests {
    use super::*;

    static SECONDS: Metric = Metric { name: "s", help: "", kind: Kind::Histogram, labels: &["a"] };

    #[test]
    fn metrics_are_prometheus_text() {
        count(&REQUESTS, &["TEST", "200"]);
        count(&REQUESTS, &["TEST", "200"]);
        let open = Open::new(&STREAMS, &["test"]);
        assert!(render().contains("d2k_streams_open{transport=\"test\"} 1\n"));
        drop(open);
        let text = render();
        assert!(text.contains("# TYPE d2k_requests_total counter\n"));
        assert!(text.contains("d2k_requests_total{method=\"TEST\",status=\"200\"} 2\n"));
        assert!(text.contains("d2k_streams_open{transport=\"test\"} 0\n"));
    }

    #[test]
    fn labels_without_end_become_one_series() {
        let mut values = BTreeMap::new();
        for number in 0..SERIES_MAX * 2 {
            series(&mut values, &POLICY_REFUSALS, &[&format!("policy-{number}"), "images"]).value += 1.0;
        }
        assert_eq!(values.len(), SERIES_MAX + 1);
        let other = series(&mut values, &POLICY_REFUSALS, &["one more", "images"]);
        assert!(other.value > 999.0, "{}", other.value);
    }

    #[test]
    fn histograms_count_upwards() {
        let mut series = Series { value: 0.5, count: 2, ..Series::default() };
        series.buckets[BUCKETS.len() - 1] = 2;
        let mut text = String::new();
        line(&mut text, &SECONDS, &["x".to_owned()], &series);
        assert!(text.contains("s_bucket{a=\"x\",le=\"120\"} 2\ns_bucket{a=\"x\",le=\"+Inf\"} 2\n"));
        assert!(text.ends_with("s_sum{a=\"x\"} 0.5\ns_count{a=\"x\"} 2\n"));
    }
}
