//! The generated files of the policies in C are what `wit/` gives.

use std::fs;
use std::path::Path;

#[test]
fn the_types_and_the_glue_of_c_are_those_of_the_interfaces() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (member, world) in [("examples/c-labels", "workload-policy")] {
        let folder = root.join("plugins").join(member).join("bindings");
        let made = d2k_c_bindings::generate(&root.join("wit"), world).unwrap();
        assert_eq!(made.len(), fs::read_dir(&folder).unwrap().count(), "files of {}", folder.display());
        for (name, bytes) in made {
            let there = fs::read(folder.join(&name)).unwrap_or_default();
            assert!(
                there == bytes,
                "{member}/bindings/{name} is not what wit gives: see the README.md of {member}"
            );
        }
    }
}
