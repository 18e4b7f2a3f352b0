//! The command line: options, then `--`, then words that are handed through byte for byte.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// What is left of the command line.
pub struct Arguments(VecDeque<OsString>);

impl Arguments {
    /// Those of this process.
    pub fn of_process() -> Self {
        Self(std::env::args_os().skip(1).collect())
    }

    /// The next word as text.
    pub fn word(&mut self) -> Option<String> {
        self.raw().map(|word| word.to_string_lossy().into_owned())
    }

    /// The next word as it is.
    pub fn raw(&mut self) -> Option<OsString> {
        self.0.pop_front()
    }

    /// The next option; `None` after `--`, or where no word is left.
    pub fn option(&mut self) -> Option<String> {
        self.word().filter(|word| word != "--")
    }

    /// All that is left.
    pub fn rest(self) -> Vec<OsString> {
        self.0.into()
    }
}

/// Splits `NAME=value`.
pub fn variable(text: OsString) -> Option<(OsString, OsString)> {
    let mut bytes = text.into_vec();
    let at = bytes.iter().position(|byte| *byte == b'=')?;
    let value = bytes.split_off(at + 1);
    bytes.pop();
    Some((OsString::from_vec(bytes), OsString::from_vec(value)))
}
