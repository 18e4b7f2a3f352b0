//! What a command is about: a component by its file, its folder, or the name of a built-in one.

use std::fs;
use std::path::{Path, PathBuf};

use wasmtime::component::Component;

use super::error::{ComponentError, Error};
use crate::compile::{self, Cache};
use crate::component::{Info, Linked, counting_engine};
use crate::defaults;
use crate::fixtures::{self, Fixture};
use crate::limits::Limits;

/// A component with what belongs to it.
pub struct Subject {
    /// As the user gave it.
    pub shown: String,
    /// The component.
    pub bytes: Vec<u8>,
    /// As the daemon runs it.
    pub linked: Linked,
    /// As it is run where fuel is counted.
    pub counted: Linked,
    /// What it says of itself.
    pub info: Info,
    /// The files with its fixtures.
    pub fixture_files: Vec<PathBuf>,
}

impl Subject {
    /// Finds and loads a component.
    ///
    /// # Errors
    /// What is not there or not good, in one line.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let shown = path.display().to_string();
        let (bytes, fixture_files) = find(path)?;
        match load(&bytes) {
            Ok((linked, counted, info)) => Ok(Self { shown, bytes, linked, counted, info, fixture_files }),
            Err(source) => Err(Error::Component { shown, source }),
        }
    }

    /// SHA-256 of the component.
    pub fn digest(&self) -> String {
        compile::digest(&self.bytes)
    }

    /// Its fixtures.
    ///
    /// # Errors
    /// The file that cannot be read or understood.
    pub fn fixtures(&self) -> Result<Vec<Fixture>, Error> {
        let mut all = Vec::new();
        for file in &self.fixture_files {
            let text = fs::read_to_string(file).map_err(Error::file(file))?;
            all.extend(fixtures::parse(&file.display().to_string(), &text)?);
        }
        Ok(all)
    }
}

/// The component as the daemon runs it, as it is run where fuel is counted, and what it says of itself.
fn load(bytes: &[u8]) -> Result<(Linked, Linked, Info), ComponentError> {
    let component = Cache::none().load(bytes)?;
    let linked = Linked::new(&component)?;
    let counting = Component::from_binary(counting_engine(), bytes).map_err(ComponentError::Counting)?;
    let counted = Linked::new(&counting)?;
    let info = linked.describe(Limits::default()).map_err(ComponentError::Describe)?;
    Ok((linked, counted, info))
}

fn find(path: &Path) -> Result<(Vec<u8>, Vec<PathBuf>), Error> {
    let read = |file: &Path| fs::read(file).map_err(Error::file(file));
    let built_in = path.to_str().and_then(|name| defaults::ALL.iter().find(|(known, _)| *known == name));
    if let Some((_, bytes)) = built_in.filter(|_| !path.exists()) {
        return Ok((bytes.to_vec(), Vec::new()));
    }
    if path.is_dir() {
        let component = component_of(path)?;
        return Ok((read(&component)?, fixtures_beside(&component)));
    }
    Ok((read(path)?, fixtures_beside(path)))
}

fn component_of(folder: &Path) -> Result<PathBuf, Error> {
    let mut found = entries(folder, ".wasm");
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(Error::NoComponent { folder: folder.to_owned() }),
        count => Err(Error::ManyComponents { folder: folder.to_owned(), count }),
    }
}

/// `fixtures/*.yaml`, and `NAME.fixtures.yaml`.
fn fixtures_beside(component: &Path) -> Vec<PathBuf> {
    let folder = component.parent().unwrap_or_else(|| Path::new("."));
    let mut files = entries(&folder.join("fixtures"), ".yaml");
    let beside = component.with_extension("fixtures.yaml");
    files.extend(Some(beside).filter(|file| file.is_file()));
    files
}

fn entries(folder: &Path, end: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = all.filter(|path| path.to_string_lossy().ends_with(end)).collect();
    files.sort();
    files
}
