//! The lines of a log as the kubelet gives them: each has its time in front of it.

use jiff::Timestamp;

use crate::pipe::Channel;
use d2k_common::log_streams::STDERR_ZONE;

/// Docker splits longer lines; so does the kubelet, at the same size.
pub(crate) const LONGEST_LINE: usize = 1024 * 1024;
/// What the kubelet gives as a log whose container it has cleaned up since.
const CLEANED_UP: &[u8] = b"unable to retrieve container logs for ";

/// Splits a line of the kubelet into its time and its text (with its newline).
pub(crate) fn split(line: &[u8]) -> (Option<Timestamp>, &[u8]) {
    let Some(space) = line.iter().position(|b| *b == b' ') else {
        return (None, line);
    };
    let (stamp, rest) = line.split_at(space);
    let time = std::str::from_utf8(stamp).ok().and_then(|s| s.parse().ok());
    match time {
        Some(time) => (Some(time), rest.get(1..).unwrap_or_default()),
        None => (None, line),
    }
}

/// Which stream a line of the kubelet was written to, as far as the cluster tells.
pub(crate) fn channel(line: &[u8]) -> Channel {
    let stamp = line.split(|b| *b == b' ').next().unwrap_or_default();
    match stamp.ends_with(STDERR_ZONE.as_bytes()) && split(line).0.is_some() {
        true => Channel::Stderr,
        false => Channel::Stdout,
    }
}

/// Whether a line is none of the container's.
pub(super) fn is_foreign(time: Option<Timestamp>, line: &[u8]) -> bool {
    time.is_none() && line.starts_with(CLEANED_UP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_time_with_the_mark_makes_a_line_standard_error() {
        assert_eq!(channel(b"2026-01-01T00:00:01.5+00:00 a\n"), Channel::Stderr);
        for line in ["2026-01-01T00:00:01.5Z a+00:00\n", "2026-01-01T00:00:01+01:00 a\n", "no+00:00 time\n"] {
            assert_eq!(channel(line.as_bytes()), Channel::Stdout, "{line}");
        }
    }

    #[test]
    fn a_line_without_a_time_is_all_text() {
        assert_eq!(split(b"no time here\n"), (None, b"no time here\n".as_slice()));
    }
}
