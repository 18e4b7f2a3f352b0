//! The log of a container in the format of the kubelet's runtime interface (CRI): a time, a stream, a
//! tag and a line, of which one longer than 16 KiB is several parts. It is rotated between two parts.

use std::fs::File;
use std::io::{Result, Write};
use std::path::{Path, PathBuf};

use d2k_engine::log_files;

/// The longest part of a line.
const LONGEST: usize = 16 << 10;
/// Entries are written together up to this many bytes: short lines are many times as long as entries.
const BATCH_BYTES: usize = 64 << 10;

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
    path: PathBuf,
    file: File,
    /// Bytes of whole entries in the file.
    length: u64,
    /// From how many bytes on the next file is begun.
    full: u64,
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
        let file = log_files::append(path)?;
        Ok(Self {
            path: path.to_owned(),
            length: file.metadata()?.len(),
            file,
            full: log_files::FULL_BYTES,
            output: Vec::new(),
            error: Vec::new(),
            text: Vec::new(),
            failed: false,
        })
    }

    /// Adds what a stream has said.
    pub fn write(&mut self, channel: Channel, bytes: &[u8]) -> Result<()> {
        let time = jiff::Timestamp::now();
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = self.take(channel, time, rest)?;
            self.put()?;
        }
        Ok(())
    }

    /// Makes entries of what a stream has said until they are enough to be written; the rest of it.
    fn take<'a>(&mut self, channel: Channel, time: jiff::Timestamp, mut rest: &'a [u8]) -> Result<&'a [u8]> {
        let Self { output, error, text, .. } = self;
        let unfinished = match channel {
            Channel::Output => output,
            Channel::Error => error,
        };
        while !rest.is_empty() && text.len() < BATCH_BYTES {
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
        Ok(rest)
    }

    /// Writes the entries, into a new file if this one is full.
    fn put(&mut self) -> Result<()> {
        if self.text.is_empty() {
            return Ok(());
        }
        // Where no new file can be begun, this one goes on.
        if self.length >= self.full
            && let Ok(next) = log_files::rotate(&self.path)
        {
            (self.file, self.length) = (next, 0);
        }
        let written = self.file.write_all(&self.text);
        if written.is_ok() {
            self.length += self.text.len() as u64;
        } else {
            // Half an entry would take the next one with it.
            let _ = self.file.set_len(self.length);
        }
        self.text.clear();
        written
    }

    /// A stream has ended; what it said last may lack the end of its line.
    pub fn end(&mut self, channel: Channel) -> Result<()> {
        let Self { output, error, text, .. } = self;
        let unfinished = match channel {
            Channel::Output => output,
            Channel::Error => error,
        };
        if unfinished.is_empty() {
            return Ok(());
        }
        entry(text, jiff::Timestamp::now(), channel, 'P', unfinished)?;
        unfinished.clear();
        self.put()
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

    #[test]
    fn a_full_file_is_followed_by_the_next_and_no_entry_is_cut() {
        let folder = std::env::temp_dir().join(format!("d2k-log-rotated-{}", std::process::id()));
        let path = folder.join("0.log");
        let mut log = Log::open(&path).unwrap();
        log.full = 1 << 20;
        // Lines of one byte are fifty times as long in the file.
        for _ in 0..4 {
            log.write(Channel::Output, &b"y\n".repeat(32 << 10)).unwrap();
        }
        log.write(Channel::Output, b"last\n").unwrap();
        drop(log);
        let pieces = log_files::open_all(&path).unwrap();
        assert_eq!(pieces.len(), log_files::MOST_FILES);
        for mut piece in pieces {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut piece.file, &mut text).unwrap();
            assert!(text.len() as u64 <= (1 << 20) + 2 * BATCH_BYTES as u64, "{}", text.len());
            assert!(text.lines().all(|line| line.contains(" stdout F ")) && text.ends_with('\n'));
        }
        let newest = std::fs::read_to_string(&path).unwrap();
        assert!(newest.ends_with(" stdout F last\n"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
