//! Policies that are required: nothing is ever decided without them, whether they fail, are switched
//! off, or cannot be had at a start.

use d2k_common::fault::Kind;
use d2k_policy::{Options, Policies};

use super::support::{Folder, component, deed, event, kept, name};

const REQUIRED: &str = "hostile: {settings: {deed: same}, required: true}\n";

/// The policies of a folder, with a cache of their own.
fn start(folder: &Folder, cache: &Folder) -> std::sync::Arc<Policies> {
    Policies::new(Options { cache: Some(cache.0.clone()), ..folder.options() }).unwrap()
}

/// That nothing is decided, with words that name what is missing.
fn is_closed(policies: &Policies, words: &[&str]) {
    let missing = policies.missing().expect("something is missing");
    let fault = name(policies, "web").expect_err("nothing may be decided");
    assert_eq!(fault.kind, Kind::Unavailable, "{fault:?}");
    for word in words {
        assert!(fault.message.contains(word) && missing.contains(word), "{} has not {word}", fault.message);
    }
    assert!(policies.warning().unwrap().contains("nothing is decided"));
    assert!(event(policies).is_ok(), "what happens is told all the same");
}

#[test]
fn a_required_policy_decides_as_any_other() {
    let folder = Folder::new();
    folder.write("hostile.wasm", component("hostile")).write("settings.yaml", REQUIRED);
    let policies = folder.policies();
    assert_eq!((policies.missing(), policies.refused()), (None, None));
    assert_eq!(name(&policies, "web").unwrap(), "always-the-same");
}

#[test]
fn a_required_policy_that_is_bad_at_the_start_closes_d2k_until_it_is_mended() {
    for required in [REQUIRED, "required: true\nhostile: {settings: {deed: same}}\n"] {
        let (folder, cache) = (Folder::new(), kept());
        folder.write("hostile.wasm", "garbage").write("settings.yaml", required);
        let policies = start(&folder, &cache);
        is_closed(&policies, &["settings.yaml", "hostile.wasm refused at compile"]);
        folder.write("hostile.wasm", component("hostile"));
        policies.reload().unwrap();
        assert_eq!(policies.missing(), None);
        assert_eq!(name(&policies, "web").unwrap(), "always-the-same");
    }
}

#[test]
fn a_required_policy_without_a_file_closes_d2k() {
    let (folder, cache) = (Folder::new(), kept());
    folder.write("settings.yaml", "quota: {required: true}\n");
    is_closed(&start(&folder, &cache), &["policy quota", "there is no such policy (it is required)"]);
}

#[test]
fn settings_that_cannot_be_read_close_d2k_since_they_may_require_something() {
    for broken in ["hostile: [", "hostile: {required: maybe}\n"] {
        let (folder, cache) = (Folder::new(), kept());
        folder.write("hostile.wasm", component("hostile")).write("settings.yaml", broken);
        is_closed(&start(&folder, &cache), &["settings.yaml refused at settings", "cannot be read"]);
    }
    let cache = kept();
    let gone = Options { directory: Some(cache.0.join("nowhere")), ..cache.options() };
    is_closed(&Policies::new(gone).unwrap(), &["nowhere"]);
}

#[test]
fn a_bad_set_of_which_nothing_is_required_leaves_the_built_in_policies_to_decide() {
    let (folder, cache) = (Folder::new(), kept());
    folder.write("zzz.wasm", "garbage").write("settings.yaml", "naming: {required: false}\n");
    let policies = start(&folder, &cache);
    assert_eq!(name(&policies, "web").unwrap(), "web");
    assert!(policies.warning().unwrap().contains("zzz.wasm refused"));
}

#[test]
fn the_last_good_set_decides_at_a_start_if_it_has_what_is_required() {
    let (folder, cache) = (Folder::new(), kept());
    folder.write("hostile.wasm", component("hostile")).write("settings.yaml", REQUIRED);
    assert_eq!(name(&start(&folder, &cache), "web").unwrap(), "always-the-same");
    folder.write("hostile.wasm", "garbage");
    assert_eq!(name(&start(&folder, &cache), "web").unwrap(), "always-the-same");
    folder.write("settings.yaml", "hostile: [");
    assert_eq!(name(&start(&folder, &cache), "web").unwrap(), "always-the-same");
    // It does not have what is required only now.
    folder.write("settings.yaml", "required: true\n").write("quota.wasm", "garbage");
    is_closed(&start(&folder, &cache), &["refused"]);
    folder.write("settings.yaml", "quota: {required: true}\n");
    is_closed(&start(&folder, &cache), &["quota"]);
    // Nor does that of another folder count.
    let other = Folder::new();
    other.write("hostile.wasm", "garbage").write("settings.yaml", REQUIRED);
    is_closed(&start(&other, &cache), &["hostile"]);
}

#[test]
fn what_is_bad_later_leaves_the_required_policy_in_force() {
    let folder = Folder::new();
    folder.write("hostile.wasm", component("hostile")).write("settings.yaml", REQUIRED);
    let policies = folder.policies();
    let goes_on = |words: &str| {
        let refused = policies.reload().expect_err(words).to_string();
        assert!(refused.contains(words), "{refused}");
        assert_eq!(name(&policies, "web").unwrap(), "always-the-same");
        assert_eq!(policies.missing(), None);
    };
    folder.write("hostile.wasm", "garbage");
    goes_on("hostile.wasm refused at compile");
    folder.remove("hostile.wasm");
    goes_on("hostile: there is no such policy (it is required)");
    folder.write("settings.yaml", "a: [");
    goes_on("settings.yaml refused");
    folder.remove("settings.yaml");
    goes_on("settings.yaml is gone or empty");
    // Lifting a requirement takes an explicit setting.
    folder.write("settings.yaml", "required: false\n");
    policies.reload().unwrap();
    assert_eq!(name(&policies, "web").unwrap(), "web");
}

#[test]
fn a_required_policy_that_fails_is_never_given_up() {
    for settings in [
        "hostile: {settings: {deed: panic}, required: true}\n",
        "required: true\nhostile: {settings: {deed: panic}}\n",
    ] {
        let folder = Folder::new();
        let policies = folder.policies();
        folder.write("hostile.wasm", component("hostile")).write("settings.yaml", settings);
        policies.reload().unwrap();
        for _ in 0..12 {
            assert_eq!(name(&policies, "web").unwrap_err().kind, Kind::Internal);
        }
    }
}

#[test]
fn a_required_policy_cannot_be_switched_off_and_any_other_can() {
    let folder = Folder::new();
    folder.write("hostile.wasm", component("hostile")).write("settings.yaml", deed("same"));
    let policies = folder.policies();
    policies.switch("hostile", false).unwrap();
    assert_eq!(name(&policies, "web").unwrap(), "web");
    // It is on again as soon as it is required.
    folder.write("settings.yaml", REQUIRED);
    policies.reload().unwrap();
    assert_eq!(name(&policies, "web").unwrap(), "always-the-same");
    let fault = policies.switch("hostile", false).unwrap_err();
    assert_eq!(fault.kind, Kind::Forbidden);
    assert_eq!(fault.message, "policy hostile cannot be disabled: settings.yaml says that it is required");
    policies.switch("images", false).unwrap();
    folder.write("settings.yaml", "required: true\n");
    policies.reload().unwrap();
    assert_eq!(policies.switch("images", false).unwrap_err().kind, Kind::Forbidden);
    assert_eq!(policies.switch("nobody", false).unwrap_err().kind, Kind::NotFound);
}

#[test]
fn a_policy_that_the_settings_switch_off_stays_off() {
    let folder = Folder::new();
    folder.write("hostile.wasm", component("hostile"));
    folder.write("settings.yaml", "hostile: {settings: {deed: same}, enabled: false}\n");
    let policies = folder.policies();
    assert_eq!(policies.switch("hostile", true).unwrap_err().kind, Kind::Conflict);
    assert_eq!(name(&policies, "web").unwrap(), "web");
}
