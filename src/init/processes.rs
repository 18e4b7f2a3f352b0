//! `docker top`: what `/proc` says of each process, one line each, for d2k to lay out as `ps` would.

use std::fs;
use std::io::{BufWriter, Write};

use crate::protocol::CARRYING;
use crate::user;

/// The processes of the container.
pub fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The name of a process.
pub fn name(pid: i32) -> Option<String> {
    fs::read(format!("/proc/{pid}/comm"))
        .ok()
        .map(|name| String::from_utf8_lossy(&name).trim_end().to_owned())
}

/// Whether a process is gone, or only waits to be buried.
pub fn has_ended(pid: i32) -> bool {
    let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    let stat = String::from_utf8_lossy(&stat).into_owned();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// Writes a line with the boot time (seconds since 1970), then a line a process: the fields of
/// `/proc/PID/stat` behind its name, the user's number and name, the name, and the command line, with
/// a tab between these parts.
pub fn top() -> u8 {
    let mut out = BufWriter::new(std::io::stdout());
    let about = fs::read_to_string("/proc/stat").unwrap_or_default();
    let boot = about.lines().find_map(|line| line.strip_prefix("btime ")).unwrap_or("0");
    let _ = writeln!(out, "{boot}");
    let passwd = fs::read("/etc/passwd").unwrap_or_default();
    let passwd = String::from_utf8_lossy(&passwd).into_owned();
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let mut pids: Vec<i32> = pids().filter(|pid| *pid != own).collect();
    pids.sort_unstable();
    for pid in pids {
        if let Some(line) = line(pid, &passwd) {
            let _ = writeln!(out, "{line}");
        }
    }
    u8::from(out.flush().is_err())
}

fn line(pid: i32, passwd: &str) -> Option<String> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat).into_owned();
    let (_, fields) = stat.rsplit_once(") ")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().nth(1)?;
    let login = user::name_of(uid, passwd).unwrap_or_else(|| uid.to_owned());
    let name = name(pid).filter(|name| name != CARRYING)?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    let clean = |text: &str| text.replace(['\t', '\n'], " ").trim_end().to_owned();
    let parts =
        [&format!("{pid} {}", fields.trim_end()), uid, &clean(&login), &clean(&name), &clean(&command)];
    Some(parts.join("\t"))
}
