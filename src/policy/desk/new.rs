//! `d2k policy new`: a folder with a policy that builds and whose tests pass, to begin with.

use std::fs;
use std::path::Path;

use crate::policy::component::Hook;

const CARGO: &str = r#"[package]
name = "NAME"
version = "0.1.0"
edition = "2024"
publish = false

[lib]
crate-type = ["cdylib"]

[dependencies]
d2k-guest = { path = "D2K/plugins/guest" }
wit-bindgen = { version = "0.57", default-features = false, features = ["macros", "realloc", "std"] }

[profile.release]
opt-level = "s"
lto = true
codegen-units = 1
panic = "abort"
strip = true

[workspace]
"#;

const LIB: &str = r#"//! Leaves every decision to the next policy, but refuses what has the label `forbidden`.

use d2k_guest::Settings;

d2k_guest::policy! {
    wit: "D2K/wit",
    world: "HOOK-policy",
    hook: HOOK,
    name: "NAME",
    summary: "Refuses what has a label.",
    settings: [("label", "forbidden", "The label that is refused.")],
    check: check,
    decide: decide,
}

fn check(settings: &Settings) -> Vec<(String, String)> {
    let empty = settings.get("label").is_some_and(str::is_empty);
    empty.then(|| ("label".to_owned(), "expected the name of a label".to_owned())).into_iter().collect()
}

fn decide(input: &api::Input, settings: &Settings) -> Result<Option<api::Plan>, api::Refusal> {
    let label = settings.get("label").unwrap_or("forbidden");
    if LABELS.iter().any(|(name, _)| name == label) {
        return Err(forbid(format!("{} has the label {label}", SUBJECT)));
    }
    Ok(None)
}
"#;

/// Where the labels of a hook's input are, who it is about, and an input with and without labels.
fn shape(hook: Hook) -> Option<(&'static str, &'static str, &'static str)> {
    Some(match hook {
        Hook::Naming => {
            ("input.labels", "input.docker_name", "{what: container, docker-name: web, labels: {LABELS}}")
        }
        Hook::Ports | Hook::Workload => {
            ("input.container.labels", "input.container.name", "{container: {name: web, labels: {LABELS}}}")
        }
        Hook::Volumes => ("input.labels", "input.name", "{name: data, labels: {LABELS}}"),
        Hook::Events => (
            "input.attributes",
            "input.id",
            "{subject: container, change: created, id: abc, attributes: {LABELS}}",
        ),
        Hook::Images | Hook::Manifest => return None,
    })
}

const README: &str = "# NAME

Refuses what has a label; everything else is left to the next policy.

    rustup target add wasm32-unknown-unknown
    ./build
    d2k policy test .

Then put `NAME.wasm` into the policy folder of d2k (`D2K_POLICY_DIR`).
";

const BUILD: &str = r#"#!/bin/sh
# Builds NAME.wasm.
set -eu
cd "$(dirname "$0")"
linker=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/wasm-component-ld
CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$linker cargo build --release --target wasm32-unknown-unknown
cp target/wasm32-unknown-unknown/release/FILE.wasm NAME.wasm
"#;

pub fn new(name: &str, hook: &str, d2k: &Path) -> Result<bool, String> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(legal) {
        return Err(format!("{name:?} is no name of a policy: lower-case letters, digits and dashes"));
    }
    let known = Hook::named(hook).and_then(|hook| Some((hook, shape(hook)?)));
    let Some((hook, (labels, subject, input))) = known else {
        return Err(format!(
            "no beginning for a hook {hook:?}: naming, ports, volumes, workload or events; for images and manifest copy \
             plugins/examples/registry or plugins/examples/ingress"
        ));
    };
    let d2k = fs::canonicalize(d2k).map_err(|e| format!("{}: {e}", d2k.display()))?;
    if !d2k.join("wit/types.wit").is_file() || !d2k.join("plugins/guest").is_dir() {
        return Err(format!(
            "{} has no wit and no plugins/guest: give d2k's sources with --d2k",
            d2k.display()
        ));
    }
    let folder = Path::new(name);
    if folder.exists() {
        return Err(format!("{name} is there already"));
    }
    for (file, text) in files(name, hook, &d2k, (labels, subject, input)) {
        let path = folder.join(file);
        let made = fs::create_dir_all(path.parent().unwrap_or(folder)).and_then(|()| fs::write(&path, text));
        made.map_err(|e| format!("{}: {e}", path.display()))?;
    }
    use std::os::unix::fs::PermissionsExt as _;
    let _ = fs::set_permissions(folder.join("build"), fs::Permissions::from_mode(0o755));
    println!("made {name}: {name}/build, then d2k policy test {name}");
    Ok(true)
}

fn files(
    name: &str,
    hook: Hook,
    d2k: &Path,
    (labels, subject, input): (&str, &str, &str),
) -> Vec<(&'static str, String)> {
    let fill = |text: &str| {
        text.replace("FILE", &name.replace('-', "_"))
            .replace("NAME", name)
            .replace("D2K", &d2k.display().to_string())
            .replace("HOOK", hook.name())
            .replace("SUBJECT", subject)
    };
    let fixture = |about: &str, given: &str, settings: &str, expect: &str| {
        let input = input.replace("LABELS", given);
        format!("about: {about}\nhook: {}\n{settings}input: {input}\nexpect: {expect}\n", hook.name())
    };
    vec![
        ("Cargo.toml", fill(CARGO)),
        ("src/lib.rs", fill(&LIB.replace("LABELS", labels))),
        ("README.md", fill(README)),
        ("build", fill(BUILD)),
        (".gitignore", "/target\n".to_owned()),
        (
            "fixtures/passes.yaml",
            fixture("Without the label the next policy decides.", "tier: web", "", "none"),
        ),
        (
            "fixtures/refused.yaml",
            fixture(
                "With the label it is refused.",
                "forbidden: yes",
                "",
                "{refusal: has the label forbidden}",
            ),
        ),
        (
            "fixtures/setting.yaml",
            fixture(
                "The label is a setting.",
                "tier: web",
                "settings: {label: tier}\n",
                "{refusal: has the label tier}",
            ),
        ),
    ]
}
