//! How Jobs end: complete, failed, and gone after a while.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::conditions::{condition, set_condition};
use crate::controllers::Context;
use crate::events::{self, About};
use crate::kinds;
use crate::meta;
use crate::verbs::{DeleteOptions, Propagation, Target};

/// Whether it has ended, or is about to.
pub fn is_finished(job: &Value) -> bool {
    ["Complete", "Failed", "FailureTarget", "SuccessCriteriaMet"].iter().any(|name| condition(job, name))
}

/// Restarts of containers count as failures where Pods are restarted in place.
pub fn restarts(job: &Value, active: &[&Arc<Value>]) -> i64 {
    if meta::string(job, &["spec", "template", "spec", "restartPolicy"]) != "OnFailure" {
        return 0;
    }
    let all = active.iter().flat_map(|pod| meta::items(pod, &["status", "containerStatuses"]));
    all.filter_map(|status| meta::number(status, &["restartCount"])).sum()
}

/// How long it may still take.
pub fn deadline(job: &Value) -> Option<Duration> {
    let limit = meta::number(job, &["spec", "activeDeadlineSeconds"])?;
    let start: Timestamp = meta::string(job, &["status", "startTime"]).parse().ok()?;
    let left = start.as_second().saturating_add(limit) - Timestamp::now().as_second();
    Some(Duration::from_secs(u64::try_from(left).unwrap_or(0)))
}

/// It has failed: its Pods end first.
pub fn fail(context: &Context, job: &Value, active: &[&Arc<Value>], reason: &str, words: &str) {
    active.iter().for_each(|pod| super::end(context, pod));
    mark(context, job, &["FailureTarget"], reason, words);
    if active.is_empty() {
        settle(context, job);
    }
}

/// It has done what it should.
pub fn complete(context: &Context, job: &Value, active: &[&Arc<Value>]) {
    active.iter().for_each(|pod| super::end(context, pod));
    mark(
        context,
        job,
        &["SuccessCriteriaMet"],
        "CompletionsReached",
        "Reached expected number of succeeded pods",
    );
    if active.is_empty() {
        settle(context, job);
    }
}

/// Its last Pod has ended.
pub fn settle(context: &Context, job: &Value) {
    let Ok(job) = context.api.get(&kinds::JOB, meta::namespace(job), meta::name(job)) else {
        return;
    };
    let about = About::new(&job, "job-controller");
    let end = |wanted: &str| {
        meta::items(&job, &["status", "conditions"])
            .iter()
            .find(|c| meta::string(c, &["type"]) == wanted)
            .map(|c| (meta::string(c, &["reason"]).to_owned(), meta::string(c, &["message"]).to_owned()))
    };
    if condition(&job, "Complete") || condition(&job, "Failed") {
        return;
    }
    if let Some((reason, words)) = end("FailureTarget") {
        mark(context, &job, &["Failed"], &reason, &words);
        events::record(&context.api, &about, "Warning", &reason, &words);
    } else if let Some((reason, words)) = end("SuccessCriteriaMet") {
        mark(context, &job, &["Complete"], &reason, &words);
        events::record(&context.api, &about, "Normal", "Completed", "Job completed");
    }
}

fn mark(context: &Context, job: &Value, conditions: &[&str], reason: &str, words: &str) {
    let target = Target::own(&kinds::JOB, meta::namespace(job), meta::name(job)).of("status");
    let _ = context.api.modify(&target, |job| {
        for name in conditions {
            set_condition(job, name, true, reason, words);
        }
        let over = condition(job, "Complete") || condition(job, "Failed");
        let done = condition(job, "Complete");
        let status = meta::map(meta::child(job, "status"));
        if over {
            status.remove("active");
            status.insert("ready".into(), 0.into());
            status.insert("terminating".into(), 0.into());
        }
        status.entry("startTime").or_insert_with(|| meta::now().into());
        if done {
            status.entry("completionTime").or_insert_with(|| meta::now().into());
        }
    });
}

/// Deletes a Job whose time after its end is over; when to look again.
pub fn expire(context: &Context, job: &Value) -> Option<Duration> {
    let keep = meta::number(job, &["spec", "ttlSecondsAfterFinished"])?;
    let ends = meta::items(job, &["status", "conditions"])
        .iter()
        .filter(|c| matches!(meta::string(c, &["type"]), "Complete" | "Failed"))
        .filter_map(|c| meta::string(c, &["lastTransitionTime"]).parse::<Timestamp>().ok());
    let left = ends.max()?.as_second() + keep - Timestamp::now().as_second();
    if let Some(left) = u64::try_from(left).ok().filter(|left| *left > 0) {
        return Some(Duration::from_secs(left));
    }
    let target = Target::own(&kinds::JOB, meta::namespace(job), meta::name(job));
    let options =
        DeleteOptions { propagation_policy: Some(Propagation::Foreground), ..DeleteOptions::default() };
    let _ = context.api.delete(&target, &options);
    None
}
