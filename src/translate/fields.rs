//! What becomes of every field of a create request: mapped, warned about, refused, or in no need of
//! anything. A field that is in no row is named in a warning, so that nothing is ignored silently.

use std::fmt::Write as _;

use serde_json::Value;

use super::validate::is_nothing;
use d2k_common::fault::{Fault, Result};

mod config;
mod host;
mod limits;
mod network;
#[cfg(test)]
mod tests;

/// What is done with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// It becomes what the text names.
    Mapped(&'static str),
    /// It is not applied, and a warning says why.
    Warned(&'static str),
    /// The request is refused, with what to do instead.
    Refused(&'static str),
    /// Nothing needs to be done, for the reason given.
    Noop(&'static str),
}

/// When a field counts as not set, besides null, false, zero and empty.
#[derive(Debug, Clone, Copy)]
pub enum Unset {
    /// In no other case.
    Empty,
    /// When it has one of these values, written as text.
    Or(&'static [&'static str]),
    /// When this says so of the object around the field and of its value.
    When(fn(&Value, &Value) -> bool),
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// JSON path; `*` stands for the keys of a map, `[]` for the entries of a list.
    pub path: &'static str,
    /// What is done with it.
    pub treatment: Treatment,
    /// When it counts as not set.
    pub unset: Unset,
}

const fn mapped(path: &'static str, to: &'static str) -> Field {
    Field { path, treatment: Treatment::Mapped(to), unset: Unset::Empty }
}

const fn noop(path: &'static str, why: &'static str) -> Field {
    Field { path, treatment: Treatment::Noop(why), unset: Unset::Empty }
}

const fn warned(path: &'static str, why: &'static str) -> Field {
    Field { path, treatment: Treatment::Warned(why), unset: Unset::Empty }
}

const fn warned_or(path: &'static str, unset: &'static [&'static str], why: &'static str) -> Field {
    Field { path, treatment: Treatment::Warned(why), unset: Unset::Or(unset) }
}

const fn refused(path: &'static str, why: &'static str) -> Field {
    Field { path, treatment: Treatment::Refused(why), unset: Unset::Empty }
}

/// All rows, in the order of Docker's own specification.
pub fn table() -> impl Iterator<Item = &'static Field> {
    config::FIELDS.iter().chain(host::FIELDS).chain(limits::FIELDS).chain(network::FIELDS)
}

/// The warnings for the fields that a create request sets and that are not applied; an error names
/// the first field that is refused.
pub fn check(raw: &Value) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for (key, value) in raw.as_object().into_iter().flatten() {
        visit(Node { parent: raw, value, pattern: key.clone(), path: key.clone() }, &mut warnings)?;
    }
    let mut seen = std::collections::HashSet::new();
    warnings.retain(|warning| seen.insert(warning.clone()));
    Ok(warnings)
}

/// A place in the request: its path as it is, and as the table writes it.
struct Node<'a> {
    parent: &'a Value,
    value: &'a Value,
    pattern: String,
    path: String,
}

impl Field {
    /// Whether `value`, found in the object `parent`, asks for anything.
    pub fn is_set(&self, parent: &Value, value: &Value) -> bool {
        if is_nothing(value) {
            return false;
        }
        match self.unset {
            Unset::Empty => true,
            Unset::Or(values) => {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                !values.contains(&text.as_str())
            }
            Unset::When(unset) => !unset(parent, value),
        }
    }
}

fn visit(node: Node<'_>, warnings: &mut Vec<String>) -> Result<()> {
    if let Some(field) = table().find(|field| field.path == node.pattern) {
        if field.is_set(node.parent, node.value) {
            judge(field, &node.path, warnings)?;
        }
        return Ok(());
    }
    if !leads_on(&node.pattern) {
        if !is_nothing(node.value) {
            warnings.push(format!("{}: d2k does not know this field, it is not applied", node.path));
        }
        return Ok(());
    }
    descend(&node, warnings)
}

fn descend(node: &Node<'_>, warnings: &mut Vec<String>) -> Result<()> {
    for (key, value) in node.value.as_object().into_iter().flatten() {
        let exact = format!("{}.{key}", node.pattern);
        let any = format!("{}.*", node.pattern);
        let pattern = if leads_on(&any) { any } else { exact };
        visit(Node { parent: node.value, value, pattern, path: format!("{}.{key}", node.path) }, warnings)?;
    }
    for value in node.value.as_array().into_iter().flatten() {
        let pattern = format!("{}[]", node.pattern);
        visit(Node { parent: node.value, value, pattern, path: node.path.clone() }, warnings)?;
    }
    Ok(())
}

/// Whether rows of the table lie below a path.
fn leads_on(pattern: &str) -> bool {
    table().any(|field| field.path.strip_prefix(pattern).is_some_and(|rest| rest.starts_with(['.', '['])))
}

fn judge(field: &Field, path: &str, warnings: &mut Vec<String>) -> Result<()> {
    match field.treatment {
        Treatment::Mapped(_) | Treatment::Noop(_) => Ok(()),
        Treatment::Warned(why) => {
            warnings.push(format!("{path} is not applied: {why}"));
            Ok(())
        }
        Treatment::Refused(why) => Err(Fault::invalid(format!("{path} is not supported: {why}"))),
    }
}

/// The table as Markdown.
pub fn markdown() -> String {
    let mut text = String::from("| Field of the create request | What d2k does | |\n|---|---|---|\n");
    for field in table() {
        let (word, what) = match field.treatment {
            Treatment::Mapped(what) => ("mapped", what),
            Treatment::Warned(what) => ("warning", what),
            Treatment::Refused(what) => ("refused", what),
            Treatment::Noop(what) => ("nothing to do", what),
        };
        let path = field.path.replace("[]", "");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| `{path}` | {word} | {what} |");
    }
    text
}
