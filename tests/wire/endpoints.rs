//! The table of all endpoints of the API: no endpoint, and no status of one, that no request asks for.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::case;
use super::compare::is_meant;

/// An endpoint of `tests/wire/endpoints.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Endpoint {
    send: String,
    codes: Vec<u64>,
    /// Statuses that another test sees, and where it is.
    #[serde(default)]
    elsewhere: BTreeMap<u64, String>,
}

#[d2k_suite::test]
fn every_endpoint_is_asked_for_each_of_its_statuses() {
    let all: Vec<Endpoint> = serde_yaml_ng::from_str(include_str!("endpoints.yaml")).unwrap();
    let asked = case::statuses(super::NAMES);
    let mut missing = Vec::new();
    for endpoint in &all {
        let seen = |code: &&u64| {
            asked.iter().any(|(request, status)| is_meant(&endpoint.send, request) && status == *code)
        };
        let codes: Vec<&u64> = endpoint.codes.iter().filter(|code| !seen(code)).collect();
        if !codes.is_empty() {
            missing.push(format!("{} is never answered with {codes:?}", endpoint.send));
        }
        for place in endpoint.elsewhere.values() {
            assert!(
                Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(place).is_file(),
                "{place} is not there"
            );
        }
    }
    let odd = asked.iter().filter(|(request, status)| {
        let mut of = all.iter().filter(|endpoint| is_meant(&endpoint.send, request)).peekable();
        of.peek().is_some()
            && !of.any(|endpoint| endpoint.codes.contains(status) || endpoint.elsewhere.contains_key(status))
    });
    missing.extend(
        odd.map(|(request, status)| format!("{request} is answered with {status}, which the table lacks")),
    );
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
