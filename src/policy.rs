//! The decisions of the translation: what an object is called, which workload a run becomes, how
//! ports and volumes are mapped, which image is meant, which events are sent. WebAssembly
//! components decide, those of the operator first, and they are swapped while d2k runs.

pub mod ask;
pub mod bindings;
pub mod compile;
pub mod component;
pub mod defaults;
pub mod desk;
pub mod failure;
pub mod fixtures;
pub mod limits;
pub mod load;
mod plans;
pub mod record;
pub mod set;
pub mod settings;
pub mod value;
pub mod watch;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use tokio::sync::broadcast;

use self::compile::Cache;
use self::load::{Found, Refused, Source};
use self::set::Set;
use self::settings::Settings;
use crate::telemetry;

/// After so many failed calls a set is given up for the one before.
const FAILURES: u32 = 5;

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

/// What has happened to the set of policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Another set decides from now on.
    Active {
        /// Names and versions, in the order in which they are asked.
        policies: Vec<String>,
        /// The set before failed too often.
        rolled_back: bool,
    },
    /// What was found is not used.
    Refused(String),
}

/// The policies of a running daemon.
pub struct Policies {
    options: Options,
    cache: Cache,
    slots: RwLock<Slots>,
    /// Only one reload at a time.
    reloading: Mutex<()>,
    news: broadcast::Sender<News>,
    myself: Weak<Self>,
}

struct Slots {
    current: Arc<Set>,
    previous: Option<Arc<Set>>,
    /// Digests of sets that failed too often.
    given_up: BTreeSet<String>,
    /// Policies that were switched off by hand.
    off: BTreeSet<String>,
    refused: Option<String>,
}

impl Policies {
    /// Loads what is configured; where that is refused, the last good set, else the built-in one.
    ///
    /// # Errors
    /// The settings of the built-in policies are wrong, or the settings file cannot be read.
    pub fn new(options: Options) -> Result<Arc<Self>, String> {
        let cache = match &options.cache {
            Some(folder) => Cache::new(folder, options.program.clone()),
            None => Cache::none(),
        };
        let (news, _) = broadcast::channel(64);
        let built_in = |myself: &Weak<Self>| {
            Set::new(
                &Found::default(),
                &options.base,
                &cache,
                &BTreeSet::new(),
                failures(myself, Found::default().digest()),
            )
        };
        let mut first = Err(String::new());
        let policies = Arc::new_cyclic(|myself| {
            let set = built_in(myself).map_err(|refused| refused.to_string());
            let current = match set {
                Ok(set) => {
                    first = Ok(());
                    Arc::new(set)
                }
                Err(words) => {
                    first = Err(words);
                    Arc::new(Set::empty())
                }
            };
            let slots = Slots {
                current,
                previous: None,
                given_up: BTreeSet::new(),
                off: BTreeSet::new(),
                refused: None,
            };
            Self {
                cache: cache.clone(),
                slots: RwLock::new(slots),
                reloading: Mutex::new(()),
                news,
                myself: myself.clone(),
                options: options.clone(),
            }
        });
        first?;
        if policies.options.directory.is_some() || policies.options.settings.is_some() {
            policies.start()?;
        }
        Ok(policies)
    }

    /// The first load: nothing is served yet, so a mistake in the settings file alone is told at once.
    fn start(&self) -> Result<(), String> {
        let Err(refused) = self.reload() else { return Ok(()) };
        if self.options.directory.is_none() {
            return Err(refused);
        }
        let kept = self.cache.folder().map(|folder| folder.join(LAST_GOOD));
        let Some(found) = kept.and_then(|folder| load::read(&folder).ok()) else {
            tracing::warn!("there is no last good set of policies: the built-in ones decide");
            return Ok(());
        };
        match self.activate(&found) {
            Ok(()) => tracing::warn!("the last good set of policies decides"),
            Err(refused) => {
                tracing::warn!(%refused, "the last good set of policies is refused, too: the built-in ones decide")
            }
        }
        Ok(())
    }

    /// The set that decides now. A request takes it once and keeps it.
    pub fn current(&self) -> Arc<Set> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).current.clone()
    }

    /// Why the last thing that was found is not used.
    pub fn refused(&self) -> Option<String> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).refused.clone()
    }

    /// What happens to the set from now on.
    pub fn news(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// Reads what is configured and lets it decide, if it is good and not what decides already.
    ///
    /// # Errors
    /// Why it is refused, in one line; the set before goes on.
    pub fn reload(&self) -> Result<(), String> {
        let _one = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let result = self.find().and_then(|found| {
            let (same, given_up) = {
                let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
                (slots.current.digest == found.digest(), slots.given_up.contains(&found.digest()))
            };
            match (same, given_up) {
                (true, _) => Ok(()),
                (_, true) => Err("this set of policies has failed too often: change it".to_owned()),
                _ => self
                    .activate(&found)
                    .map_err(|refused| refused.to_string())
                    .inspect(|()| self.keep(&found)),
            }
        });
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        match &result {
            Ok(()) => slots.refused = None,
            Err(words) if slots.refused.as_ref() != Some(words) => {
                slots.refused = Some(words.clone());
                drop(slots);
                telemetry::count(&telemetry::POLICY_RELOADS, &["refused"]);
                tracing::warn!("policies: {words}; the set before goes on");
                let _ = self.news.send(News::Refused(words.clone()));
            }
            Err(_) => {}
        }
        result
    }

    fn find(&self) -> Result<Found, String> {
        let mut found = match &self.options.directory {
            Some(directory) => load::read(directory).map_err(|refused| refused.to_string())?,
            None => Found::default(),
        };
        if let Some(file) = &self.options.settings {
            let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
            if !found.settings.is_empty() {
                return Err(format!(
                    "there are two settings files: {} and the folder's {}",
                    file.display(),
                    load::SETTINGS
                ));
            }
            found.settings = text;
        }
        Ok(found)
    }

    fn activate(&self, found: &Found) -> Result<(), Refused> {
        let off = self.slots.read().unwrap_or_else(PoisonError::into_inner).off.clone();
        let set =
            Set::new(found, &self.options.base, &self.cache, &off, failures(&self.myself, found.digest()))?;
        self.swap(Arc::new(set), false);
        Ok(())
    }

    fn swap(&self, set: Arc<Set>, rolled_back: bool) {
        let policies: Vec<String> = set.policies.iter().map(|p| p.id()).collect();
        {
            let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
            let before = std::mem::replace(&mut slots.current, set);
            slots.previous = if rolled_back { None } else { Some(before) };
        }
        telemetry::count(&telemetry::POLICY_RELOADS, &[if rolled_back { "rolled-back" } else { "active" }]);
        tracing::info!(policies = policies.join(", "), "policies decide");
        let _ = self.news.send(News::Active { policies, rolled_back });
    }

    /// Keeps a good set for a start at which the configured one is refused.
    fn keep(&self, found: &Found) {
        let Some(folder) = self.cache.folder() else { return };
        let (aside, kept) =
            (folder.join(format!("{LAST_GOOD}.{}", std::process::id())), folder.join(LAST_GOOD));
        let written = write_found(&aside, found).and_then(|()| {
            let _ = std::fs::remove_dir_all(&kept);
            std::fs::rename(&aside, &kept)
        });
        if let Err(error) = written {
            let _ = std::fs::remove_dir_all(&aside);
            tracing::debug!(%error, "the set of policies could not be kept for the next start");
        }
    }

    /// A call of a set failed for the last time that it may.
    fn give_up(&self, digest: &str) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        if slots.current.digest != digest {
            return;
        }
        let before = slots.previous.take().filter(|set| !slots.given_up.contains(&set.digest));
        slots.given_up.insert(digest.to_owned());
        drop(slots);
        tracing::error!("policies failed {FAILURES} times: the set before decides again");
        match before {
            Some(set) => self.swap(set, true),
            None => {
                let found = Found::default();
                let failed = failures(&self.myself, found.digest());
                match Set::new(&found, &self.options.base, &self.cache, &BTreeSet::new(), failed) {
                    Ok(set) => self.swap(Arc::new(set), true),
                    Err(refused) => tracing::error!(%refused, "the built-in policies cannot be loaded"),
                }
            }
        }
    }

    /// Switches a policy on or off until d2k ends.
    ///
    /// # Errors
    /// The set without it, or with it, is refused.
    pub fn switch(&self, name: &str, on: bool) -> Result<(), String> {
        let _one = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let before = {
            let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
            let before = slots.off.clone();
            if on {
                slots.off.remove(name)
            } else {
                slots.off.insert(name.to_owned())
            };
            before
        };
        let result =
            self.find().and_then(|found| self.activate(&found).map_err(|refused| refused.to_string()));
        if result.is_err() {
            self.slots.write().unwrap_or_else(PoisonError::into_inner).off = before;
        }
        result
    }
}

/// The folder of the cache with the last good set.
const LAST_GOOD: &str = "last-good";

fn write_found(folder: &std::path::Path, found: &Found) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    if !found.settings.is_empty() {
        std::fs::write(folder.join(load::SETTINGS), &found.settings)?;
    }
    for Source { origin, bytes, fixtures } in &found.sources {
        std::fs::write(folder.join(origin), bytes)?;
        if let (Some(text), Some((stem, _))) = (fixtures, origin.rsplit_once('.')) {
            std::fs::write(folder.join(format!("{stem}.fixtures.yaml")), text)?;
        }
    }
    Ok(())
}

type OnFailure = Box<dyn Fn() + Send + Sync>;

/// Counts the failed calls of a set.
fn failures(policies: &Weak<Policies>, digest: String) -> OnFailure {
    let (policies, count) = (policies.clone(), AtomicU32::new(0));
    Box::new(move || {
        if count.fetch_add(1, Ordering::Relaxed) + 1 == FAILURES
            && let Some(policies) = policies.upgrade()
        {
            policies.give_up(&digest);
        }
    })
}
