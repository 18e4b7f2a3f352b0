//! Other users of the machine get nothing of an embedded cluster, and users of containers get all that is
//! theirs, whatever d2k's own umask is.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::own::{Folder, Own, with_unified_cgroups, wrapped};
use crate::support::{Output, eventually, run};

/// Runs a line of shell as a user who has no rights at all; `None` if this one is not root.
fn as_nobody(line: &str) -> Option<Output> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "sh", "-c", line]);
    Some(run(command, line, b"", Duration::from_secs(20)))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

/// The files of this name below a folder.
fn named(folder: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name() == name {
            found.push(entry.path());
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(named(&entry.path(), name));
        }
    }
    found
}

#[d2k_suite::test]
fn another_user_of_the_machine_reads_and_runs_nothing_of_it() {
    let Some(own) = Own::start() else { return };
    own.docker("run --rm -v vol:/v busybox sh -c 'cp /bin/busybox /v/tool; chmod 4755 /v/tool'").success();
    own.docker("run -d --name web busybox sh -c 'cp /bin/busybox /tool; chmod 4755 /tool; sleep 1000'")
        .success();
    own.kubectl("create secret generic word --from-literal=password=open").success();
    let data = own.data();
    assert_eq!((mode(&data), mode(&data.join("journal"))), (0o700, 0o600));
    assert!(fs::read_to_string(data.join("journal")).unwrap().contains("b3Blbg=="), "the Secret is in it");
    eventually("both programs are there", || named(&data, "tool").len() >= 2);
    let tools = named(&data, "tool").into_iter().map(|tool| format!("{} id -u", tool.display()));
    let files = ["journal", "kubeconfig", "lock"].map(|file| format!("cat {}", data.join(file).display()));
    for line in tools.chain(files).chain([format!("ls {}", data.display())]) {
        let Some(output) = as_nobody(&line) else { return };
        assert!(
            output.stdout.is_empty() && output.both().contains("Permission denied"),
            "{line}: {output:?}"
        );
    }
}

#[d2k_suite::test]
fn a_folder_of_an_older_version_is_closed_at_the_next_start() {
    let Some(mut own) = Own::start() else { return };
    own.docker("create --name kept busybox").success();
    own.daemon().end("TERM", Duration::from_secs(20)).unwrap();
    let data = own.data();
    for (file, old) in [("", 0o755), ("journal", 0o644), ("kubeconfig", 0o644)] {
        fs::set_permissions(data.join(file), fs::Permissions::from_mode(old)).unwrap();
    }
    own.start_again();
    assert_eq!(own.docker("ps -a --format '{{.Names}}'").success(), "kept");
    let modes = ["", "journal", "kubeconfig"].map(|file| mode(&data.join(file)));
    assert_eq!(modes, [0o700, 0o600, 0o600]);
}

#[d2k_suite::test]
fn a_folder_that_others_use_is_refused_and_left_as_it_is() {
    let Some(folder) = Folder::new() else { return };
    let shared = folder.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).unwrap();
    std::os::unix::fs::symlink(folder.path(), shared.join("link")).unwrap();
    for (data, why) in [(shared.clone(), "other users can use it"), (shared.join("link"), "is a link")] {
        let data = data.display().to_string();
        let second = folder.d2k(&["--data-dir", &data, "--port", "0", "--admin-port", "0"]);
        run(second, "d2k", b"", Duration::from_secs(30)).failure(1, &[&data, why, "D2K_DATA_DIR"]);
    }
    assert_eq!(mode(&shared), 0o1777);
}

const MANIFEST: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {one: first}
---
apiVersion: v1
kind: Secret
metadata: {name: word}
stringData: {password: open}
---
apiVersion: v1
kind: Pod
metadata: {name: user}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {runAsUser: 1000, runAsGroup: 1000, fsGroup: 2000}
  volumes:
  - {name: settings, configMap: {name: settings, items: [{key: one, path: deep/one}]}}
  - {name: word, secret: {secretName: word, defaultMode: 0400}}
  - {name: empty, emptyDir: {}}
  containers:
  - name: a
    image: busybox
    command: [sleep, '10000']
    volumeMounts:
    - {name: settings, mountPath: /settings}
    - {name: word, mountPath: /word}
    - {name: empty, mountPath: /empty}
    - {name: empty, mountPath: /part, subPath: a/b}
"#;

#[d2k_suite::test]
fn a_user_of_a_container_has_its_volumes_even_if_d2k_has_a_private_umask() {
    let Some(folder) = Folder::new() else { return };
    let manifest = folder.path().join("manifest.yaml");
    fs::write(&manifest, MANIFEST).unwrap();
    let script = format!(
        "docker run --rm -u 1000 -v data:/data busybox sh -c 'umask; echo x > /data/file; stat -c %a /data/file /data /
            cat /etc/hosts /etc/hostname /etc/resolv.conf > /dev/null && echo read'
         kubectl apply -f {} > /dev/null
         kubectl wait --for=condition=Ready pod/user --timeout=60s > /dev/null
         kubectl exec user -- sh -c 'cat /settings/deep/one; echo; cat /word/password; echo
            touch /empty/file /part/file && stat -c %a /empty /part /empty/file; stat -L -c %a /word/password'",
        manifest.display()
    );
    let job = wrapped(&[], "umask 077; exec \"$0\" \"$@\"", &folder.job(&["--", "sh", "-ec", &script]));
    let said = run(job, &script, b"", Duration::from_secs(90)).success();
    let words: Vec<&str> = said.lines().collect();
    assert_eq!(words[..5], ["0022", "644", "2777", "755", "read"], "{said}");
    assert_eq!(words[5..], ["first", "open", "2777", "2777", "644", "440"], "{said}");
}

#[d2k_suite::test]
fn in_a_user_namespace_a_container_has_its_volumes_and_parts_of_them() {
    let Some(folder) = Folder::new() else { return };
    let script = "docker pull --quiet busybox > /dev/null
        docker run --rm -v vol:/v busybox sh -c 'mkdir -p /v/a/b; echo kept > /v/a/b/file'
        docker run --rm --mount type=volume,src=vol,dst=/m,volume-subpath=a/b busybox cat /m/file
        docker run --rm --mount type=volume,src=vol,dst=/m,volume-subpath=c/d busybox touch /m/file
        docker run --rm --tmpfs /t -v vol:/v busybox sh -c 'touch /t/file; ls /v/c/d; grep -c \" /v .*nosuid,nodev\" /proc/mounts'
        docker run --rm busybox sh -c 'mknod /dev/disk b 7 0 2>&1; echo lost > /dev/null; head -c 4 /dev/zero | wc -c'
        docker info --format '{{.Warnings}}' | grep -c 'device rules' || true";
    let job = folder.job(&["--", "sh", "-ec", script]);
    let job = with_unified_cgroups(&["unshare", "--user", "--map-root-user"], &job);
    let said = run(job, script, b"", Duration::from_secs(90)).success();
    assert_eq!(said, "kept\nfile\n1\nmknod: /dev/disk: Operation not permitted\n4\n0");
}
