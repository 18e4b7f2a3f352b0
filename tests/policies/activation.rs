//! The way into the daemon: each step refuses what is bad with one line that names the file, the
//! step and the reason, and the set before goes on.

use super::support::{Folder, component, decided, deed, name};

/// Why a folder with this file is refused.
fn refused(file: &str, bytes: impl AsRef<[u8]>, settings: &str) -> String {
    let folder = Folder::new();
    let policies = folder.policies();
    folder.write(file, bytes).write("settings.yaml", settings);
    let words = policies.reload().expect_err("it should be refused").to_string();
    assert!(!words.contains('\n'), "one line: {words}");
    assert_eq!(policies.refused(), Some(words.clone()));
    assert_eq!(name(&policies, "web").unwrap(), "web", "the set before goes on");
    words
}

fn text(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).unwrap()
}

#[test]
fn garbage_is_refused() {
    assert_eq!(refused("a.wasm", "hello", ""), "a.wasm refused at compile: it is no WebAssembly component");
    assert!(refused("a.wasm", "", "").contains("no WebAssembly component"));
}

#[test]
fn a_core_module_is_refused_with_what_to_do() {
    let words = refused("a.wasm", text("(module)"), "");
    assert!(words.contains("a core module, not a component: link it with wasm-component-ld"), "{words}");
}

#[test]
fn a_truncated_component_is_refused() {
    let whole = component("naming");
    let words = refused("a.wasm", &whole[..whole.len() / 2], "");
    assert!(words.starts_with("a.wasm refused at compile:"), "{words}");
}

#[test]
fn a_damaged_component_is_refused() {
    let mut bytes = component("naming");
    let middle = bytes.len() / 3;
    for byte in &mut bytes[middle..middle + 64] {
        *byte ^= 0x55;
    }
    let words = refused("a.wasm", bytes, "");
    assert!(words.starts_with("a.wasm refused at "), "{words}");
}

#[test]
fn compiled_code_is_never_loaded() {
    let code = std::fs::read_dir(super::support::cache());
    // Any ELF file is refused before it is looked at further.
    let words = refused("a.cwasm", b"\x7fELF\x02\x01\x01", "");
    assert!(words.contains("compiled code (.cwasm), which is never loaded"), "{words}");
    drop(code);
}

#[test]
fn a_component_that_imports_anything_else_is_refused_by_name() {
    let wat = r#"(component (import "wasi:clocks/wall-clock@0.2.0" (instance (export "now" (func)))))"#;
    let words = refused("a.wasm", text(wat), "");
    assert!(words.contains("it imports wasi:clocks/wall-clock@0.2.0"), "{words}");
}

#[test]
fn a_component_of_another_world_is_refused() {
    let words = refused("a.wasm", text("(component)"), "");
    assert!(words.contains("does not export d2k:policy/about"), "{words}");
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let words = refused("a.wasm", vec![0; 5 << 20], "");
    assert!(words.contains("5242880 bytes; the largest component has 4194304"), "{words}");
}

#[test]
fn settings_are_refused_by_name() {
    let hostile = component("hostile");
    let with = |settings: &str| refused("hostile.wasm", &hostile, settings);
    assert!(
        with("hostile: {settings: {dead: loop}}")
            .contains("hostile.settings.dead: no such setting; there are deed")
    );
    assert!(with(&deed("wrong")).ends_with("hostile.settings.deed: wrong is not right"));
    assert!(with("nobody: {settings: {}}").contains("nobody: there is no such policy"));
    assert!(with("hostile: {limits: {time: never}}").contains("hostile.limits.time: \"never\""));
    assert!(with("ports: {settings: {service-type: Balancer}}").contains("ports.settings.service-type"));
    assert!(with("volumes: {settings: {max-size: 5Gigs}}").contains("volumes.settings.max-size"));
    assert!(with("a: [").contains("settings.yaml refused at settings"));
}

#[test]
fn a_policy_that_cannot_even_check_its_settings_is_refused() {
    let hostile = component("hostile");
    assert!(refused("hostile.wasm", &hostile, &deed("loop-check")).contains("limits.time"));
    assert!(refused("hostile.wasm", &hostile, &deed("bad-check")).contains("the check itself fails"));
}

#[test]
fn two_policies_of_one_name_are_refused() {
    let words = refused("a.wasm", component("naming"), "");
    assert!(words.contains("another policy is called naming, too"), "{words}");
}

#[test]
fn a_policy_whose_own_fixtures_fail_is_refused() {
    let folder = Folder::new();
    let policies = folder.policies();
    let fixture = "hook: volumes\nsettings: {teams: {web: 20Gi}}\ninput: {name: data, labels: {team: web}, size: 21Gi}\n";
    folder.write("quota.wasm", component("examples/quota"));
    folder.write("quota.fixtures.yaml", format!("{fixture}expect: none\n"));
    let words = policies.reload().unwrap_err().to_string();
    assert!(words.contains("quota.wasm refused at fixtures: fixtures: expected \"none\""), "{words}");
    folder.write("quota.fixtures.yaml", format!("{fixture}expect: {{refusal: may have 20Gi}}\n"));
    policies.reload().unwrap();
    assert_eq!(policies.current().policies[0].info.name, "quota");
}

#[test]
fn a_policy_that_answers_none_leaves_the_decision_to_the_next() {
    let folder = Folder::new();
    folder.write("hostile.wasm", component("hostile"));
    let policies = folder.policies();
    let decided = decided(&policies, "my_App").unwrap();
    assert!(decided.by.starts_with("naming@1.0.0 sha256:"), "{}", decided.by);
    assert_eq!(policies.current().policies[0].info.name, "hostile", "it is asked first");
}

#[test]
fn a_start_with_a_bad_set_takes_the_last_good_one() {
    let folder = Folder::new();
    let kept = Folder::new();
    let options = || d2k_policy::Options { cache: Some(kept.0.clone()), ..folder.options() };
    std::fs::set_permissions(&kept.0, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    folder.write("settings.yaml", "naming: {settings: {prefix: team-}}\n");
    assert_eq!(name(&d2k_policy::Policies::new(options()).unwrap(), "web").unwrap(), "team-web");
    folder.write("zzz.wasm", "garbage");
    let policies = d2k_policy::Policies::new(options()).unwrap();
    assert_eq!(name(&policies, "web").unwrap(), "team-web");
    assert!(policies.refused().unwrap().contains("zzz.wasm"));
}

#[test]
fn a_start_with_a_bad_set_and_no_good_one_takes_the_built_in_one() {
    let folder = Folder::new();
    folder.write("zzz.wasm", "garbage");
    let options = d2k_policy::Options { cache: None, ..folder.options() };
    let policies = d2k_policy::Policies::new(options).unwrap();
    assert_eq!(name(&policies, "web").unwrap(), "web");
}
