//! Workloads: which runs are a Deployment that Kubernetes keeps running, and which are a Job that
//! runs once. A Deployment would start an ended process again within a second.

use std::collections::BTreeMap;

/// The question.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// Docker name of the container.
    pub name: String,
    /// Docker labels of the container.
    pub labels: BTreeMap<String, String>,
    /// `no`, `on-failure`, `always` or `unless-stopped`.
    pub restart_policy: String,
    /// `--rm` was given.
    pub auto_remove: bool,
    /// The client reads the output of the run (`AttachStdout`).
    pub foreground: bool,
}

/// The kinds of workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Keep it running.
    Deployment,
    /// Run it once (or until it succeeds).
    Job,
}

/// Compose marks its one-off runs by this label.
const ONEOFF: &str = "com.docker.compose.oneoff";

/// The default: a Job for `--rm`, and for `no` and `on-failure` in the foreground, unless it is a
/// Compose service, which Compose attaches to as well.
pub fn decide(input: &Input) -> Plan {
    let keeps_running = matches!(input.restart_policy.as_str(), "always" | "unless-stopped");
    let service = input.labels.get(ONEOFF).is_some_and(|oneoff| oneoff.eq_ignore_ascii_case("false"));
    let once = input.auto_remove || (input.foreground && !service);
    if once && !keeps_running { Plan::Job } else { Plan::Deployment }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(restart_policy: &str, auto_remove: bool, foreground: bool, oneoff: Option<&str>) -> Plan {
        let labels = oneoff.map(|v| (ONEOFF.to_owned(), v.to_owned())).into_iter().collect();
        decide(&Input {
            restart_policy: restart_policy.into(),
            auto_remove,
            foreground,
            labels,
            ..Input::default()
        })
    }

    #[test]
    fn a_foreground_run_is_a_job_and_a_detached_one_a_deployment() {
        assert_eq!(plan("no", false, true, None), Plan::Job);
        assert_eq!(plan("no", false, false, None), Plan::Deployment);
        assert_eq!(plan("on-failure", false, true, None), Plan::Job);
        assert_eq!(plan("always", false, true, None), Plan::Deployment);
        assert_eq!(plan("no", true, false, None), Plan::Job);
    }

    #[test]
    fn a_compose_service_is_a_deployment_and_a_compose_run_a_job() {
        assert_eq!(plan("no", false, true, Some("False")), Plan::Deployment);
        assert_eq!(plan("no", false, true, Some("True")), Plan::Job);
    }
}
