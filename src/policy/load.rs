//! The way of a policy into the daemon: seen, compiled, described, settings valid, own fixtures pass.
//! Each step can refuse it, with one line that names the step; what is refused never takes effect.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;

use super::compile::{self, Cache};
use super::component::{Linked, Policy};
use super::settings::{self, Entry, Settings};
use super::{files, fixtures};

/// The file of a policy directory that has the settings.
pub const SETTINGS: &str = "settings.yaml";
/// Components of a policy directory: each takes its time on every reload.
const MOST: usize = 64;

/// A step on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Step {
    Read,
    Compile,
    Describe,
    Settings,
    Fixtures,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Compile => "compile",
            Self::Describe => "describe",
            Self::Settings => "settings",
            Self::Fixtures => "fixtures",
        })
    }
}

/// Why a file was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The file.
    pub file: String,
    /// The step that refused it.
    pub step: Step,
    /// Why.
    pub reason: String,
}

impl Refused {
    pub(super) fn new(file: &str, step: Step, reason: impl Into<String>) -> Self {
        Self { file: file.to_owned(), step, reason: reason.into() }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} refused at {}: {}", self.file, self.step, self.reason)
    }
}

/// A component as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its file name, or `built in`.
    pub origin: String,
    /// The component.
    pub bytes: Vec<u8>,
    /// Its fixtures (YAML), if it brings some.
    pub fixtures: Option<String>,
}

/// What a policy directory holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The components, in the order of their names.
    pub sources: Vec<Source>,
    /// The settings file, empty if there is none.
    pub settings: String,
}

impl Found {
    /// What tells one content from another.
    pub fn digest(&self) -> String {
        let mut all = vec![compile::digest(self.settings.as_bytes())];
        for source in &self.sources {
            let fixtures = source.fixtures.as_deref().unwrap_or_default();
            all.extend([
                source.origin.clone(),
                compile::digest(&source.bytes),
                compile::digest(fixtures.as_bytes()),
            ]);
        }
        compile::digest(all.join("\n").as_bytes())
    }
}

/// Reads a policy directory: `*.wasm`, `NAME.fixtures.yaml` beside `NAME.wasm`, `settings.yaml`.
/// Other files, and those that begin with a dot, are left alone.
///
/// # Errors
/// The file that cannot be read.
pub fn read(directory: &Path) -> Result<Found, Refused> {
    let names = components(directory)?;
    let mut found = Found { settings: settings_of(directory)?.unwrap_or_default(), ..Found::default() };
    for name in &names {
        let path = directory.join(name);
        let bytes = files::read(&path, compile::LARGEST).map_err(|e| refuse(name, &too_large(&path, e)))?;
        let stem = name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem);
        let fixtures = text(directory, &format!("{stem}.fixtures.yaml"))?;
        found.sources.push(Source { origin: name.clone(), bytes, fixtures });
    }
    Ok(found)
}

/// The file names of the components of a policy directory, in order.
///
/// # Errors
/// The directory cannot be read, or there are more than it may have.
pub(super) fn components(directory: &Path) -> Result<Vec<String>, Refused> {
    let shown = directory.display().to_string();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(|e| refuse(&shown, &e))? {
        let name = entry.map_err(|e| refuse(&shown, &e))?.file_name();
        let is_component = |name: &&str| name.ends_with(".wasm") || name.ends_with(".cwasm");
        names.extend(name.to_str().filter(|n| !n.starts_with('.')).filter(is_component).map(str::to_owned));
    }
    if names.len() > MOST {
        let words = format!("it has {} components, at most {MOST} are taken", names.len());
        return Err(Refused::new(&shown, Step::Read, words));
    }
    names.sort();
    Ok(names)
}

/// The settings file of a policy directory, if there is one.
///
/// # Errors
/// It cannot be read.
pub(super) fn settings_of(directory: &Path) -> Result<Option<String>, Refused> {
    text(directory, SETTINGS)
}

fn text(directory: &Path, name: &str) -> Result<Option<String>, Refused> {
    match files::read_text(&directory.join(name)) {
        // A link that leads nowhere is not the same as no file.
        Err(e) if e.kind() == ErrorKind::NotFound && directory.join(name).symlink_metadata().is_err() => {
            Ok(None)
        }
        read => read.map(Some).map_err(|e| refuse(name, &e)),
    }
}

fn refuse(name: &str, error: &std::io::Error) -> Refused {
    Refused::new(name, Step::Read, error.to_string())
}

/// A component that is too large is told with its size.
fn too_large(path: &Path, error: std::io::Error) -> std::io::Error {
    match (error.kind(), std::fs::metadata(path)) {
        (ErrorKind::FileTooLarge, Ok(meta)) => {
            let words =
                format!("it has {} bytes; the largest component has {}", meta.len(), compile::LARGEST);
            std::io::Error::new(ErrorKind::FileTooLarge, words)
        }
        _ => error,
    }
}

/// Takes a component all the way. `written` are the settings of all policies, by name.
///
/// # Errors
/// The step that refused it, and why.
pub fn load(source: &Source, written: &Settings, cache: &Cache) -> Result<Policy, Refused> {
    let refuse = |step: Step, reason: String| Refused::new(&source.origin, step, reason);
    let component = cache.load(&source.bytes).map_err(|e| refuse(Step::Compile, e))?;
    let linked = Linked::new(&component).map_err(|e| refuse(Step::Compile, e))?;
    let info = linked.describe(Entry::default().limits).map_err(|e| refuse(Step::Describe, e.to_string()))?;
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if info.name.is_empty() || info.name.len() > 63 || !info.name.chars().all(legal) {
        let words = format!("its name {:?} is not of lower-case letters, digits and dashes", info.name);
        return Err(refuse(Step::Describe, words));
    }
    let entry = written.get(&info.name).cloned().unwrap_or_default();
    check(&linked, &info, &entry)
        .map_err(|e| Refused::new(SETTINGS, Step::Settings, format!("{}.{e}", info.name)))?;
    if let Some(text) = &source.fixtures {
        let all = fixtures::parse("fixtures", text).map_err(|e| refuse(Step::Fixtures, e))?;
        for fixture in &all {
            fixtures::run(&linked, entry.limits, fixture).map_err(|e| refuse(Step::Fixtures, e))?;
        }
    }
    Ok(Policy {
        info,
        digest: compile::digest(&source.bytes),
        origin: source.origin.clone(),
        size: source.bytes.len(),
        settings: entry.settings,
        limits: entry.limits,
        required: entry.required,
        linked,
    })
}

fn check(linked: &Linked, info: &super::component::Info, entry: &Entry) -> Result<(), String> {
    if let Some(words) = settings::unknown(&entry.settings, &info.settings) {
        return Err(words);
    }
    let problems = linked.check(&entry.settings, entry.limits).map_err(|e| e.to_string())?;
    match problems.first() {
        None => Ok(()),
        Some(problem) => Err(format!("settings.{}: {}", problem.setting, problem.message)),
    }
}
