//! The journal: every write of a durable kind as one line of JSON, appended before it is answered. A line that was cut
//! off by a crash is the last one and is dropped; other damage is passed over and the file kept. A long
//! journal is replaced by what is alive, and so is one that could not be written for a while. It holds
//! every Secret, so that only its owner may read it and what is kept of it.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::meta;
use super::packed::Wire;

/// Pause between attempts to write what is missing, since each writes everything.
const AGAIN: Duration = Duration::from_secs(2);

/// Why a journal cannot be opened, or not be appended to.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It cannot be read or written anew.
    #[error("the journal {0}: {1}")]
    Open(PathBuf, #[source] std::io::Error),
    /// A write cannot be appended, for a reason that may be that of a write before it.
    #[error("the journal {0} cannot be written: {1}")]
    Append(PathBuf, String),
}

/// An open journal.
pub struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
    /// From this length on, in bytes, it is shortened when most of it is history.
    long: u64,
    /// Length after the last compaction.
    kept: u64,
    /// Since when writes are missing in it; the time of the last attempt to write them.
    failed: Option<Instant>,
    /// Why they could not be written.
    why: String,
    /// Namespaces and names of Pods whose removal is the last that it said of them when it was opened.
    removed_pods: BTreeSet<(String, String)>,
}

impl Journal {
    /// Opens a journal, with the objects that it holds and their newest version. From a length of `long` bytes on it is shortened
    /// when most of it is history.
    ///
    /// # Errors
    /// One line on what cannot be read or written.
    pub fn open(path: &Path, long: u64) -> Result<(Self, Vec<Value>, u64), JournalError> {
        let wrong = |error| JournalError::Open(path.to_owned(), error);
        let found = if path.exists() { read(path).map_err(wrong)? } else { Found::default() };
        if !found.damaged.is_empty() {
            set_aside(path, &found.damaged).map_err(wrong)?;
        }
        let (objects, version) = (found.objects, found.version);
        let length = rewrite(path, objects.iter(), version).map_err(wrong)?;
        let file = OpenOptions::new().append(true).open(path).map_err(wrong)?;
        let (path, why, removed_pods) = (path.to_owned(), String::new(), found.removed_pods);
        let journal = Self { path, file, length, long, kept: length, failed: None, why, removed_pods };
        Ok((journal, objects, version))
    }

    /// Namespaces and names of Pods that were removed since it was opened last, and are not there. An object that is neither there nor
    /// among them may have been lost with the end of the journal.
    pub fn take_removed_pods(&mut self) -> BTreeSet<(String, String)> {
        std::mem::take(&mut self.removed_pods)
    }

    /// Appends one write, of an object and its text. A disk that is full is logged once; the objects stay in memory.
    pub fn append(&mut self, removed: bool, object: &Value, text: &str, version: u64) {
        let line = if removed {
            let place = ["apiVersion", "kind"].map(|f| meta::string(object, &[f]));
            let (namespace, name) = (meta::namespace(object), meta::name(object));
            json!({"version": version, "removed": [place[0], place[1], namespace, name]}).to_string()
        } else {
            put(text, version)
        };
        if self.failed.is_some() {
            return;
        }
        if let Err(error) = self.write(line) {
            tracing::error!(path = %self.path.display(), %error, "the journal cannot be written; what changes now is lost if d2k ends before it can");
            (self.failed, self.why) = (Some(Instant::now()), error.to_string());
        }
    }

    /// Appends what is not to be there unless it is written down.
    ///
    /// # Errors
    /// One line on why it cannot be written.
    pub fn append_or_refuse(&mut self, text: &str, version: u64) -> Result<(), JournalError> {
        let written = match self.failed {
            Some(_) => Err(self.why.clone()),
            None => self.write(put(text, version)).map_err(|error| error.to_string()),
        };
        written.map_err(|why| JournalError::Append(self.path.clone(), why))
    }

    fn write(&mut self, mut line: String) -> std::io::Result<()> {
        line.push('\n');
        // Half a line would take the next one with it.
        self.file.write_all(line.as_bytes()).inspect_err(|_| drop(self.file.set_len(self.length)))?;
        self.length += line.len() as u64;
        Ok(())
    }

    /// Whether it is to be written anew: most of it is history, or something is missing.
    pub fn is_due(&self) -> bool {
        let long = self.length > self.long && self.length > self.kept * 4;
        self.failed.map_or(long, |last| last.elapsed() >= AGAIN)
    }

    /// Another handle of its file, by which to wait until what was appended is on the disk.
    ///
    /// # Errors
    /// Why there is none, or why what was appended before is not in the file.
    pub fn file(&self) -> Result<File, JournalError> {
        let wrong = |why| JournalError::Append(self.path.clone(), why);
        if self.failed.is_some() {
            return Err(wrong(self.why.clone()));
        }
        self.file.try_clone().map_err(|error| wrong(error.to_string()))
    }

    /// Replaces it by the objects that are alive.
    pub fn compact(&mut self, objects: Vec<Arc<Value>>, version: u64) {
        let done = rewrite(&self.path, objects.iter().map(|object| &**object), version)
            .and_then(|length| Ok((length, OpenOptions::new().append(true).open(&self.path)?)));
        match done {
            Ok((length, file)) => {
                self.file = file;
                (self.length, self.kept) = (length, length);
                if self.failed.take().is_some() {
                    tracing::info!(path = %self.path.display(), "the journal is whole again");
                }
            }
            Err(error) if self.failed.is_some() => {
                (self.failed, self.why) = (Some(Instant::now()), error.to_string());
            }
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the journal cannot be shortened");
                // Tried again when it has grown by as much.
                self.kept = self.length;
            }
        }
    }
}

/// The line of an object with this text.
fn put(text: &str, version: u64) -> String {
    format!("{{\"version\":{version},\"object\":{text}}}")
}

/// What a file holds.
#[derive(Default)]
struct Found {
    objects: Vec<Value>,
    version: u64,
    removed_pods: BTreeSet<(String, String)>,
    /// Numbers of lines that say nothing.
    damaged: Vec<usize>,
}

fn read(path: &Path) -> std::io::Result<Found> {
    let mut objects = std::collections::BTreeMap::new();
    let mut found = Found::default();
    let mut reader = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let Ok(mut entry) = serde_json::from_slice::<Value>(&line) else {
            // Without its end it was cut off, before anybody was told that it is there.
            if line.ends_with(b"\n") {
                found.damaged.push(number);
            }
            continue;
        };
        let version = entry.get("version").and_then(Value::as_u64).unwrap_or(0);
        found.version = version.max(found.version);
        if let Some(object) = entry.get_mut("object").map(Value::take) {
            let [api, kind, namespace, name] = key(&object);
            if kind == "Pod" {
                found.removed_pods.remove(&(namespace.clone(), name.clone()));
            }
            objects.insert([api, kind, namespace, name], object);
        } else if let Some(gone) = entry.get("removed") {
            let part = |at: usize| gone.get(at).and_then(Value::as_str).unwrap_or_default().to_owned();
            if part(1) == "Pod" {
                found.removed_pods.insert((part(2), part(3)));
            }
            objects.remove(&[part(0), part(1), part(2), part(3)]);
        }
    }
    found.objects = objects.into_values().collect();
    Ok(found)
}

/// Keeps a damaged file, since what it says no more may be read by a person.
fn set_aside(path: &Path, lines: &[usize]) -> std::io::Result<()> {
    let aside = path.with_extension(format!("damaged-{}", jiff::Timestamp::now().as_second()));
    // A copy has the mode of its source, which an older version has made for everybody.
    let mut kept = create_private(&aside)?;
    std::io::copy(&mut File::open(path)?, &mut kept)?;
    tracing::error!(
        path = %path.display(), kept = %aside.display(), lines = ?lines.iter().take(10).collect::<Vec<_>>(), count = lines.len(),
        "the journal is damaged: these lines are passed over, and objects may be missing or as they were before"
    );
    Ok(())
}

fn key(object: &Value) -> [String; 4] {
    let field = |f| meta::string(object, &[f]).to_owned();
    [field("apiVersion"), field("kind"), meta::namespace(object).to_owned(), meta::name(object).to_owned()]
}

fn rewrite<'a>(path: &Path, objects: impl Iterator<Item = &'a Value>, version: u64) -> std::io::Result<u64> {
    let temporary = path.with_extension("new");
    let written = write_to(&temporary, objects, version);
    let length = written.inspect_err(|_| drop(std::fs::remove_file(&temporary)))?;
    std::fs::rename(&temporary, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(length)
}

/// An empty file that only its owner reads, even if there was one before that others could read.
fn create_private(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

fn write_to<'a>(
    temporary: &Path,
    objects: impl Iterator<Item = &'a Value>,
    version: u64,
) -> std::io::Result<u64> {
    let mut file = BufWriter::new(create_private(temporary)?);
    let mut length = 0;
    let lines = objects.map(|object| put(&Wire::whole(object).text(), version));
    for mut line in lines.chain([json!({"version": version}).to_string()]) {
        line.push('\n');
        length += line.len() as u64;
        file.write_all(line.as_bytes())?;
    }
    let file = file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(length)
}

#[cfg(test)]
impl Journal {
    /// A journal whose disk is full.
    pub(super) fn full(path: &Path) -> Self {
        let (mut journal, ..) = Self::open(path, 1 << 20).unwrap();
        journal.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        journal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: u64 = 1 << 20;

    fn append(journal: &mut Journal, removed: bool, object: &Value, version: u64) {
        journal.append(removed, object, &object.to_string(), version);
    }

    fn object(name: &str, data: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "n", "name": name}, "data": {"d": data}})
    }

    #[test]
    fn what_was_written_is_there_again_and_a_line_cut_off_is_not() {
        let folder = std::env::temp_dir().join(format!("d2k-journal-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("journal");
        let (mut journal, objects, version) = Journal::open(&path, LONG).unwrap();
        assert_eq!((objects.len(), version), (0, 0));
        append(&mut journal, false, &object("a", "1"), 1);
        append(&mut journal, false, &object("b", "1"), 2);
        append(&mut journal, false, &object("a", "2"), 3);
        append(&mut journal, true, &object("b", "1"), 4);
        drop(journal);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"version\":5,\"obj").unwrap();
        let (_, objects, version) = Journal::open(&path, LONG).unwrap();
        assert_eq!((objects, version), (vec![object("a", "2")], 4));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_pod_that_was_removed_is_known_until_the_next_start() {
        let folder = std::env::temp_dir().join(format!("d2k-journal-removed-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("journal");
        let pod = |name: &str| {
            let metadata = json!({"namespace": "n", "name": name});
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata})
        };
        let (mut journal, ..) = Journal::open(&path, LONG).unwrap();
        for (version, (name, removed)) in
            [("gone", false), ("back", false), ("gone", true), ("back", true), ("back", false)]
                .iter()
                .enumerate()
        {
            append(&mut journal, *removed, &pod(name), version as u64 + 1);
        }
        // Another kind of the same name.
        append(&mut journal, false, &object("gone", "1"), 6);
        drop(journal);
        let removed = |journal: &mut Journal| journal.take_removed_pods().into_iter().collect::<Vec<_>>();
        let (mut journal, ..) = Journal::open(&path, LONG).unwrap();
        assert_eq!(removed(&mut journal), [("n".to_owned(), "gone".to_owned())]);
        let (mut journal, ..) = Journal::open(&path, LONG).unwrap();
        assert_eq!(removed(&mut journal), []);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn one_that_cannot_be_opened_is_named() {
        let folder = std::env::temp_dir().join(format!("d2k-journal-folder-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let error = Journal::open(&folder, LONG).err().unwrap();
        let words = format!("the journal {}: Is a directory (os error 21)", folder.display());
        assert_eq!(error.to_string(), words);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_damaged_line_costs_no_other_and_the_file_is_kept() {
        let folder = std::env::temp_dir().join(format!("d2k-journal-damaged-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("journal");
        let (mut journal, _, _) = Journal::open(&path, LONG).unwrap();
        for (version, name) in [(1, "a"), (2, "b"), (3, "c")] {
            append(&mut journal, false, &object(name, "1"), version);
        }
        drop(journal);
        let whole = std::fs::read_to_string(&path).unwrap();
        let damaged = whole.replace("\"name\":\"b\"", "\"name\":\0\0\0");
        assert_ne!(whole, damaged);
        std::fs::write(&path, &damaged).unwrap();
        let (_, objects, version) = Journal::open(&path, LONG).unwrap();
        assert_eq!((objects, version), (vec![object("a", "1"), object("c", "1")], 3));
        let mut files = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
        let named = |file: &PathBuf| {
            file.file_name().is_some_and(|name| name.to_string_lossy().contains("damaged-1"))
        };
        let aside = files.find(named).unwrap();
        assert_eq!(std::fs::read_to_string(aside).unwrap(), damaged);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_could_not_be_written_is_written_later() {
        let folder = std::env::temp_dir().join(format!("d2k-journal-full-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("journal");
        let (mut journal, _, _) = Journal::open(&path, LONG).unwrap();
        append(&mut journal, false, &object("a", "1"), 1);
        let good = std::mem::replace(&mut journal.file, File::open("/dev/full").unwrap());
        drop(good);
        append(&mut journal, false, &object("b", "1"), 2);
        assert!(journal.failed.is_some());
        journal.failed = Instant::now().checked_sub(AGAIN);
        assert!(journal.is_due());
        journal.compact(vec![Arc::new(object("a", "1")), Arc::new(object("b", "1"))], 2);
        assert!(!journal.is_due());
        append(&mut journal, false, &object("c", "1"), 3);
        let (_, objects, version) = Journal::open(&path, LONG).unwrap();
        assert_eq!((objects.len(), version), (3, 3));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn only_its_owner_reads_it_and_what_is_kept_of_a_damaged_one() {
        let folder = std::env::temp_dir().join(format!("d2k-journal-mode-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("journal");
        // Left by an older version: readable by everybody, and a rewrite that was cut off.
        for name in ["journal", "journal.new"] {
            std::fs::write(folder.join(name), "{}\n no JSON \n").unwrap();
            let mode = std::fs::Permissions::from_mode(0o644);
            std::fs::set_permissions(folder.join(name), mode).unwrap();
        }
        let (mut journal, _, _) = Journal::open(&path, LONG).unwrap();
        append(&mut journal, false, &object("a", "1"), 1);
        journal.compact(vec![Arc::new(object("a", "1"))], 1);
        let files: Vec<_> = std::fs::read_dir(&folder).unwrap().flatten().collect();
        assert_eq!(files.len(), 2, "{files:?}");
        for file in files {
            let mode = file.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", file.path().display());
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
