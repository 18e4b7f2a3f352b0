//! Points in time as Docker's clients write them, in queries and in filters.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Reads the forms in which Docker writes a point in time. Without a zone it is UTC.
pub(super) fn moment(text: &str) -> Option<Timestamp> {
    if let Some(time) = epoch(text) {
        return Some(time);
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let civil = text.parse::<jiff::civil::DateTime>().ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// `seconds[.fraction]`: the CLI sends nine digits, others fewer.
fn epoch(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.bytes().any(|b| !b.is_ascii_digit()) {
        return None;
    }
    let whole: i64 = seconds.parse().ok()?;
    let nanos: i32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let nanos = if seconds.starts_with('-') { -nanos } else { nanos };
    Timestamp::UNIX_EPOCH.checked_add(SignedDuration::new(whole, nanos)).ok()
}
