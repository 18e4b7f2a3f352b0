//! Devices of the machine are not a container's, unless it is privileged: on cgroups of both versions, and
//! in volumes. Programs that change the user work in its own files, and not in volumes.

use crate::own::{Folder, Own, with_unified_cgroups, wrapped};
use crate::support::run;

/// Makes the node of a disk, and prints why it cannot be opened.
const DISK: &str = "mknod /dev/disk b 7 0 && cat /dev/disk";

/// A device that only the machine's administrator reads: its kernel log.
const KERNEL_LOG: &str = "mknod /dev/log c 1 11 && : < /dev/log && echo opened";

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[d2k_suite::test]
fn a_container_opens_the_usual_devices_and_no_others() {
    let Some(own) = Own::start().filter(|_| is_root()) else { return };
    let refused = "can't open '/dev/disk': Operation not permitted";
    own.docker(format!("run --rm busybox sh -c '{DISK}'")).failure(1, &[refused]);
    own.docker(format!("run --rm --cap-add ALL busybox sh -c '{DISK}'")).failure(1, &[refused]);
    let usual = "echo lost > /dev/null; head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c";
    assert_eq!(own.docker(format!("run --rm busybox sh -c '{usual}'")).success(), "4\n4");
    assert_eq!(own.docker(format!("run --rm --privileged busybox sh -c '{KERNEL_LOG}'")).success(), "opened");
    assert!(!own.docker("info --format '{{.Warnings}}'").success().contains("device rules"));
}

#[d2k_suite::test]
fn a_command_in_a_container_opens_no_others_either() {
    let Some(own) = Own::start().filter(|_| is_root()) else { return };
    own.docker("run -d --name web busybox sleep 1000").success();
    own.docker(format!("exec web sh -c '{DISK}'")).failure(1, &["Operation not permitted"]);
    assert_eq!(own.docker("exec web sh -c 'head -c 4 /dev/zero | wc -c'").success(), "4");
}

#[d2k_suite::test]
fn cgroups_of_version_2_have_device_rules_too() {
    let Some(folder) = Folder::new().filter(|_| is_root()) else { return };
    let script = format!(
        "docker pull --quiet busybox > /dev/null
         docker run --rm busybox sh -c '{DISK}' 2>&1 || echo refused
         docker run --rm --cap-add ALL busybox sh -c '{DISK}' 2>&1 || echo refused
         docker run --rm busybox sh -c 'echo lost > /dev/null; head -c 4 /dev/zero | wc -c'
         docker run -d --name web busybox sleep 1000 > /dev/null
         docker exec web sh -c '{DISK}' 2>&1 || echo refused
         docker run --rm --privileged busybox sh -c '{KERNEL_LOG}'
         docker info --format '{{{{.Warnings}}}}' | grep -c 'device rules' || true"
    );
    let job = with_unified_cgroups(&[], &folder.job(&["--", "sh", "-ec", &script]));
    let said = run(job, &script, b"", std::time::Duration::from_secs(90)).success();
    let refused = "cat: can't open '/dev/disk': Operation not permitted\nrefused";
    assert_eq!(said, format!("{refused}\n{refused}\n4\n{refused}\nopened\n0"));
}

#[d2k_suite::test]
fn a_volume_holds_no_devices_and_changes_no_user() {
    let Some(own) = Own::start().filter(|_| is_root()) else { return };
    let node = "mknod /v/null c 1 3 && cat /v/null";
    let denied = "can't open '/v/null': Permission denied";
    own.docker(format!("run --rm -v vol:/v busybox sh -c '{node}'")).failure(1, &[denied]);
    own.docker(format!("run --rm --tmpfs /v busybox sh -c '{node}'")).failure(1, &[denied]);
    let mounts = "grep -E \" (/v|/t|/s|/) \" /proc/mounts";
    let mounts = own
        .docker(format!(
            "run --rm -v vol:/v --tmpfs /t --mount type=volume,src=vol,dst=/s,volume-subpath=a busybox sh -c '{mounts}'"
        ))
        .success();
    assert_eq!(mounts.lines().count(), 4, "{mounts}");
    for line in mounts.lines() {
        let own = line.contains(" / ");
        assert!(line.contains("nodev") && line.contains("nosuid") != own, "{line}");
    }
}

#[d2k_suite::test]
fn a_containers_own_files_hold_no_devices_even_where_they_are_copies() {
    let Some(folder) = Folder::new().filter(|_| is_root()) else { return };
    let script = "docker pull --quiet busybox > /dev/null
        docker run --rm busybox sh -c 'mknod /null c 1 3; cat /null' 2>&1 || true
        docker run --rm busybox sh -c 'echo lost > /dev/null; chmod 4755 /bin/busybox; stat -c %a /bin/busybox'";
    // An overlay cannot write to another one, on which the temporary folder is here.
    let overlay = "mkdir lower upper work && mount -t tmpfs none upper && mkdir upper/upper upper/work
        mount -t overlay none -o lowerdir=lower,upperdir=upper/upper,workdir=upper/work work
        export TMPDIR=$PWD/work; exec \"$0\" \"$@\"";
    let job = folder.job(&["--", "sh", "-ec", script]);
    for (where_, job) in [("copies", wrapped(&["unshare", "--mount"], overlay, &job)), ("overlays", job)] {
        let said = run(job, script, b"", std::time::Duration::from_secs(90)).success();
        assert_eq!(said, "cat: can't open '/null': Permission denied\n4755", "{where_}");
    }
}

#[d2k_suite::test]
fn a_program_in_a_containers_own_files_changes_the_user() {
    let Some(own) = Own::start().filter(|_| is_root()) else { return };
    let script =
        "echo root::0:0:root:/root:/bin/sh > /etc/passwd; echo other:x:1000:1000::/:/bin/sh >> /etc/passwd
        mkdir /own; for at in /own /v; do cp /bin/busybox $at/su; chmod 4755 $at/su; done
        for at in /own /v; do su other -c \"$at/su root -c id\" 2>&1; done";
    let said = own.docker(format!("run --quiet --rm -v vol:/v busybox sh -c '{script}'")).both();
    let lines: Vec<&str> = said.trim().lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("uid=0"), "{said}");
    assert_eq!(lines[1], "su: must be suid to work properly");
}
