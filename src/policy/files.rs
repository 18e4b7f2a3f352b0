//! Reading what an operator has put into the policy folder: regular files alone, never more than
//! they may have. Links are followed, since a mounted ConfigMap is made of them, but what they lead
//! to is looked at: a FIFO would wait for ever and a device has no end.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat, open, stat};

/// Bytes of a settings file, and of the fixtures of one component: a ConfigMap has 1 MiB in all.
pub(super) const LARGEST_TEXT: usize = 1 << 20;

/// The content of a file.
///
/// # Errors
/// The system's error, a file that is no regular one, or one with more than `largest` bytes.
pub(super) fn read(path: &Path, largest: usize) -> io::Result<Vec<u8>> {
    // Opening a device can already do something.
    regular(stat(path)?.st_mode)?;
    // Not blocked by a FIFO that has taken the place of the file meanwhile.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(open(path, flags, Mode::empty())?);
    regular(fstat(&file)?.st_mode)?;
    read_at_most(file, largest)
}

/// As [`read`], as text.
///
/// # Errors
/// As [`read`]; bytes that are no UTF-8.
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    let bytes = read(path, LARGEST_TEXT)?;
    String::from_utf8(bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

pub(super) fn regular(mode: rustix::fs::RawMode) -> io::Result<()> {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => Ok(()),
        kind => {
            let words = format!("it is no regular file ({kind:?})");
            Err(io::Error::new(io::ErrorKind::InvalidInput, words))
        }
    }
}

pub(super) fn read_at_most(file: File, largest: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let more = u64::try_from(largest).unwrap_or(u64::MAX).saturating_add(1);
    file.take(more).read_to_end(&mut bytes)?;
    if bytes.len() > largest {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {largest} bytes")));
    }
    Ok(bytes)
}
