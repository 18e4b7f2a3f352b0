//! Where the last lines of a log begin: its files are read from their end, block by block, so that it
//! takes no memory and no more time than the lines are long.

use std::io::Result;
use std::os::unix::fs::FileExt;

use d2k_engine::log_files::Piece;

/// Bytes that are read at once.
const BLOCK_BYTES: u64 = 64 << 10;
/// More than time, stream and tag of an entry are long.
const HEAD_BYTES: u64 = 64;

/// An entry of a file: where it begins and ends, and whether a line of the program ends with it.
struct Entry {
    begin: u64,
    end: u64,
    finished: bool,
}

/// Where the last lines begin: which file, and where in it. Parts of one long line are one; a part whose
/// end has not come yet is a line, too.
pub(super) fn begin_of_tail(pieces: &[Piece], lines: usize) -> Result<(usize, u64)> {
    let mut begin = (pieces.len().saturating_sub(1), 0);
    let (mut count, mut found) = (0, false);
    for (index, piece) in pieces.iter().enumerate().rev() {
        let enough = backwards(piece, |entry| {
            if count == 0 && !found {
                begin = (index, entry.end);
            }
            if entry.finished || !found {
                if count == lines {
                    return true;
                }
                count += 1;
            }
            found = true;
            begin = (index, entry.begin);
            false
        })?;
        if enough {
            break;
        }
    }
    Ok(begin)
}

/// Shows the entries of a file, the last one first, until one is enough; whether one was.
fn backwards(piece: &Piece, mut enough: impl FnMut(Entry) -> bool) -> Result<bool> {
    let length = piece.file.metadata()?.len();
    let mut to = length;
    // The end of the entry before whose beginning we are; what has no end yet is none.
    let mut end = None;
    let mut block = Vec::new();
    while to > 0 {
        let from = to.saturating_sub(BLOCK_BYTES);
        // An entry that begins in this block may have its head in the next one.
        let read = (to - from + HEAD_BYTES).min(length - from);
        block.resize(usize::try_from(read).unwrap_or(0), 0);
        piece.file.read_exact_at(&mut block, from)?;
        let own = block.get(..usize::try_from(to - from).unwrap_or(0)).unwrap_or_default();
        let ends = own.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
        let begins = ends.map(|(at, _)| at + 1).chain((from == 0).then_some(0));
        for at in begins {
            let begin = from + at as u64;
            if let Some(end) = end.filter(|end| *end > begin) {
                let finished = is_finished(block.get(at..).unwrap_or_default());
                if enough(Entry { begin, end, finished }) {
                    return Ok(true);
                }
            }
            end = Some(begin);
        }
        to = from;
    }
    Ok(false)
}

fn is_finished(entry: &[u8]) -> bool {
    entry.splitn(4, |byte| *byte == b' ').nth(2) != Some(b"P")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use d2k_engine::log_files;

    fn entry(tag: char, text: &str) -> String {
        format!("2026-01-02T03:04:05.123456789Z stdout {tag} {text}\n")
    }

    fn tail(path: &Path, lines: usize) -> String {
        let pieces = log_files::open_all(path).unwrap();
        let (index, offset) = begin_of_tail(&pieces, lines).unwrap();
        let mut text = String::new();
        for (at, mut piece) in pieces.into_iter().enumerate().skip(index) {
            let from = if at == index { offset } else { 0 };
            std::io::Seek::seek(&mut piece.file, std::io::SeekFrom::Start(from)).unwrap();
            std::io::Read::read_to_string(&mut piece.file, &mut text).unwrap();
        }
        let texts = text.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap_or(line));
        texts.collect::<Vec<_>>().join(",")
    }

    fn written(test: &str, files: &[String]) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("d2k-tail-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("0.log");
        let mut file = log_files::append(&path).unwrap();
        for (number, text) in files.iter().enumerate() {
            if number > 0 {
                file = log_files::rotate(&path).unwrap();
            }
            std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        }
        path
    }

    #[test]
    fn lines_are_counted_across_files_and_parts_of_a_line_are_one() {
        let files = [
            entry('F', "a") + &entry('F', "b"),
            entry('F', "c") + &entry('P', "d1"),
            entry('P', "d2") + &entry('F', "d3") + &entry('F', "e"),
            String::new(),
        ];
        let path = written("parts", &files);
        for (lines, wanted) in [
            (0, ""),
            (1, "e"),
            (2, "d1,d2,d3,e"),
            (3, "c,d1,d2,d3,e"),
            (4, "b,c,d1,d2,d3,e"),
            (5, "a,b,c,d1,d2,d3,e"),
            (99, "a,b,c,d1,d2,d3,e"),
        ] {
            assert_eq!(tail(&path, lines), wanted, "{lines} lines");
        }
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_line_that_has_not_ended_counts_and_an_entry_that_is_cut_off_does_not() {
        let path = written("open", &[entry('F', "a") + &entry('P', "b") + "2026-01-02T03:04"]);
        assert_eq!(tail(&path, 1), "b,2026-01-02T03:04");
        assert_eq!(tail(&path, 2), "a,b,2026-01-02T03:04");
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        let empty = written("empty", &[]);
        assert_eq!((tail(&empty, 0), tail(&empty, 3)), (String::new(), String::new()));
        std::fs::remove_dir_all(empty.parent().unwrap()).unwrap();
    }

    #[test]
    fn heads_and_lines_may_lie_across_blocks() {
        // Every distance of an entry's beginning from the end of a block is met.
        let lines: Vec<String> = (0..8000).map(|n| format!("{n}{}", "x".repeat(n % 61))).collect();
        let text: String = lines.iter().map(|line| entry('F', line)).collect();
        let path = written("blocks", &[text]);
        for count in [1, 2, 700, 1500, 7999, 8000] {
            assert_eq!(tail(&path, count), lines[lines.len() - count..].join(","), "{count} lines");
        }
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}
