//! The components, and the helper of `src/init`, that are committed are what their sources give: known by the lock file, so that
//! no WebAssembly toolchain is needed here. `plugins/build --check` builds them anew and compares.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

/// How the names of files end that a component is made of.
const SOURCES: [&str; 7] = [".rs", ".wit", "/Cargo.toml", ".c", ".h", ".o", "/build"];

#[derive(Deserialize)]
struct Locked {
    sources: String,
    component: String,
}

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn locked() -> BTreeMap<String, Locked> {
    serde_json::from_str(&fs::read_to_string(root().join("plugins/lock.json")).unwrap()).unwrap()
}

fn sha256(bytes: impl AsRef<[u8]>) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn component(member: &str) -> PathBuf {
    let name = member.rsplit('/').next().unwrap();
    root().join("plugins").join(member).join(format!("{name}.wasm"))
}

fn files_below(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, into);
        } else {
            into.push(path);
        }
    }
}

/// As `plugins/build` does it: the lines that sha256sum prints, and of these the digest.
fn digest_of_sources(member: &str) -> String {
    let mut files = Vec::new();
    let in_rust = root().join("plugins").join(member).join("Cargo.toml").is_file();
    let mut folders = vec![format!("plugins/{member}"), "wit".into()];
    folders.extend(["plugins/guest", "src/quantity"].map(str::to_owned).into_iter().filter(|_| in_rust));
    for folder in folders {
        files_below(&root().join(folder), &mut files);
    }
    let relative = |path: &Path| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
    let mut names: Vec<String> = files.iter().map(|path| relative(path)).collect();
    let is_source = |name: &str| SOURCES.iter().any(|end| name.ends_with(end));
    names.retain(|name| is_source(name) && !name.contains("/frozen/"));
    names.sort();
    let workspace = ["plugins/Cargo.toml", "plugins/Cargo.lock"].map(str::to_owned);
    names.extend(workspace.into_iter().filter(|_| in_rust));
    let line = |name: &String| format!("{}  {name}\n", sha256(fs::read(root().join(name)).unwrap()));
    sha256(names.iter().map(line).collect::<String>())
}

#[test]
fn every_component_is_the_one_of_the_lock_file() {
    for (member, locked) in locked() {
        let bytes = fs::read(component(&member)).unwrap();
        assert_eq!(sha256(bytes), locked.component, "{member}: run plugins/build");
    }
}

#[test]
fn every_component_was_built_from_the_sources_that_are_here() {
    for (member, locked) in locked() {
        assert_eq!(digest_of_sources(&member), locked.sources, "{member}: run plugins/build");
    }
}

#[test]
fn every_policy_explains_itself_and_has_three_fixtures() {
    for (member, _) in locked() {
        let folder = root().join("plugins").join(&member);
        if member == "hostile" {
            continue;
        }
        assert!(folder.join("README.md").is_file(), "{member} has no README.md");
        let fixtures = fs::read_dir(folder.join("fixtures")).unwrap().count();
        assert!(fixtures >= 3, "{member} has {fixtures} fixtures");
    }
}

/// As `src/init/build` does it.
#[test]
fn the_helper_is_the_one_of_its_lock_file_and_was_built_from_the_sources_that_are_here() {
    let folder = root().join("src/init");
    let locked: BTreeMap<String, String> =
        serde_json::from_str(&fs::read_to_string(folder.join("lock.json")).unwrap()).unwrap();
    for architecture in ["amd64", "arm64"] {
        let program = fs::read(folder.join(format!("d2k-init-{architecture}"))).unwrap();
        assert!(program.len() <= 500_000, "{architecture}: {} bytes", program.len());
        assert_eq!(sha256(program), locked[architecture], "{architecture}: run src/init/build");
    }
    let is_source = |name: &String| {
        name.ends_with(".rs") || ["Cargo.toml", "Cargo.lock", "build"].contains(&name.as_str())
    };
    let entries = fs::read_dir(&folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).filter(is_source).collect();
    names.sort();
    let line = |name: &String| format!("{}  {name}\n", sha256(fs::read(folder.join(name)).unwrap()));
    assert_eq!(sha256(names.iter().map(line).collect::<String>()), locked["sources"], "run src/init/build");
}

/// The version that `wit/` says it is.
fn version() -> String {
    let types = fs::read_to_string(root().join("wit/types.wit")).unwrap();
    let line = types.lines().find_map(|line| line.strip_prefix("package d2k:policy@")).unwrap();
    line.trim_end_matches(';').to_owned()
}

/// Whether a later version is compatible is a test of `plugins/c-bindings`, which has the tools for it.
#[test]
fn a_released_version_of_the_interfaces_does_not_change() {
    let frozen = root().join("wit/frozen");
    assert!(frozen.join("1.0.0").is_dir());
    let folder = frozen.join(version());
    for file in fs::read_dir(&folder).into_iter().flatten() {
        let file = file.unwrap().path();
        let now = root().join("wit").join(file.file_name().unwrap());
        let text = |path: &Path| without_comments(&fs::read_to_string(path).unwrap());
        let (then, now_text) = (text(&file), text(&now));
        assert!(
            then == now_text,
            "{} differs from {}: wit needs a new version",
            now.display(),
            file.display()
        );
    }
}

fn without_comments(wit: &str) -> String {
    let code = |line: &&str| !line.trim_start().starts_with("//") && !line.trim().is_empty();
    wit.lines().filter(code).collect::<Vec<_>>().join("\n")
}
