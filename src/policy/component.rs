//! A loaded policy: the linked component, what it says of itself, and its settings and limits.
//! Every call runs in a store of its own, so nothing is left of an earlier one.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Config, Engine, Store, UpdateDeadline};

use super::bindings::{self, log};
use super::defaults::BUILT_IN;
use super::failure::Failure;
use super::limits::{Limits, Memory, Ticker, processor_time};

/// What a policy may import: `types` holds no functions.
const IMPORTS: [&str; 2] = ["d2k:policy/log@", "d2k:policy/types@"];
/// Lines of the log that a call may write, and their length in bytes.
const LINES: usize = 64;
const LINE: usize = 1024;

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let mut config = Config::new();
    config.epoch_interruption(true).wasm_backtrace_max_frames(None);
    // The configuration is constant: an engine that cannot be made is found by the first test.
    Engine::new(&config).unwrap_or_default()
});
/// Counts fuel as well, which is exact and the same on every machine: for the desk.
static COUNTING: LazyLock<Engine> = LazyLock::new(|| {
    let mut config = Config::new();
    config.consume_fuel(true).wasm_backtrace_max_frames(None);
    Engine::new(&config).unwrap_or_default()
});
static TICKER: LazyLock<Ticker> = LazyLock::new(|| Ticker::of(&ENGINE));

/// The engine of this process.
pub fn engine() -> &'static Engine {
    &ENGINE
}

/// An engine that counts fuel in place of time.
pub fn counting_engine() -> &'static Engine {
    &COUNTING
}

/// The hooks that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Hook {
    Images,
    Workload,
    Naming,
    Ports,
    Volumes,
    Events,
    Manifest,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Images,
        Self::Workload,
        Self::Naming,
        Self::Ports,
        Self::Volumes,
        Self::Events,
        Self::Manifest,
    ];

    /// The name of its interface.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Images => "images",
            Self::Workload => "workload",
            Self::Naming => "naming",
            Self::Ports => "ports",
            Self::Volumes => "volumes",
            Self::Events => "events",
            Self::Manifest => "manifest",
        }
    }

    /// The names of all, for messages.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// The hook of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hook| hook.name() == name)
    }
}

/// What belongs to one call.
pub struct State {
    /// What the instance has allocated.
    pub memory: Memory,
    /// What it has logged.
    pub lines: Vec<(log::Level, String)>,
}

impl log::Host for State {
    fn write(&mut self, level: log::Level, mut message: String) {
        if self.lines.len() < LINES {
            let mut end = message.len().min(LINE);
            while !message.is_char_boundary(end) {
                end -= 1;
            }
            message.truncate(end);
            self.lines.push((level, message));
        }
    }
}

impl bindings::types::Host for State {}

struct HasState;

impl wasmtime::component::HasData for HasState {
    type Data<'a> = &'a mut State;
}

/// The hooks of a component that can be called.
#[derive(Default)]
#[allow(missing_docs)]
pub struct Hooks {
    pub images: Option<bindings::images::ImagesPolicyPre<State>>,
    pub workload: Option<bindings::workload::WorkloadPolicyPre<State>>,
    pub naming: Option<bindings::naming::NamingPolicyPre<State>>,
    pub ports: Option<bindings::ports::PortsPolicyPre<State>>,
    pub volumes: Option<bindings::volumes::VolumesPolicyPre<State>>,
    pub events: Option<bindings::events::EventsPolicyPre<State>>,
    pub manifest: Option<bindings::manifest::ManifestPolicyPre<State>>,
}

impl Hooks {
    fn of(linked: &InstancePre<State>) -> Self {
        Self {
            images: bindings::images::ImagesPolicyPre::new(linked.clone()).ok(),
            workload: bindings::workload::WorkloadPolicyPre::new(linked.clone()).ok(),
            naming: bindings::naming::NamingPolicyPre::new(linked.clone()).ok(),
            ports: bindings::ports::PortsPolicyPre::new(linked.clone()).ok(),
            volumes: bindings::volumes::VolumesPolicyPre::new(linked.clone()).ok(),
            events: bindings::events::EventsPolicyPre::new(linked.clone()).ok(),
            manifest: bindings::manifest::ManifestPolicyPre::new(linked.clone()).ok(),
        }
    }

    /// Which there are.
    pub fn list(&self) -> Vec<Hook> {
        Hook::ALL.into_iter().filter(|hook| self.list_has(*hook)).collect()
    }

    /// Whether it can be asked.
    pub fn list_has(&self, hook: Hook) -> bool {
        match hook {
            Hook::Images => self.images.is_some(),
            Hook::Workload => self.workload.is_some(),
            Hook::Naming => self.naming.is_some(),
            Hook::Ports => self.ports.is_some(),
            Hook::Volumes => self.volumes.is_some(),
            Hook::Events => self.events.is_some(),
            Hook::Manifest => self.manifest.is_some(),
        }
    }
}

/// What a policy says of itself.
pub use bindings::about::exports::d2k::policy::about::{Info, Problem};

/// Why a component cannot be asked as a policy.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It imports what a policy gets from nobody.
    #[error(
        "it imports {0}; a policy may import d2k:policy/log and nothing else (no WASI, no files, no clock)"
    )]
    Import(String),
    /// The log cannot be offered to it.
    #[error(transparent)]
    Log(wasmtime::Error),
    /// Its imports are not of the types that are offered.
    #[error("{0:#}")]
    Types(#[source] wasmtime::Error),
    /// It does not say what it is.
    #[error("it does not export d2k:policy/about: {0:#}")]
    About(#[source] wasmtime::Error),
    /// There is nothing to ask it; it has these exports.
    #[error(
        "it exports no hook of d2k:policy@1.0.0 in the form of wit/ ({}); it exports {}",
        Hook::names(),
        if .0.is_empty() { "nothing".to_owned() } else { .0.join(", ") }
    )]
    NoHook(Vec<String>),
}

/// A component that is linked, and nothing more is known of.
pub struct Linked {
    about: bindings::about::AboutPre<State>,
    /// What it can be asked.
    pub hooks: Hooks,
    /// For calls by name.
    pub instance: InstancePre<State>,
    counts_fuel: bool,
}

impl Linked {
    /// Links a compiled component.
    ///
    /// # Errors
    /// What it imports and may not, or what it lacks to be a policy.
    pub fn new(component: &Component) -> Result<Self, LinkError> {
        let ty = component.component_type();
        for (name, _) in ty.imports(component.engine()) {
            if !IMPORTS.iter().any(|allowed| name.starts_with(allowed)) {
                return Err(LinkError::Import(name.to_owned()));
            }
        }
        let mut linker = Linker::new(component.engine());
        log::add_to_linker::<State, HasState>(&mut linker, |state| state).map_err(LinkError::Log)?;
        let instance = linker.instantiate_pre(component).map_err(LinkError::Types)?;
        let about = bindings::about::AboutPre::new(instance.clone()).map_err(LinkError::About)?;
        let hooks = Hooks::of(&instance);
        if hooks.list().is_empty() {
            let exports = ty.exports(component.engine()).map(|(name, _)| name.to_owned());
            return Err(LinkError::NoHook(exports.collect()));
        }
        let counts_fuel = Engine::same(component.engine(), &COUNTING);
        Ok(Self { about, hooks, instance, counts_fuel })
    }

    /// Runs one call in a store of its own.
    ///
    /// # Errors
    /// The limit that was passed or the trap, with what the guest had logged before.
    pub fn call<T>(
        &self,
        limits: Limits,
        body: impl FnMut(&mut Store<State>) -> wasmtime::Result<T>,
    ) -> Result<Answer<T>, (Failure, Lines)> {
        if self.counts_fuel { call_counting(limits, body) } else { call(limits, body) }
    }

    /// What the policy says of itself.
    ///
    /// # Errors
    /// A limit that it passed, or its trap.
    pub fn describe(&self, limits: Limits) -> Result<Info, Failure> {
        self.call(limits, |store| {
            let instance = self.about.instantiate(&mut *store)?;
            instance.d2k_policy_about().call_describe(store)
        })
        .map(|answer| answer.value)
        .map_err(|(failure, _)| failure)
    }

    /// What is wrong with settings.
    ///
    /// # Errors
    /// A limit that it passed, or its trap.
    pub fn check(&self, settings: &Vec<(String, String)>, limits: Limits) -> Result<Vec<Problem>, Failure> {
        self.call(limits, |store| {
            let instance = self.about.instantiate(&mut *store)?;
            instance.d2k_policy_about().call_check(store, settings)
        })
        .map(|answer| answer.value)
        .map_err(|(failure, _)| failure)
    }
}

/// A policy that can be asked.
pub struct Policy {
    /// What it says of itself.
    pub info: Info,
    /// SHA-256 of the component, in hexadecimal digits.
    pub digest: String,
    /// The file that it came from, or `built in`.
    pub origin: String,
    /// Its size in bytes.
    pub size: usize,
    /// Its settings as the guest gets them.
    pub settings: Vec<(String, String)>,
    /// What one call may use.
    pub limits: Limits,
    /// Nothing is decided without it.
    pub required: bool,
    /// The component.
    pub linked: Linked,
}

impl Policy {
    /// Name, version and the beginning of the digest: what decided.
    pub fn id(&self) -> String {
        let digest = self.digest.get(..12).unwrap_or(&self.digest);
        format!("{}@{} sha256:{digest}", self.info.name, self.info.version)
    }

    /// Whether it came with d2k.
    pub fn is_built_in(&self) -> bool {
        self.origin == BUILT_IN
    }

    /// The settings by name, with the defaults of those that are not written.
    pub fn effective_settings(&self) -> BTreeMap<String, String> {
        let defaults = self.info.settings.iter().filter(|s| !s.name.contains('*') && !s.default.is_empty());
        let mut all: BTreeMap<String, String> =
            defaults.map(|s| (s.name.clone(), s.default.clone())).collect();
        all.extend(self.settings.iter().cloned());
        all
    }
}

/// Lines that a guest logged.
pub type Lines = Vec<(log::Level, String)>;

/// What a call has returned and used.
pub struct Answer<T> {
    /// The reply.
    pub value: T,
    /// What the guest logged.
    pub lines: Lines,
    /// Bytes of memory that the instance had at its end.
    pub memory: usize,
    /// Fuel that the call took, about one an instruction; 0 where it is not counted.
    pub fuel: u64,
}

/// Runs one call in a store of its own. One that passes its time is run once more: nothing is left
/// of the first, and a machine that was held up for a moment looks like a guest that was.
///
/// # Errors
/// The limit that was passed or the trap, with what the guest had logged before.
pub fn call<T>(
    limits: Limits,
    mut body: impl FnMut(&mut Store<State>) -> wasmtime::Result<T>,
) -> Result<Answer<T>, (Failure, Lines)> {
    match call_once(limits, &mut body) {
        Err((Failure::Time { .. }, _)) => call_once(limits, &mut body),
        result => result,
    }
}

fn call_once<T>(
    limits: Limits,
    mut body: impl FnMut(&mut Store<State>) -> wasmtime::Result<T>,
) -> Result<Answer<T>, (Failure, Lines)> {
    let mut store = Store::new(engine(), State { memory: Memory::new(limits.memory), lines: Vec::new() });
    store.limiter(|state| &mut state.memory);
    store.set_hostcall_fuel(limits.reply);
    let ticks = u64::try_from(limits.time.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
    store.set_epoch_deadline(ticks);
    let begin = processor_time();
    store.epoch_deadline_callback(move |_| {
        let left = limits.time.saturating_sub(processor_time().saturating_sub(begin));
        if left.is_zero() {
            return Ok(UpdateDeadline::Interrupt);
        }
        // Other threads had the processor: the call goes on for what is its due.
        Ok(UpdateDeadline::Continue(u64::try_from(left.as_millis()).unwrap_or(1).max(1)))
    });
    let result = {
        let _running = TICKER.begin();
        body(&mut store)
    };
    let used = processor_time().saturating_sub(begin);
    let state = store.into_data();
    match result {
        Ok(value) => Ok(Answer { value, memory: state.memory.used, lines: state.lines, fuel: 0 }),
        Err(error) => {
            let failure = Failure::of(&error, &state.memory, &state.lines, limits, used);
            Err((failure, state.lines))
        }
    }
}

/// Fuel of a call that counts it: what a slow machine does in its time, and more.
const FUEL: u64 = 1_000_000_000;

fn call_counting<T>(
    limits: Limits,
    mut body: impl FnMut(&mut Store<State>) -> wasmtime::Result<T>,
) -> Result<Answer<T>, (Failure, Lines)> {
    let state = State { memory: Memory::new(limits.memory), lines: Vec::new() };
    let mut store = Store::new(counting_engine(), state);
    store.limiter(|state| &mut state.memory);
    store.set_hostcall_fuel(limits.reply);
    let begin = processor_time();
    let result = store.set_fuel(FUEL).and_then(|()| body(&mut store));
    let used = processor_time().saturating_sub(begin);
    let fuel = FUEL - store.get_fuel().unwrap_or(FUEL);
    let state = store.into_data();
    match result {
        Ok(value) => Ok(Answer { value, memory: state.memory.used, lines: state.lines, fuel }),
        Err(error) => Err((Failure::of(&error, &state.memory, &state.lines, limits, used), state.lines)),
    }
}
