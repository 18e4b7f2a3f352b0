//! A policy asked by the name of a hook, with JSON in and JSON out: for fixtures, recordings and
//! the commands for the desk. The limits and the call itself are those of the daemon.

use serde_json::{Value, json};
use wasmtime::component::types::Type;
use wasmtime::component::{Func, Val};
use wasmtime::{AsContextMut as _, Store};

use super::bindings::log;
use super::component::{Hook, Linked, State};
use super::failure::Failure;
use super::limits::Limits;
use super::value::{Misfit, from_json, to_json};

/// What a policy has answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// It leaves the decision to the next one.
    None,
    /// Its plan.
    Plan(Value),
    /// It says no.
    Refusal(Value),
}

impl Reply {
    /// As JSON, as fixtures write it.
    pub fn json(&self) -> Value {
        match self {
            Self::None => json!("none"),
            Self::Plan(plan) => plan.clone(),
            Self::Refusal(refusal) => json!({"refusal": refusal}),
        }
    }
}

/// A reply and what it took.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The reply.
    pub reply: Reply,
    /// What the guest logged.
    pub lines: Vec<(log::Level, String)>,
    /// Bytes of memory at the end of the call.
    pub memory: usize,
    /// Fuel that it took; 0 where it is not counted.
    pub fuel: u64,
}

/// Why there is no reply.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The hook is not one of d2k's interface.
    #[error("the hook takes no input")]
    NoInput,
    /// The input is not what the hook takes.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// The policy was asked and failed.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Asks a hook.
///
/// # Errors
/// An input that does not fit the hook, or why the call failed.
pub fn ask(
    linked: &Linked,
    hook: Hook,
    input: &Value,
    settings: &[(String, String)],
    limits: Limits,
) -> Result<Asked, Error> {
    let mut unasked = None;
    let answer = linked.call(limits, |store| {
        let func = decide(linked, hook, store)?;
        let ty = func.ty(&mut *store);
        let input = match ty.params().next() {
            Some((_, ty)) => from_json(&ty, input, "input").map_err(Error::Misfit),
            None => Err(Error::NoInput),
        };
        let input = match input {
            Ok(input) => input,
            Err(error) => {
                unasked = Some(error.clone());
                return Err(error.into());
            }
        };
        let mut results = [Val::Bool(false)];
        func.call(&mut *store, &[input, pairs(settings)], &mut results)?;
        let [result] = results;
        let ty = ty.results().next();
        Ok(reply(ty.as_ref(), &result))
    });
    match answer {
        Ok(answer) => {
            Ok(Asked { reply: answer.value, lines: answer.lines, memory: answer.memory, fuel: answer.fuel })
        }
        Err((failure, _)) => Err(unasked.unwrap_or(Error::Failed(failure))),
    }
}

fn decide(linked: &Linked, hook: Hook, store: &mut Store<State>) -> wasmtime::Result<Func> {
    let instance = linked.instance.instantiate(&mut *store)?;
    let interface = format!("d2k:policy/{}@1.0.0", hook.name());
    let found = instance
        .get_export_index(store.as_context_mut(), None, &interface)
        .and_then(|interface| instance.get_export_index(store.as_context_mut(), Some(&interface), "decide"))
        .and_then(|decide| instance.get_func(store.as_context_mut(), decide));
    found.ok_or_else(|| wasmtime::Error::msg(format!("it has no hook {}", hook.name())))
}

fn pairs(settings: &[(String, String)]) -> Val {
    let pair = |(name, value): &(String, String)| {
        Val::Tuple(vec![Val::String(name.clone()), Val::String(value.clone())])
    };
    Val::List(settings.iter().map(pair).collect())
}

fn reply(ty: Option<&Type>, result: &Val) -> Reply {
    let json = ty.map_or(Value::Null, |ty| to_json(ty, result));
    match json {
        Value::Object(mut sides) => match (sides.remove("ok"), sides.remove("error")) {
            (_, Some(refusal)) => Reply::Refusal(refusal),
            (Some(Value::Null) | None, None) => Reply::None,
            (Some(plan), None) => Reply::Plan(plan),
        },
        _ => Reply::None,
    }
}
