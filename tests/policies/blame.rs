//! The causes of a failed call of a policy: a request that is too large for it is the client's doing, and
//! no number of such requests has the operator's set given up.

use d2k_common::fault::{Fault, Kind};
use d2k_policy::Policies;
use d2k_policy::bindings::images::exports::d2k::policy::images;
use d2k_policy::bindings::naming::exports::d2k::policy::naming::{Input, What};

use super::support::{Folder, component, deed, name};

/// A request with labels of so many bytes.
fn ask(policies: &Policies, bytes: usize) -> Result<String, Fault> {
    let labels = vec![("note".to_owned(), "x".repeat(bytes))];
    let input = Input {
        what: What::Container,
        docker_name: "web".into(),
        labels,
        taken_by_other: None,
        extra: Vec::new(),
    };
    policies.current().name(&input).map(|decided| decided.plan.name)
}

fn question(reference: &str) -> images::Input {
    images::Input { reference: reference.to_owned(), purpose: images::Purpose::Create, extra: Vec::new() }
}

/// The hostile policy, which has taken the place of the built-in set.
fn hostile(settings: &str) -> (Folder, std::sync::Arc<Policies>) {
    let folder = Folder::new();
    let policies = folder.policies();
    folder.write("hostile.wasm", component("hostile")).write("settings.yaml", settings);
    policies.reload().unwrap();
    (folder, policies)
}

fn decides_still(policies: &Policies) -> bool {
    policies.current().policies[0].info.name == "hostile"
}

#[test]
fn requests_that_are_too_large_for_a_policy_are_refused_and_never_have_it_given_up() {
    for (what, limit) in [("huge", "limits.reply"), ("grow", "limits.memory"), ("loop", "limits.time")] {
        let (_folder, policies) = hostile(&deed(what));
        for _ in 0..8 {
            let fault = ask(&policies, 100_000).unwrap_err();
            assert_eq!(fault.kind, Kind::Invalid, "{fault:?}");
            assert!(
                fault.message.starts_with("the request is too large for policy hostile (naming)"),
                "{}",
                fault.message
            );
            assert!(fault.message.contains(limit), "{}", fault.message);
        }
        assert!(decides_still(&policies), "{what}");
        assert_eq!(policies.refused(), None);
    }
}

#[test]
fn a_panic_over_a_large_request_is_an_error_that_counts_against_nobody() {
    let (_folder, policies) = hostile(&deed("panic"));
    for _ in 0..8 {
        assert_eq!(ask(&policies, 100_000).unwrap_err().kind, Kind::Internal);
    }
    assert!(decides_still(&policies));
}

#[test]
fn a_policy_that_fails_over_small_requests_is_given_up_and_says_when_it_is_tried_again() {
    for what in ["huge", "grow", "panic"] {
        let (_folder, policies) = hostile(&deed(what));
        for _ in 0..5 {
            assert_eq!(ask(&policies, 1000).unwrap_err().kind, Kind::Internal);
        }
        assert!(!decides_still(&policies), "{what}");
        let words = policies.refused().unwrap();
        assert!(words.contains("failed too often (policy hostile: 5 times within 60 s"), "{words}");
        assert!(words.contains("it is tried again at 20"), "{words}");
        assert_eq!(policies.reload().unwrap_err().to_string(), words);
        assert_eq!(name(&policies, "web").unwrap(), "web");
    }
}

#[test]
fn what_comes_with_d2k_is_no_reason_to_leave_the_operators_set() {
    // The built-in policy repeats the reference, for which its limit is too narrow.
    let (_folder, policies) = hostile("images: {limits: {reply: 1Ki}}\n");
    let asked = question(&"a".repeat(5000));
    for _ in 0..12 {
        assert_eq!(policies.current().image(&asked).unwrap_err().kind, Kind::Internal);
    }
    assert!(decides_still(&policies));
    assert_eq!(policies.current().image(&question("busybox")).unwrap().plan.reference, "busybox");
}
