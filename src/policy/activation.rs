//! Which set of policies decides: what is found takes the place of the one before if it is good, a
//! set whose policies fail too often gives way to the one before, and single policies are switched
//! off and on by hand.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use super::component::Policy;
use super::failure::Failure;
use super::failures::{Failures, Resting, TooOften};
use super::load::{self, Found, Reason, Refused, SETTINGS};
use super::refusal::{Refusal, ReloadError};
use super::set::{OnFailure, Set};
use super::{News, Policies, files, kept};
use d2k_common::fault::{self, Fault};
use d2k_common::metrics;

/// A refused component is not compiled again before this time, unless it changes.
const SAME_AGAIN: Duration = Duration::from_secs(60);

impl Policies {
    /// Reads what is configured and lets it decide, if it is good and not what decides already.
    ///
    /// # Errors
    /// Why it is refused, in one line; the set before goes on.
    pub fn reload(&self) -> Result<(), ReloadError> {
        let _one = self.reloading.lock();
        let (digest, result) = match self.find() {
            Ok(found) => (Some(found.digest()), self.take(&found)),
            Err(refused) => (None, Err(refused.into())),
        };
        let mut slots = self.slots.write();
        match &result {
            Ok(()) => slots.refused = None,
            Err(error) if slots.refused.as_ref().is_none_or(|refusal| !refusal.is_as(error)) => {
                slots.refused = Some(Refusal { error: error.clone(), digest, at: Instant::now() });
                drop(slots);
                metrics::count(&metrics::POLICY_RELOADS, &["refused"]);
                tracing::warn!("policies: {error}; the set before goes on");
                let _ = self.news.send(News::Refused(error.to_string()));
            }
            Err(_) => {
                if let Some(refusal) = &mut slots.refused {
                    let again = refusal.at.elapsed() >= SAME_AGAIN;
                    let at = if again { Instant::now() } else { refusal.at };
                    (refusal.digest, refusal.at) = (digest, at);
                }
            }
        }
        result
    }

    fn find(&self) -> Result<Found, Refused> {
        let mut found = match &self.options.directory {
            Some(directory) => load::read(directory)?,
            None => Found::default(),
        };
        if let Some(file) = &self.options.settings {
            let shown = file.display().to_string();
            let text = files::read_text(file).map_err(|error| Refused::new(&shown, error))?;
            if !found.settings.is_empty() {
                return Err(Refused::new(&shown, Reason::TwoSettings));
            }
            found.settings = text;
        }
        Ok(found)
    }

    fn take(&self, found: &Found) -> Result<(), ReloadError> {
        let digest = found.digest();
        {
            let slots = self.slots.read();
            if slots.current.digest == digest {
                return Ok(());
            }
            if let Some(resting) = slots.given_up.rests(&digest, Instant::now()) {
                return Err(resting.clone().into());
            }
            let same = |refusal: &&Refusal| {
                refusal.digest.as_deref() == Some(&digest) && refusal.at.elapsed() < SAME_AGAIN
            };
            if let Some(refusal) = slots.refused.as_ref().filter(same) {
                return Err(refusal.error.clone());
            }
            if slots.current.requires_any() && found.settings.trim().is_empty() {
                return Err(ReloadError::SettingsGone);
            }
        }
        let set = self.make(found)?;
        self.swap(set, false);
        kept::keep(&self.cache, &self.options, found);
        Ok(())
    }

    pub(super) fn make(&self, found: &Found) -> Result<Set, Refused> {
        let failed = on_failure(&self.myself, found.digest());
        Set::new(found, &self.options.base, &self.cache, failed)
    }

    pub(super) fn swap(&self, set: Set, rolled_back: bool) {
        let set = {
            let mut slots = self.slots.write();
            let set = Arc::new(set.without(&slots.off));
            let before = std::mem::replace(&mut slots.current, set.clone());
            // One that decides nothing is no refuge.
            slots.previous = Some(before).filter(|set| !rolled_back && set.missing().is_none());
            set
        };
        metrics::count(&metrics::POLICY_RELOADS, &[if rolled_back { "rolled-back" } else { "active" }]);
        self.announce(&set, rolled_back);
    }

    fn announce(&self, set: &Set, rolled_back: bool) {
        let policies: Vec<String> = set.policies.iter().map(|policy| policy.id()).collect();
        tracing::info!(policies = policies.join(", "), "policies decide");
        let _ = self.news.send(News::Active { policies, rolled_back });
    }

    /// A policy of a set has failed too often.
    fn give_up(&self, digest: &str, policy: &str, failure: &Failure) {
        let (current, before) = {
            let slots = self.slots.read();
            (slots.current.clone(), slots.previous.clone())
        };
        if current.digest != digest {
            return;
        }
        let failures = TooOften { policy: policy.to_owned(), failure: failure.clone() };
        let before = match before
            .map(|set| set.without(&BTreeSet::new()))
            .map_or_else(|| self.make(&Found::default()), Ok)
        {
            Ok(set) => set,
            Err(refused) => {
                tracing::error!(%refused, "the built-in policies cannot be loaded");
                return;
            }
        };
        if !current.may_give_way_to(&before) {
            tracing::error!(
                "policies fail too often ({failures}), but no set without them may decide: they are required"
            );
            return;
        }
        {
            let mut slots = self.slots.write();
            let resting = |rest: Duration| {
                let rest = SignedDuration::try_from(rest).unwrap_or(SignedDuration::ZERO);
                let again = Timestamp::now().checked_add(rest).unwrap_or(Timestamp::MAX);
                Resting { failures, again }
            };
            let resting = slots.given_up.add(digest, Instant::now(), resting);
            tracing::error!("policies: {resting}; the set before decides again");
            slots.refused = Some(Refusal { error: resting.into(), digest: None, at: Instant::now() });
        }
        self.swap(before, true);
    }

    /// Switches a policy on or off until d2k ends. Nothing is loaded for it, so it waits for nothing.
    ///
    /// # Errors
    /// 403 for a policy that is required, 404 for one that is not there, 409 for one that the
    /// settings switch off.
    pub fn switch(&self, name: &str, on: bool) -> fault::Result<()> {
        let set = {
            let mut slots = self.slots.write();
            let set = slots.current.clone();
            let mut all = set.policies.iter().chain(&set.disabled);
            let policy = all.find(|policy| policy.info.name == name);
            let policy = policy.ok_or_else(|| Fault::not_found(format!("plugin {name:?} not found")))?;
            if !on && set.requires(policy) {
                return Err(Fault::forbidden(format!(
                    "policy {name} cannot be disabled: {SETTINGS} says that it is required"
                )));
            }
            let mut off = slots.off.clone();
            if on {
                off.remove(name)
            } else {
                off.insert(name.to_owned())
            };
            let set = Arc::new(set.without(&off));
            if on && !set.policies.iter().any(|policy| policy.info.name == name) {
                return Err(Fault::conflict(format!(
                    "policy {name} is switched off in {SETTINGS} (enabled: false)"
                )));
            }
            (slots.off, slots.current) = (off, set.clone());
            set
        };
        self.announce(&set, false);
        Ok(())
    }
}

/// Counts the failed calls of a set. What comes with d2k is no reason to leave what the operator
/// has put beside it.
pub(super) fn on_failure(policies: &Weak<Policies>, digest: String) -> OnFailure {
    let (policies, failures) = (policies.clone(), Mutex::new(Failures::default()));
    Arc::new(move |policy: &Policy, failure: &Failure| {
        if policy.is_built_in() {
            return;
        }
        let name = &policy.info.name;
        let too_often = failures.lock().note(name, Instant::now());
        if too_often && let Some(policies) = policies.upgrade() {
            policies.give_up(&digest, name, failure);
        }
    })
}
