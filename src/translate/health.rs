//! Docker's health check as a state machine: which status follows from which results. The daemon
//! runs the checks; this decides what they mean (Docker API, `Health`).

use std::collections::VecDeque;
use std::time::Duration;

use bollard_stubs::models::HealthConfig;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::record::Record;

/// How many results Docker shows.
const SHOWN: usize = 5;
/// How much of a check's output Docker keeps, in bytes.
const OUTPUT: usize = 4096;

/// What is to be run, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The command.
    pub command: Vec<String>,
    /// Between two checks.
    pub interval: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// Failures in a row that make it unhealthy.
    pub retries: i64,
    /// Time in which failures do not count.
    pub start_period: Duration,
    /// Between two checks within the start period.
    pub start_interval: Duration,
}

/// The check of a container, its own or its image's; `None` if it has none.
pub fn check(record: &Record) -> Option<Check> {
    let own = record.body.healthcheck.clone().unwrap_or_default();
    let image = record.image.healthcheck.clone().unwrap_or_default();
    let test = own.test.clone().filter(|t| !t.is_empty()).or(image.test.clone())?;
    let (kind, rest) = test.split_first()?;
    let command = match kind.as_str() {
        "CMD" => rest.to_vec(),
        "CMD-SHELL" => {
            let mut shell = record
                .body
                .shell
                .clone()
                .filter(|s| !s.is_empty())
                .unwrap_or_else(|| record.image.shell.clone());
            if shell.is_empty() {
                shell = vec!["/bin/sh".into(), "-c".into()];
            }
            shell.extend(rest.iter().cloned());
            shell
        }
        _ => return None,
    };
    let nanos = |read: fn(&HealthConfig) -> Option<i64>, default: u64| {
        let set = read(&own).filter(|n| *n > 0).or_else(|| read(&image).filter(|n| *n > 0));
        set.and_then(|n| u64::try_from(n).ok()).map_or(Duration::from_secs(default), Duration::from_nanos)
    };
    let retries = own.retries.filter(|n| *n > 0).or(image.retries.filter(|n| *n > 0)).unwrap_or(3);
    Some(Check {
        command,
        interval: nanos(|h| h.interval, 30),
        timeout: nanos(|h| h.timeout, 30),
        retries,
        start_period: nanos(|h| h.start_period, 0),
        start_interval: nanos(|h| h.start_interval, 5),
    })
}

/// One result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// 0 healthy, 1 unhealthy, -1 for one that took too long.
    pub exit_code: i32,
    /// What it printed.
    pub output: String,
}

/// A container's health.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    healthy: Option<bool>,
    streak: i64,
    log: VecDeque<Outcome>,
}

impl Health {
    /// Docker's word.
    pub fn status(&self) -> &'static str {
        match self.healthy {
            None => "starting",
            Some(true) => "healthy",
            Some(false) => "unhealthy",
        }
    }

    /// Takes a result; `started` is when the run began. True if the status changed.
    pub fn take(&mut self, mut outcome: Outcome, check: &Check, started: Timestamp) -> bool {
        let before = self.healthy;
        if outcome.exit_code == 0 {
            self.streak = 0;
            self.healthy = Some(true);
        } else {
            let age = Duration::try_from(outcome.start.duration_since(started)).unwrap_or_default();
            // Within the start period a failure counts only after a success.
            if self.healthy.is_some() || age >= check.start_period {
                self.streak += 1;
            }
            if self.streak >= check.retries {
                self.healthy = Some(false);
            }
        }
        outcome.output.truncate(outcome.output.floor_char_boundary(OUTPUT));
        self.log.push_back(outcome);
        if self.log.len() > SHOWN {
            self.log.pop_front();
        }
        before != self.healthy
    }

    /// `State.Health` of inspect.
    pub fn json(&self) -> Value {
        let log: Vec<Value> = self
            .log
            .iter()
            .map(|o| json!({"Start": o.start.to_string(), "End": o.end.to_string(), "ExitCode": o.exit_code, "Output": o.output}))
            .collect();
        json!({"Status": self.status(), "FailingStreak": self.streak, "Log": log})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(start_period: u64) -> Check {
        Check {
            command: vec!["true".into()],
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            retries: 2,
            start_period: Duration::from_secs(start_period),
            start_interval: Duration::from_secs(1),
        }
    }

    fn result(second: i64, exit_code: i32) -> Outcome {
        let time = Timestamp::from_second(second).unwrap();
        Outcome { start: time, end: time, exit_code, output: String::new() }
    }

    #[test]
    fn it_takes_as_many_failures_as_retries_and_one_success() {
        let (mut health, check) = (Health::default(), setup(0));
        assert!(!health.take(result(1, 1), &check, Timestamp::UNIX_EPOCH));
        assert!(health.take(result(2, 1), &check, Timestamp::UNIX_EPOCH));
        assert_eq!(health.status(), "unhealthy");
        assert!(health.take(result(3, 0), &check, Timestamp::UNIX_EPOCH));
        assert_eq!(health.status(), "healthy");
    }

    #[test]
    fn output_is_cut_between_characters_within_the_limit() {
        let (mut health, check) = (Health::default(), setup(0));
        let output = format!("x{}", "é".repeat(OUTPUT));
        health.take(Outcome { output, ..result(1, 0) }, &check, Timestamp::UNIX_EPOCH);
        assert_eq!(health.json()["Log"][0]["Output"].as_str().unwrap().len(), OUTPUT - 1);
    }

    #[test]
    fn failures_within_the_start_period_do_not_count() {
        let (mut health, check) = (Health::default(), setup(10));
        for second in 1..9 {
            health.take(result(second, 1), &check, Timestamp::UNIX_EPOCH);
        }
        assert_eq!(health.status(), "starting");
        assert_eq!(health.json()["Log"].as_array().unwrap().len(), 5);
    }
}
