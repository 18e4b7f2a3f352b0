//! Jobs: Pods until enough of them have succeeded, or too many have failed. A Pod stays until it is
//! counted (KEP-2307): its finalizer goes when its UID is in `uncountedTerminatedPods`.

mod indexes;
mod outcome;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::owners;
use super::{Context, Controller, Key, key_of, replica_sets};
use crate::changes::Change;
use crate::conditions::{self, set_condition};
use crate::events::{self, About};
use crate::kinds::{self, Kind};
use crate::meta;
use crate::verbs::{DeleteOptions, Propagation, Target};
use indexes::Indexes;

/// Keeps a Pod until it is counted.
const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// Pause before a Pod that replaces a failed one; doubled with each, up to [`LONGEST`].
const BACKOFF: i64 = 10;
/// Longest pause, seconds.
const LONGEST: i64 = 600;
/// When a Pod that could not be made is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// Who looks after a Job that names nobody else in `managedBy`.
const OWN: &str = "kubernetes.io/job-controller";

/// The controller.
pub struct Jobs;

impl Controller for Jobs {
    const KINDS: &'static [&'static Kind] = &[&kinds::JOB, &kinds::POD];

    fn key(&self, _: &Context, kind: &Kind, change: &Change) -> Vec<Key> {
        match kind.name {
            "Job" => vec![key_of(&change.object)],
            _ => owners::controller_key(&change.object, "Job").into_iter().collect(),
        }
    }

    fn reconcile(&self, context: &Context, key: &Key) -> Option<Duration> {
        let of = &kinds::JOB;
        let Ok(job) = context.api.get(of, &key.0, &key.1) else {
            free_orphans(context, key);
            return None;
        };
        if !matches!(meta::string(&job, &["spec", "managedBy"]), "" | OWN) {
            return None;
        }
        let pods = owners::children(context, &kinds::POD, of, &job);
        let counted = count(context, &job, &pods);
        if meta::deleting(&job) {
            return None;
        }
        if outcome::is_finished(&job) {
            end_all(context, &job, &pods);
            return outcome::expire(context, &job);
        }
        // What was counted just now comes back as a change.
        if counted { None } else { self.step(context, &job, &pods) }
    }
}

impl Jobs {
    fn step(&self, context: &Context, job: &Value, pods: &[Arc<Value>]) -> Option<Duration> {
        let spec = |field: &str| meta::number(job, &["spec", field]);
        let number = |field: &str| meta::number(job, &["status", field]).unwrap_or(0);
        let active: Vec<&Arc<Value>> =
            pods.iter().filter(|pod| !conditions::is_over(pod) && !meta::deleting(pod)).collect();
        let ending = pods.iter().filter(|pod| !conditions::is_over(pod) && meta::deleting(pod)).count();
        let suspended = meta::at(job, &["spec", "suspend"]).as_bool() == Some(true);
        let restarts = outcome::restarts(job, &active);
        if number("failed") + restarts > spec("backoffLimit").unwrap_or(6) {
            outcome::fail(
                context,
                job,
                &active,
                "BackoffLimitExceeded",
                "Job has reached the specified backoff limit",
            );
            return None;
        }
        let deadline = outcome::deadline(job).filter(|_| !suspended);
        if deadline.is_some_and(|left| left.is_zero()) {
            let words = "Job was active longer than specified deadline";
            outcome::fail(context, job, &active, "DeadlineExceeded", words);
            return None;
        }
        let (succeeded, parallelism) = (number("succeeded"), spec("parallelism").unwrap_or(1));
        let enough = match spec("completions") {
            Some(wanted) => succeeded >= wanted,
            None => succeeded > 0 && active.is_empty(),
        };
        if enough && !suspended {
            outcome::complete(context, job, &active);
            return None;
        }
        let mut again = deadline;
        let mut now_active = active.len();
        if suspended {
            active.iter().for_each(|pod| end(context, pod));
            now_active = 0;
        } else {
            let open = spec("completions").map_or(parallelism, |wanted| (wanted - succeeded).max(0));
            let open = if spec("completions").is_none() && succeeded > 0 { 0 } else { open };
            // Until the last one has really ended.
            let replaced = meta::string(job, &["spec", "podReplacementPolicy"]) == "Failed";
            let busy = i64::try_from(active.len() + if replaced { ending } else { 0 }).unwrap_or(i64::MAX);
            let missing = parallelism.min(open) - busy;
            match backoff(job, pods) {
                Some(wait) if missing > 0 => again = Some(again.map_or(wait, |a| a.min(wait))),
                _ => {
                    let count = usize::try_from(missing).unwrap_or(0).min(replica_sets::BURST);
                    let numbers: Vec<Option<i64>> = if indexes::is_indexed(job) {
                        indexes::missing(job, &active).take(count).map(Some).collect()
                    } else {
                        vec![None; count]
                    };
                    let made = numbers.iter().take_while(|number| make(context, job, **number)).count();
                    now_active += made;
                    if made < numbers.len() {
                        again = Some(again.map_or(AGAIN, |again| again.min(AGAIN)));
                    }
                }
            }
            for pod in active.iter().skip(usize::try_from(parallelism).unwrap_or(0)) {
                end(context, pod);
            }
        }
        write_status(context, job, now_active, &active, ending, suspended);
        again
    }
}

/// How long until the next Pod may be made.
fn backoff(job: &Value, pods: &[Arc<Value>]) -> Option<Duration> {
    let failed = meta::number(job, &["status", "failed"]).unwrap_or(0);
    if failed == 0 {
        return None;
    }
    let ends = pods.iter().filter(|p| meta::string(p, &["status", "phase"]) == "Failed").filter_map(|pod| {
        let all = meta::items(pod, &["status", "containerStatuses"]).iter();
        all.filter_map(|s| meta::string(s, &["state", "terminated", "finishedAt"]).parse::<Timestamp>().ok())
            .max()
    });
    let pause = BACKOFF.saturating_mul(1 << (failed - 1).clamp(0, 10)).min(LONGEST);
    let left = ends.max()?.as_second() + pause - Timestamp::now().as_second();
    u64::try_from(left).ok().filter(|left| *left > 0).map(Duration::from_secs)
}

/// Makes a Pod; whether that could be done.
fn make(context: &Context, job: &Value, number: Option<i64>) -> bool {
    let of = &kinds::JOB;
    let mut template = meta::at(job, &["spec", "template"]).clone();
    meta::set(&mut template, "finalizers", json!([TRACKING]));
    let prefix = number.map_or_else(String::new, |number| format!("{number}-"));
    let mut pod = replica_sets::pod_of(of, job, &template, &format!("{}-{prefix}", meta::name(job)));
    if let Some(number) = number {
        indexes::give(job, &mut pod, number);
    }
    let about = About::new(job, "job-controller");
    match context.api.create(&Target::own(&kinds::POD, meta::namespace(job), ""), pod) {
        Ok(made) => {
            let words = format!("Created pod: {}", meta::name(&made.object));
            events::record(&context.api, &about, "Normal", "SuccessfulCreate", &words);
            true
        }
        Err(status) => {
            let words = format!("Error creating: {}", status.message);
            events::record(&context.api, &about, "Warning", "FailedCreate", &words);
            false
        }
    }
}

fn end(context: &Context, pod: &Value) {
    let target = Target::own(&kinds::POD, meta::namespace(pod), meta::name(pod));
    let options =
        DeleteOptions { propagation_policy: Some(Propagation::Background), ..DeleteOptions::default() };
    let _ = context.api.delete(&target, &options);
}

fn end_all(context: &Context, job: &Value, pods: &[Arc<Value>]) {
    for pod in pods.iter().filter(|pod| conditions::is_active(pod)) {
        end(context, pod);
    }
    let over = pods.iter().all(|pod| conditions::is_over(pod));
    if over {
        outcome::settle(context, job);
    }
}

/// Counts Pods that have ended; whether any was.
fn count(context: &Context, job: &Value, pods: &[Arc<Value>]) -> bool {
    let tracked = |pod: &Value| meta::list(pod, "finalizers").contains(&TRACKING);
    let succeeded = |pod: &Value| meta::string(pod, &["status", "phase"]) == "Succeeded";
    let over: Vec<&Arc<Value>> = pods.iter().filter(|pod| tracked(pod) && ended(pod)).collect();
    let uncounted = |field| meta::items(job, &["status", "uncountedTerminatedPods", field]).to_vec();
    let (good, bad) = (uncounted("succeeded"), uncounted("failed"));
    if over.is_empty() && good.is_empty() && bad.is_empty() {
        return false;
    }
    let target = Target::own(&kinds::JOB, meta::namespace(job), meta::name(job)).of("status");
    let fresh = |wanted: bool, known: &[Value]| -> Vec<Value> {
        let all = over.iter().filter(|pod| succeeded(pod) == wanted).map(|pod| Value::from(meta::uid(pod)));
        all.filter(|uid| !known.contains(uid)).collect()
    };
    let lists = [
        ("succeeded", [good.clone(), fresh(true, &good)].concat()),
        ("failed", [bad.clone(), fresh(false, &bad)].concat()),
    ];
    let noted = context.api.modify(&target, |job| {
        let status = meta::child(job, "status");
        meta::map(status).insert(
            "uncountedTerminatedPods".into(),
            json!({lists[0].0: lists[0].1, lists[1].0: lists[1].1}),
        );
    });
    if noted.is_err() {
        return true;
    }
    over.iter().for_each(|pod| release(context, pod));
    let done: Vec<i64> =
        over.iter().filter(|pod| succeeded(pod)).filter_map(|pod| indexes::of(pod)).collect();
    let _ = context.api.modify(&target, |job| {
        let indexed = indexes::is_indexed(job);
        let status = meta::map(meta::child(job, "status"));
        if indexed {
            let text = status.get("completedIndexes").and_then(Value::as_str).unwrap_or_default();
            let mut all = Indexes::parse(text);
            done.iter().for_each(|number| all.add(*number));
            status.insert("completedIndexes".into(), all.to_string().into());
            status.insert("succeeded".into(), all.count().into());
        }
        for (field, uids) in lists.iter().filter(|(field, _)| !indexed || *field != "succeeded") {
            let before = status.get(*field).and_then(Value::as_i64).unwrap_or(0);
            let now = before + i64::try_from(uids.len()).unwrap_or(0);
            if now > 0 {
                status.insert((*field).to_owned(), now.into());
            }
        }
        status.insert("uncountedTerminatedPods".into(), json!({}));
    });
    true
}

/// A Pod that is being deleted before it has ended has failed once it is really over; one that never
/// had a Node is over at once.
fn ended(pod: &Value) -> bool {
    conditions::is_over(pod)
        || (meta::deleting(pod) && meta::number(pod, &["metadata", "deletionGracePeriodSeconds"]) == Some(0))
}

fn release(context: &Context, pod: &Value) {
    let target = Target::own(&kinds::POD, meta::namespace(pod), meta::name(pod));
    let _ = context.api.modify(&target, |pod| {
        let left: Vec<String> =
            meta::list(pod, "finalizers").into_iter().filter(|f| *f != TRACKING).map(str::to_owned).collect();
        meta::set(pod, "finalizers", json!(left));
    });
}

/// Pods whose Job is gone are counted by nobody.
fn free_orphans(context: &Context, key: &Key) {
    let pods = context.api.list(&kinds::POD, &key.0).items;
    for pod in pods.iter().filter(|pod| owners::controller_key(pod, "Job").as_ref() == Some(key)) {
        if meta::list(pod, "finalizers").contains(&TRACKING) {
            release(context, pod);
        }
    }
}

fn write_status(
    context: &Context,
    job: &Value,
    count: usize,
    active: &[&Arc<Value>],
    ending: usize,
    suspended: bool,
) {
    let ready = active.iter().filter(|pod| conditions::is_ready(pod)).count();
    let target = Target::own(&kinds::JOB, meta::namespace(job), meta::name(job)).of("status");
    let _ = context.api.modify(&target, |job| {
        let was = conditions::condition(job, "Suspended");
        let status = meta::map(meta::child(job, "status"));
        if suspended {
            status.remove("startTime");
        } else {
            status.entry("startTime").or_insert_with(|| meta::now().into());
        }
        for (field, value) in [("active", count), ("ready", ready), ("terminating", ending)] {
            if value == 0 && field == "active" {
                status.remove(field);
            } else {
                status.insert(field.to_owned(), value.into());
            }
        }
        status.entry("uncountedTerminatedPods").or_insert_with(|| json!({}));
        if suspended {
            set_condition(job, "Suspended", true, "JobSuspended", "Job suspended");
        } else if was {
            set_condition(job, "Suspended", false, "JobResumed", "Job resumed");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing::{context, make as create, names};

    #[test]
    fn a_job_that_somebody_else_looks_after_is_left_alone() {
        for (manager, pods) in [("example.com/queue", 0), (OWN, 1)] {
            let context = context();
            let pod = json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]});
            let spec = json!({"managedBy": manager, "template": {"spec": pod}});
            create(&context, &kinds::JOB, json!({"metadata": {"name": "j"}, "spec": spec}));
            Jobs.reconcile(&context, &("default".to_owned(), "j".to_owned()));
            assert_eq!(names(&context, &kinds::POD).len(), pods, "{manager}");
        }
    }
}
