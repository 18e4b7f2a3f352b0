//! What has become of the Jobs of a CronJob: which of them run, which have ended, and which are kept.

use std::sync::Arc;

use serde_json::Value;

use crate::conditions::condition;
use crate::controllers::Context;
use crate::events::{self, About};
use crate::kinds;
use crate::meta;
use crate::verbs::{DeleteOptions, Propagation, Target};

/// How a Job has ended.
pub fn end_of(job: &Value) -> Option<&'static str> {
    ["Complete", "Failed"].into_iter().find(|name| condition(job, name))
}

/// The references of those that run.
pub fn active(cron: &Value) -> &[Value] {
    meta::items(cron, &["status", "active"])
}

/// Writes into the status which Jobs have ended or are gone, and tells of it.
pub fn note(context: &Context, cron: &Value, jobs: &[Arc<Value>]) {
    let is = |reference: &Value, job: &Value| meta::string(reference, &["uid"]) == meta::uid(job);
    let tell = |level, reason, words: &str| tell(context, cron, level, reason, words);
    let mut left = active(cron).to_vec();
    for job in jobs {
        let known = left.iter().any(|reference| is(reference, job));
        match end_of(job) {
            None if !known => {
                let words = "Saw a job that the controller did not create or forgot";
                tell("Warning", "UnexpectedJob", &format!("{words}: {}", meta::name(job)));
            }
            Some(end) if known => {
                left.retain(|reference| !is(reference, job));
                let words = format!("Saw completed job: {}, condition: {end}", meta::name(job));
                tell("Normal", "SawCompletedJob", &words);
            }
            _ => {}
        }
    }
    left.retain(|reference| {
        let there = jobs.iter().any(|job| is(reference, job));
        if !there {
            let words = format!("Active job went missing: {}", meta::string(reference, &["name"]));
            tell("Normal", "MissingJob", &words);
        }
        there
    });
    let done = jobs.iter().filter(|job| condition(job, "Complete"));
    let succeeded = done.map(|job| meta::string(job, &["status", "completionTime"])).max();
    let before = meta::string(cron, &["status", "lastSuccessfulTime"]);
    let last = succeeded.filter(|time| *time > before);
    if left == active(cron) && last.is_none() {
        return;
    }
    let target = Target::own(&kinds::CRON_JOB, meta::namespace(cron), meta::name(cron)).of("status");
    let _ = context.api.modify(&target, |cron| {
        let status = meta::map(meta::child(cron, "status"));
        status.insert("active".into(), left.into());
        if let Some(last) = last {
            status.insert("lastSuccessfulTime".into(), last.into());
        }
    });
}

/// Ended Jobs beyond the limits go, the oldest first.
pub fn forget(context: &Context, cron: &Value, jobs: &[Arc<Value>]) {
    for (field, end) in [("successfulJobsHistoryLimit", "Complete"), ("failedJobsHistoryLimit", "Failed")] {
        let Some(limit) = meta::number(cron, &["spec", field]) else { continue };
        let mut ended: Vec<&Arc<Value>> =
            jobs.iter().filter(|job| end_of(job) == Some(end) && !meta::deleting(job)).collect();
        ended.sort_by_key(|job| {
            (meta::string(job, &["status", "startTime"]).to_owned(), meta::name(job).to_owned())
        });
        let surplus = ended.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        for job in ended.into_iter().take(surplus) {
            delete(context, cron, meta::namespace(job), meta::name(job));
        }
    }
}

/// Deletes a Job and its Pods.
pub fn delete(context: &Context, cron: &Value, namespace: &str, name: &str) {
    let options =
        DeleteOptions { propagation_policy: Some(Propagation::Background), ..DeleteOptions::default() };
    match context.api.delete(&Target::own(&kinds::JOB, namespace, name), &options) {
        Ok(_) => tell(context, cron, "Normal", "SuccessfulDelete", &format!("Deleted job {name}")),
        Err(status) => {
            tell(context, cron, "Warning", "FailedDelete", &format!("Deleted job: {}", status.message));
        }
    }
}

/// Tells something of a CronJob.
pub fn tell(context: &Context, cron: &Value, level: &str, reason: &str, words: &str) {
    events::record(&context.api, &About::new(cron, "cronjob-controller"), level, reason, words);
}
