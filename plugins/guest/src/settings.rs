//! Access to settings: flat names and values, nested ones under their path.

use std::str::FromStr;

/// The settings of a call, in the order of their names.
#[derive(Debug, Clone, Default)]
pub struct Settings(Vec<(String, String)>);

impl Settings {
    /// Wraps what the host gives.
    pub fn new(mut pairs: Vec<(String, String)>) -> Self {
        pairs.sort();
        Self(pairs)
    }

    /// For tests: settings from names and values.
    pub fn of(pairs: &[(&str, &str)]) -> Self {
        Self::new(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    /// The value of a setting, if it is written.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a setting as a number or such; none if it is not written or malformed.
    pub fn parse<T: FromStr>(&self, name: &str) -> Option<T> {
        self.get(name)?.parse().ok()
    }

    /// Whether a setting is written and `true`.
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }

    /// The names and values below a path: `annotations` gives those of `annotations.*`, without it.
    pub fn below(&self, path: &str) -> Vec<(String, String)> {
        let strip = |name: &str| name.strip_prefix(path)?.strip_prefix('.').map(str::to_owned);
        self.0.iter().filter_map(|(name, value)| Some((strip(name)?, value.clone()))).collect()
    }

    /// The values of a list: `allow.0`, `allow.1`, …, or one value under the bare name.
    pub fn list(&self, path: &str) -> Vec<String> {
        let mut items: Vec<(usize, String)> = self
            .below(path)
            .into_iter()
            .filter_map(|(name, value)| Some((name.parse().ok()?, value)))
            .collect();
        items.sort();
        let one = self.get(path).map(str::to_owned);
        one.into_iter().chain(items.into_iter().map(|(_, value)| value)).collect()
    }

    /// The entries of a list of records: the settings below `path.0`, `path.1`, …, in their order.
    pub fn entries(&self, path: &str) -> Vec<(usize, Self)> {
        let mut numbers: Vec<usize> =
            self.below(path).iter().filter_map(|(name, _)| name.split('.').next()?.parse().ok()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.into_iter().map(|at| (at, Self(self.below(&format!("{path}.{at}"))))).collect()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether none is written.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_records_come_in_the_order_of_their_numbers() {
        let settings = Settings::of(&[
            ("rules.10.label", "z"),
            ("rules.2.label", "b"),
            ("rules.2.annotations.a.b/c", "x"),
            ("allow.0", "one"),
            ("allow.1", "two"),
        ]);
        let rules = settings.entries("rules");
        assert_eq!(rules.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [2, 10]);
        assert_eq!(rules[0].1.get("label"), Some("b"));
        assert_eq!(rules[0].1.below("annotations"), [("a.b/c".to_owned(), "x".to_owned())]);
        assert_eq!(settings.list("allow"), ["one", "two"]);
    }
}
