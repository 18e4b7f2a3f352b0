//! What an object is called.

use d2k_guest::Settings;
use sha2::{Digest, Sha256};

use crate::api::{Input, Plan, Refusal, What};

/// Kubernetes adds a hash of up to 10 and a suffix of 5 characters, and the names of Pods are host
/// names, of at most 63.
const LONGEST: usize = 45;
const LONGEST_PREFIX: usize = 20;

pub fn check(settings: &Settings) -> Vec<(String, String)> {
    let prefix = settings.get("prefix").unwrap_or_default();
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = prefix.is_empty()
        || prefix.len() <= LONGEST_PREFIX
            && prefix.starts_with(|c: char| c.is_ascii_lowercase())
            && prefix.chars().all(legal);
    if good {
        return Vec::new();
    }
    let words = format!(
        "\"{prefix}\" cannot begin a name: at most {LONGEST_PREFIX} of lower-case letters, digits and dashes, a letter first"
    );
    vec![("prefix".to_owned(), words)]
}

pub fn decide(input: &Input, settings: &Settings) -> Result<Option<Plan>, Refusal> {
    let name = name(input, settings.get("prefix").unwrap_or_default());
    Ok(Some(Plan { name, warnings: Vec::new(), extra: Vec::new() }))
}

fn name(input: &Input, prefix: &str) -> String {
    let small = input.docker_name.to_ascii_lowercase();
    let legal = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    let mut name: String = small.chars().map(legal).collect();
    name = name.trim_matches('-').to_owned();
    if prefix.is_empty() && !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        name = format!("{}{name}", initial(&input.what));
    }
    // Networks share the Services' name space with published containers: `web` can be both.
    let lossless = name == input.docker_name && !matches!(input.what, What::Network);
    let longest = LONGEST - prefix.len();
    if lossless && name.len() <= longest && input.taken_by_other.is_none() {
        return format!("{prefix}{name}");
    }
    let mut hashed = Sha256::new();
    hashed.update(&input.docker_name);
    hashed.update(input.taken_by_other.as_deref().unwrap_or_default());
    let hash: String = hashed.finalize().iter().take(4).flat_map(|byte| hex(*byte)).collect();
    let kept: String = name.chars().take(longest - 9).collect();
    format!("{prefix}{}-{hash}", kept.trim_end_matches('-'))
}

fn hex(byte: u8) -> [char; 2] {
    [byte >> 4, byte & 15].map(|digit| char::from_digit(u32::from(digit), 16).unwrap_or('0'))
}

fn initial(what: &What) -> &'static str {
    match what {
        What::Container => "c",
        What::Volume => "v",
        What::Network => "n",
        What::Other(_) => "o",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(docker_name: &str) -> Input {
        Input {
            what: What::Container,
            docker_name: docker_name.into(),
            labels: Vec::new(),
            taken_by_other: None,
            extra: Vec::new(),
        }
    }

    fn named(docker_name: &str) -> String {
        name(&input(docker_name), "")
    }

    #[test]
    fn a_legal_name_stays_as_it_is() {
        assert_eq!(named("web"), "web");
        assert_eq!(named("demo-db-1"), "demo-db-1");
    }

    #[test]
    fn a_name_that_loses_a_character_gets_a_hash_so_that_no_two_meet() {
        let names = [named("my_App"), named("my-app"), named("My-App"), named("my.app")];
        let mut unique = names.to_vec();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), names.len(), "{names:?}");
        assert!(names[0].starts_with("my-app-"), "{names:?}");
    }

    #[test]
    fn long_names_and_leading_digits_stay_legal() {
        for docker_name in ["a".repeat(200), "1web".into(), "_x".into(), "0".repeat(64), "__".into()] {
            for prefix in ["", "team-a-"] {
                let name = name(&input(&docker_name), prefix);
                let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
                assert!(name.len() <= LONGEST && name.chars().all(legal), "{name}");
                assert!(name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.ends_with('-'), "{name}");
            }
        }
    }

    #[test]
    fn a_taken_name_gives_another_one() {
        let other = name(&Input { taken_by_other: Some("id".into()), ..input("web") }, "");
        assert!(other.starts_with("web-") && other != "web", "{other}");
    }

    #[test]
    fn a_network_never_has_the_name_of_a_container() {
        assert_ne!(name(&Input { what: What::Network, ..input("web") }, ""), "web");
    }

    #[test]
    fn a_prefix_is_checked_and_used() {
        assert_eq!(name(&input("web"), "team-"), "team-web");
        assert!(check(&Settings::of(&[("prefix", "team-")])).is_empty());
        assert_eq!(check(&Settings::of(&[("prefix", "Team_")]))[0].0, "prefix");
    }
}
