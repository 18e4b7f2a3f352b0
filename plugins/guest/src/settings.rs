//! Access to settings: flat names and values, nested ones under their path.

use std::str::FromStr;

/// The settings of a call, in the order of their names.
#[derive(Debug, Clone, Default)]
pub struct Settings(Vec<(String, String)>);

impl Settings {
    /// Wraps what the host gives, which is in the order of the names.
    pub fn new(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    /// For tests: settings from names and values.
    pub fn of(pairs: &[(&str, &str)]) -> Self {
        let mut pairs: Vec<_> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        pairs.sort();
        Self(pairs)
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
        let below = Self(self.below(path));
        let one = self.get(path).map(str::to_owned);
        let value = |at: usize| below.get(&at.to_string()).map(str::to_owned);
        one.into_iter().chain(below.numbers().into_iter().filter_map(value)).collect()
    }

    /// The entries of a list of records: the settings below `path.0`, `path.1`, …, in their order.
    pub fn entries(&self, path: &str) -> Vec<(usize, Self)> {
        let below = Self(self.below(path));
        below.numbers().into_iter().map(|at| (at, Self(below.below(&at.to_string())))).collect()
    }

    /// The numbers that names begin with, each once, in order. They are few: sorted by insertion,
    /// which is a tenth of the code of a general sort.
    fn numbers(&self) -> Vec<usize> {
        let mut numbers = Vec::new();
        for (name, _) in &self.0 {
            let Some(Ok(number)) = name.split('.').next().map(str::parse) else { continue };
            let at = numbers.iter().position(|known| *known >= number).unwrap_or(numbers.len());
            if numbers.get(at) != Some(&number) {
                numbers.insert(at, number);
            }
        }
        numbers
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
        let mut pairs = Vec::new();
        for at in 0..12 {
            pairs.push((format!("rules.{at}.label"), format!("label-{at}")));
            pairs.push((format!("allow.{at}"), format!("value-{at}")));
        }
        // An entry of a list can be empty.
        pairs.push(("rules.40.label".to_owned(), "last".to_owned()));
        pairs.push(("rules.2.annotations.a.b/c".to_owned(), "x".to_owned()));
        pairs.sort();
        let settings = Settings::new(pairs);
        let rules = settings.entries("rules");
        assert_eq!(
            rules.iter().map(|(at, _)| *at).collect::<Vec<_>>(),
            (0..12).chain([40]).collect::<Vec<_>>()
        );
        assert_eq!(rules[10].1.get("label"), Some("label-10"));
        assert_eq!(rules[2].1.below("annotations"), [("a.b/c".to_owned(), "x".to_owned())]);
        assert_eq!(settings.list("allow")[9..], ["value-9", "value-10", "value-11"]);
    }

    #[test]
    fn a_list_of_one_can_be_written_without_a_list() {
        assert_eq!(Settings::of(&[("allow", "one")]).list("allow"), ["one"]);
        assert_eq!(Settings::of(&[("allowed", "one")]).list("allow"), [""; 0]);
    }
}
