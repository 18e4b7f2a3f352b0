//! When a CronJob is due: the last time that has passed, and the next one.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cron::Schedule;

/// A schedule with what its times are counted by.
pub struct Clock {
    /// The schedule.
    pub schedule: Schedule,
    /// The zone whose clock it means.
    pub zone: TimeZone,
    /// The last time that was taken, or when the CronJob was made.
    pub since: Timestamp,
    /// How late it may begin, seconds.
    pub deadline: Option<i64>,
}

/// The times until now that have not been taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    /// The last of them.
    pub last: Option<Timestamp>,
    /// How many there are besides, or about so many.
    pub count: i64,
}

impl Clock {
    /// The times that could still be taken; nothing if the schedule is never met.
    pub fn missed(&self, now: Timestamp) -> Option<Missed> {
        let earliest = self
            .deadline
            .and_then(|deadline| Timestamp::from_second(now.as_second().saturating_sub(deadline)).ok());
        self.missed_since(earliest.map_or(self.since, |earliest| earliest.max(self.since)), now)
    }

    fn missed_since(&self, since: Timestamp, now: Timestamp) -> Option<Missed> {
        let next = |after| self.schedule.next(after, &self.zone);
        let first = next(since)?;
        if now < first {
            return Some(Missed { last: None, count: 0 });
        }
        let Some(second) = next(first).filter(|second| *second <= now) else {
            return Some(Missed { last: Some(first), count: 0 });
        };
        let between = (second.as_second() - first.as_second()).max(1);
        let count = (now.as_second() - first.as_second()) / between + 1;
        // Not all of them are gone through: there may be many after a long pause.
        let near = Timestamp::from_second(first.as_second() + (count - 2) * between).ok()?;
        let mut last = None;
        let mut at = next(near);
        while let Some(time) = at.filter(|time| *time <= now) {
            last = Some(time);
            at = next(time);
        }
        Some(Missed { last, count })
    }

    /// How long until it is due again; a moment later, so that the time has surely passed.
    pub fn wait(&self, now: Timestamp) -> Option<Duration> {
        let missed = self.missed_since(self.since, now)?;
        let after = match missed {
            Missed { last: Some(last), .. } => last,
            Missed { last: None, count: 0 } => self.since,
            Missed { last: None, .. } => now,
        };
        let next = self.schedule.next(after, &self.zone)?;
        let left = u64::try_from(next.as_millisecond() - now.as_millisecond()).unwrap_or(0);
        Some(Duration::from_millis(left + 100))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(schedule: &str, since: &str, deadline: Option<i64>) -> Clock {
        let schedule = Schedule::parse(schedule).unwrap();
        Clock { schedule, zone: TimeZone::UTC, since: since.parse().unwrap(), deadline }
    }

    fn missed(clock: &Clock, now: &str) -> (Option<String>, i64) {
        let missed = clock.missed(now.parse().unwrap()).unwrap();
        (missed.last.map(|time| time.to_string()), missed.count)
    }

    fn at(time: &str) -> Option<String> {
        Some(format!("2026-01-05T{time}Z"))
    }

    #[test]
    fn the_last_time_that_has_passed_is_taken() {
        let clock = clock("*/10 * * * *", "2026-01-05T10:00:00Z", None);
        assert_eq!(missed(&clock, "2026-01-05T10:09:59Z"), (None, 0));
        assert_eq!(missed(&clock, "2026-01-05T10:10:00Z"), (at("10:10:00"), 0));
        assert_eq!(missed(&clock, "2026-01-05T10:31:00Z"), (at("10:30:00"), 3));
        assert_eq!(missed(&clock, "2026-01-06T10:00:00Z").1, 144);
    }

    #[test]
    fn a_time_beyond_the_deadline_is_not_taken_any_more() {
        let clock = clock("0 * * * *", "2026-01-05T08:30:00Z", Some(60));
        assert_eq!(missed(&clock, "2026-01-05T10:00:30Z"), (at("10:00:00"), 0));
        assert_eq!(missed(&clock, "2026-01-05T10:05:00Z"), (None, 0));
    }

    #[test]
    fn it_waits_for_the_next_time() {
        let clock = clock("0 * * * *", "2026-01-05T08:30:00Z", None);
        let wait = |now: &str| clock.wait(now.parse().unwrap());
        assert_eq!(wait("2026-01-05T08:59:00Z"), Some(Duration::from_millis(60_100)));
        assert_eq!(wait("2026-01-05T10:59:59Z"), Some(Duration::from_millis(1_100)));
    }

    #[test]
    fn a_schedule_that_is_never_met_has_no_time() {
        let clock = clock("0 0 30 2 *", "2026-01-05T08:30:00Z", None);
        let now = "2026-01-05T09:00:00Z".parse().unwrap();
        assert_eq!((clock.missed(now), clock.wait(now)), (None, None));
    }
}
