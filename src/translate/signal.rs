//! Signals by name and number, as Docker's clients write them: `SIGTERM`, `TERM`, `15`.

use crate::fault::{Fault, Result};

const NAMES: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
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
    ("PWR", 30),
    ("SYS", 31),
];

/// A signal of Linux on amd64 and arm64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal {
    name: &'static str,
    number: i32,
}

impl Default for Signal {
    fn default() -> Self {
        Self { name: "TERM", number: 15 }
    }
}

impl Signal {
    /// Reads a signal.
    ///
    /// # Errors
    /// 400 with Docker's words.
    pub fn parse(text: &str) -> Result<Self> {
        let upper = text.trim().to_ascii_uppercase();
        let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
        let number: Option<i32> = bare.parse().ok();
        NAMES
            .iter()
            .find(|(name, n)| *name == bare || Some(*n) == number)
            .map(|(name, number)| Self { name, number: *number })
            .ok_or_else(|| Fault::invalid(format!("invalid signal: {text}")))
    }

    /// Without `SIG`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// 1 to 31.
    pub fn number(&self) -> i32 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_mean_the_same() {
        for text in ["SIGUSR1", "usr1", "10", "sigusr1"] {
            assert_eq!(Signal::parse(text).unwrap().number(), 10);
        }
        assert_eq!(Signal::parse("SIGNOPE").unwrap_err().message, "invalid signal: SIGNOPE");
    }
}
