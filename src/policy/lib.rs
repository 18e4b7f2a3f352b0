//! The decisions of the translation: what an object is called, which workload a run becomes, how
//! ports and volumes are mapped, which image is meant, which events are sent. WebAssembly
//! components decide, those of the operator first, and they are swapped while d2k runs.
//!
//! A set that is refused never takes effect, and the one before goes on. A policy that the settings
//! call `required` is never left out either: no set without it takes its place, it cannot be
//! switched off by `docker plugin disable` (403), and where a start cannot have it, d2k is not ready
//! and refuses (503) whatever a policy would be asked about. The same holds where the settings
//! themselves cannot be read, since they may say so. A set without required policies is given up
//! for the one before when one of its policies fails again and again, and is tried again later.

mod activation;
pub mod ask;
pub mod bindings;
pub mod binds;
mod child;
pub mod compile;
pub mod component;
pub mod defaults;
pub mod desk;
pub mod failure;
mod failures;
mod files;
pub mod fixtures;
mod kept;
pub mod limits;
pub mod load;
mod options;
mod plans;
mod private;
pub mod record;
mod refusal;
mod required;
pub mod set;
pub mod settings;
pub mod value;
pub mod watch;

pub use options::Options;
pub use refusal::ReloadError;

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use tokio::sync::broadcast;

use self::compile::Cache;
use self::failures::GivenUp;
use self::load::Found;
use self::refusal::Refusal;
use self::required::Required;
use self::set::Set;

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
    given_up: GivenUp,
    /// Policies that were switched off by hand.
    off: BTreeSet<String>,
    refused: Option<Refusal>,
}

impl Policies {
    /// Loads what is configured; where that is refused, the last good set. Where there is none, or it
    /// has not what is required, nothing is decided; where nothing is required, the built-in ones do.
    ///
    /// # Errors
    /// The settings of the built-in policies are wrong, or the settings file cannot be read.
    pub fn new(options: Options) -> Result<Arc<Self>, ReloadError> {
        let cache = match &options.cache {
            Some(folder) => Cache::new(folder, options.program.clone()),
            None => Cache::none(),
        };
        let (news, _) = broadcast::channel(64);
        let mut first = Ok(());
        let policies = Arc::new_cyclic(|myself| {
            let failed = activation::on_failure(myself, Found::default().digest());
            let set = Set::new(&Found::default(), &options.base, &cache, failed.clone());
            let current = set.unwrap_or_else(|refused| {
                first = Err(refused);
                Set::empty(failed)
            });
            let slots = Slots {
                current: Arc::new(current),
                previous: None,
                given_up: GivenUp::default(),
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
    fn start(&self) -> Result<(), ReloadError> {
        let Err(refused) = self.reload() else { return Ok(()) };
        let Some(directory) = &self.options.directory else { return Err(refused) };
        let required = Required::by(&self.options);
        match kept::last(&self.cache, &self.options).map(|found| (self.make(&found), found)) {
            Some((Ok(set), found)) if required.is_met_by(&set, &found, directory) => {
                tracing::warn!("the last good set of policies decides");
                self.swap(set, false);
                return Ok(());
            }
            Some((Err(refused), _)) => {
                tracing::warn!(%refused, "the last good set of policies is refused, too");
            }
            Some((Ok(_), _)) => tracing::warn!("the last good set of policies has not what is required"),
            None => tracing::warn!("there is no last good set of policies"),
        }
        match required.missing(&refused) {
            None => tracing::warn!("the built-in policies decide"),
            Some(words) => {
                tracing::error!("policies: nothing is decided: {words}");
                let mut slots = self.slots.write();
                slots.current = Arc::new(slots.current.closed(&words));
            }
        }
        Ok(())
    }

    /// The set that decides now. A request takes it once and keeps it.
    pub fn current(&self) -> Arc<Set> {
        self.slots.read().current.clone()
    }

    /// Why the last thing that was found is not used.
    pub fn refused(&self) -> Option<String> {
        let slots = self.slots.read();
        slots.refused.as_ref().map(|refusal| refusal.error.to_string())
    }

    /// Required policies that are missing: until they are there, d2k is not ready and decides nothing.
    pub fn missing(&self) -> Option<String> {
        self.current().missing().map(str::to_owned)
    }

    /// One line for the operator: the policy that is missing, or refused.
    pub fn warning(&self) -> Option<String> {
        let refused = || self.refused().map(|words| format!("policies: {words}; the set before goes on"));
        self.missing().map(|words| format!("policies: nothing is decided: {words}")).or_else(refused)
    }

    /// The state of the set from now on.
    pub fn news(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }
}
