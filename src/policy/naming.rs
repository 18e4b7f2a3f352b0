//! Names: a Docker name as a DNS label. A short hash is added only where a character was lost,
//! so that two Docker names never meet in one object name.

use sha2::{Digest, Sha256};

/// What is to be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A container's workload.
    Container,
    /// A volume's PersistentVolumeClaim.
    Volume,
    /// A network's ConfigMap, Service and EndpointSlice.
    Network,
}

/// The question.
#[derive(Debug, Clone)]
pub struct Input<'a> {
    /// What is to be named.
    pub what: What,
    /// Its Docker name.
    pub docker_name: &'a str,
    /// The name that the first answer gave is taken by another object: a hash of this text is added.
    pub taken_by_other: Option<&'a str>,
}

/// Names of Pods are the workload's name, a hash of up to 10 and a suffix of 5 characters, and
/// must stay below 63, since they are host names too.
const LONGEST: usize = 45;

/// The default: lower case, illegal characters as dashes, at most 45 characters, a letter first.
pub fn decide(input: &Input<'_>) -> String {
    let mut name: String = input
        .docker_name
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
        .collect();
    name = name.trim_matches('-').to_owned();
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        name = format!("{}{name}", prefix(input.what));
    }
    // Networks share the Services' name space with published containers: `web` can be both.
    let lossless = name == input.docker_name && input.what != What::Network;
    if lossless && name.len() <= LONGEST && input.taken_by_other.is_none() {
        return name;
    }
    let mut hashed = Sha256::new();
    hashed.update(input.docker_name);
    hashed.update(input.taken_by_other.unwrap_or_default());
    let hash = hex::encode(hashed.finalize());
    let kept: String = name.chars().take(LONGEST - 9).collect();
    format!("{}-{}", kept.trim_end_matches('-'), hash.get(..8).unwrap_or(&hash))
}

fn prefix(what: What) -> &'static str {
    match what {
        What::Container => "c",
        What::Volume => "v",
        What::Network => "n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(docker_name: &str) -> String {
        decide(&Input { what: What::Container, docker_name, taken_by_other: None })
    }

    #[test]
    fn a_legal_name_stays_as_it_is() {
        assert_eq!(name("web"), "web");
        assert_eq!(name("demo-db-1"), "demo-db-1");
    }

    #[test]
    fn a_name_that_loses_a_character_gets_a_hash_so_that_no_two_meet() {
        let names = [name("my_App"), name("my-app"), name("My-App"), name("my.app")];
        let mut unique = names.to_vec();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), names.len(), "{names:?}");
        assert!(names[0].starts_with("my-app-"), "{names:?}");
    }

    #[test]
    fn long_names_and_leading_digits_stay_legal() {
        for docker_name in ["a".repeat(200), "1web".into(), "_x".into(), "0".repeat(64)] {
            let name = name(&docker_name);
            assert!(crate::translate::network::is_dns_label(&name) && name.len() <= LONGEST, "{name}");
        }
    }

    #[test]
    fn a_taken_name_gives_another_one() {
        let other = decide(&Input { what: What::Container, docker_name: "web", taken_by_other: Some("id") });
        assert!(other.starts_with("web-") && other != "web", "{other}");
    }
}
