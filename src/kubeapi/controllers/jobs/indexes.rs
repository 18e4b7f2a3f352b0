//! Indexed Jobs: each Pod has a number of its own, and the Job is complete when every number has succeeded.

use std::collections::BTreeSet;
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

/// Numbers as a status has them: `1,3-5`.
pub fn parse(text: &str) -> BTreeSet<i64> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<i64>().ok()?..=last.parse::<i64>().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}

/// The same in text.
pub fn format(numbers: &BTreeSet<i64>) -> String {
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => ranges.push((*number, *number)),
        }
    }
    let text = ranges.iter().map(|(first, last)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    });
    text.collect::<Vec<_>>().join(",")
}

/// The numbers that want a Pod, the lowest first.
pub fn missing(job: &Value, active: &[&Arc<Value>]) -> Vec<i64> {
    let wanted = meta::number(job, &["spec", "completions"]).unwrap_or(0);
    let done = parse(meta::string(job, &["status", "completedIndexes"]));
    let runs: BTreeSet<i64> = active.iter().filter_map(|pod| of(pod)).collect();
    (0..wanted).filter(|number| !done.contains(number) && !runs.contains(number)).collect()
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
            [(vec![], ""), (vec![2], "2"), (vec![0, 1], "0,1"), (vec![1, 3, 4, 5, 7], "1,3-5,7")]
        {
            let numbers: BTreeSet<i64> = numbers.into_iter().collect();
            assert_eq!(format(&numbers), text);
            assert_eq!(parse(text), numbers);
        }
    }

    #[test]
    fn a_number_that_runs_or_is_done_wants_no_pod() {
        let job = json!({"metadata": {"name": "j"}, "spec": {"completions": 4}, "status": {"completedIndexes": "1"}});
        let mut pod = json!({"spec": {"containers": [{"name": "c"}]}});
        give(&job, &mut pod, 2);
        assert_eq!(pod["spec"]["hostname"], "j-2");
        let pod = Arc::new(pod);
        assert_eq!(missing(&job, &[&pod]), [0, 3]);
    }
}
