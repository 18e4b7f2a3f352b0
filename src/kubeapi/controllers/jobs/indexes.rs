//! Indexed Jobs: each Pod has a number of its own, and the Job is complete when every number has succeeded.

use std::collections::BTreeSet;
use std::fmt::{Display, Formatter};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::{defaults, meta};

/// Annotation and label of a Pod with its number.
const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// Whether the Pods of a Job have numbers.
pub fn is_indexed(job: &Value) -> bool {
    meta::string(job, &["spec", "completionMode"]) == "Indexed"
}

/// The number of a Pod.
pub fn of(pod: &Value) -> Option<i64> {
    meta::string(pod, &["metadata", "annotations", INDEX]).parse().ok()
}

/// Numbers as ranges, in order and with gaps between them: a status may say that there are thousands of millions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Indexes(Vec<(i64, i64)>);

impl Indexes {
    /// Numbers as a status has them: `1,3-5`.
    pub fn parse(text: &str) -> Self {
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.parse().ok()?, last.parse().ok()?);
            (0 <= first && first <= last).then_some((first, last))
        };
        let mut all: Vec<(i64, i64)> = text.split(',').filter_map(range).collect();
        all.sort_unstable();
        let mut ranges: Vec<(i64, i64)> = Vec::new();
        for (first, last) in all {
            match ranges.last_mut() {
                Some((_, before)) if first <= before.saturating_add(1) => *before = last.max(*before),
                _ => ranges.push((first, last)),
            }
        }
        Self(ranges)
    }

    /// Adds a number.
    pub fn add(&mut self, number: i64) {
        if self.after(number) == number {
            *self = Self::parse(&format!("{self},{number}"));
        }
    }

    /// How many there are.
    pub fn count(&self) -> i64 {
        self.0.iter().map(|(first, last)| (last - first).saturating_add(1)).fold(0, i64::saturating_add)
    }

    /// The next number from this one on that is none of them.
    fn after(&self, number: i64) -> i64 {
        let at = self.0.partition_point(|(_, last)| *last < number);
        match self.0.get(at) {
            Some((first, last)) if *first <= number => last.saturating_add(1),
            _ => number,
        }
    }
}

impl Display for Indexes {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let text = self.0.iter().map(|(first, last)| match last - first {
            0 => first.to_string(),
            1 => format!("{first},{last}"),
            _ => format!("{first}-{last}"),
        });
        f.write_str(&text.collect::<Vec<_>>().join(","))
    }
}

/// The numbers that want a Pod, the lowest first.
pub fn missing(job: &Value, active: &[&Arc<Value>]) -> impl Iterator<Item = i64> {
    let wanted = meta::number(job, &["spec", "completions"]).unwrap_or(0);
    let done = Indexes::parse(meta::string(job, &["status", "completedIndexes"]));
    let runs: BTreeSet<i64> = active.iter().filter_map(|pod| of(pod)).collect();
    let mut next = 0;
    std::iter::from_fn(move || {
        loop {
            let number = done.after(next);
            if number >= wanted {
                return None;
            }
            next = number + 1;
            if !runs.contains(&number) {
                return Some(number);
            }
        }
    })
}

/// Gives a Pod its number: where it can be read, and a hostname that is known beforehand.
pub fn give(job: &Value, pod: &mut Value, number: i64) {
    for field in ["annotations", "labels"] {
        let map = meta::child(meta::child(pod, "metadata"), field);
        meta::map(map).insert(INDEX.into(), number.to_string().into());
    }
    let spec = meta::child(pod, "spec");
    let hostname = format!("{}-{number}", meta::name(job));
    meta::map(spec).entry("hostname").or_insert_with(|| hostname.into());
    for field in ["initContainers", "containers"] {
        for container in defaults::list(spec, field) {
            let variables = meta::map(container).entry("env").or_insert_with(|| json!([]));
            let Some(variables) = variables.as_array_mut() else { continue };
            if !variables.iter().any(|one| meta::name_of(one) == "JOB_COMPLETION_INDEX") {
                let path = format!("metadata.labels['{INDEX}']");
                let from = json!({"fieldRef": {"apiVersion": "v1", "fieldPath": path}});
                variables.push(json!({"name": "JOB_COMPLETION_INDEX", "valueFrom": from}));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_kubernetes_writes_them() {
        for (numbers, text) in
            [(vec![], ""), (vec![2], "2"), (vec![1, 0, 1], "0,1"), (vec![7, 1, 3, 5, 4], "1,3-5,7")]
        {
            let mut all = Indexes::default();
            numbers.iter().for_each(|number| all.add(*number));
            assert_eq!(all.to_string(), text);
            assert_eq!(Indexes::parse(text), all);
        }
        assert_eq!(Indexes::parse("5,x,3-1,-4,0-3,2-4").to_string(), "0-5");
    }

    #[test]
    fn thousands_of_millions_of_numbers_take_no_room() {
        let mut all = Indexes::parse("0-1999999999,2000000001-9223372036854775807");
        assert_eq!(all.count(), i64::MAX);
        all.add(2_000_000_000);
        assert_eq!(all.to_string(), "0-9223372036854775807");
        let job = json!({
            "spec": {"completions": 2_000_000_000}, "status": {"completedIndexes": "0-1999999990"},
        });
        assert_eq!(
            missing(&job, &[]).take(3).collect::<Vec<_>>(),
            [1_999_999_991, 1_999_999_992, 1_999_999_993]
        );
    }

    #[test]
    fn a_number_that_runs_or_is_done_wants_no_pod() {
        let job = json!({"metadata": {"name": "j"}, "spec": {"completions": 4}, "status": {"completedIndexes": "1"}});
        let mut pod = json!({"spec": {"containers": [{"name": "c"}]}});
        give(&job, &mut pod, 2);
        assert_eq!(pod["spec"]["hostname"], "j-2");
        let pod = Arc::new(pod);
        assert_eq!(missing(&job, &[&pod]).collect::<Vec<_>>(), [0, 3]);
    }
}
