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
use super::load::{self, Found, Refused, Source, Step};
use super::settings::{self, Settings};
use super::{defaults, plans, record};
use crate::fault::{Fault, Kind, Result};
use crate::telemetry;

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
    failed: Box<dyn Fn() + Send + Sync>,
}

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
    /// Makes a set of what was found and the built-in policies. Those named in `off` are not asked;
    /// `failed` is called whenever a call fails.
    ///
    /// # Errors
    /// The first file that is refused, and why.
    pub fn new(
        found: &Found,
        base: &Settings,
        cache: &Cache,
        off: &BTreeSet<String>,
        failed: Box<dyn Fn() + Send + Sync>,
    ) -> std::result::Result<Self, Refused> {
        let refuse = |reason| Refused { file: load::SETTINGS.into(), step: Step::Settings, reason };
        let mut written = settings::parse(&found.settings).map_err(refuse)?;
        merge(&mut written, base);
        let built_in = defaults::ALL.iter().map(|(_, bytes)| Source {
            origin: "built in".into(),
            bytes: bytes.to_vec(),
            fixtures: None,
        });
        let (mut policies, mut disabled, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
        for source in found.sources.iter().cloned().chain(built_in) {
            let policy = load::load(&source, &written, cache)?;
            if !names.insert(policy.info.name.clone()) {
                let reason = format!("another policy is called {}, too: names are unique", policy.info.name);
                return Err(Refused { file: source.origin, step: Step::Describe, reason });
            }
            let off = off.contains(&policy.info.name)
                || written.get(&policy.info.name).is_some_and(|entry| entry.disabled);
            if off { disabled.push(Arc::new(policy)) } else { policies.push(Arc::new(policy)) }
        }
        if let Some(stranger) = written.keys().find(|name| !names.contains(*name)) {
            let there_are: Vec<&str> = names.iter().map(String::as_str).collect();
            return Err(refuse(format!(
                "{stranger}: there is no such policy; there are {}",
                there_are.join(", ")
            )));
        }
        Ok(Self { policies, disabled, digest: found.digest(), failed })
    }

    /// A set that decides nothing.
    pub fn empty() -> Self {
        Self { policies: Vec::new(), disabled: Vec::new(), digest: String::new(), failed: Box::new(|| ()) }
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
        self.ask(policy, Hook::Manifest, |store| {
            let instance = pre.instantiate(&mut *store)?;
            instance.d2k_policy_manifest().call_decide(store, input, &policy.settings)
        })
    }

    fn first<I, P>(
        &self,
        hook: Hook,
        input: &I,
        decide: impl Fn(&Policy, &mut Store<State>) -> Option<Answer<P>>,
        sound: impl Fn(&mut P) -> std::result::Result<Vec<String>, String>,
    ) -> Result<Decided<P>>
    where
        I: serde::Serialize + Clone + Send + 'static,
        P: serde::Serialize + Clone + Send + 'static,
    {
        for policy in self.policies.iter().filter(|p| p.linked.hooks.list_has(hook)) {
            let answer = self.ask(policy, hook, |store| decide(policy, store).unwrap_or(Ok(Ok(None))))?;
            let Some(mut plan) = answer else { continue };
            record::note(hook, policy, input, &plan);
            let warnings = sound(&mut plan).map_err(|words| {
                Fault::internal(format!("policy {} ({}): {words}", policy.info.name, hook.name()))
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
        body: impl FnMut(&mut Store<State>) -> Answer<P>,
    ) -> Result<Option<P>> {
        let begin = Instant::now();
        let answer = call(policy.limits, body);
        telemetry::observe(&telemetry::POLICY_SECONDS, &[hook.name()], begin.elapsed().as_secs_f64());
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
                    telemetry::count(&telemetry::POLICY_REFUSALS, &[name, hook]);
                    Err(refused(name, &refusal))
                }
            },
            Err((failure, _)) => {
                telemetry::count(&telemetry::POLICY_FAILURES, &[name, failure.reason()]);
                tracing::warn!(policy = name, hook, "policy {failure}");
                (self.failed)();
                Err(Fault::internal(format!("policy {name} ({hook}) {failure}")))
            }
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
