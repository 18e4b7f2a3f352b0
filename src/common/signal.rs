//! Linux signals by name and number, as `--stop-signal` and `docker kill` accept them.

use crate::fault::{Fault, Result};

const NAMES: [(&str, i32); 36] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("RTMIN", 34),
    ("RTMAX", 64),
];

/// The number of a signal given as `TERM`, `SIGTERM`, `sigterm`, `15`, `RTMIN+1` or `RTMAX-1`.
pub fn number(signal: &str) -> Result<i32> {
    let wrong = || Fault::invalid(format!("invalid signal: {signal}"));
    if let Ok(number) = signal.parse::<i32>() {
        return if (1..=64).contains(&number) { Ok(number) } else { Err(wrong()) };
    }
    let upper = signal.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let named = |wanted: &str| NAMES.iter().find(|(known, _)| *known == wanted).map(|(_, number)| *number);
    if let Some(number) = named(name) {
        return Ok(number);
    }
    let offset = |text: &str| text.parse::<i32>().ok().filter(|offset| (0..=30).contains(offset));
    let relative = name
        .strip_prefix("RTMIN+")
        .and_then(offset)
        .map(|offset| 34 + offset)
        .or_else(|| name.strip_prefix("RTMAX-").and_then(offset).map(|offset| 64 - offset));
    relative.ok_or_else(wrong)
}

/// The name of a signal number, with `SIG`; the bare number if it has none.
pub fn name(number: i32) -> String {
    match NAMES.iter().find(|(_, known)| *known == number) {
        Some((name, _)) => format!("SIG{name}"),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_spelling() {
        for (given, expected) in
            [("TERM", 15), ("SIGTERM", 15), ("sigquit", 3), ("9", 9), ("SIGRTMIN+3", 37), ("RTMAX-1", 63)]
        {
            assert_eq!(number(given), Ok(expected), "{given}");
        }
        for wrong in ["", "0", "65", "NOSUCH", "RTMIN+99", "-1"] {
            assert!(number(wrong).is_err(), "{wrong}");
        }
        assert_eq!(name(15), "SIGTERM");
    }
}
