//! The policies in use, as one value that never changes: a request that has begun with a set ends
//! with it. Each hook's policies are asked in turn until one answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use wasmtime::Store;

use super::bindings::types::{Refusal, RefusalKind};
use super::bindings::{events, images, log, manifest, naming, ports, volumes, workload};
use super::compile::Cache;
use super::component::{Hook, Policy, State, call};
use super::failure::Failure;
use super::load::{self, Found, Reason, Refused, Source};
use super::settings::{self, File, Settings};
use super::{binds, defaults, plans, record};
use d2k_common::fault::{Fault, Kind, Result};
use d2k_common::metrics;
use d2k_translate::bounds::json_bytes;

/// A decision, and who took it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided<T> {
    /// What was decided.
    pub plan: T,
    /// For the user.
    pub warnings: Vec<String>,
    /// Name, version and digest of the policy.
    pub by: String,
}

/// Who decided what about an object: policies by hook.
pub type Provenance = BTreeMap<&'static str, String>;

/// The policies in use.
pub struct Set {
    /// In the order in which they are asked; the built-in ones last.
    pub policies: Vec<Arc<Policy>>,
    /// Policies that are there and not asked.
    pub disabled: Vec<Arc<Policy>>,
    /// Tells one set from another.
    pub digest: String,
    /// All of them in order, and whether the settings let them be asked.
    all: Vec<(Arc<Policy>, bool)>,
    /// Nothing is decided without all of them.
    required: bool,
    /// Required policies that are missing: nothing is decided until they are there.
    missing: Option<String>,
    failed: OnFailure,
}

/// Told of each failed call that counts against a policy.
pub(super) type OnFailure = Arc<dyn Fn(&Policy, &Failure) + Send + Sync>;

/// Bytes of a question, as JSON, that any policy must be able to hold. Where a larger one makes it
/// pass a limit, the request is to blame and not the policy.
const SMALL_QUESTION: usize = 64 << 10;

type Answer<P> = wasmtime::Result<std::result::Result<Option<P>, Refusal>>;

/// Asks the policies of one hook; the value is `Some` where a policy has the hook.
macro_rules! hook {
    ($(#[$doc:meta])* $method:ident, $hook:ident, $module:ident, $call:ident, $field:ident, $input:path, $plan:path) => {
        $(#[$doc])*
        ///
        /// # Errors
        /// A refusal, a plan that makes no sense, or a failed call.
        pub fn $method(&self, input: &$input) -> Result<Decided<$plan>> {
            self.first(Hook::$hook, input, |policy, store| {
                let pre = policy.linked.hooks.$field.as_ref()?;
                Some((|| {
                    let instance = pre.instantiate(&mut *store)?;
                    instance.$call().call_decide(store, input, &policy.settings)
                })())
            }, |plan| plans::$module(input, plan))
        }
    };
}

impl Set {
    /// Makes a set of what was found and the built-in policies; `failed` is told of failed calls.
    ///
    /// # Errors
    /// The first file that is refused, and why; a required policy that is not there.
    pub(super) fn new(
        found: &Found,
        base: &Settings,
        cache: &Cache,
        failed: OnFailure,
    ) -> std::result::Result<Self, Refused> {
        let File { policies: mut written, required } =
            settings::parse(&found.settings).map_err(|error| Refused::new(load::SETTINGS, error))?;
        merge(&mut written, base);
        let built_in = defaults::ALL.iter().map(|(_, bytes)| Source {
            origin: defaults::BUILT_IN.into(),
            bytes: bytes.to_vec(),
            fixtures: None,
        });
        let (mut all, mut names) = (Vec::new(), BTreeSet::new());
        for source in found.sources.iter().cloned().chain(built_in) {
            let policy = load::load(&source, &written, cache)?;
            if !names.insert(policy.info.name.clone()) {
                return Err(Refused::new(&source.origin, Reason::SameName(policy.info.name)));
            }
            let on = !written.get(&policy.info.name).is_some_and(|entry| entry.disabled);
            all.push((Arc::new(policy), on));
        }
        if let Some((stranger, entry)) = written.iter().find(|(name, _)| !names.contains(*name)) {
            let (policy, required) = (stranger.clone(), entry.required);
            let policies = names.into_iter().collect();
            return Err(Refused::new(load::SETTINGS, Reason::NoPolicy { policy, required, policies }));
        }
        let set = Self { all, required, digest: found.digest(), ..Self::empty(failed) };
        Ok(set.without(&BTreeSet::new()))
    }

    /// A set that decides nothing.
    pub(super) fn empty(failed: OnFailure) -> Self {
        Self {
            policies: Vec::new(),
            disabled: Vec::new(),
            digest: String::new(),
            all: Vec::new(),
            required: false,
            missing: None,
            failed,
        }
    }

    /// The same set without those named in `off`, as far as they are not required.
    pub(super) fn without(&self, off: &BTreeSet<String>) -> Self {
        let asked = |(policy, on): &&(Arc<Policy>, bool)| {
            *on && (self.requires(policy) || !off.contains(&policy.info.name))
        };
        let (policies, disabled): (Vec<_>, Vec<_>) = self.all.iter().partition(asked);
        let alone =
            |all: Vec<&(Arc<Policy>, bool)>| all.into_iter().map(|(policy, _)| policy.clone()).collect();
        Self {
            policies: alone(policies),
            disabled: alone(disabled),
            digest: self.digest.clone(),
            all: self.all.clone(),
            required: self.required,
            missing: self.missing.clone(),
            failed: self.failed.clone(),
        }
    }

    /// The same set, which decides nothing but events, since what `words` says is missing.
    pub(super) fn closed(&self, words: &str) -> Self {
        let closed = self.without(&BTreeSet::new());
        // It is not what was found, which takes its place as soon as it is good.
        Self { missing: Some(words.to_owned()), digest: String::new(), ..closed }
    }

    /// Whether nothing may be decided without a policy.
    pub fn requires(&self, policy: &Policy) -> bool {
        self.required || policy.required
    }

    /// Whether nothing may be decided without some policy.
    pub(super) fn requires_any(&self) -> bool {
        self.required || self.all.iter().any(|(policy, _)| policy.required)
    }

    /// Whether another set has everything that this one requires.
    pub(super) fn may_give_way_to(&self, other: &Self) -> bool {
        let has = |name: &str| other.policies.iter().any(|policy| policy.info.name == name);
        !self.required && self.all.iter().all(|(policy, _)| !policy.required || has(&policy.info.name))
    }

    /// Required policies that are missing.
    pub fn missing(&self) -> Option<&str> {
        self.missing.as_deref()
    }

    /// That nothing that is required is missing.
    ///
    /// # Errors
    /// 503 with what is missing.
    pub fn whole(&self) -> Result<()> {
        match &self.missing {
            None => Ok(()),
            Some(words) => Err(Fault::unavailable(format!("nothing can be decided: {words}"))),
        }
    }

    hook!(
        /// What a Kubernetes object is called.
        name, Naming, naming, d2k_policy_naming, naming,
        naming::exports::d2k::policy::naming::Input, naming::exports::d2k::policy::naming::Plan);
    hook!(
        /// Which Service a container's ports become.
        ports, Ports, ports, d2k_policy_ports, ports,
        ports::exports::d2k::policy::ports::Input, ports::exports::d2k::policy::ports::Plan);
    hook!(
        /// How large a volume is, and of which class and mode.
        volume, Volumes, volumes, d2k_policy_volumes, volumes,
        volumes::exports::d2k::policy::volumes::Input, volumes::exports::d2k::policy::volumes::Plan);
    hook!(
        /// Which workload a container becomes.
        workload, Workload, workload, d2k_policy_workload, workload,
        workload::exports::d2k::policy::workload::Input, workload::exports::d2k::policy::workload::Plan);
    hook!(
        /// Which image is meant.
        image, Images, images, d2k_policy_images, images,
        images::exports::d2k::policy::images::Input, images::exports::d2k::policy::images::Plan);
    hook!(
        /// Which of Docker's events a change is.
        event, Events, events, d2k_policy_events, events,
        events::exports::d2k::policy::events::Input, events::exports::d2k::policy::events::Plan);

    /// What a bind of a path becomes. A policy that answers as for a volume knows nothing of binds,
    /// and the next one is asked.
    ///
    /// # Errors
    /// A refusal, a plan that makes no sense, or a failed call.
    pub fn bind(
        &self,
        input: &volumes::exports::d2k::policy::volumes::Input,
    ) -> Result<Decided<volumes::exports::d2k::policy::volumes::Plan>> {
        let decide = |policy: &Policy, store: &mut Store<State>| {
            let pre = policy.linked.hooks.volumes.as_ref()?;
            Some((|| {
                let instance = pre.instantiate(&mut *store)?;
                let answer = instance.d2k_policy_volumes().call_decide(store, input, &policy.settings)?;
                Ok(answer.map(|plan| plan.filter(binds::is_answer)))
            })())
        };
        self.first(Hook::Volumes, input, decide, |plan| binds::sound(input, plan))
    }

    /// Whether objects are shaped at all: without such a policy they need not be made JSON.
    pub fn shapes(&self) -> bool {
        self.policies.iter().any(|policy| policy.linked.hooks.manifest.is_some())
    }

    /// The patch of one policy for an object; `None` if it has none.
    ///
    /// # Errors
    /// A refusal, or a failed call.
    pub fn manifest(
        &self,
        policy: &Policy,
        input: &manifest::exports::d2k::policy::manifest::Input,
    ) -> Result<Option<manifest::exports::d2k::policy::manifest::Plan>> {
        let Some(pre) = policy.linked.hooks.manifest.as_ref() else { return Ok(None) };
        self.ask(policy, Hook::Manifest, input, |store| {
            let instance = pre.instantiate(&mut *store)?;
            instance.d2k_policy_manifest().call_decide(store, input, &policy.settings)
        })
    }

    fn first<I, P>(
        &self,
        hook: Hook,
        input: &I,
        decide: impl Fn(&Policy, &mut Store<State>) -> Option<Answer<P>>,
        sound: impl Fn(&mut P) -> plans::Sound,
    ) -> Result<Decided<P>>
    where
        I: serde::Serialize,
        P: serde::Serialize,
    {
        // An event tells what has happened: clients wait for it whatever is missing.
        if hook != Hook::Events {
            self.whole()?;
        }
        for policy in self.policies.iter().filter(|p| p.linked.hooks.list_has(hook)) {
            let body = |store: &mut Store<State>| decide(policy, store).unwrap_or(Ok(Ok(None)));
            let answer = self.ask(policy, hook, input, body)?;
            let Some(mut plan) = answer else { continue };
            record::note(hook, policy, input, &plan);
            let warnings = sound(&mut plan).map_err(|senseless| {
                Fault::internal(format!("policy {} ({}): {senseless}", policy.info.name, hook.name()))
            })?;
            return Ok(Decided { plan, warnings, by: policy.id() });
        }
        Err(Fault::internal(format!(
            "no policy decides on {}: the built-in one is switched off",
            hook.name()
        )))
    }

    fn ask<P>(
        &self,
        policy: &Policy,
        hook: Hook,
        question: &impl serde::Serialize,
        body: impl FnMut(&mut Store<State>) -> Answer<P>,
    ) -> Result<Option<P>> {
        let begin = Instant::now();
        let answer = call(policy.limits, body);
        metrics::observe(&metrics::POLICY_SECONDS, &[hook.name()], begin.elapsed().as_secs_f64());
        let (name, hook) = (policy.info.name.as_str(), hook.name());
        let lines = match &answer {
            Ok(answer) => &answer.lines,
            Err((_, lines)) => lines,
        };
        for (level, line) in lines {
            tell(name, *level, line);
        }
        match answer {
            Ok(answer) => match answer.value {
                Ok(plan) => Ok(plan),
                Err(refusal) => {
                    metrics::count(&metrics::POLICY_REFUSALS, &[name, hook]);
                    Err(refused(name, &refusal))
                }
            },
            Err((failure, _)) => Err(self.blame(policy, hook, &failure, json_bytes(question))),
        }
    }

    /// A failed call is the policy's, unless the request is so large that it explains it: else any
    /// client could have a policy given up.
    fn blame(&self, policy: &Policy, hook: &str, failure: &Failure, bytes: usize) -> Fault {
        let name = policy.info.name.as_str();
        let large = bytes > SMALL_QUESTION;
        let reason = if large { "request" } else { failure.reason() };
        metrics::count(&metrics::POLICY_FAILURES, &[name, reason]);
        tracing::warn!(policy = name, hook, bytes, "policy {failure}");
        if !large {
            (self.failed)(policy, failure);
        }
        match (large, failure) {
            (true, Failure::Time { .. } | Failure::Memory { .. } | Failure::Reply { .. }) => {
                Fault::invalid(format!(
                    "the request is too large for policy {name} ({hook}), which had {} KiB to decide about and \
                     {failure}",
                    bytes / 1024
                ))
            }
            _ => Fault::internal(format!("policy {name} ({hook}) {failure}")),
        }
    }
}

/// What the daemon's own settings say, where the file says nothing.
fn merge(written: &mut Settings, base: &Settings) {
    for (name, entry) in base {
        let into = written.entry(name.clone()).or_default();
        for (key, value) in &entry.settings {
            if !into.settings.iter().any(|(known, _)| known == key) {
                into.settings.push((key.clone(), value.clone()));
            }
        }
        into.settings.sort();
    }
}

fn tell(policy: &str, level: log::Level, line: &str) {
    match level {
        log::Level::Debug => tracing::debug!(policy, "{line}"),
        log::Level::Info => tracing::info!(policy, "{line}"),
        log::Level::Warn => tracing::warn!(policy, "{line}"),
        log::Level::Error => tracing::error!(policy, "{line}"),
    }
}

fn refused(policy: &str, refusal: &Refusal) -> Fault {
    let kind = match refusal.kind {
        RefusalKind::Invalid => Kind::Invalid,
        RefusalKind::Conflict => Kind::Conflict,
        RefusalKind::Unsupported => Kind::NotImplemented,
        RefusalKind::Forbidden | RefusalKind::Other(_) => Kind::Forbidden,
    };
    Fault::new(kind, format!("refused by policy {policy}: {}", refusal.message))
}
