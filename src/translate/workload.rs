//! A container's workload: a Deployment that keeps it running, or a Job that runs it once.
//! Which of the two is a decision of the `workload` policy; both are made from the same record.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use bollard_stubs::models::RestartPolicyNameEnum;

use super::keys::{self, role};
use super::record::Record;

fn metadata(record: &Record) -> ObjectMeta {
    ObjectMeta {
        name: Some(record.object.clone()),
        labels: Some(record.labels(role::CONTAINER)),
        annotations: Some(record.annotations()),
        ..ObjectMeta::default()
    }
}

/// The Deployment of a container, with 0 (created, stopped) or 1 (started) replicas.
pub fn deployment(record: &Record, template: PodTemplateSpec, replicas: i32) -> Deployment {
    let selector = [(keys::CONTAINER.to_owned(), record.short().to_owned())].into();
    Deployment {
        metadata: metadata(record),
        spec: Some(DeploymentSpec {
            replicas: Some(replicas),
            // Docker never runs two of one container, not even for a moment.
            strategy: Some(DeploymentStrategy { type_: Some("Recreate".into()), ..Default::default() }),
            revision_history_limit: Some(0),
            selector: LabelSelector { match_labels: Some(selector), ..LabelSelector::default() },
            template,
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

/// The Job of a container, suspended (created) or not (started).
pub fn job(record: &Record, template: PodTemplateSpec, suspended: bool) -> Job {
    Job {
        metadata: metadata(record),
        spec: Some(JobSpec {
            suspend: Some(suspended),
            backoff_limit: Some(retries(record)),
            // A replacement is made when the failed Pod is gone for good, never beside it.
            pod_replacement_policy: Some("Failed".into()),
            template,
            ..JobSpec::default()
        }),
        ..Job::default()
    }
}

/// How often a Job may start its Pod again: Docker's retry count; without one, without end.
fn retries(record: &Record) -> i32 {
    let host = record.host();
    let Some(policy) = host.restart_policy else {
        return 0;
    };
    match policy.name {
        Some(RestartPolicyNameEnum::ON_FAILURE) => match policy.maximum_retry_count.unwrap_or(0) {
            0 => i32::MAX,
            count => i32::try_from(count).unwrap_or(i32::MAX),
        },
        _ => 0,
    }
}

/// Whether a Job has run to its end, so that it can only be made anew, not started again.
pub fn job_is_over(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|c| c.status == "True" && matches!(c.type_.as_str(), "Complete" | "Failed"))
}

/// Whether a Job has ever made a Pod.
pub fn job_has_started(job: &Job) -> bool {
    job.status.as_ref().is_some_and(|s| s.start_time.is_some())
        || job.spec.as_ref().and_then(|s| s.suspend) == Some(false)
}
