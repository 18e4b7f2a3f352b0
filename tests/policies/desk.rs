//! The fixtures of the built-in policies and of the examples, through the host.

use std::fs;
use std::path::Path;

use d2k_policy::compile::Cache;
use d2k_policy::component::Linked;
use d2k_policy::fixtures;
use d2k_policy::limits::Limits;

use super::support::{cache, component};

#[test]
fn the_fixtures_of_every_policy_hold() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("plugins");
    for member in [
        "naming",
        "ports",
        "volumes",
        "workload",
        "images",
        "events",
        "examples/ingress",
        "examples/quota",
        "examples/registry",
        "examples/c-labels",
    ] {
        let component = Cache::new(&cache(), None).load(&component(member)).unwrap();
        let linked = Linked::new(&component).unwrap();
        for file in fs::read_dir(root.join(member).join("fixtures")).unwrap() {
            let path = file.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            for fixture in fixtures::parse(&path.display().to_string(), &text).unwrap() {
                if let Err(words) = fixtures::run(&linked, Limits::default(), &fixture) {
                    panic!("{words}");
                }
            }
        }
    }
}
