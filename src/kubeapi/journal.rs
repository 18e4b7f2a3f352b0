//! The journal: every write as one line of JSON, appended before it is answered. A line that was cut
//! off by a crash is the last one and is dropped; a long journal is replaced by what is alive.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::meta;

/// From this size on, a journal is shortened when most of it is history.
const LONG: u64 = 32 * 1024 * 1024;

/// An open journal.
pub struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
    /// Length after the last compaction.
    kept: u64,
    failed: bool,
}

impl Journal {
    /// Opens a journal, with the objects that it holds and their newest version.
    ///
    /// # Errors
    /// One line on what cannot be read or written.
    pub fn open(path: &Path) -> Result<(Self, Vec<Value>, u64), String> {
        let wrong = |e: std::io::Error| format!("the journal {}: {e}", path.display());
        let (objects, version) = if path.exists() { read(path).map_err(wrong)? } else { (Vec::new(), 0) };
        let objects: Vec<Arc<Value>> = objects.into_iter().map(Arc::new).collect();
        let length = rewrite(path, &objects, version).map_err(wrong)?;
        let file = OpenOptions::new().append(true).open(path).map_err(wrong)?;
        let journal = Self { path: path.to_owned(), file, length, kept: length, failed: false };
        Ok((journal, objects.iter().map(|o| Value::clone(o)).collect(), version))
    }

    /// Appends one write. A disk that is full is logged once; the objects stay in memory.
    pub fn append(&mut self, removed: bool, object: &Value, version: u64) {
        let mut line = if removed {
            let place = ["apiVersion", "kind"].map(|f| meta::string(object, &[f]));
            let (namespace, name) = (meta::namespace(object), meta::name(object));
            json!({"version": version, "removed": [place[0], place[1], namespace, name]}).to_string()
        } else {
            json!({"version": version, "object": object}).to_string()
        };
        line.push('\n');
        match self.file.write_all(line.as_bytes()) {
            Ok(()) => {
                self.length += line.len() as u64;
                self.failed = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failed, true) {
                    tracing::error!(path = %self.path.display(), %error, "the journal cannot be written; what changes now is lost when d2k ends");
                }
            }
        }
    }

    /// Whether most of it is history.
    pub fn is_long(&self) -> bool {
        self.length > LONG && self.length > self.kept * 4
    }

    /// Replaces it by the objects that are alive.
    pub fn compact(&mut self, objects: Vec<Arc<Value>>, version: u64) {
        let done = rewrite(&self.path, &objects, version)
            .and_then(|length| Ok((length, OpenOptions::new().append(true).open(&self.path)?)));
        match done {
            Ok((length, file)) => {
                self.file = file;
                (self.length, self.kept) = (length, length);
            }
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the journal cannot be shortened");
                // Tried again when it has grown by as much.
                self.kept = self.length;
            }
        }
    }
}

fn read(path: &Path) -> std::io::Result<(Vec<Value>, u64)> {
    let mut objects = std::collections::BTreeMap::new();
    let mut version = 0;
    for line in BufReader::new(File::open(path)?).split(b'\n') {
        let Ok(entry) = serde_json::from_slice::<Value>(&line?) else { break };
        version = entry.get("version").and_then(Value::as_u64).unwrap_or(version);
        if let Some(object) = entry.get("object") {
            objects.insert(key(object), object.clone());
        } else if let Some(gone) = entry.get("removed") {
            let part = |at: usize| gone.get(at).and_then(Value::as_str).unwrap_or_default().to_owned();
            objects.remove(&[part(0), part(1), part(2), part(3)]);
        }
    }
    Ok((objects.into_values().collect(), version))
}

fn key(object: &Value) -> [String; 4] {
    let field = |f| meta::string(object, &[f]).to_owned();
    [field("apiVersion"), field("kind"), meta::namespace(object).to_owned(), meta::name(object).to_owned()]
}

fn rewrite(path: &Path, objects: &[Arc<Value>], version: u64) -> std::io::Result<u64> {
    let temporary = path.with_extension("new");
    let mut file = BufWriter::new(File::create(&temporary)?);
    let mut length = 0;
    let lines = objects.iter().map(|object| json!({"version": version, "object": **object}));
    for line in lines.chain([json!({"version": version})]) {
        let line = format!("{line}\n");
        length += line.len() as u64;
        file.write_all(line.as_bytes())?;
    }
    let file = file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, data: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "n", "name": name}, "data": {"d": data}})
    }

    #[test]
    fn what_was_written_is_there_again_and_a_line_cut_off_is_not() {
        let folder = std::env::temp_dir().join(format!("d2k-journal-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("journal");
        let (mut journal, objects, version) = Journal::open(&path).unwrap();
        assert_eq!((objects.len(), version), (0, 0));
        journal.append(false, &object("a", "1"), 1);
        journal.append(false, &object("b", "1"), 2);
        journal.append(false, &object("a", "2"), 3);
        journal.append(true, &object("b", "1"), 4);
        drop(journal);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"version\":5,\"obj").unwrap();
        let (_, objects, version) = Journal::open(&path).unwrap();
        assert_eq!((objects, version), (vec![object("a", "2")], 4));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
