//! Files of a policy folder are checked before they are read: no FIFO holds d2k up, no device fills
//! it, and the links of a mounted ConfigMap work. And the compiler has limits of its own.

use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use d2k_policy::{Options, Policies};

use super::support::{Folder, component, deed, kept, name};

fn fifo(folder: &Folder, name: &str) {
    let made = Command::new("mkfifo").arg(folder.0.join(name)).status().unwrap();
    assert!(made.success());
}

/// Why the folder is refused, at once.
fn refused(folder: &Folder) -> String {
    let begin = Instant::now();
    let policies = Policies::new(Options { cache: None, ..folder.options() }).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    policies.refused().expect("it should be refused")
}

#[test]
fn a_fifo_is_refused_and_holds_nothing_up() {
    for file in ["a.wasm", "settings.yaml"] {
        let folder = Folder::new();
        fifo(&folder, file);
        assert_eq!(refused(&folder), format!("{file} refused at read: it is no regular file (Fifo)"));
    }
    let folder = Folder::new();
    folder.write("hostile.wasm", component("hostile"));
    fifo(&folder, "hostile.fixtures.yaml");
    assert!(refused(&folder).starts_with("hostile.fixtures.yaml refused at read: it is no regular file"));
}

#[test]
fn a_link_to_a_device_or_a_folder_is_refused() {
    for (target, kind) in [("/dev/zero", "CharacterDevice"), ("/", "Directory")] {
        let folder = Folder::new();
        symlink(target, folder.0.join("a.wasm")).unwrap();
        assert_eq!(refused(&folder), format!("a.wasm refused at read: it is no regular file ({kind})"));
    }
    let folder = Folder::new();
    symlink("/nowhere", folder.0.join("settings.yaml")).unwrap();
    assert!(refused(&folder).starts_with("settings.yaml refused at read: No such file"));
}

#[test]
fn settings_and_folders_without_end_are_refused() {
    let folder = Folder::new();
    folder.write("settings.yaml", "#".repeat((1 << 20) + 1));
    assert_eq!(refused(&folder), "settings.yaml refused at read: it has more than 1048576 bytes");
    let folder = Folder::new();
    for number in 0..65 {
        folder.write(&format!("{number}.wasm"), "");
    }
    assert!(refused(&folder).contains("it has 65 components, at most 64 are taken"));
}

#[test]
fn the_links_of_a_mounted_config_map_are_followed() {
    let folder = Folder::new();
    std::fs::create_dir(folder.0.join("..1")).unwrap();
    std::fs::write(folder.0.join("..1/hostile.wasm"), component("hostile")).unwrap();
    std::fs::write(folder.0.join("..1/settings.yaml"), deed("same")).unwrap();
    symlink("..1", folder.0.join("..data")).unwrap();
    for file in ["hostile.wasm", "settings.yaml"] {
        symlink(format!("..data/{file}"), folder.0.join(file)).unwrap();
    }
    assert_eq!(name(&folder.policies(), "web").unwrap(), "always-the-same");
}

#[test]
fn a_child_of_d2k_compiles_within_limits() {
    let (folder, cache) = (Folder::new(), kept());
    folder.write("hostile.wasm", component("hostile")).write("settings.yaml", deed("same"));
    let program = Some(env!("CARGO_BIN_EXE_d2k").into());
    let options = Options { cache: Some(cache.0.clone()), program, ..folder.options() };
    assert_eq!(name(&Policies::new(options).unwrap(), "web").unwrap(), "always-the-same");
    let mut child = Command::new(env!("CARGO_BIN_EXE_d2k"))
        .arg("compile-policy")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        // It may write no file, and the tests' own standard error may be one.
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let limits = || std::fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    let limit = |what: &str| {
        let all = limits();
        let line = all.lines().find(|line| line.starts_with(what)).unwrap().to_owned();
        line.split_whitespace().rev().nth(1).unwrap().to_owned()
    };
    let address_space = (1_u64 << 30).to_string();
    let expected =
        [("Max cpu time", "30"), ("Max address space", address_space.as_str()), ("Max core file size", "0")];
    // The child sets its limits one after the other.
    let begin = Instant::now();
    while !expected.iter().all(|(name, value)| limit(name) == *value) {
        assert!(begin.elapsed() < Duration::from_secs(20), "{}", limits());
        std::thread::sleep(Duration::from_millis(5));
    }
    child.stdin.take().unwrap().write_all(b"garbage").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn a_policy_is_switched_off_while_another_one_takes_the_compiler_for_ever() {
    let (folder, cache) = (Folder::new(), kept());
    let program = folder.0.join("compiler");
    std::fs::write(&program, "#!/bin/sh\nexec sleep 60\n").unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let options = || Options { cache: Some(cache.0.clone()), ..folder.options() };
    drop(Policies::new(options()).unwrap());
    // The built-in policies are in the cache now, and nothing else is.
    let policies = Policies::new(Options { program: Some(program), ..options() }).unwrap();
    folder.write("hostile.wasm", component("hostile"));
    let (reloading, (sender, receiver)) = (policies.clone(), std::sync::mpsc::channel());
    std::thread::spawn(move || sender.send(reloading.reload()));
    assert!(receiver.recv_timeout(Duration::from_millis(500)).is_err(), "it is still being compiled");
    let begin = Instant::now();
    policies.switch("naming", false).unwrap();
    assert!(name(&policies, "web").is_err());
    policies.switch("naming", true).unwrap();
    assert_eq!(name(&policies, "web").unwrap(), "web");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    let refused = receiver.recv_timeout(Duration::from_secs(60)).expect("it has a deadline");
    let refused = refused.unwrap_err().to_string();
    assert_eq!(refused, "hostile.wasm refused at compile: compiling it takes more than 30 s");
    // It is not tried again and again.
    let begin = Instant::now();
    assert_eq!(policies.reload().unwrap_err().to_string(), refused);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

/// A component whose one table would take far more than a policy may have.
fn tables(count: usize, entries: usize) -> Vec<u8> {
    let tables = format!("(table {entries} funcref)").repeat(count);
    let wat = format!("(component (core module $m {tables}) (core instance (instantiate $m)))");
    wat::parse_str(wat).unwrap()
}

#[test]
fn the_tables_and_instances_of_a_call_have_a_bound_together() {
    use d2k_policy::component::{State, call, engine};
    use d2k_policy::limits::Limits;
    use wasmtime::component::{Component, Linker};
    let failure = |bytes: &[u8]| {
        let component = Component::from_binary(engine(), bytes).unwrap();
        let linker = Linker::<State>::new(engine());
        let made = call(Limits::default(), |store| linker.instantiate(store, &component).map(|_| ()));
        made.err().map(|(failure, _)| failure.to_string())
    };
    assert_eq!(failure(&tables(4, 1000)), None);
    // Each of them was allowed, and there was no end to their number.
    assert!(failure(&tables(30, 100_000)).unwrap().contains("limits.memory"));
    assert!(failure(&tables(65, 1)).unwrap().contains("table"));
    let instances = "(core instance (instantiate $m))".repeat(65);
    let many = wat::parse_str(format!("(component (core module $m) {instances})")).unwrap();
    assert!(failure(&many).unwrap().contains("instance"));
    let memories = "(core instance (instantiate $m))".repeat(17);
    let many = wat::parse_str(format!("(component (core module $m (memory 0)) {memories})")).unwrap();
    assert!(failure(&many).unwrap().contains("memor"));
}
