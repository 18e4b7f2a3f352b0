//! Guests that do what they should not: the request gets an error that names the policy and the
//! limit, the next one is answered as ever, and the failure is counted.

use std::time::{Duration, Instant};

use d2k_common::fault::Kind;

use super::support::{Folder, component, deed, name, resident_kib};

/// What the user reads when the hostile policy does something.
fn words_of(what: &str) -> String {
    let folder = Folder::new();
    folder.write("hostile.wasm", component("hostile")).write("settings.yaml", deed(what));
    let policies = folder.policies();
    assert_eq!(policies.refused(), None);
    let begin = Instant::now();
    let fault = name(&policies, "web").expect_err("the deed should fail");
    assert!(begin.elapsed() < Duration::from_secs(2), "{what} took {:?}", begin.elapsed());
    assert_eq!(fault.kind, Kind::Internal, "{fault:?}");
    assert!(fault.message.contains("hostile"), "{}", fault.message);
    folder.write("settings.yaml", deed("pass"));
    policies.reload().unwrap();
    assert_eq!(name(&policies, "web").unwrap(), "web", "after {what}");
    fault.message
}

#[test]
fn an_endless_loop_is_cut_off_and_the_limit_is_named() {
    let words = words_of("loop");
    assert!(words.contains("limit of 20 ms (limits.time)"), "{words}");
}

#[test]
fn memory_has_a_limit_that_is_named() {
    let words = words_of("grow");
    assert!(words.contains("limit of 16384 KiB (limits.memory)"), "{words}");
}

#[test]
fn a_panic_has_its_own_words() {
    let words = words_of("panic");
    assert!(words.contains("something went wrong with web"), "{words}");
}

#[test]
fn a_huge_reply_has_a_limit_that_is_named() {
    let words = words_of("huge");
    assert!(words.contains("limit of 256 KiB (limits.reply)"), "{words}");
}

#[test]
fn a_reply_that_is_small_there_and_large_here_never_becomes_large_here() {
    let before = resident_kib();
    let words = words_of("repeat");
    assert!(words.contains("limits.reply"), "{words}");
    assert!(resident_kib() < before + 200 * 1024, "{} KiB more", resident_kib() - before);
}

#[test]
fn endless_log_lines_and_endless_recursion_end() {
    words_of("log");
    words_of("recurse");
}

#[test]
fn a_name_that_is_not_legal_never_reaches_kubernetes() {
    assert!(words_of("illegal").contains("\"Not_Legal!\" for \"web\" is not legal"));
    assert!(words_of("dash").contains("\"web-\""));
}

#[test]
fn the_same_question_has_the_same_answer_since_nothing_is_left_of_a_call() {
    let folder = Folder::new();
    folder.write("hostile.wasm", component("hostile")).write("settings.yaml", deed("random"));
    let policies = folder.policies();
    let first = name(&policies, "web").unwrap();
    for _ in 0..50 {
        assert_eq!(name(&policies, "web").unwrap(), first);
    }
}

#[test]
fn a_refusal_is_an_error_with_the_policys_name_and_words() {
    let folder = Folder::new();
    folder.write("hostile.wasm", component("hostile")).write("settings.yaml", deed("refuse"));
    let fault = name(&folder.policies(), "web").unwrap_err();
    assert_eq!(fault.kind, Kind::Forbidden);
    assert_eq!(fault.message, "refused by policy hostile: no web today");
}

#[test]
fn a_policy_that_fails_too_often_is_given_up_for_the_set_before() {
    let folder = Folder::new();
    let policies = folder.policies();
    let mut news = policies.news();
    folder.write("hostile.wasm", component("hostile")).write("settings.yaml", deed("panic"));
    policies.reload().unwrap();
    let failed = (0..20).take_while(|_| name(&policies, "web").is_err()).count();
    assert_eq!(failed, 5);
    assert_eq!(name(&policies, "web").unwrap(), "web");
    let mut told = Vec::new();
    while let Ok(item) = news.try_recv() {
        told.push(format!("{item:?}"));
    }
    assert!(told.last().unwrap().contains("rolled_back: true"), "{told:?}");
    let again = policies.reload().unwrap_err().to_string();
    assert!(again.contains("failed too often"), "the same set does not come back: {again}");
    folder.write("settings.yaml", deed("pass"));
    policies.reload().unwrap();
    assert_eq!(policies.current().policies[0].info.name, "hostile");
}

#[test]
fn limits_can_be_set_for_a_policy() {
    let folder = Folder::new();
    let settings = "hostile: {settings: {deed: loop}, limits: {time: 50ms}}\n";
    folder.write("hostile.wasm", component("hostile")).write("settings.yaml", settings);
    let words = name(&folder.policies(), "web").unwrap_err().message;
    assert!(words.contains("limit of 50 ms"), "{words}");
}
