//! CronJobs: a Job at each time of their schedule. The controller sleeps until the next time; a CronJob that was
//! not looked at for a while makes up for the last time that it has missed, and no more.

mod due;
mod history;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::{Context, Controller, Key, key_of, owners};
use crate::changes::Change;
use crate::cron::{self, Schedule};
use crate::kinds::{self, Kind};
use crate::meta;
use crate::verbs::Target;
use due::Clock;

/// The annotation of a Job with the time that it was due at.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// More missed times than this are told.
const MANY: i64 = 100;
/// When a Job that could not be made is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// The controller.
pub struct CronJobs;

impl Controller for CronJobs {
    const KINDS: &'static [&'static Kind] = &[&kinds::CRON_JOB, &kinds::JOB];

    fn key(&self, _: &Context, kind: &Kind, change: &Change) -> Vec<Key> {
        match kind.name {
            "CronJob" => vec![key_of(&change.object)],
            _ => owners::controller_key(&change.object, "CronJob").into_iter().collect(),
        }
    }

    fn reconcile(&self, context: &Context, key: &Key) -> Option<Duration> {
        look(context, key, Timestamp::now())
    }
}

/// Looks at a CronJob at some time; when to look again.
fn look(context: &Context, key: &Key, now: Timestamp) -> Option<Duration> {
    let of = &kinds::CRON_JOB;
    let cron = context.api.get(of, &key.0, &key.1).ok()?;
    let jobs = owners::children(context, &kinds::JOB, of, &cron);
    history::note(context, &cron, &jobs);
    history::forget(context, &cron, &jobs);
    let cron = context.api.get(of, &key.0, &key.1).ok()?;
    if meta::deleting(&cron) {
        return None;
    }
    let zone = zone(context, &cron)?;
    if meta::at(&cron, &["spec", "suspend"]).as_bool() == Some(true) {
        return None;
    }
    let clock = clock(context, &cron, zone)?;
    let Some(missed) = clock.missed(now) else {
        let words = "time difference between two schedules is less than 1 second";
        let schedule = meta::string(&cron, &["spec", "schedule"]);
        let words = format!("invalid schedule: {schedule} : {words}");
        history::tell(context, &cron, "Warning", "InvalidSchedule", &words);
        return None;
    };
    if missed.count > MANY {
        let words =
            "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        history::tell(context, &cron, "Warning", "TooManyMissedTimes", words);
    }
    match missed.last {
        Some(time) if !start(context, &cron, &clock, time, now) => Some(AGAIN),
        _ => clock.wait(now),
    }
}

/// The zone of a CronJob; nothing, and a word of it, if it is not known.
fn zone(context: &Context, cron: &Value) -> Option<TimeZone> {
    let name = meta::string(cron, &["spec", "timeZone"]);
    if name.is_empty() {
        return Some(TimeZone::UTC);
    }
    let zone = cron::zone(name);
    if zone.is_none() {
        let words = format!("invalid timeZone: {name:?}: unknown time zone {name}");
        history::tell(context, cron, "Warning", "UnknownTimeZone", &words);
    }
    zone
}

fn clock(context: &Context, cron: &Value, zone: TimeZone) -> Option<Clock> {
    let text = meta::string(cron, &["spec", "schedule"]);
    let schedule = match Schedule::parse(text) {
        Ok(schedule) => schedule,
        Err(error) => {
            let words = format!("unparseable schedule: {text:?} : {error}");
            history::tell(context, cron, "Warning", "UnparseableSchedule", &words);
            return None;
        }
    };
    let last = meta::string(cron, &["status", "lastScheduleTime"]).parse().ok();
    let since = last.or_else(|| meta::text(cron, "creationTimestamp").parse().ok())?;
    let deadline = meta::number(cron, &["spec", "startingDeadlineSeconds"]);
    Some(Clock { schedule, zone, since, deadline })
}

/// Starts the Job of a time, if that is still wanted; whether nothing has to be tried again.
fn start(context: &Context, cron: &Value, clock: &Clock, time: Timestamp, now: Timestamp) -> bool {
    let too_late = |seconds: i64| time.as_second().saturating_add(seconds) < now.as_second();
    if clock.deadline.is_some_and(too_late) {
        let time = time.strftime("%a, %d %b %Y %H:%M:%S +0000");
        let words = format!("Missed scheduled time to start a job: {time}");
        history::tell(context, cron, "Warning", "MissSchedule", &words);
        return true;
    }
    let name = format!("{}-{}", meta::name(cron), time.as_second() / 60);
    let active = history::active(cron);
    if active.iter().any(|job| meta::string(job, &["name"]) == name) || clock.since == time {
        return true;
    }
    let policy = meta::string(cron, &["spec", "concurrencyPolicy"]);
    if policy == "Forbid" && !active.is_empty() {
        let words = "Not starting job because prior execution is running and concurrency policy is Forbid";
        history::tell(context, cron, "Normal", "JobAlreadyActive", words);
        return true;
    }
    if policy == "Replace" {
        for job in active {
            let name = meta::string(job, &["name"]);
            history::delete(context, cron, meta::string(job, &["namespace"]), name);
        }
    }
    let namespace = meta::namespace(cron);
    let made =
        context.api.create(&Target::own(&kinds::JOB, namespace, ""), job(cron, &name, time, &clock.zone));
    let job = match made {
        Ok(made) => {
            history::tell(context, cron, "Normal", "SuccessfulCreate", &format!("Created job {name}"));
            made.object
        }
        // It was made, and its reference was not written.
        Err(status) if status.code == 409 => match context.api.get(&kinds::JOB, namespace, &name) {
            Ok(job) if is_controlled(&job, cron) => job,
            _ => return true,
        },
        Err(status) => {
            let words = format!("Error creating job: {}", status.message);
            history::tell(context, cron, "Warning", "FailedCreate", &words);
            return false;
        }
    };
    note(context, cron, &job, time, policy == "Replace");
    true
}

fn is_controlled(job: &Value, cron: &Value) -> bool {
    meta::controller(job).is_some_and(|owner| meta::string(owner, &["uid"]) == meta::uid(cron))
}

/// Writes into the status that a Job has been started.
fn note(context: &Context, cron: &Value, job: &Arc<Value>, time: Timestamp, alone: bool) {
    let reference = json!({
        "kind": "Job", "apiVersion": kinds::JOB.api_version(), "namespace": meta::namespace(job),
        "name": meta::name(job), "uid": meta::uid(job), "resourceVersion": meta::text(job, "resourceVersion"),
    });
    let target = Target::own(&kinds::CRON_JOB, meta::namespace(cron), meta::name(cron)).of("status");
    let _ = context.api.modify(&target, |cron| {
        let mut active = if alone { Vec::new() } else { history::active(cron).to_vec() };
        active.push(reference);
        let status = meta::map(meta::child(cron, "status"));
        status.insert("active".into(), active.into());
        status.insert("lastScheduleTime".into(), meta::seconds(time).into());
    });
}

/// The Job of a time.
fn job(cron: &Value, name: &str, time: Timestamp, zone: &TimeZone) -> Value {
    let template = meta::at(cron, &["spec", "jobTemplate"]);
    let mut annotations =
        meta::at(template, &["metadata", "annotations"]).as_object().cloned().unwrap_or_default();
    let local = if *zone == TimeZone::UTC {
        meta::seconds(time)
    } else {
        let local = time.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
        local.strip_suffix("+00:00").map_or(local.clone(), |local| format!("{local}Z"))
    };
    annotations.insert(SCHEDULED.into(), local.into());
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {
            "name": name, "labels": meta::at(template, &["metadata", "labels"]), "annotations": annotations,
            "ownerReferences": [owners::reference(&kinds::CRON_JOB, cron)],
        },
        "spec": meta::at(template, &["spec"]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::set_condition;
    use crate::controllers::testing::{context, make, names};

    fn cron(more: Value) -> Value {
        let pod = json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]});
        let mut cron = json!({"metadata": {"name": "c"}, "spec": {
            "schedule": "*/10 * * * *",
            "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"template": {"spec": pod}}},
        }});
        meta::map(&mut cron["spec"]).extend(more.as_object().cloned().unwrap_or_default());
        cron
    }

    fn key() -> Key {
        ("default".to_owned(), "c".to_owned())
    }

    /// The time of a schedule of ten minutes that is next, and those after it.
    fn due(steps: i64) -> Timestamp {
        let next = (Timestamp::now().as_second() / 600 + 1 + steps) * 600;
        Timestamp::from_second(next).unwrap()
    }

    fn name(time: Timestamp) -> String {
        format!("c-{}", time.as_second() / 60)
    }

    fn finish(context: &Context, name: &str, condition: &str) {
        let target = Target::own(&kinds::JOB, "default", name).of("status");
        let ended = context.api.modify(&target, |job| {
            set_condition(job, condition, true, "", "");
            let status = meta::map(meta::child(job, "status"));
            status.insert("startTime".into(), meta::now().into());
            status.insert("completionTime".into(), meta::now().into());
        });
        ended.unwrap();
    }

    fn status(context: &Context, field: &str) -> Value {
        context.api.get(&kinds::CRON_JOB, "default", "c").unwrap()["status"][field].clone()
    }

    #[test]
    fn a_job_is_made_when_its_time_has_come_and_only_once() {
        let context = context();
        make(&context, &kinds::CRON_JOB, cron(json!({"timeZone": "Asia/Tokyo"})));
        let (first, second) = (due(0), due(1));
        assert!(look(&context, &key(), Timestamp::now()).is_some());
        assert!(names(&context, &kinds::JOB).is_empty());
        assert_eq!(look(&context, &key(), first), Some(Duration::from_millis(600_100)));
        look(&context, &key(), first);
        assert_eq!(names(&context, &kinds::JOB), [name(first)]);
        let job = context.api.get(&kinds::JOB, "default", &name(first)).unwrap();
        assert_eq!(job["metadata"]["labels"]["a"], "b");
        let annotation = job["metadata"]["annotations"][SCHEDULED].as_str().unwrap();
        assert!(annotation.ends_with("+09:00"), "{annotation}");
        assert_eq!(annotation.parse::<Timestamp>().unwrap(), first);
        assert_eq!(status(&context, "lastScheduleTime"), meta::seconds(first));
        look(&context, &key(), second);
        assert_eq!(names(&context, &kinds::JOB).len(), 2);
        assert_eq!(status(&context, "active").as_array().unwrap().len(), 2);
    }

    #[test]
    fn a_job_that_runs_holds_back_the_next_or_gives_way() {
        for (policy, left) in [("Forbid", due(0)), ("Replace", due(1))] {
            let context = context();
            make(&context, &kinds::CRON_JOB, cron(json!({"concurrencyPolicy": policy})));
            look(&context, &key(), due(0));
            look(&context, &key(), due(1));
            assert_eq!(names(&context, &kinds::JOB), [name(left)], "{policy}");
            assert_eq!(status(&context, "active").as_array().unwrap().len(), 1, "{policy}");
        }
    }

    #[test]
    fn ended_jobs_are_told_and_the_oldest_go() {
        let context = context();
        make(&context, &kinds::CRON_JOB, cron(json!({"successfulJobsHistoryLimit": 1})));
        for step in 0..3 {
            look(&context, &key(), due(step));
            finish(&context, &name(due(step)), if step == 0 { "Failed" } else { "Complete" });
        }
        look(&context, &key(), due(2));
        look(&context, &key(), due(2));
        assert_eq!(names(&context, &kinds::JOB), [name(due(0)), name(due(2))]);
        assert_eq!(status(&context, "active"), Value::Null);
        assert!(status(&context, "lastSuccessfulTime").is_string());
        let events = context.api.list(&kinds::EVENT, "default").items;
        let words = format!("Saw completed job: {}, condition: Failed", name(due(0)));
        assert!(events.iter().any(|event| event["message"] == words));
    }

    #[test]
    fn one_that_is_suspended_makes_nothing() {
        let context = context();
        make(&context, &kinds::CRON_JOB, cron(json!({"suspend": true})));
        assert_eq!(look(&context, &key(), due(5)), None);
        assert!(names(&context, &kinds::JOB).is_empty());
    }

    #[test]
    fn a_time_that_is_long_over_is_not_made_up_for() {
        let context = context();
        make(&context, &kinds::CRON_JOB, cron(json!({"startingDeadlineSeconds": 30})));
        let late = Timestamp::from_second(due(0).as_second() + 60).unwrap();
        look(&context, &key(), late);
        assert!(names(&context, &kinds::JOB).is_empty());
    }

    #[test]
    fn a_job_that_is_gone_is_forgotten() {
        let context = context();
        make(&context, &kinds::CRON_JOB, cron(json!({})));
        look(&context, &key(), due(0));
        let target = Target::own(&kinds::JOB, "default", &name(due(0)));
        context.api.delete(&target, &crate::verbs::DeleteOptions::default()).unwrap();
        look(&context, &key(), due(0));
        assert_eq!(status(&context, "active"), Value::Null);
        assert!(names(&context, &kinds::JOB).is_empty());
    }
}
