//! Parts of volumes: what a container writes into a volume leads no other one out of it.

use std::path::Path;

use crate::own::Own;

fn part(sub: &str, command: &str) -> String {
    format!("run --rm --mount type=volume,src=vol,dst=/m,volume-subpath={sub} busybox {command}")
}

#[d2k_suite::test]
fn a_link_in_a_volume_makes_and_shows_nothing_outside_of_it() {
    let Some(own) = Own::start() else { return };
    let outside = own.folder().path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let links = format!("ln -s {} /v/a; ln -s ../../../../../../../../etc /v/up", outside.display());
    own.docker(format!("run --rm -v vol:/v busybox sh -c '{links}'")).success();
    own.docker(part("a/d2k", "true")).failure(125, &["subPath a/d2k leads out of the volume"]);
    own.docker(part("a", "true")).failure(125, &["subPath a leads out of the volume"]);
    own.docker(part("up/d2k", "true")).failure(125, &["subPath up/d2k leads out of the volume"]);
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert!(!Path::new("/etc/d2k").exists());
}

#[d2k_suite::test]
fn a_part_is_made_and_shared_and_a_link_within_the_volume_is_followed() {
    let Some(own) = Own::start() else { return };
    own.docker(part("a/b", "sh -c 'echo kept > /m/file'")).success();
    assert_eq!(own.docker("run --rm -v vol:/v busybox cat /v/a/b/file").success(), "kept");
    own.docker("run --rm -v vol:/v busybox ln -s a/b /v/near").success();
    assert_eq!(own.docker(part("near", "cat /m/file")).success(), "kept");
    assert_eq!(own.docker(part("near/file", "cat /m")).success(), "kept");
    // Any user has it, as the volume itself.
    let as_user = part("c", "touch /m/file").replace("run", "run -u 1000");
    own.docker(as_user).success();
    let folder =
        own.docker("run --rm -w /m/deep --mount type=volume,src=vol,dst=/m,volume-subpath=d busybox pwd");
    assert_eq!(folder.success(), "/m/deep");
}

#[d2k_suite::test]
fn a_folder_that_becomes_a_link_while_containers_start_leads_nowhere() {
    let Some(own) = Own::start() else { return };
    let outside = own.folder().path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "secret").unwrap();
    let swap = format!(
        "mkdir /v/folder; ln -s {} /v/link
         while :; do mv /v/folder /v/x; mv /v/link /v/folder; mv /v/folder /v/link; mv /v/x /v/folder; done",
        outside.display()
    );
    own.docker(format!("run -d --name swap -v vol:/v busybox sh -c '{swap}'")).success();
    for turn in 0..8 {
        let output = own.docker(part(&format!("folder/{turn}"), "sh -c 'ls -a /m/.. /m; cat /m/secret'"));
        assert!(!output.stdout.contains("secret"), "{output:?}");
    }
    let left: Vec<_> = std::fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["secret"]);
    own.docker("rm -f swap").success();
}
