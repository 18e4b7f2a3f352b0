//! From the archive of a layer to its folder: files with owners, modes, times and attributes, marks
//! for what the layer removes, and the proof that the archive was the one that the config names.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use tar::{Archive, Entry, EntryType};

use d2k_common::compression::plain;
use d2k_common::fault::{Fault, Result};
use d2k_registry::Verifier;

use super::entries::Meta;
use super::marks::{self, Marks};
use super::tree::{Tree, invalid};

const ATTRIBUTE: &str = "SCHILY.xattr.";

/// Unpacks an archive into the empty folder `root` over the layers `below` (topmost first), and
/// returns the sum of the sizes of its files. `diff_id` is the digest that the plain archive must have.
pub(super) fn unpack(
    archive: impl Read,
    diff_id: &str,
    root: &Path,
    below: &[PathBuf],
    marks: Marks,
) -> Result<u64> {
    let wrong = |error: io::Error| {
        let hint = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                "; free space on that disk, or remove images with `docker image prune -a`"
            }
            _ => "",
        };
        Fault::internal(format!("cannot unpack layer {diff_id}: {error}{hint}"))
    };
    let mut tree = Tree::new(root, below, marks).map_err(wrong)?;
    let verifier = Verifier::new(diff_id)?;
    let mut hashed = Hashed { inner: plain(archive).map_err(wrong)?, verifier };
    let size = entries(&mut hashed, &mut tree).map_err(wrong)?;
    // What follows the last entry belongs to the digest too.
    io::copy(&mut hashed, &mut io::sink()).map_err(wrong)?;
    hashed
        .verifier
        .finish()
        .map_err(|error| Fault::internal(format!("layer {diff_id} is not the one of the image: {error}")))?;
    tree.finish().map_err(wrong)?;
    Ok(size)
}

struct Hashed<R> {
    inner: R,
    verifier: Verifier,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.verifier.update(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

fn entries(archive: impl Read, tree: &mut Tree) -> io::Result<u64> {
    let mut archive = Archive::new(archive);
    let mut size = 0;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path_bytes().into_owned();
        size += one(&mut entry, &name, tree)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", shown(&name))))?;
    }
    Ok(size)
}

fn shown(name: &[u8]) -> String {
    let name: String = String::from_utf8_lossy(name).chars().take(200).collect();
    format!("{name:?}")
}

fn one(entry: &mut Entry<'_, impl Read>, name: &[u8], tree: &mut Tree) -> io::Result<u64> {
    let kind = entry.header().entry_type();
    if kind == EntryType::XGlobalHeader {
        return Ok(0);
    }
    let base = name.split(|byte| *byte == b'/').rfind(|part| !part.is_empty()).unwrap_or_default();
    if let Some(gone) = base.strip_prefix(marks::PREFIX) {
        return gone_entry(tree, name, gone).map(|()| 0);
    }
    let meta = meta(entry)?;
    let place = tree.place(name)?;
    match kind {
        EntryType::Directory => tree.folder(&place, &meta)?,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            return tree.file(&place, &meta, entry);
        }
        EntryType::Symlink => tree.link(&place, &meta, &target(entry)?)?,
        EntryType::Link => tree.hard_link(&place, &target(entry)?)?,
        EntryType::Fifo => tree.device(&place, &meta, kind, 0)?,
        EntryType::Char | EntryType::Block => {
            let major = entry.header().device_major()?.unwrap_or(0);
            let minor = entry.header().device_minor()?.unwrap_or(0);
            tree.device(&place, &meta, kind, rustix::fs::makedev(major, minor))?;
        }
        other => return Err(invalid(format!("it is of the unknown type {:?}", other.as_byte() as char))),
    }
    Ok(0)
}

fn target(entry: &Entry<'_, impl Read>) -> io::Result<Vec<u8>> {
    entry.link_name_bytes().map(|name| name.into_owned()).ok_or_else(|| invalid("its link leads nowhere"))
}

fn gone_entry(tree: &mut Tree, path: &[u8], gone: &[u8]) -> io::Result<()> {
    let place = tree.place(path)?;
    if gone == marks::OPAQUE.strip_prefix(marks::PREFIX).unwrap_or_default() {
        return tree.marks.set_opaque(&place.folder.fd);
    }
    // Notes of aufs, which mean nothing here.
    if gone.starts_with(marks::PREFIX) {
        return Ok(());
    }
    if gone.is_empty() || gone == b"." || gone == b".." {
        return Err(invalid("it removes no name"));
    }
    tree.gone(&place, &OsString::from_vec(gone.to_vec()))
}

fn meta(entry: &mut Entry<'_, impl Read>) -> io::Result<Meta> {
    let mut attributes = Vec::new();
    let mut nanoseconds = None;
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions {
            let extension = extension?;
            let Ok(key) = extension.key() else { continue };
            if key.starts_with("GNU.sparse.") {
                return Err(invalid(
                    "it is a sparse file of a form that is not read here: pack it without --sparse",
                ));
            }
            if key == "mtime" {
                nanoseconds = fraction(extension.value_bytes());
            } else if let Some(name) = key.strip_prefix(ATTRIBUTE)
                && !marks::is_reserved(name.as_bytes())
            {
                attributes.push((name.to_owned(), extension.value_bytes().to_vec()));
            }
        }
    }
    let header = entry.header();
    let fields = header.as_old();
    let plain = header.mtime().unwrap_or(0).try_into().unwrap_or(0);
    let (tv_sec, tv_nsec) = nanoseconds.unwrap_or((plain, 0));
    Ok(Meta {
        mode: if is_blank(&fields.mode) { 0 } else { header.mode()? & 0o7777 },
        uid: owner(&fields.uid, header.uid()).ok_or_else(|| invalid("its owner is no user ID"))?,
        gid: owner(&fields.gid, header.gid()).ok_or_else(|| invalid("its group is no group ID"))?,
        changed: rustix::fs::Timespec { tv_sec, tv_nsec },
        attributes,
    })
}

/// A user or group by its number. The highest one means nobody at all to the kernel.
fn owner(field: &[u8], id: io::Result<u64>) -> Option<u32> {
    match id {
        Ok(id) => u32::try_from(id).ok().filter(|id| *id != u32::MAX),
        Err(_) => is_blank(field).then_some(0),
    }
}

/// Some programs leave a field empty that is zero.
fn is_blank(field: &[u8]) -> bool {
    field.iter().all(|byte| matches!(byte, 0 | b' '))
}

/// Seconds and nanoseconds of `1700000000.123`.
fn fraction(text: &[u8]) -> Option<(i64, i64)> {
    let text = std::str::from_utf8(text).ok()?;
    let (seconds, rest) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = rest.chars().chain("000000000".chars()).take(9).collect();
    let (seconds, rest) = (seconds.parse::<i64>().ok()?, digits.parse::<i64>().ok()?);
    // Before 1970 the fraction counts downwards, the kernel's upwards.
    if text.starts_with('-') && rest > 0 {
        Some((seconds - 1, 1_000_000_000 - rest))
    } else {
        Some((seconds, rest))
    }
}
