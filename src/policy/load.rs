//! The way of a policy into the daemon: seen, compiled, described, settings valid, own fixtures pass.
//! Each step can refuse it, with one line that names the step; what is refused never takes effect.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::compile::{self, Cache};
use super::component::{Info, LinkError, Linked, Policy, Problem};
use super::failure::Failure;
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

/// A file was refused.
#[derive(Debug, thiserror::Error)]
#[error("{file} refused at {}: {reason}", .reason.step())]
pub struct Refused {
    /// The file.
    pub file: String,
    /// Why, in a box since there are large ones.
    #[source]
    pub reason: Box<Reason>,
}

impl Refused {
    pub(super) fn new(file: &str, reason: impl Into<Reason>) -> Self {
        Self { file: file.to_owned(), reason: Box::new(reason.into()) }
    }
}

/// Why a file was refused, in the order of the steps.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Reason {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// A component has so many bytes.
    #[error("it has {0} bytes; the largest component has {most}", most = compile::LARGEST)]
    TooLarge(u64),
    /// A folder has so many components.
    #[error("it has {0} components, at most {MOST} are taken")]
    TooMany(usize),
    /// Nobody says which of the two counts.
    #[error("there are two settings files: this one and the folder's {SETTINGS}")]
    TwoSettings,
    /// There is no code for it.
    #[error(transparent)]
    Compile(#[from] compile::Error),
    /// It has not the form of a policy.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// It cannot say what it is.
    #[error(transparent)]
    Describe(Failure),
    /// The name that it gives itself is no name.
    #[error("its name {0:?} is not of lower-case letters, digits and dashes")]
    Name(String),
    /// Another policy of the set has its name.
    #[error("another policy is called {0}, too: names are unique")]
    SameName(String),
    /// The settings file is wrong.
    #[error(transparent)]
    Settings(#[from] settings::Error),
    /// The settings are about a policy that the set has not.
    #[error(
        "{policy}: there is no such policy{}; there are {}",
        if *.required { " (it is required)" } else { "" },
        .policies.join(", ")
    )]
    NoPolicy { policy: String, required: bool, policies: Vec<String> },
    /// The policy has no such setting.
    #[error(
        "{policy}.settings.{setting}: no such setting; {}",
        if .settings.is_empty() { "it has none".to_owned() } else { format!("there are {}", .settings.join(", ")) }
    )]
    NoSetting { policy: String, setting: String, settings: Vec<String> },
    /// The policy says so of a setting.
    #[error("{policy}.settings.{setting}: {problem}")]
    Setting { policy: String, setting: String, problem: String },
    /// The policy cannot look at its settings.
    #[error("{policy}.{source}")]
    Check { policy: String, source: Failure },
    /// Its fixtures cannot be read.
    #[error(transparent)]
    Fixtures(#[from] fixtures::ParseError),
    /// One of its fixtures does not hold.
    #[error(transparent)]
    Fixture(#[from] fixtures::RunError),
}

impl Reason {
    /// The step that refused it.
    pub fn step(&self) -> Step {
        match self {
            Self::Read(_) | Self::TooLarge(_) | Self::TooMany(_) | Self::TwoSettings => Step::Read,
            Self::Compile(_) | Self::Link(_) => Step::Compile,
            Self::Describe(_) | Self::Name(_) | Self::SameName(_) => Step::Describe,
            Self::Settings(_)
            | Self::NoPolicy { .. }
            | Self::NoSetting { .. }
            | Self::Setting { .. }
            | Self::Check { .. } => Step::Settings,
            Self::Fixtures(_) | Self::Fixture(_) => Step::Fixtures,
        }
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
        let bytes = files::read(&path, compile::LARGEST)
            .map_err(|error| Refused::new(name, too_large(&path, error)))?;
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
    let refuse = |error: io::Error| Refused::new(&shown, error);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(refuse)? {
        let name = entry.map_err(refuse)?.file_name();
        let is_component = |name: &&str| name.ends_with(".wasm") || name.ends_with(".cwasm");
        names.extend(name.to_str().filter(|n| !n.starts_with('.')).filter(is_component).map(str::to_owned));
    }
    if names.len() > MOST {
        return Err(Refused::new(&shown, Reason::TooMany(names.len())));
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
        read => read.map(Some).map_err(|error| Refused::new(name, error)),
    }
}

/// A component that is too large is told with its size.
fn too_large(path: &Path, error: io::Error) -> Reason {
    match (error.kind(), std::fs::metadata(path)) {
        (ErrorKind::FileTooLarge, Ok(meta)) => Reason::TooLarge(meta.len()),
        _ => Reason::Read(error),
    }
}

/// Takes a component all the way. `written` are the settings of all policies, by name.
///
/// # Errors
/// The step that refused it, and why.
pub fn load(source: &Source, written: &Settings, cache: &Cache) -> Result<Policy, Refused> {
    let refuse = |reason: Reason| Refused::new(&source.origin, reason);
    let component = cache.load(&source.bytes).map_err(|e| refuse(e.into()))?;
    let linked = Linked::new(&component).map_err(|e| refuse(e.into()))?;
    let info = linked.describe(Entry::default().limits).map_err(|e| refuse(Reason::Describe(e)))?;
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if info.name.is_empty() || info.name.len() > 63 || !info.name.chars().all(legal) {
        return Err(refuse(Reason::Name(info.name)));
    }
    let entry = written.get(&info.name).cloned().unwrap_or_default();
    check(&linked, &info, &entry).map_err(|reason| Refused::new(SETTINGS, reason))?;
    if let Some(text) = &source.fixtures {
        let all = fixtures::parse("fixtures", text).map_err(|e| refuse(e.into()))?;
        for fixture in &all {
            fixtures::run(&linked, entry.limits, fixture).map_err(|e| refuse(e.into()))?;
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

fn check(linked: &Linked, info: &Info, entry: &Entry) -> Result<(), Reason> {
    let policy = info.name.clone();
    if let Some(setting) = settings::unknown(&entry.settings, &info.settings) {
        let settings = info.settings.iter().map(|setting| setting.name.clone()).collect();
        return Err(Reason::NoSetting { policy, setting: setting.to_owned(), settings });
    }
    match linked.check(&entry.settings, entry.limits) {
        Ok(problems) => match problems.into_iter().next() {
            None => Ok(()),
            Some(Problem { setting, message }) => Err(Reason::Setting { policy, setting, problem: message }),
        },
        Err(source) => Err(Reason::Check { policy, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn a_refusal_names_the_file_the_step_and_the_reason() {
        let text = |reason: Reason| Refused::new("a", reason).to_string();
        let (policy, setting) = (|| "quota".to_owned(), || "size".to_owned());
        for (reason, words) in [
            (io::Error::other("no").into(), "a refused at read: no"),
            (
                Reason::TooLarge(9 << 20),
                "a refused at read: it has 9437184 bytes; the largest component has 4194304",
            ),
            (compile::Error::NoComponent.into(), "a refused at compile: it is no WebAssembly component"),
            (
                Reason::NoPolicy {
                    policy: policy(),
                    required: true,
                    policies: vec!["naming".into(), "ports".into()],
                },
                "a refused at settings: quota: there is no such policy (it is required); there are naming, ports",
            ),
            (
                Reason::NoPolicy { policy: policy(), required: false, policies: vec!["naming".into()] },
                "a refused at settings: quota: there is no such policy; there are naming",
            ),
            (
                Reason::NoSetting { policy: policy(), setting: setting(), settings: Vec::new() },
                "a refused at settings: quota.settings.size: no such setting; it has none",
            ),
            (
                Reason::NoSetting { policy: policy(), setting: setting(), settings: vec!["teams".into()] },
                "a refused at settings: quota.settings.size: no such setting; there are teams",
            ),
            (
                Reason::Check { policy: policy(), source: Failure::Trap("no".into()) },
                "a refused at settings: quota.failed: no",
            ),
        ] {
            assert_eq!(text(reason), words);
        }
    }

    #[test]
    fn a_refusal_keeps_its_cause() {
        let error = settings::parse("p: {limits: {time: 5}}").unwrap_err();
        let refused = Refused::new(SETTINGS, error);
        let words = "p.limits.time: \"5\" is no time from 1ms to 10s";
        assert_eq!(refused.to_string(), format!("{SETTINGS} refused at settings: {words}"));
        let reason = refused.source().unwrap();
        assert_eq!(reason.to_string(), words);
        assert_eq!(reason.source().unwrap().to_string(), "time: \"5\" is no time from 1ms to 10s");
    }
}
