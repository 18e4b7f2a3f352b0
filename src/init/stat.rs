//! The stat of a path, of the link itself where it is one.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;

use crate::arguments::Arguments;
use crate::protocol::{NOT_FOUND, NOT_PERMITTED};

/// The exit code for a failure with a path, which is also told on standard error.
pub fn failed(error: &std::io::Error) -> u8 {
    eprintln!("{}", nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(0)).desc());
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => NOT_FOUND,
        _ => NOT_PERMITTED,
    }
}

/// `stat PATH`: mode in hex, size, seconds since 1970; on the next line what a link points to.
pub fn stat(mut arguments: Arguments) -> u8 {
    let mut path = arguments.raw().unwrap_or_default().into_vec();
    while path.len() > 1 && path.ends_with(b"/") {
        path.pop();
    }
    let path = std::path::PathBuf::from(std::ffi::OsString::from_vec(path));
    let about = match fs::symlink_metadata(&path) {
        Ok(about) => about,
        Err(error) => return failed(&error),
    };
    let mut text = format!("{:x} {} {}\n", about.mode(), about.size(), about.mtime()).into_bytes();
    if let Ok(target) = fs::read_link(&path) {
        text.extend_from_slice(target.as_os_str().as_bytes());
        text.push(b'\n');
    }
    u8::from(std::io::stdout().write_all(&text).is_err())
}
