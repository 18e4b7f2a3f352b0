//! `d2k policy new`: a folder with a policy that builds and whose tests pass, to begin with.

use std::fs;
use std::path::Path;

use crate::component::Hook;

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

const LIB: &str = r#"//! Leaves every decision to the next policy, but refuses what has the THING `forbidden`.

use d2k_guest::Settings;

d2k_guest::policy! {
    wit: "D2K/wit",
    world: "HOOK-policy",
    hook: HOOK,
    name: "NAME",
    summary: "Refuses what has a THING.",
    settings: [("THING", "forbidden", "The THING that is refused.")],
    check: check,
    decide: decide,
}

fn check(settings: &Settings) -> Vec<(String, String)> {
    let empty = settings.get("THING").is_some_and(str::is_empty);
    empty.then(|| ("THING".to_owned(), "expected the name of a THING".to_owned())).into_iter().collect()
}

fn decide(input: &api::Input, settings: &Settings) -> Result<Option<api::Plan>, api::Refusal> {
    let unwanted = settings.get("THING").unwrap_or("forbidden");
    if HAS {
        return Err(forbid(format!("{} has the THING {unwanted}", SUBJECT)));
    }
    Ok(None)
}
"#;

/// What a beginning for a hook looks at.
struct Shape {
    /// What can be unwanted: a label, or a word.
    thing: &'static str,
    /// The condition, with `unwanted` as its name.
    has: &'static str,
    /// Who it is about.
    subject: &'static str,
    /// An input in which `GIVEN` is the name of the thing.
    input: &'static str,
}

const ON_LABELS: &str = "input.labels.iter().any(|(name, _)| name == unwanted)";

fn shape(hook: Hook) -> Shape {
    let of = |has, subject, input| Shape { thing: "label", has, subject, input };
    match hook {
        Hook::Naming => {
            of(ON_LABELS, "input.docker_name", "{what: container, docker-name: web, labels: {GIVEN: yes}}")
        }
        Hook::Ports | Hook::Workload => of(
            "input.container.labels.iter().any(|(name, _)| name == unwanted)",
            "input.container.name",
            "{container: {name: web, labels: {GIVEN: yes}}}",
        ),
        Hook::Volumes => of(ON_LABELS, "input.name", "{name: data, labels: {GIVEN: yes}}"),
        Hook::Events => of(
            "input.attributes.iter().any(|(name, _)| name == unwanted)",
            "input.id",
            "{subject: container, change: created, id: abc, attributes: {GIVEN: yes}}",
        ),
        Hook::Manifest => of(
            "input.container.iter().any(|c| c.labels.iter().any(|(name, _)| name == unwanted))",
            "input.kind",
            "{object: '{}', api-version: apps/v1, kind: Deployment, container: {name: web, labels: {GIVEN: yes}}}",
        ),
        Hook::Images => Shape {
            thing: "word",
            has: "input.reference.split(['/', ':', '@']).any(|word| word == unwanted)",
            subject: "input.reference",
            input: "{reference: ghcr.io/acme/GIVEN:1}",
        },
    }
}

const README: &str = "# NAME

Refuses what has a THING; everything else is left to the next policy.

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
    let Some(hook) = Hook::named(hook) else {
        return Err(format!("no hook {hook:?}: there are {}", Hook::names()));
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
    for (file, text) in files(name, hook, &d2k) {
        let path = folder.join(file);
        let made = fs::create_dir_all(path.parent().unwrap_or(folder)).and_then(|()| fs::write(&path, text));
        made.map_err(|e| format!("{}: {e}", path.display()))?;
    }
    use std::os::unix::fs::PermissionsExt as _;
    let _ = fs::set_permissions(folder.join("build"), fs::Permissions::from_mode(0o755));
    println!("made {name}: {name}/build, then d2k policy test {name}");
    Ok(true)
}

fn files(name: &str, hook: Hook, d2k: &Path) -> Vec<(&'static str, String)> {
    let Shape { thing, has, subject, input } = shape(hook);
    let fill = |text: &str| {
        text.replace("FILE", &name.replace('-', "_"))
            .replace("NAME", name)
            .replace("D2K", &d2k.display().to_string())
            .replace("HOOK", hook.name())
            .replace("SUBJECT", subject)
            .replace("HAS", has)
            .replace("THING", thing)
    };
    let fixture = |about: &str, given: &str, settings: &str, expect: &str| {
        let input = input.replace("GIVEN", given);
        fill(&format!("about: {about}\nhook: HOOK\n{settings}input: {input}\nexpect: {expect}\n"))
    };
    vec![
        ("Cargo.toml", fill(CARGO)),
        ("src/lib.rs", fill(LIB)),
        ("README.md", fill(README)),
        ("build", fill(BUILD)),
        (".gitignore", "/target\n".to_owned()),
        ("fixtures/passes.yaml", fixture("Without the THING the next policy decides.", "tier", "", "none")),
        (
            "fixtures/refused.yaml",
            fixture("With the THING it is refused.", "forbidden", "", "{refusal: has the THING forbidden}"),
        ),
        (
            "fixtures/setting.yaml",
            fixture(
                "The THING is a setting.",
                "tier",
                "settings: {THING: tier}\n",
                "{refusal: has the THING tier}",
            ),
        ),
    ]
}
