//! Where two answers differ, and which differences must be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, OnceLock};

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

/// A place where d2k's answer is another than the engine's.
#[derive(Debug)]
pub struct Difference {
    pub pointer: String,
    pub kind: Kind,
    pub theirs: Value,
    pub ours: Value,
}

/// How two values differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The same type, another value.
    Value,
    /// Another type, null among them.
    Type,
    /// Only the engine has it.
    Missing,
    /// Only d2k has it.
    Added,
}

/// An entry of `tests/wire/differences.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowed {
    /// Method and path without version and query; `*` is one step of the path, `**` any.
    requests: Vec<String>,
    /// Only for the requests of these titles.
    #[serde(default)]
    titles: Vec<String>,
    /// Only on a cluster of somebody else.
    #[serde(default)]
    elsewhere: bool,
    why: String,
    /// What d2k answers instead; the rest of the answer is not looked at.
    #[serde(default)]
    status: u16,
    /// Places in the answer; `*` is one step, `**` at the end all below.
    #[serde(default)]
    values: Vec<String>,
    #[serde(default)]
    types: Vec<String>,
    #[serde(default)]
    missing: Vec<String>,
    #[serde(default)]
    added: Vec<String>,
}

/// Pieces of entries that were of use: the number of the entry, and the pointer.
pub type Used = BTreeSet<(usize, String)>;

/// All that is allowed.
pub fn allowed() -> &'static [Allowed] {
    static ALL: OnceLock<Vec<Allowed>> = OnceLock::new();
    ALL.get_or_init(|| {
        let text = include_str!("differences.yaml");
        let all: Vec<Allowed> =
            serde_yaml_ng::from_str(text).unwrap_or_else(|e| panic!("differences.yaml: {e}"));
        assert!(all.iter().all(|entry| entry.why.len() > 10), "each difference has its reason");
        all
    })
}

/// The pieces of all entries, as [`Used`] has them.
pub fn pieces() -> Used {
    let mut all = Used::new();
    for (at, entry) in allowed().iter().enumerate().filter(|(_, entry)| !entry.elsewhere) {
        let lists = [&entry.values, &entry.types, &entry.missing, &entry.added];
        all.extend(lists.into_iter().flatten().map(|pointer| (at, pointer.clone())));
        if entry.status != 0 {
            all.insert((at, "status".to_owned()));
        }
    }
    all
}

/// What the entry of this number is about.
pub fn about(at: usize) -> String {
    allowed()[at].requests.join(", ")
}

/// The status that d2k answers to a request instead of the engine's, if it must be another.
pub fn status(request: &str, title: &str) -> Option<u64> {
    let suits = |entry: &&Allowed| entry.status != 0 && entry.suits(request, title);
    allowed().iter().find(suits).map(|entry| u64::from(entry.status))
}

impl Allowed {
    fn suits(&self, request: &str, title: &str) -> bool {
        let path = |pattern: &String| pattern == "**" || pattern_of(pattern).is_match(request);
        self.requests.iter().any(path) && (self.titles.is_empty() || self.titles.iter().any(|t| t == title))
    }
}

/// Whether a pattern of requests means this one.
pub fn is_meant(pattern: &str, request: &str) -> bool {
    pattern_of(pattern).is_match(request)
}

/// What differs and must not. `request` is method and path.
pub fn wrong(request: &str, title: &str, theirs: &Value, ours: &Value, used: &mut Used) -> Vec<Difference> {
    let fits = |entry: &&(usize, &Allowed)| entry.1.suits(request, title);
    let numbered: Vec<(usize, &Allowed)> = allowed().iter().enumerate().collect();
    let entries: Vec<(usize, &Allowed)> = numbered.iter().filter(fits).copied().collect();
    if theirs["status"] != ours["status"]
        && let Some((at, _)) = entries.iter().find(|(_, entry)| ours["status"] == entry.status)
    {
        used.insert((*at, "status".to_owned()));
        return Vec::new();
    }
    let mut all = Vec::new();
    differences("", theirs, ours, &mut all);
    all.retain(|difference| !forgiven(&entries, difference, used));
    all
}

fn forgiven(entries: &[(usize, &Allowed)], difference: &Difference, used: &mut Used) -> bool {
    for (at, entry) in entries {
        let list = match difference.kind {
            Kind::Value => &entry.values,
            Kind::Type => &entry.types,
            Kind::Missing => &entry.missing,
            Kind::Added => &entry.added,
        };
        if let Some(pointer) = list.iter().find(|p| pattern_of(p).is_match(&difference.pointer)) {
            used.insert((*at, pointer.clone()));
            return true;
        }
    }
    false
}

/// The expression that a pattern stands for. There are a few hundred, each asked for thousands of times: compiled again each time, they
/// took most of the time of this suite.
fn pattern_of(pattern: &str) -> Regex {
    static KNOWN: Mutex<BTreeMap<String, Regex>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap();
    if let Some(expression) = known.get(pattern) {
        return expression.clone();
    }
    let text = regex::escape(pattern).replace(r"/\*\*", "(/.*)?").replace(r"\*", "[^/]*");
    let expression = Regex::new(&format!("^{text}$")).unwrap();
    known.insert(pattern.to_owned(), expression.clone());
    expression
}

fn differences(pointer: &str, theirs: &Value, ours: &Value, all: &mut Vec<Difference>) {
    let mut note = |pointer: String, kind, theirs: &Value, ours: &Value| {
        all.push(Difference { pointer, kind, theirs: theirs.clone(), ours: ours.clone() });
    };
    match (theirs, ours) {
        (Value::Object(a), Value::Object(b)) => {
            for (name, theirs) in a {
                let pointer = format!("{pointer}/{}", name.replace('/', "~1"));
                match b.get(name) {
                    Some(ours) => differences(&pointer, theirs, ours, all),
                    None => {
                        let kind = Kind::Missing;
                        all.push(Difference { pointer, kind, theirs: theirs.clone(), ours: Value::Null });
                    }
                }
            }
            for (name, ours) in b.iter().filter(|(name, _)| !a.contains_key(*name)) {
                let pointer = format!("{pointer}/{}", name.replace('/', "~1"));
                all.push(Difference { pointer, kind: Kind::Added, theirs: Value::Null, ours: ours.clone() });
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for at in 0..a.len().max(b.len()) {
                let pointer = format!("{pointer}/{at}");
                match (a.get(at), b.get(at)) {
                    (Some(theirs), Some(ours)) => differences(&pointer, theirs, ours, all),
                    (theirs, ours) => all.push(Difference {
                        pointer,
                        kind: if theirs.is_some() { Kind::Missing } else { Kind::Added },
                        theirs: theirs.cloned().unwrap_or_default(),
                        ours: ours.cloned().unwrap_or_default(),
                    }),
                }
            }
        }
        _ if theirs == ours => {}
        _ if std::mem::discriminant(theirs) == std::mem::discriminant(ours) => {
            note(pointer.to_owned(), Kind::Value, theirs, ours);
        }
        _ => note(pointer.to_owned(), Kind::Type, theirs, ours),
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { pointer, kind, theirs, ours } = self;
        match kind {
            Kind::Missing => write!(f, "{pointer}: missing, the engine has {theirs}"),
            Kind::Added => write!(f, "{pointer}: the engine has none, d2k has {ours}"),
            Kind::Type | Kind::Value => write!(f, "{pointer}: the engine has {theirs}, d2k {ours}"),
        }
    }
}
