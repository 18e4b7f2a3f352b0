//! Policies are swapped while they are asked: seen within a second, and no request fails.

use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use d2k_policy::Policies;
use tokio_util::sync::CancellationToken;

use super::support::{Folder, component, deed, name, resident_kib};

/// Waits until names are given as wanted; returns how long it took.
fn until(policies: &Policies, wanted: &str) -> Duration {
    let begin = Instant::now();
    while name(policies, "web").ok().as_deref() != Some(wanted) {
        assert!(
            begin.elapsed() < Duration::from_secs(15),
            "not {wanted} after 15 s: {:?}",
            policies.refused()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    begin.elapsed()
}

fn watched(folder: &Folder) -> (Arc<Policies>, tokio::runtime::Runtime) {
    let policies = folder.policies();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.spawn(policies.clone().watch(CancellationToken::new()));
    // The watch itself takes a moment to begin.
    std::thread::sleep(Duration::from_millis(200));
    (policies, runtime)
}

#[test]
fn a_file_takes_effect_within_a_second_and_goes_with_it() {
    let folder = Folder::new();
    let (policies, _runtime) = watched(&folder);
    folder.write("settings.yaml", "naming: {settings: {prefix: a-}}\n");
    let took = until(&policies, "a-web");
    assert!(took < Duration::from_secs(1), "{took:?}");
    folder.write("hostile.wasm", component("hostile"));
    folder.write("settings.yaml", deed("same"));
    until(&policies, "always-the-same");
    folder.write("garbage.wasm", "garbage");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(name(&policies, "web").unwrap(), "always-the-same");
    folder.remove("garbage.wasm");
    folder.remove("hostile.wasm");
    folder.remove("settings.yaml");
    until(&policies, "web");
    // It is cleared a moment after the swap.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(policies.refused(), None);
}

#[test]
fn the_swap_of_a_mounted_config_map_is_seen() {
    let folder = Folder::new();
    let version = |name: &str, prefix: &str| {
        std::fs::create_dir(folder.0.join(name)).unwrap();
        let text = format!("naming: {{settings: {{prefix: {prefix}}}}}\n");
        std::fs::write(folder.0.join(name).join("settings.yaml"), text).unwrap();
    };
    version("..1", "a-");
    symlink("..1", folder.0.join("..data")).unwrap();
    symlink("..data/settings.yaml", folder.0.join("settings.yaml")).unwrap();
    let (policies, _runtime) = watched(&folder);
    assert_eq!(name(&policies, "web").unwrap(), "a-web");
    // One at the heels of the other: no moment is without a watch.
    for (number, prefix) in (2..20).map(|number| (format!("..{number}"), format!("v{number}-"))) {
        version(&number, &prefix);
        symlink(number, folder.0.join("..data_tmp")).unwrap();
        std::fs::rename(folder.0.join("..data_tmp"), folder.0.join("..data")).unwrap();
        let took = until(&policies, &format!("{prefix}web"));
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
}

#[test]
fn a_folder_that_is_replaced_as_a_whole_is_seen() {
    let parent = Folder::new();
    let folder = Folder(parent.0.join("policies"));
    std::fs::create_dir(&folder.0).unwrap();
    folder.write("settings.yaml", "naming: {settings: {prefix: a-}}\n");
    let (policies, _runtime) = watched(&folder);
    std::fs::rename(&folder.0, parent.0.join("old")).unwrap();
    std::fs::create_dir(&folder.0).unwrap();
    folder.write("settings.yaml", "naming: {settings: {prefix: b-}}\n");
    until(&policies, "b-web");
    // And what is written into the new one is seen as well.
    std::thread::sleep(Duration::from_millis(300));
    folder.write("settings.yaml", "naming: {settings: {prefix: c-}}\n");
    let took = until(&policies, "c-web");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

/// How many reloads; the whole series is run with `D2K_TEST_RELOADS=10000`.
fn reloads() -> u64 {
    std::env::var("D2K_TEST_RELOADS").ok().and_then(|n| n.parse().ok()).unwrap_or(200)
}

#[test]
fn no_request_fails_while_the_set_is_swapped_again_and_again_and_memory_stays_flat() {
    let folder = Folder::new();
    folder.write("settings.yaml", "naming: {settings: {prefix: a-}}\n");
    let policies = folder.policies();
    let (done, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let askers: Vec<_> = (0..2)
        .map(|_| {
            let (policies, done, asked) = (policies.clone(), done.clone(), asked.clone());
            std::thread::spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let name = name(&policies, "web").expect("no request fails");
                    assert!(name == "a-web" || name == "b-web", "{name}");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let (reloads, mut series) = (reloads(), Vec::new());
    for round in 0..reloads {
        let prefix = if round % 2 == 0 { "b-" } else { "a-" };
        folder.write("settings.yaml", format!("naming: {{settings: {{prefix: {prefix}}}}}\n"));
        policies.reload().unwrap();
        if round % (reloads / 10).max(1) == 0 {
            series.push(resident_kib());
        }
    }
    done.store(true, Ordering::Relaxed);
    askers.into_iter().for_each(|asker| asker.join().expect("no request fails"));
    println!("{reloads} reloads under {} requests, resident KiB: {series:?}", asked.load(Ordering::Relaxed));
    let settled = &series[series.len() / 3..];
    let spread = settled.iter().max().unwrap() - settled.iter().min().unwrap();
    assert!(spread < 8 * 1024, "resident memory in KiB: {series:?}");
}
