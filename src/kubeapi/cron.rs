//! Schedules in the syntax of cron, as CronJobs have them: five fields with lists, ranges, steps and names, or a word
//! such as `@hourly`. Syntax, words of errors and the meaning of days are those of `ParseStandard` of
//! `github.com/robfig/cron`, which Kubernetes uses.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// A schedule that is met less often than this, in years, is never met.
const YEARS: i64 = 5;

/// Why a text is no schedule, in the words of `robfig/cron`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// There is nothing.
    #[error("empty spec string")]
    Empty,
    /// It has more or fewer than five fields.
    #[error("expected exactly 5 fields, found {found}: [{fields}]")]
    Fields { found: usize, fields: String },
    /// No such word.
    #[error("unrecognized descriptor: {0}")]
    Descriptor(String),
    /// What follows `@every` is no duration.
    #[error("failed to parse duration {descriptor}: time: invalid duration {duration:?}")]
    Duration { descriptor: String, duration: String },
    /// A number or a name is none.
    #[error("failed to parse int from {0}: strconv.Atoi: parsing {0:?}: invalid syntax")]
    Number(String),
    /// A number is negative.
    #[error("negative number ({0}) not allowed: {0}")]
    Negative(i64),
    /// A range has more than two ends.
    #[error("too many hyphens: {0}")]
    Hyphens(String),
    /// A range has more than one step.
    #[error("too many slashes: {0}")]
    Slashes(String),
    /// A range begins before the smallest number.
    #[error("beginning of range ({start}) below minimum ({least}): {text}")]
    Below { start: i64, least: i64, text: String },
    /// A range ends after the largest number.
    #[error("end of range ({end}) above maximum ({most}): {text}")]
    Above { end: i64, most: i64, text: String },
    /// A range ends before it begins.
    #[error("beginning of range ({start}) beyond end of range ({end}): {text}")]
    Backwards { start: i64, end: i64, text: String },
    /// A step leads nowhere.
    #[error("step of range should be a positive number: {0}")]
    Step(String),
}

type Result<T> = std::result::Result<T, CronError>;

/// When something is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// At times of the calendar.
    Times(Times),
    /// So many seconds after the last time.
    Every(i64),
}

/// Times of the calendar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Times {
    minutes: Set,
    hours: Set,
    days: Set,
    months: Set,
    weekdays: Set,
}

/// Numbers of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Set {
    bits: u64,
    /// It was given as a star: the other field of days alone decides.
    any: bool,
}

impl Set {
    fn has(self, number: i8) -> bool {
        u32::try_from(number)
            .ok()
            .and_then(|number| self.bits.checked_shr(number))
            .is_some_and(|bits| bits & 1 == 1)
    }
}

/// What a field may have.
struct Bounds {
    least: i64,
    most: i64,
    /// Names of the numbers from the least on.
    names: &'static [&'static str],
}

const MINUTES: Bounds = Bounds { least: 0, most: 59, names: &[] };
const HOURS: Bounds = Bounds { least: 0, most: 23, names: &[] };
const DAYS: Bounds = Bounds { least: 1, most: 31, names: &[] };
const MONTHS: Bounds = Bounds {
    least: 1,
    most: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAYS: Bounds =
    Bounds { least: 0, most: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(CronError::Empty);
        }
        let zoned = text.starts_with("TZ=") || text.starts_with("CRON_TZ=");
        // A zone is refused elsewhere, in better words.
        let text = if zoned { text.split_once(' ').map_or("", |(_, rest)| rest).trim() } else { text };
        if text.starts_with('@') {
            return descriptor(text);
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields.as_slice() else {
            return Err(CronError::Fields { found: fields.len(), fields: fields.join(" ") });
        };
        Ok(Self::Times(Times {
            minutes: field(minutes, &MINUTES)?,
            hours: field(hours, &HOURS)?,
            days: field(days, &DAYS)?,
            months: field(months, &MONTHS)?,
            weekdays: field(weekdays, &WEEKDAYS)?,
        }))
    }

    /// The first time after another at which it is due, by the clock of a zone; none if there is no such day in the
    /// next years.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Every(seconds) => Timestamp::from_second(after.as_second().checked_add(*seconds)?).ok(),
            Self::Times(times) => times.next(after, zone),
        }
    }
}

impl Times {
    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let begin = after.as_second().div_euclid(60) * 60 + 60;
        let mut at = Timestamp::from_second(begin).ok()?;
        while at.as_second() < begin + YEARS * 366 * 86_400 {
            let local = at.to_zoned(zone.clone());
            let date = local.date();
            let begin_of = |date: Date| Some(date.to_zoned(zone.clone()).ok()?.timestamp());
            at = if !self.months.has(date.month()) {
                begin_of(date.last_of_month().tomorrow().ok()?)?
            } else if !self.has_day(date) {
                begin_of(date.tomorrow().ok()?)?
            } else if !self.hours.has(local.hour()) {
                Timestamp::from_second(at.as_second() + (60 - i64::from(local.minute())) * 60).ok()?
            } else if !self.minutes.has(local.minute()) {
                Timestamp::from_second(at.as_second() + 60).ok()?
            } else {
                return Some(at);
            };
        }
        None
    }

    /// Where days of the month and of the week are both given, one of them is enough.
    fn has_day(&self, date: Date) -> bool {
        let day = self.days.has(date.day());
        let weekday = self.weekdays.has(date.weekday().to_sunday_zero_offset());
        if self.days.any || self.weekdays.any { day && weekday } else { day || weekday }
    }
}

fn descriptor(text: &str) -> Result<Schedule> {
    let fields = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        other => {
            let Some(duration) = other.strip_prefix("@every ") else {
                return Err(CronError::Descriptor(other.to_owned()));
            };
            let seconds = seconds(duration).ok_or_else(|| CronError::Duration {
                descriptor: other.to_owned(),
                duration: duration.to_owned(),
            })?;
            return Ok(Schedule::Every(seconds.max(1)));
        }
    };
    Schedule::parse(fields)
}

/// The whole seconds of a duration as Go writes it: `1h30m`, `1.5h`.
fn seconds(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let unit = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * unit;
        rest = tail;
    }
    // The largest duration of Go is some 292 years.
    let whole = jiff::SignedDuration::try_from_secs_f64(total).ok()?.as_secs();
    (whole < 9_223_372_036).then_some(if negative { -whole } else { whole })
}

/// The numbers of a field: a list of ranges.
fn field(text: &str, bounds: &Bounds) -> Result<Set> {
    let mut set = Set { bits: 0, any: false };
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let one = range(part, bounds)?;
        set = Set { bits: set.bits | one.bits, any: set.any || one.any };
    }
    Ok(set)
}

/// The numbers of a range: `*`, `5`, `1-5`, `*/15`, `10-30/5`.
fn range(text: &str, bounds: &Bounds) -> Result<Set> {
    let mut steps = text.split('/');
    let ends: Vec<&str> = steps.next().unwrap_or_default().split('-').collect();
    let (start, mut end, mut any) = match ends.as_slice() {
        ["*" | "?", ..] => (bounds.least, bounds.most, true),
        [one] => (number(one, bounds)?, number(one, bounds)?, false),
        [first, last] => (number(first, bounds)?, number(last, bounds)?, false),
        [first, ..] => {
            number(first, bounds)?;
            return Err(CronError::Hyphens(text.to_owned()));
        }
        [] => (bounds.least, bounds.most, true),
    };
    let step = match (steps.next(), steps.next()) {
        (None, _) => 1,
        (Some(step), None) => {
            let step = whole(step)?;
            // `5/15` goes on to the end.
            if ends.len() == 1 {
                end = bounds.most;
            }
            any = any && step <= 1;
            step
        }
        (Some(_), Some(_)) => return Err(CronError::Slashes(text.to_owned())),
    };
    let text = || text.to_owned();
    if start < bounds.least {
        return Err(CronError::Below { start, least: bounds.least, text: text() });
    }
    if end > bounds.most {
        return Err(CronError::Above { end, most: bounds.most, text: text() });
    }
    if start > end {
        return Err(CronError::Backwards { start, end, text: text() });
    }
    let Some(step) = usize::try_from(step).ok().filter(|step| *step > 0) else {
        return Err(CronError::Step(text()));
    };
    let bits = (start..=end).step_by(step).fold(0, |bits, number| bits | (1_u64 << number));
    Ok(Set { bits, any })
}

fn number(text: &str, bounds: &Bounds) -> Result<i64> {
    let named = bounds.names.iter().position(|name| name.eq_ignore_ascii_case(text));
    match named.and_then(|at| i64::try_from(at).ok()) {
        Some(at) => Ok(bounds.least + at),
        None => whole(text),
    }
}

fn whole(text: &str) -> Result<i64> {
    match text.parse::<i64>() {
        Ok(number) if number < 0 => Err(CronError::Negative(number)),
        Ok(number) => Ok(number),
        Err(_) => Err(CronError::Number(text.to_owned())),
    }
}

/// The zone of a name of the IANA's database, with its letters as they are there.
pub fn zone(name: &str) -> Option<TimeZone> {
    TimeZone::get(name).ok().filter(|zone| zone.iana_name() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, after: &str, zone: &str) -> String {
        let schedule = Schedule::parse(schedule).unwrap();
        let next = schedule.next(after.parse().unwrap(), &self::zone(zone).unwrap());
        next.map_or_else(|| "never".to_owned(), |next| next.to_string())
    }

    #[test]
    fn the_next_time_is_the_first_one_after() {
        // The 5th of January 2026 is a Monday.
        for (schedule, wanted) in [
            ("* * * * *", "2026-01-05T10:08:00Z"),
            ("*/15 * * * *", "2026-01-05T10:15:00Z"),
            ("7 10 * * *", "2026-01-06T10:07:00Z"),
            ("5/20 * * * *", "2026-01-05T10:25:00Z"),
            ("0 9-17/4 * * *", "2026-01-05T13:00:00Z"),
            ("30 6 * * mon-fri", "2026-01-06T06:30:00Z"),
            ("0 0 1,15 * *", "2026-01-15T00:00:00Z"),
            ("0 0 31 * *", "2026-01-31T00:00:00Z"),
            ("0 0 29 FEB *", "2028-02-29T00:00:00Z"),
            ("0 0 13 * 5", "2026-01-09T00:00:00Z"),
            ("0 0 */2 * 5", "2026-01-07T00:00:00Z"),
            ("0 0 30 2 *", "never"),
            ("@hourly", "2026-01-05T11:00:00Z"),
            ("@daily", "2026-01-06T00:00:00Z"),
            ("@weekly", "2026-01-11T00:00:00Z"),
            ("@monthly", "2026-02-01T00:00:00Z"),
            ("@yearly", "2027-01-01T00:00:00Z"),
            ("@every 1h30m", "2026-01-05T11:37:20Z"),
        ] {
            assert_eq!(next(schedule, "2026-01-05T10:07:20Z", "UTC"), wanted, "{schedule}");
        }
    }

    #[test]
    fn the_clock_is_that_of_the_zone() {
        let zone = "America/New_York";
        assert_eq!(next("30 9 * * *", "2026-01-05T10:00:00Z", zone), "2026-01-05T14:30:00Z");
        assert_eq!(next("30 9 * * *", "2026-07-05T10:00:00Z", zone), "2026-07-05T13:30:00Z");
        // At 2:00 of the 8th of March, clocks go to 3:00.
        assert_eq!(next("30 2 * * *", "2026-03-08T05:00:00Z", zone), "2026-03-09T06:30:00Z");
        // The hour from 1:00 of the 1st of November comes twice.
        assert_eq!(next("30 1 * * *", "2026-11-01T05:00:00Z", zone), "2026-11-01T05:30:00Z");
        assert_eq!(next("30 1 * * *", "2026-11-01T05:30:00Z", zone), "2026-11-01T06:30:00Z");
    }

    #[test]
    fn what_is_no_schedule_is_refused_in_the_words_of_kubernetes() {
        for (text, words) in [
            ("", "empty spec string"),
            ("a b", "expected exactly 5 fields, found 2: [a b]"),
            ("* * * * * *", "expected exactly 5 fields, found 6: [* * * * * *]"),
            ("@often", "unrecognized descriptor: @often"),
            ("@every x", "failed to parse duration @every x: time: invalid duration \"x\""),
            ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("* * * * 7", "end of range (7) above maximum (6): 7"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("*/-5 * * * *", "negative number (-5) not allowed: -5"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("*/2/3 * * * *", "too many slashes: */2/3"),
        ] {
            assert_eq!(Schedule::parse(text).unwrap_err().to_string(), words, "{text}");
        }
    }

    #[test]
    fn durations_are_those_of_go() {
        for (text, wanted) in [
            ("90s", Some(90)),
            ("1h30m", Some(5400)),
            ("1.5h", Some(5400)),
            ("0", Some(0)),
            ("200ms", Some(0)),
        ] {
            assert_eq!(seconds(text), wanted, "{text}");
        }
        for text in ["", "5", "h", "1d", "1h x", "-"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn a_zone_has_its_name_as_it_is_in_the_database() {
        for name in ["UTC", "Etc/UTC", "Europe/Zurich", "America/Argentina/Buenos_Aires"] {
            assert!(zone(name).is_some(), "{name}");
        }
        for name in ["utc", "europe/zurich", "Mars/Olympus", "", "Local"] {
            assert!(zone(name).is_none(), "{name}");
        }
    }
}
