//! The policies that must not be left out at a start whose set of policies is refused, as far as the settings
//! alone tell.

use std::path::Path;

use super::load::{self, Found, SETTINGS};
use super::options::Options;
use super::refusal::ReloadError;
use super::set::Set;
use super::settings;

/// The required policies.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Required {
    /// Nothing: the built-in policies may decide alone.
    Nothing,
    /// Policies of these names.
    Named(Vec<String>),
    /// All that are in the folder.
    All,
    /// The settings, or the folder, cannot be read: something may be required.
    Unknown,
}

impl Required {
    /// The configured settings.
    pub fn by(options: &Options) -> Self {
        let folder = options.directory.as_deref();
        if folder.is_some_and(|folder| load::components(folder).is_err()) {
            return Self::Unknown;
        }
        let text = match (&options.settings, folder) {
            (Some(file), _) => super::files::read_text(file).ok(),
            (None, Some(folder)) => load::settings_of(folder).ok().map(Option::unwrap_or_default),
            (None, None) => Some(String::new()),
        };
        match text.map(|text| settings::parse(&text)) {
            Some(Ok(file)) if file.required => Self::All,
            Some(Ok(file)) if file.requires_any() => {
                let required = file.policies.into_iter().filter(|(_, entry)| entry.required);
                Self::Named(required.map(|(name, _)| name).collect())
            }
            Some(Ok(_)) => Self::Nothing,
            Some(Err(_)) | None => Self::Unknown,
        }
    }

    /// Whether the last good set, made of `found`, has it.
    pub fn is_met_by(&self, set: &Set, found: &Found, folder: &Path) -> bool {
        let has = |name: &String| set.policies.iter().any(|policy| policy.info.name == *name);
        // The name of a component that is refused now is not known: its file stands for it.
        let has_file = |file: &String| found.sources.iter().any(|source| source.origin == *file);
        match self {
            Self::Nothing => true,
            Self::Named(names) => names.iter().all(has),
            Self::All | Self::Unknown => load::components(folder).unwrap_or_default().iter().all(has_file),
        }
    }

    /// The required policies that are missing, since `refused` was; none where nothing is required.
    pub fn missing(&self, refused: &ReloadError) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Named(names) => {
                Some(format!("required in {SETTINGS} and not there: policy {}: {refused}", names.join(", ")))
            }
            Self::All => Some(format!("{SETTINGS} requires all policies of the folder: {refused}")),
            Self::Unknown => Some(format!("whether a policy is required cannot be read: {refused}")),
        }
    }
}
