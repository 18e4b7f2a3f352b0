//! The log of a container in the format of the kubelet's runtime interface (CRI): a time, a stream, a
//! tag and a line, of which one longer than 16 KiB is several parts.

use std::fs::{File, OpenOptions};
use std::io::{Result, Write};
use std::path::Path;

/// The longest part of a line.
const LONGEST: usize = 16 << 10;

/// One of the two streams of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Standard output, or the terminal.
    Output,
    /// Standard error.
    Error,
}

impl Channel {
    fn word(self) -> &'static str {
        match self {
            Channel::Output => "stdout",
            Channel::Error => "stderr",
        }
    }
}

/// A log that is written to.
#[derive(Debug)]
pub struct Log {
    file: File,
    output: Vec<u8>,
    error: Vec<u8>,
    /// Kept, so that a line costs no allocation.
    text: Vec<u8>,
    /// The last write has failed, and somebody knows.
    pub failed: bool,
}

impl Log {
    /// Opens a log, which is added to.
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        Ok(Self { file, output: Vec::new(), error: Vec::new(), text: Vec::new(), failed: false })
    }

    /// Adds what a stream has said.
    pub fn write(&mut self, channel: Channel, bytes: &[u8]) -> Result<()> {
        let Self { file, output, error, text, .. } = self;
        let unfinished = match channel {
            Channel::Output => output,
            Channel::Error => error,
        };
        let time = jiff::Timestamp::now();
        text.clear();
        let mut rest = bytes;
        while !rest.is_empty() {
            // A line of exactly the greatest length is whole, so its end may come one byte later.
            let room = (LONGEST + 1).saturating_sub(unfinished.len()).min(rest.len());
            let (near, far) = rest.split_at(room);
            if let Some(end) = near.iter().position(|byte| *byte == b'\n') {
                let (line, next) = rest.split_at(end);
                unfinished.extend_from_slice(line);
                entry(text, time, channel, 'F', unfinished)?;
                unfinished.clear();
                rest = next.get(1..).unwrap_or_default();
                continue;
            }
            unfinished.extend_from_slice(near);
            rest = far;
            if unfinished.len() > LONGEST {
                let next = unfinished.split_off(LONGEST);
                entry(text, time, channel, 'P', unfinished)?;
                *unfinished = next;
            }
        }
        file.write_all(text)
    }

    /// A stream has ended; what it said last may lack the end of its line.
    pub fn end(&mut self, channel: Channel) -> Result<()> {
        let Self { file, output, error, text, .. } = self;
        let unfinished = match channel {
            Channel::Output => output,
            Channel::Error => error,
        };
        if unfinished.is_empty() {
            return Ok(());
        }
        text.clear();
        entry(text, jiff::Timestamp::now(), channel, 'P', unfinished)?;
        unfinished.clear();
        file.write_all(text)
    }
}

fn entry(text: &mut Vec<u8>, time: jiff::Timestamp, channel: Channel, tag: char, line: &[u8]) -> Result<()> {
    write!(text, "{time:.9} {} {tag} ", channel.word())?;
    text.extend_from_slice(line);
    text.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

    use super::*;

    fn logged(pieces: &[&[u8]]) -> Vec<(String, usize)> {
        let path = std::env::temp_dir().join(format!("d2k-log-{}-{}", std::process::id(), pieces.len()));
        let _ = std::fs::remove_file(&path);
        let mut log = Log::open(&path).unwrap();
        for piece in pieces {
            log.write(Channel::Output, piece).unwrap();
        }
        log.end(Channel::Output).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let words = |line: &str| {
            let mut words = line.splitn(4, ' ').skip(2);
            (words.next().unwrap().to_owned(), words.next().unwrap().len())
        };
        text.lines().map(words).collect()
    }

    #[test]
    fn lines_are_whole_and_long_ones_are_cut() {
        let long = vec![b'x'; LONGEST];
        let longer = vec![b'x'; LONGEST + 5];
        let f = |length| ("F".to_owned(), length);
        let p = |length| ("P".to_owned(), length);
        assert_eq!(logged(&[b"a\nbc\n"]), [f(1), f(2)]);
        assert_eq!(logged(&[b"a", b"b\n", b"c"]), [f(2), p(1)]);
        assert_eq!(logged(&[&[longer.as_slice(), b"\n"].concat(), b"", b"\n"]), [p(LONGEST), f(5), f(0)]);
        assert_eq!(
            logged(&[&[long.as_slice(), b"\nz\n"].concat(), b"", b"", b"q\n"]),
            [f(LONGEST), f(1), f(1)]
        );
    }
}
