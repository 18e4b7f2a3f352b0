//! `docker cp`: the stat of a path in Docker's form, from what an image's `stat` prints.

use serde_json::{Value, json};

/// Go's file mode bits (package `io/fs`), which Docker's stat header carries.
const DIR: u32 = 1 << 31;
const SYMLINK: u32 = 1 << 27;
const DEVICE: u32 = 1 << 26;
const NAMED_PIPE: u32 = 1 << 25;
const SOCKET: u32 = 1 << 24;
const SETUID: u32 = 1 << 23;
const SETGID: u32 = 1 << 22;
const CHAR_DEVICE: u32 = 1 << 21;
const STICKY: u32 = 1 << 20;

/// The stat of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Last element of the path.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// `st_mode` of Linux.
    pub mode: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Where a symlink points to, or empty.
    pub target: String,
}

impl Stat {
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.mode & 0o170_000 == 0o040_000
    }

    /// Reads a line of `stat -c '%f %s %Y'`: mode in hex, size, seconds.
    pub fn read(line: &str, path: &str, target: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        Some(Self {
            mode: u32::from_str_radix(words.next()?, 16).ok()?,
            size: words.next()?.parse().ok()?,
            mtime: words.next()?.parse().ok()?,
            name: base(path),
            target: target.to_owned(),
        })
    }

    /// The mode as Go writes it.
    pub fn go_mode(&self) -> u32 {
        let kind = match self.mode & 0o170_000 {
            0o040_000 => DIR,
            0o120_000 => SYMLINK,
            0o060_000 => DEVICE,
            0o020_000 => DEVICE | CHAR_DEVICE,
            0o010_000 => NAMED_PIPE,
            0o140_000 => SOCKET,
            _ => 0,
        };
        let bit = |mask: u32, go: u32| if self.mode & mask == 0 { 0 } else { go };
        kind | bit(0o4000, SETUID) | bit(0o2000, SETGID) | bit(0o1000, STICKY) | (self.mode & 0o777)
    }

    /// Docker's JSON (Docker API, `X-Docker-Container-Path-Stat`).
    pub fn json(&self) -> Value {
        let mtime = jiff::Timestamp::from_second(self.mtime).unwrap_or_default();
        json!({
            "name": self.name,
            "size": self.size,
            "mode": self.go_mode(),
            "mtime": mtime.to_string(),
            "linkTarget": self.target,
        })
    }
}

/// The last element of a path, `/` for the root.
pub fn base(path: &str) -> String {
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    if name.is_empty() { "/".into() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_written_as_go_writes_them() {
        let dir = Stat::read("41ed 4096 1700000000", "/etc/", "").unwrap();
        assert!(dir.is_dir());
        assert_eq!((dir.go_mode(), dir.name.as_str()), (1 << 31 | 0o755, "etc"));
        let sticky = Stat::read("43ff 4096 0", "/tmp", "").unwrap();
        assert_eq!(sticky.go_mode(), 1 << 31 | 1 << 20 | 0o777);
        assert_eq!(Stat::read("a1ff 3 0", "/bin", "usr/bin").unwrap().go_mode(), 1 << 27 | 0o777);
    }
}
