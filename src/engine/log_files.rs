//! The files of one container log. The newest one has the log's own name; when it is full it gets a number
//! behind its name and a new one takes its place, and the oldest are removed. Numbers only grow, so that
//! a reader finds the file that follows the one it has, whatever was renamed meanwhile.

use std::fs::{self, File};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Size of a file in bytes from which on the next one is begun: a kubelet's default
/// (`containerLogMaxSize`).
pub const FULL_BYTES: u64 = 10 << 20;
/// Files of one log, the newest included: a kubelet's default (`containerLogMaxFiles`).
pub const MOST_FILES: usize = 5;

/// How often the files are looked up again when one of them is renamed meanwhile.
const MOST_TRIES: usize = 16;

/// An open file of a log.
#[derive(Debug)]
pub struct Piece {
    /// The file, at its beginning.
    pub file: File,
    /// Tells it apart from the log's other files, whatever their names are.
    pub inode: u64,
}

/// Opens or makes the newest file, to be appended to; only the owner can read it.
///
/// # Errors
/// Those of the file system.
pub fn append(path: &Path) -> Result<File> {
    fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Begins a new file and removes the oldest; the new one, to be appended to. The log's name leads to a
/// file at every moment.
///
/// # Errors
/// Those of the file system; the file before is still the newest then.
pub fn rotate(path: &Path) -> Result<File> {
    let rotated = rotated(path)?;
    let number = rotated.last().map_or(1, |(number, _)| number + 1);
    let next = beside(path, "new");
    match fs::remove_file(&next) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = append(&next)?;
    fs::hard_link(path, beside(path, &number.to_string()))?;
    fs::rename(&next, path)?;
    // The one that has just been numbered and the new one count, too.
    let kept = MOST_FILES.saturating_sub(2);
    for (_, old) in rotated.iter().rev().skip(kept) {
        fs::remove_file(old)?;
    }
    Ok(file)
}

/// Opens all files of a log, the oldest first; none if there is no such log.
///
/// # Errors
/// Those of the file system.
pub fn open_all(path: &Path) -> Result<Vec<Piece>> {
    for _ in 0..MOST_TRIES {
        let Some(newest) = open(path)? else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for (_, older) in rotated(path)? {
            all.extend(open(&older)?);
        }
        // Numbered meanwhile, it would be there twice, and others may have come behind it.
        if all.iter().all(|piece| piece.inode != newest.inode) {
            all.push(newest);
            return Ok(all);
        }
    }
    Err(Error::other(format!("{} is rotated faster than it can be opened", path.display())))
}

/// Whether the file with this inode is the newest one of the log.
///
/// # Errors
/// Those of the file system.
pub fn is_newest(path: &Path, inode: u64) -> Result<bool> {
    Ok(fs::metadata(path)?.ino() == inode)
}

/// Opens the file that comes after the one with this inode, or the oldest one if that is removed already.
///
/// # Errors
/// Those of the file system.
pub fn open_next(path: &Path, inode: u64) -> Result<Option<Piece>> {
    let all = open_all(path)?;
    let after = all.iter().position(|piece| piece.inode == inode).map_or(0, |at| at + 1);
    Ok(all.into_iter().nth(after))
}

/// Removes all files of a log.
///
/// # Errors
/// Those of the file system; a log that is not there is none.
pub fn remove(path: &Path) -> Result<()> {
    let numbered = rotated(path)?.into_iter().map(|(_, file)| file);
    for file in numbered.chain([beside(path, "new"), path.to_owned()]) {
        match fs::remove_file(file) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<Option<Piece>> {
    match File::open(path) {
        Ok(file) => Ok(Some(Piece { inode: file.metadata()?.ino(), file })),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The numbered files, the oldest first.
fn rotated(path: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(Error::new(ErrorKind::InvalidInput, format!("{} names no log", path.display())));
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let number = |entry: &fs::DirEntry| -> Option<u64> {
        entry.file_name().to_str()?.strip_prefix(name)?.strip_prefix('.')?.parse().ok()
    };
    let mut all: Vec<(u64, PathBuf)> =
        entries.flatten().filter_map(|entry| Some((number(&entry)?, entry.path()))).collect();
    all.sort();
    Ok(all)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

    use std::io::{Read, Write};

    use super::*;

    fn text(mut piece: Piece) -> String {
        let mut text = String::new();
        piece.file.read_to_string(&mut text).unwrap();
        text
    }

    fn texts(path: &Path) -> Vec<String> {
        open_all(path).unwrap().into_iter().map(text).collect()
    }

    #[test]
    fn the_newest_files_are_kept_in_their_order() {
        let folder = std::env::temp_dir().join(format!("d2k-log-files-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("0.log");
        fs::write(folder.join("0.log.txt"), "no file of this log").unwrap();
        fs::write(folder.join("10.log.1"), "nor this").unwrap();
        assert!(open_all(&path).unwrap().is_empty());
        let mut file = append(&path).unwrap();
        for number in 0..12 {
            write!(file, "{number}").unwrap();
            file = rotate(&path).unwrap();
        }
        assert_eq!(texts(&path), ["8", "9", "10", "11", ""]);
        assert_eq!(open_all(&path).unwrap().len(), MOST_FILES);
        remove(&path).unwrap();
        let mut left: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["0.log.txt", "10.log.1"]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_reader_goes_from_file_to_file() {
        let folder = std::env::temp_dir().join(format!("d2k-log-next-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("0.log");
        let mut file = append(&path).unwrap();
        let first = open_all(&path).unwrap().pop().unwrap();
        assert!(is_newest(&path, first.inode).unwrap());
        assert!(open_next(&path, first.inode).unwrap().is_none());
        for number in 1..=2 {
            file = rotate(&path).unwrap();
            write!(file, "{number}").unwrap();
        }
        assert!(!is_newest(&path, first.inode).unwrap());
        let second = open_next(&path, first.inode).unwrap().unwrap();
        let third = open_next(&path, second.inode).unwrap().unwrap();
        assert_eq!((text(second), text(third)), ("1".to_owned(), "2".to_owned()));
        for _ in 0..MOST_FILES {
            file = rotate(&path).unwrap();
        }
        write!(file, "newest").unwrap();
        // The file of a reader that is too slow is gone; it goes on with the oldest that is there.
        let oldest = open_all(&path).unwrap().remove(0);
        assert_eq!(open_next(&path, first.inode).unwrap().unwrap().inode, oldest.inode);
        fs::remove_dir_all(folder).unwrap();
    }
}
