//! When a set of policies is given up: one of its policies has failed again and again within a short
//! time. And when it is tried again, since what made it fail may have passed.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::failure::Failure;

/// After so many failed calls of one policy within [`WINDOW`] its set is given up. One failure now
/// and then is an error of that request alone; a policy that is broken fails with each.
const FAILURES: usize = 5;
/// The time within which failures count together.
const WINDOW: Duration = Duration::from_secs(60);
/// A set that was given up is tried again after this long, then after twice as long, and so on.
const FIRST_REST: Duration = Duration::from_secs(60);
/// The longest rest: a set that was good for months is not lost for more than this.
const LONGEST_REST: Duration = Duration::from_secs(3600);
/// Sets that are remembered; an operator tries some few.
const REMEMBERED: usize = 64;

/// The failed calls of one set.
#[derive(Debug, Default)]
pub(super) struct Failures(BTreeMap<String, VecDeque<Instant>>);

impl Failures {
    /// Notes a failed call; true if the policy has now failed too often. It counts anew then.
    pub fn note(&mut self, policy: &str, now: Instant) -> bool {
        let times = self.0.entry(policy.to_owned()).or_default();
        times.retain(|time| now.saturating_duration_since(*time) < WINDOW);
        times.push_back(now);
        let too_often = times.len() >= FAILURES;
        if too_often {
            times.clear();
        }
        too_often
    }
}

/// The failures of one policy for which its set is given up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("policy {policy}: {FAILURES} times within {} s, the last time it {failure}", WINDOW.as_secs())]
pub struct TooOften {
    /// Its name.
    pub policy: String,
    /// The last one.
    #[source]
    pub failure: Failure,
}

/// A set was given up and rests.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this set of policies has failed too often ({failures}); it is tried again at {again:.0}")]
pub struct Resting {
    /// Why it was given up.
    #[source]
    pub failures: TooOften,
    /// When it is tried again.
    pub again: Timestamp,
}

#[derive(Debug)]
struct Rest {
    times: u32,
    until: Instant,
    why: Resting,
}

/// The sets that were given up, by their digest.
#[derive(Debug, Default)]
pub(super) struct GivenUp(BTreeMap<String, Rest>);

impl GivenUp {
    /// Gives a set up, and returns why; `why` is told for how long.
    pub fn add(&mut self, digest: &str, now: Instant, why: impl FnOnce(Duration) -> Resting) -> Resting {
        let times = self.0.get(digest).map_or(0, |rest| rest.times);
        let rest = FIRST_REST.saturating_mul(1 << times.min(16)).min(LONGEST_REST);
        if self.0.len() >= REMEMBERED {
            self.0.retain(|_, rest| rest.until > now);
        }
        let why = why(rest);
        self.0.insert(digest.to_owned(), Rest { times: times + 1, until: now + rest, why: why.clone() });
        why
    }

    /// Why a set is not to be tried yet; none if it may be.
    pub fn rests(&self, digest: &str, now: Instant) -> Option<&Resting> {
        self.0.get(digest).filter(|rest| now < rest.until).map(|rest| &rest.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_policy_that_fails_again_and_again_within_a_minute_has_failed_too_often() {
        let (mut failures, begin) = (Failures::default(), Instant::now());
        let noted: Vec<bool> = (0..10).map(|n| failures.note("a", begin + n * SECOND)).collect();
        assert_eq!(noted.iter().position(|too_often| *too_often), Some(4));
        assert_eq!(noted.iter().filter(|too_often| **too_often).count(), 2, "it counts anew");
    }

    #[test]
    fn failures_now_and_then_and_those_of_several_policies_do_not_add_up() {
        let (mut failures, begin) = (Failures::default(), Instant::now());
        assert!((0..100).all(|n| !failures.note("slow", begin + n * 16 * SECOND)));
        assert!((0..12).all(|n| !failures.note(["a", "b", "c"][n as usize % 3], begin + n * SECOND)));
    }

    #[test]
    fn a_set_that_was_given_up_is_tried_again_after_longer_and_longer_rests() {
        let (mut given_up, mut now) = (GivenUp::default(), Instant::now());
        let failures = TooOften { policy: "p".into(), failure: Failure::Memory { limit: 2048 } };
        let resting = Resting { failures, again: Timestamp::UNIX_EPOCH };
        assert_eq!(
            resting.to_string(),
            "this set of policies has failed too often (policy p: 5 times within 60 s, the last time it needs more \
             memory than its limit of 2 KiB (limits.memory)); it is tried again at 1970-01-01T00:00:00Z"
        );
        let mut rests = Vec::new();
        for _ in 0..9 {
            let mut rest = Duration::ZERO;
            given_up.add("x", now, |time| {
                rest = time;
                resting.clone()
            });
            assert!(given_up.rests("x", now + rest - SECOND).is_some());
            assert_eq!(given_up.rests("x", now + rest), None);
            assert_eq!(given_up.rests("y", now), None);
            now += rest;
            rests.push(rest.as_secs() / 60);
        }
        assert_eq!(rests, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }
}
