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
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(head) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        // The first place is the best one, but for the last part, which must end the name.
        let found =
            if parts.peek().is_none() { name.strip_suffix(part).map(|_| "") } else { after(name, part) };
        match found {
            Some(left) => name = left,
            None => return false,
        }
    }
    true
}

/// What follows the first `part` of a text.
fn after<'a>(text: &'a str, part: &str) -> Option<&'a str> {
    let starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    starts.into_iter().find_map(|at| text.get(at..)?.strip_prefix(part))
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
        assert!(name_fits("a*a", "aa") && !name_fits("a*a", "a"));
        assert!(name_fits("*ab*ab", "ab-ab-ab") && !name_fits("*ab*ab", "ab"));
        assert!(name_fits("**", "") && name_fits("a**b", "ab"));
    }

    #[test]
    fn many_stars_cost_no_more_than_one() {
        assert!(!name_fits(&"*a".repeat(40), &"b".repeat(4000)));
        assert!(!name_fits(&format!("{}b", "*a".repeat(40)), &"a".repeat(4000)));
    }

    #[test]
    fn a_label_is_wanted_with_or_without_its_value() {
        let labels = [("tier".to_owned(), "web".to_owned())];
        assert!(label_fits("tier", &labels) && label_fits("tier=web", &labels));
        assert!(!label_fits("tier=db", &labels) && !label_fits("team", &labels));
    }
}
