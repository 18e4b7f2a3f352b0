//! What the policies of a daemon are made from: the folder, the settings and the cache that are configured.

use std::path::PathBuf;

use super::settings::Settings;

/// What the policies are made from.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The folder that is watched; none: the built-in policies alone.
    pub directory: Option<PathBuf>,
    /// A settings file besides the folder.
    pub settings: Option<PathBuf>,
    /// Where compiled components and the last good set are kept.
    pub cache: Option<PathBuf>,
    /// The d2k that compiles in a child of its own.
    pub program: Option<PathBuf>,
    /// What d2k's own settings say, by policy.
    pub base: Settings,
}
