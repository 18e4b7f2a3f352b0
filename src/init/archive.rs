//! `docker cp` and `export`: archives of paths of the container, out of it and into it, with no
//! `tar` in the image.

use std::ffi::OsString;
use std::fs;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use nix::unistd::geteuid;
use tar::{Archive, Builder, EntryType};

use crate::arguments::Arguments;
use crate::files;
use crate::protocol::{FOLDER, NOT_PERMITTED, WRONG_KIND};
use crate::stat::failed;

/// Bytes that are read or written at once.
const BLOCK: usize = 256 * 1024;
/// What is left out of an export: it is the kernel's, or d2k's.
const NOT_EXPORTED: [&str; 3] = ["proc", "sys", "dev"];

struct Packer<W: Write> {
    builder: Builder<W>,
    /// What could not be read, without ending the archive.
    left_out: bool,
}

impl<W: Write> Packer<W> {
    /// Adds a path and all below it under `name`.
    fn add(&mut self, path: &Path, name: &Path) -> io::Result<()> {
        let about = match fs::symlink_metadata(path) {
            Ok(about) => about,
            // It went while its folder was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return self.leave_out(path, &error),
        };
        if about.file_type().is_socket() {
            return Ok(());
        }
        if about.is_file() {
            return match fs::File::open(path) {
                Ok(file) => self.file(&about, file, name),
                Err(error) => self.leave_out(path, &error),
            };
        }
        if !about.is_dir() {
            return self.builder.append_path_with_name(path, name);
        }
        // A folder's name ends with a slash, as tar and Docker write it.
        self.builder.append_path_with_name(path, name.join(""))?;
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => return self.leave_out(path, &error),
        };
        let mut names: Vec<OsString> = entries.flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        for entry in names {
            self.add(&path.join(&entry), &name.join(&entry))?;
        }
        Ok(())
    }

    /// A file has the size that it had at first, however it grows or shrinks meanwhile.
    fn file(&mut self, about: &fs::Metadata, file: fs::File, name: &Path) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_metadata(about);
        let whole = BufReader::with_capacity(BLOCK, file).chain(io::repeat(0)).take(about.len());
        self.builder.append_data(&mut header, name, whole)
    }

    fn leave_out(&mut self, path: &Path, error: &io::Error) -> io::Result<()> {
        eprintln!("{}: {error}", path.display());
        self.left_out = true;
        Ok(())
    }

    /// 1 where something was left out, as `tar` has it.
    fn finish(self) -> u8 {
        let Self { builder, left_out } = self;
        match builder.into_inner().and_then(|mut out| out.flush()) {
            Ok(()) => u8::from(left_out),
            Err(error) => failed(&error),
        }
    }
}

fn packer() -> Packer<BufWriter<io::Stdout>> {
    let mut builder = Builder::new(BufWriter::with_capacity(BLOCK, io::stdout()));
    builder.follow_symlinks(false);
    builder.sparse(false);
    Packer { builder, left_out: false }
}

/// `pack PATH NAME`: an archive of a path, under a name.
pub fn pack(mut arguments: Arguments) -> u8 {
    let path = PathBuf::from(arguments.raw().unwrap_or_default());
    let name = PathBuf::from(arguments.raw().unwrap_or_default());
    if let Err(error) = fs::symlink_metadata(&path) {
        return failed(&error);
    }
    let mut packer = packer();
    match packer.add(&path, &name) {
        Ok(()) => packer.finish(),
        Err(error) => failed(&error),
    }
}

/// `export`: an archive of the whole file system.
pub fn export() -> u8 {
    let mut packer = packer();
    let own = Path::new(FOLDER).file_name().unwrap_or_default();
    let mut names: Vec<OsString> =
        fs::read_dir("/").into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    for name in names.iter().filter(|name| *name != own && NOT_EXPORTED.iter().all(|other| name != other)) {
        if let Err(error) = packer.add(&Path::new("/").join(name), Path::new(name)) {
            return failed(&error);
        }
    }
    packer.finish()
}

/// `unpack PATH [--keep-kinds]`: unpacks the archive on standard input into a folder.
pub fn unpack(mut arguments: Arguments) -> u8 {
    let folder = arguments.raw().unwrap_or_default();
    let keep_kinds = arguments.word().as_deref() == Some("--keep-kinds");
    if let Err(error) = std::env::set_current_dir(&folder) {
        return if error.kind() == io::ErrorKind::NotADirectory { WRONG_KIND } else { failed(&error) };
    }
    // Modes are the archive's.
    let _ = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    let mut archive = Archive::new(BufReader::with_capacity(BLOCK, io::stdin()));
    archive.set_preserve_permissions(true);
    // These are done here: the library ends at a header that leaves them out.
    archive.set_preserve_mtime(false);
    let entries = match archive.entries() {
        Ok(entries) => entries,
        Err(error) => return failed(&error),
    };
    for entry in entries {
        let result = entry.and_then(|mut entry| put(&mut entry, keep_kinds));
        match result {
            Ok(None) => {}
            Ok(Some(words)) => {
                eprintln!("{words}");
                return WRONG_KIND;
            }
            Err(error) => {
                eprintln!("{}", whole_words(&error));
                return NOT_PERMITTED;
            }
        }
    }
    0
}

/// An error with what has caused it, which says more.
fn whole_words(error: &io::Error) -> String {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause {
        words.push_str(&format!(": {deeper}"));
        cause = deeper.source();
    }
    words
}

/// Puts one entry in its place; words where a folder and something else would replace one another.
fn put(entry: &mut tar::Entry<'_, impl Read>, keep_kinds: bool) -> io::Result<Option<String>> {
    let Some(path) = relative(&entry.path()?) else {
        return Err(io::Error::other("the archive has a path that leads out of its folder"));
    };
    let folder = entry.header().entry_type() == EntryType::Directory;
    let there = fs::symlink_metadata(&path).ok();
    let is_folder = fs::metadata(&path).is_ok_and(|about| about.is_dir());
    if keep_kinds && there.is_some() && is_folder != folder {
        let (new, old) = if folder { ("directory", "non-directory") } else { ("non-directory", "directory") };
        return Ok(Some(format!("cannot overwrite {old} {path:?} with {new} {path:?}")));
    }
    if path.as_os_str().is_empty() || (folder && is_folder) {
        return Ok(None);
    }
    if let Some(about) = there {
        let removed = if about.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed?;
    }
    if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(above)?;
    }
    entry.unpack(&path)?;
    let header = entry.header();
    let number = |field: io::Result<u64>| field.ok().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    if geteuid().is_root() {
        files::give(&path, number(header.uid()), number(header.gid()));
        // A new owner takes the bits away that lend his rights.
        if header.entry_type() == EntryType::Regular
            && let Ok(mode) = header.mode()
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode & 0o7777))?;
        }
    }
    files::date(&path, header.mtime().ok().and_then(|time| i64::try_from(time).ok()).unwrap_or(0));
    Ok(None)
}

/// A path of an archive as one below the folder; `None` if it leads out of it.
fn relative(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                if !clean.pop() {
                    return None;
                }
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Some(clean)
}
