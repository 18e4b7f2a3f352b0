//! Reads a container's log as one text, whatever number of files it is in, and follows it while it is
//! written and rotated. Who follows more slowly than the container writes finds the oldest lines removed
//! once all files have been filled again, and goes on with the oldest that is there: a log that waited for
//! its readers would have no greatest size.

use std::fs::File;
use std::io::{BufRead, BufReader, Result, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use futures::Stream;
use jiff::{SignedDuration, Timestamp};

use super::log_tail::begin_of_tail;
use super::running::Running;
use super::state::Phase;
use d2k_common::log_streams;
use d2k_engine::log_files::{self, Piece};

/// How soon clients that follow a log get what has been written to it.
const LOOK: Duration = Duration::from_millis(20);
/// Bytes that are sent at once.
const CHUNK_BYTES: usize = 64 << 10;
/// Read ahead.
const BUFFER_BYTES: usize = 64 << 10;
/// The clock of file systems lags behind by some milliseconds.
const CLOCKS: SignedDuration = SignedDuration::from_secs(1);

/// The part of a log that a client asks for.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) timestamps: bool,
    /// The times of standard error are marked.
    pub(super) streams: bool,
    pub(super) since: Option<Timestamp>,
    /// Number of lines from the end.
    pub(super) tail: Option<usize>,
    /// Number of bytes from the beginning.
    pub(super) limit: Option<usize>,
}

/// A log is followed until this run of the container has ended.
pub(super) struct Follow {
    pub(super) running: Arc<Running>,
    pub(super) name: String,
    /// ID of the run.
    pub(super) id: String,
}

impl Follow {
    fn is_over(&self) -> bool {
        let state = self.running.state(&self.name);
        state.id != self.id || !matches!(state.phase, Phase::Running { .. })
    }
}

/// The log as a client gets it.
pub(super) fn read(
    path: PathBuf,
    shown: Shown,
    follow: Option<Follow>,
) -> impl Stream<Item = Result<Bytes>> + Send {
    async_stream::try_stream! {
        let follows = follow.is_some();
        let opened = blocking(move || Reader::open(path, shown, follows)).await?;
        let Some(mut reader) = opened else { return };
        loop {
            // Before the log is read to its end, so that nothing written meanwhile is missed.
            let over = follow.as_ref().is_none_or(Follow::is_over);
            let (back, chunk) = blocking(move || {
                let chunk = reader.chunk()?;
                Ok((reader, chunk))
            })
            .await?;
            reader = back;
            let caught_up = chunk.is_empty();
            if !caught_up {
                yield Bytes::from(chunk);
            }
            if reader.is_full() || caught_up && over {
                return;
            }
            if caught_up {
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

/// The last lines of a log, of which the last bytes.
pub(super) fn last_words(path: &Path, lines: usize, bytes: usize) -> Result<Vec<u8>> {
    let shown = Shown { tail: Some(lines), ..Shown::default() };
    let mut text = Vec::new();
    let Some(mut reader) = Reader::open(path.to_owned(), shown, false)? else { return Ok(text) };
    loop {
        let chunk = reader.chunk()?;
        if chunk.is_empty() {
            return Ok(text);
        }
        text.extend_from_slice(&chunk);
        text.drain(..text.len().saturating_sub(bytes));
    }
}

struct Reader {
    path: PathBuf,
    shown: Shown,
    follows: bool,
    /// The file that is read, and those behind it that are open already.
    file: BufReader<File>,
    inode: u64,
    rest: std::vec::IntoIter<Piece>,
    /// The part of an entry that is read.
    entry: Vec<u8>,
    /// The next entry begins a line of the program.
    fresh: bool,
    /// Bytes that were given.
    sent: usize,
}

impl Reader {
    /// Opens the log where the client wants it to begin; none if there is no log.
    fn open(path: PathBuf, shown: Shown, follows: bool) -> Result<Option<Self>> {
        let pieces = log_files::open_all(&path)?;
        let (first, offset) = match (shown.tail, shown.since) {
            (Some(lines), _) => begin_of_tail(&pieces, lines)?,
            (None, Some(since)) => (first_since(&pieces, since)?, 0),
            (None, None) => (0, 0),
        };
        let mut rest = pieces.into_iter();
        let Some(Piece { mut file, inode }) = rest.nth(first) else { return Ok(None) };
        file.seek(SeekFrom::Start(offset))?;
        let file = BufReader::with_capacity(BUFFER_BYTES, file);
        let (entry, fresh, sent) = (Vec::new(), true, 0);
        Ok(Some(Self { path, shown, follows, file, inode, rest, entry, fresh, sent }))
    }

    /// The next text, of about `CHUNK_BYTES`; empty where the log ends for now.
    fn chunk(&mut self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        while out.len() < CHUNK_BYTES {
            // Before the file is read to its end: nothing is written to it once there is a newer one.
            let newest = self.is_newest();
            if self.read_entries(&mut out)? {
                continue;
            }
            if newest || !self.advance()? {
                break;
            }
        }
        if let Some(limit) = self.shown.limit {
            out.truncate(limit.saturating_sub(self.sent));
        }
        self.sent += out.len();
        Ok(out)
    }

    /// Whether the client has got all that it wanted.
    fn is_full(&self) -> bool {
        self.shown.limit.is_some_and(|limit| self.sent >= limit)
    }

    fn is_newest(&self) -> bool {
        // A log that is removed gets no newer file.
        let last = || log_files::is_newest(&self.path, self.inode).unwrap_or(true);
        self.rest.as_slice().is_empty() && (!self.follows || last())
    }

    /// Reads entries until there are enough for a chunk; false where the file ends for now.
    fn read_entries(&mut self, out: &mut Vec<u8>) -> Result<bool> {
        while out.len() < CHUNK_BYTES {
            self.file.read_until(b'\n', &mut self.entry)?;
            if self.entry.last() != Some(&b'\n') {
                return Ok(false);
            }
            self.fresh = show(&self.entry, &self.shown, self.fresh, out);
            self.entry.clear();
        }
        Ok(true)
    }

    /// Goes on with the next file; false if there is none.
    fn advance(&mut self) -> Result<bool> {
        let next = match self.rest.next() {
            Some(piece) => Some(piece),
            None => log_files::open_next(&self.path, self.inode)?,
        };
        let Some(Piece { file, inode }) = next else { return Ok(false) };
        self.file = BufReader::with_capacity(BUFFER_BYTES, file);
        self.inode = inode;
        self.entry.clear();
        Ok(true)
    }
}

/// The first file that was written to at or after a time, at the latest the newest.
fn first_since(pieces: &[Piece], since: Timestamp) -> Result<usize> {
    let since = since.checked_sub(CLOCKS).unwrap_or(Timestamp::MIN);
    for (index, piece) in pieces.iter().enumerate() {
        let written = Timestamp::try_from(piece.file.metadata()?.modified()?);
        if written.is_ok_and(|written| written >= since) {
            return Ok(index);
        }
    }
    Ok(pieces.len().saturating_sub(1))
}

/// One line of the file as the client wants it; whether the next one begins a line of the program.
fn show(line: &[u8], shown: &Shown, fresh: bool, out: &mut Vec<u8>) -> bool {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let (Some(time), Some(stream), Some(tag), Some(text)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return true;
    };
    let whole = tag == b"F";
    let early = shown.since.is_some_and(|since| {
        std::str::from_utf8(time).ok().and_then(|t| t.parse::<Timestamp>().ok()).is_some_and(|t| t < since)
    });
    if early {
        return whole;
    }
    if shown.timestamps && fresh {
        match time.strip_suffix(b"Z") {
            Some(time) if shown.streams && stream == b"stderr" => {
                out.extend_from_slice(time);
                out.extend_from_slice(log_streams::STDERR_ZONE.as_bytes());
            }
            _ => out.extend_from_slice(time),
        }
        out.push(b' ');
    }
    let text = if whole { text } else { text.strip_suffix(b"\n").unwrap_or(text) };
    out.extend_from_slice(text);
    whole
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn entry(second: u32, tag: char, text: &str) -> String {
        format!("2026-01-02T03:04:{second:02}.000000000Z stdout {tag} {text}\n")
    }

    /// A log in a folder of its own, which goes with it.
    struct Log {
        path: PathBuf,
        file: File,
    }

    impl Log {
        fn new(test: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("d2k-reader-{test}-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            let path = folder.join("0.log");
            Self { file: log_files::append(&path).unwrap(), path }
        }

        fn say(&mut self, text: &str) {
            self.file.write_all(text.as_bytes()).unwrap();
        }

        fn rotate(&mut self) {
            self.file = log_files::rotate(&self.path).unwrap();
        }

        fn reader(&self, shown: Shown, follows: bool) -> Reader {
            Reader::open(self.path.clone(), shown, follows).unwrap().unwrap()
        }

        fn whole(&self, shown: Shown) -> String {
            let mut reader = self.reader(shown, false);
            let chunks = std::iter::from_fn(|| Some(reader.chunk().unwrap()).filter(|c| !c.is_empty()));
            String::from_utf8(chunks.flatten().collect()).unwrap()
        }
    }

    impl Drop for Log {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(self.path.parent().unwrap());
        }
    }

    #[test]
    fn all_files_are_one_log() {
        let mut log = Log::new("whole");
        log.say(&(entry(1, 'F', "a") + &entry(2, 'P', "b-")));
        log.rotate();
        log.say(&(entry(3, 'F', "c") + &entry(4, 'F', "d")));
        assert_eq!(log.whole(Shown::default()), "a\nb-c\nd\n");
        assert_eq!(log.whole(Shown { tail: Some(2), ..Shown::default() }), "b-c\nd\n");
        assert_eq!(log.whole(Shown { limit: Some(4), ..Shown::default() }), "a\nb-");
        let since = Some("2026-01-02T03:04:04Z".parse().unwrap());
        assert_eq!(log.whole(Shown { since, ..Shown::default() }), "d\n");
        // Only the first part of a line has its time.
        let times = log.whole(Shown { timestamps: true, ..Shown::default() });
        assert_eq!(times.lines().nth(1), Some("2026-01-02T03:04:02.000000000Z b-c"));
    }

    #[test]
    fn a_file_that_is_older_than_the_time_asked_for_is_not_read() {
        let mut log = Log::new("since");
        log.say(&entry(1, 'F', "old"));
        let past = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        log.file.set_modified(past).unwrap();
        log.rotate();
        log.say(&entry(2, 'F', "new"));
        let pieces = log_files::open_all(&log.path).unwrap();
        assert_eq!(first_since(&pieces, Timestamp::UNIX_EPOCH).unwrap(), 0);
        let yesterday = Timestamp::now().checked_sub(SignedDuration::from_hours(24)).unwrap();
        assert_eq!(first_since(&pieces, yesterday).unwrap(), 1);
        assert_eq!(first_since(&pieces, Timestamp::MAX).unwrap(), 1);
    }

    #[test]
    fn a_log_is_followed_through_rotations_without_losing_or_repeating_a_line() {
        let mut log = Log::new("follow");
        log.say(&entry(1, 'F', "0"));
        let mut reader = log.reader(Shown { tail: Some(1), ..Shown::default() }, true);
        let mut seen = reader.chunk().unwrap();
        for number in 1..60 {
            log.say(&entry(1, 'F', &number.to_string()));
            // Read before a rotation, after one, and after as many as there may be files between.
            if number % 2 == 0 || number > 40 {
                log.rotate();
            }
            if number % 7 != 3 && number % 7 != 4 {
                seen.extend(reader.chunk().unwrap());
            }
        }
        seen.extend(reader.chunk().unwrap());
        assert!(reader.chunk().unwrap().is_empty());
        let wanted: String = (0..60).map(|number| format!("{number}\n")).collect();
        assert_eq!(String::from_utf8(seen).unwrap(), wanted);
    }

    #[test]
    fn an_entry_that_is_half_written_is_shown_when_it_is_whole() {
        let mut log = Log::new("half");
        let whole = entry(1, 'F', "text");
        let (first, second) = whole.split_at(35);
        log.say(first);
        let mut reader = log.reader(Shown::default(), true);
        assert!(reader.chunk().unwrap().is_empty());
        log.say(second);
        assert_eq!(reader.chunk().unwrap(), b"text\n");
    }

    #[test]
    fn the_last_words_are_the_last_bytes_of_the_last_lines() {
        let mut log = Log::new("words");
        for text in ["one", "two", "three"] {
            log.say(&entry(1, 'F', text));
            log.rotate();
        }
        assert_eq!(last_words(&log.path, 2, 100).unwrap(), b"two\nthree\n");
        assert_eq!(last_words(&log.path, 2, 4).unwrap(), b"ree\n");
        assert!(last_words(&log.path.with_file_name("none"), 2, 4).unwrap().is_empty());
    }
}
