//! The last good set of a policy folder, in the cache: for a start at which what is configured is
//! refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::compile::{Cache, digest};
use super::load::{Found, Source};
use super::options::Options;

/// Bytes of a kept set: all components that a folder may have, and what writing them down adds.
const LARGEST: usize = 512 << 20;

#[derive(Serialize, Deserialize)]
struct Kept {
    settings: String,
    sources: Vec<KeptSource>,
}

#[derive(Serialize, Deserialize)]
struct KeptSource {
    origin: String,
    /// Base64.
    component: String,
    fixtures: Option<String>,
}

/// Another folder, or another settings file, has another last good set.
fn name(options: &Options) -> String {
    let shown = |path: &Option<std::path::PathBuf>| {
        let whole = path.as_ref().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()));
        whole.map(|path| path.display().to_string()).unwrap_or_default()
    };
    let key = digest(format!("{}\n{}", shown(&options.directory), shown(&options.settings)).as_bytes());
    format!("last-good-{}.json", key.get(..16).unwrap_or(&key))
}

/// Keeps a good set.
pub(super) fn keep(cache: &Cache, options: &Options, found: &Found) {
    let Some(folder) = cache.folder() else { return };
    let source = |source: &Source| KeptSource {
        origin: source.origin.clone(),
        component: STANDARD.encode(&source.bytes),
        fixtures: source.fixtures.clone(),
    };
    let kept = Kept { settings: found.settings.clone(), sources: found.sources.iter().map(source).collect() };
    let json = serde_json::to_vec(&kept).map_err(std::io::Error::from);
    if let Err(error) = json.and_then(|json| folder.write(&name(options), &[&json])) {
        tracing::debug!(%error, "the set of policies could not be kept for the next start");
    }
}

/// The last good set, if one was kept.
pub(super) fn last(cache: &Cache, options: &Options) -> Option<Found> {
    let json = cache.folder()?.read(&name(options), LARGEST).ok()?;
    let kept: Kept = serde_json::from_slice(&json).ok()?;
    let source = |source: KeptSource| {
        let bytes = STANDARD.decode(source.component).ok()?;
        Some(Source { origin: source.origin, bytes, fixtures: source.fixtures })
    };
    let sources = kept.sources.into_iter().map(source).collect::<Option<Vec<_>>>()?;
    Some(Found { sources, settings: kept.settings })
}
