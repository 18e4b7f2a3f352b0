//! Rules of settings: an ordered list of records, of which the first that fits counts.

use crate::Settings;

/// One record of `rules`.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its number, from 0.
    pub at: usize,
    /// What is written in it.
    pub settings: Settings,
}

impl Rule {
    /// All rules of the settings, in order.
    pub fn all(settings: &Settings) -> Vec<Self> {
        settings.entries("rules").into_iter().map(|(at, settings)| Self { at, settings }).collect()
    }

    /// The full name of one of its settings, for the operator.
    pub fn setting(&self, name: &str) -> String {
        format!("rules.{}.{name}", self.at)
    }
}

/// Whether labels have `key`, or `key=value`.
pub fn label_fits(wanted: &str, labels: &[(String, String)]) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.iter().any(|(k, v)| k == key && v == value),
        None => labels.iter().any(|(k, _)| k == wanted),
    }
}

/// Whether a name fits a pattern, in which `*` stands for any characters.
pub fn name_fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => match name.strip_prefix(head) {
            None => false,
            Some(name) => {
                let mut starts = name.char_indices().map(|(at, _)| at).chain([name.len()]);
                starts.any(|at| name_fits(rest, &name[at..]))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        assert!(name_fits("db-*", "db-1"));
        assert!(name_fits("*/postgres:*", "library/postgres:17"));
        assert!(!name_fits("db-*", "web"));
        assert!(name_fits("*", ""));
        assert!(!name_fits("a", "ab"));
    }

    #[test]
    fn a_label_is_wanted_with_or_without_its_value() {
        let labels = [("tier".to_owned(), "web".to_owned())];
        assert!(label_fits("tier", &labels) && label_fits("tier=web", &labels));
        assert!(!label_fits("tier=db", &labels) && !label_fits("team", &labels));
    }
}
