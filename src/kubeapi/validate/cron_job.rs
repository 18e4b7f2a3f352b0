//! Checks of CronJobs, in the order in which Kubernetes makes them.

use serde_json::Value;

use super::values::{choice, natural};
use super::workload;
use crate::cron::{self, Schedule};
use crate::meta;
use crate::status::Cause;

/// Longest name: those of the Jobs have a number behind it.
const LONGEST: usize = 52;

/// What is wrong with a CronJob.
pub fn check(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = meta::at(object, &["spec"]);
    schedule(meta::at(spec, &["schedule"]), causes);
    natural(spec, "startingDeadlineSeconds", "spec", causes);
    let zone = meta::at(spec, &["timeZone"]);
    if old.is_none_or(|old| meta::at(old, &["spec", "timeZone"]) != zone) {
        time_zone(zone, causes);
    }
    let policy = meta::at(spec, &["concurrencyPolicy"]);
    choice(policy, "spec.concurrencyPolicy".to_owned(), &["Allow", "Forbid", "Replace"], causes);
    let job = meta::at(spec, &["jobTemplate", "spec"]);
    workload::job_spec(job, "spec.jobTemplate.spec", causes);
    let selector = meta::at(job, &["selector"]);
    if !selector.is_null() {
        let words = "`selector` will be auto-generated";
        causes.push(Cause::invalid("spec.jobTemplate.spec.selector", selector, words));
    }
    let manual = meta::at(job, &["manualSelector"]);
    if manual.as_bool() == Some(true) {
        let path = "spec.jobTemplate.spec.manualSelector";
        causes.push(Cause::unsupported(path, manual, &["nil", "false"]));
    }
    natural(spec, "successfulJobsHistoryLimit", "spec", causes);
    natural(spec, "failedJobsHistoryLimit", "spec", causes);
    let name = meta::name(object);
    if old.is_none() && name.len() > LONGEST {
        let words = format!("must be no more than {LONGEST} characters");
        causes.push(Cause::invalid("metadata.name", &name.into(), &words));
    }
}

fn schedule(given: &Value, causes: &mut Vec<Cause>) {
    let text = given.as_str().unwrap_or_default();
    if text.is_empty() {
        return causes.push(Cause::required("spec.schedule", ""));
    }
    if let Err(error) = Schedule::parse(text) {
        causes.push(Cause::invalid("spec.schedule", given, &error.to_string()));
    }
    if text.contains("TZ") {
        let words = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        causes.push(Cause::invalid("spec.schedule", given, words));
    }
}

fn time_zone(given: &Value, causes: &mut Vec<Cause>) {
    let Some(name) = given.as_str() else { return };
    let mut wrong = |words: &str| causes.push(Cause::invalid("spec.timeZone", given, words));
    if name.is_empty() {
        return wrong("timeZone must be nil or non-empty string");
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
    let part = |part: &str| {
        (1..=14).contains(&part.len())
            && part.chars().all(legal)
            && !part.starts_with('-')
            && !matches!(part, "." | "..")
    };
    if !name.split('/').all(part) {
        return wrong(&format!("unknown timeZone: {name}"));
    }
    let local = name.eq_ignore_ascii_case("Local");
    if local {
        wrong("timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones");
    }
    // Go knows `Local`.
    if cron::zone(name).is_none() && name != "Local" {
        wrong(&format!("unknown time zone {name}"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cron_job(field: &str, value: Value) -> Value {
        let pod = json!({"restartPolicy": "Never", "containers": [{
            "name": "c", "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File",
        }], "dnsPolicy": "ClusterFirst"});
        let mut made = json!({"metadata": {"name": "c"}, "spec": {
            "schedule": "* * * * *", "concurrencyPolicy": "Allow",
            "jobTemplate": {"spec": {"template": {"spec": pod}}},
        }});
        made["spec"][field] = value;
        made
    }

    fn wrong(object: &Value) -> Vec<String> {
        let mut causes = Vec::new();
        check(object, None, &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn wrong_values_are_refused_in_the_words_of_kubernetes() {
        assert!(wrong(&cron_job("timeZone", json!("Europe/Zurich"))).is_empty());
        for (field, value, words) in [
            ("schedule", json!(""), "spec.schedule: Required value"),
            (
                "schedule",
                json!("a b"),
                "spec.schedule: Invalid value: \"a b\": expected exactly 5 fields, found 2: [a b]",
            ),
            (
                "schedule",
                json!("TZ=UTC * * * * *"),
                "spec.schedule: Invalid value: \"TZ=UTC * * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
            ),
            (
                "timeZone",
                json!(""),
                "spec.timeZone: Invalid value: \"\": timeZone must be nil or non-empty string",
            ),
            (
                "timeZone",
                json!("Mars/Olympus"),
                "spec.timeZone: Invalid value: \"Mars/Olympus\": unknown time zone Mars/Olympus",
            ),
            (
                "timeZone",
                json!("../etc"),
                "spec.timeZone: Invalid value: \"../etc\": unknown timeZone: ../etc",
            ),
            (
                "timeZone",
                json!("Local"),
                "spec.timeZone: Invalid value: \"Local\": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
            ),
            (
                "concurrencyPolicy",
                json!("X"),
                "spec.concurrencyPolicy: Unsupported value: \"X\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
            ),
            (
                "failedJobsHistoryLimit",
                json!(-1),
                "spec.failedJobsHistoryLimit: Invalid value: -1: must be greater than or equal to 0",
            ),
        ] {
            assert_eq!(wrong(&cron_job(field, value)), [words]);
        }
    }

    #[test]
    fn a_name_leaves_room_for_the_number_of_a_job() {
        let mut long = cron_job("suspend", json!(false));
        meta::set(&mut long, "name", "a".repeat(53));
        let causes = wrong(&long);
        assert!(causes.len() == 1 && causes[0].ends_with("must be no more than 52 characters"), "{causes:?}");
    }
}
