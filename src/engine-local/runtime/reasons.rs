//! Why a start has failed: `libcontainer` tells its caller little and its log much, so what it logs as
//! an error while it starts something goes through the same pipe as the words of `program`.

use std::error::Error;
use std::fs::File;
use std::io::{Result, Write};
use std::os::fd::OwnedFd;

use parking_lot::Mutex;

/// Where the errors of the start in progress go. The copies of the helper have their own of it.
static REPORT: Mutex<Option<File>> = Mutex::new(None);

/// What `program` says comes after this.
const MARK: &str = "\u{1}";

struct Writer;

impl Write for Writer {
    fn write(&mut self, text: &[u8]) -> Result<usize> {
        if let Some(file) = REPORT.lock().as_mut() {
            let _ = file.write_all(text);
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Lets errors be heard, once in the life of the helper.
pub fn hear() {
    let _ = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::ERROR)
        .without_time()
        .with_level(false)
        .with_target(false)
        .with_ansi(false)
        .with_writer(|| Writer)
        .try_init();
}

/// Sends them there, until the next call.
pub fn report_to(pipe: Option<OwnedFd>) {
    *REPORT.lock() = pipe.map(File::from);
}

/// The words of a program that cannot be run.
pub fn program(words: &str) -> String {
    format!("{MARK}{words}{MARK}")
}

/// What has gone wrong: whether it was the program, and the words for it.
pub fn understand(report: &str) -> (bool, String) {
    let program = report.split_once(MARK).and_then(|(_, words)| words.split_once(MARK));
    match program {
        Some((words, _)) => (true, words.to_owned()),
        // The innermost step logs first.
        None => (false, report.lines().next().unwrap_or_default().trim().to_owned()),
    }
}

/// An error with its causes, each said once.
pub fn chain(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        cause = next.source();
    }
    words
}
