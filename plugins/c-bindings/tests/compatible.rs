//! Policies that were built for a released version of `wit/` are policies for the one that is here.

use std::fs;
use std::path::{Path, PathBuf};

use wit_component::semver_check;
use wit_parser::Resolve;

fn wit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit")
}

/// The files of a folder as one package, of another version than any that is released: two of one
/// version cannot be compared.
fn package(folder: &Path, version: &str) -> String {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "wit"));
    files.sort();
    let texts: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let code = |line: &&str| !line.trim_start().starts_with("//") && !line.starts_with("package ");
    format!("package d2k:policy@{version};\n{}", texts.lines().filter(code).collect::<Vec<_>>().join("\n"))
}

fn released() -> Vec<PathBuf> {
    fs::read_dir(wit().join("frozen")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Whether a policy that was built for `old` is one for `new` as well; the first world where not.
fn compatible(old: &str, new: &str) -> Result<(), String> {
    let mut resolve = Resolve::default();
    let old = resolve.push_str("old.wit", old).unwrap();
    let new = resolve.push_str("new.wit", new).unwrap();
    let worlds = resolve.packages[old].worlds.clone();
    assert!(worlds.len() >= 7, "one world a hook");
    for (name, before) in worlds {
        let now = *resolve.packages[new].worlds.get(&name).ok_or(format!("the world {name} is gone"))?;
        semver_check(resolve.clone(), before, now).map_err(|e| format!("{name}: {e:#}"))?;
    }
    Ok(())
}

#[test]
fn policies_for_every_released_version_are_policies_for_this_one() {
    let now = package(&wit(), "0.2.0");
    for folder in released() {
        if let Err(words) = compatible(&package(&folder, "0.1.0"), &now) {
            panic!("{}: {words}", folder.display());
        }
    }
}

#[test]
fn a_new_import_is_compatible_and_a_new_field_or_a_changed_answer_is_not() {
    let then = package(&wit(), "0.1.0");
    let changed = |from: &str, to: &str| {
        let now = package(&wit(), "0.2.0");
        assert!(now.contains(from), "{from}");
        compatible(&then, &now.replacen(from, to, 1))
    };
    let clock = "interface clock { now: func() -> u64; }\nworld naming-policy {\n  import clock;";
    assert_eq!(changed("world naming-policy {", clock), Ok(()));
    assert!(changed("read-only: bool,", "read-only: bool, more: option<string>,").is_err());
    assert!(
        changed(
            "check: func(settings: settings) -> list<problem>;",
            "check: func(settings: settings) -> string;"
        )
        .is_err()
    );
    assert!(changed("    never,\n    on-failure", "    on-failure").is_err());
}
