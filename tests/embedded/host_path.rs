//! Paths of the machine in Pods (`hostPath`): as the machine has them, whatever they are, and with words for
//! those that cannot be had.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::own::{Folder, Own};
use crate::support::eventually;

/// A Pod of one container that mounts volumes: for each the source, and a mount's fields. It ends by itself.
fn pod(own: &Own, name: &str, mounts: &[(&str, &str)], script: &str) {
    pod_with(own, name, mounts, script, "");
}

fn pod_with(own: &Own, name: &str, mounts: &[(&str, &str)], script: &str, more: &str) {
    let volumes: Vec<String> = mounts
        .iter()
        .enumerate()
        .map(|(number, (source, _))| format!("{{name: v{number}, hostPath: {{{source}}}}}"))
        .collect();
    let asked: Vec<String> = mounts
        .iter()
        .enumerate()
        .map(|(number, (_, fields))| format!("{{name: v{number}, {fields}}}"))
        .collect();
    own.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{restartPolicy: Never, \
         terminationGracePeriodSeconds: 1, volumes: [{}], containers: [{{name: main, image: busybox, \
         command: [sh, -c, '{script}'], volumeMounts: [{}]{more}}}]}}\n",
        volumes.join(", "),
        asked.join(", ")
    ));
}

/// What the Pod has said when it has ended.
fn said(own: &Own, name: &str) -> String {
    eventually("it has ended", || {
        ["Succeeded", "Failed"].contains(&own.field(&format!("pod/{name}"), ".status.phase").as_str())
    });
    own.kubectl(format!("logs {name}")).success()
}

/// Waits for the words of a container that cannot be made; with its reason.
fn refused(own: &Own, name: &str, words: &[&str]) -> String {
    let field = |path: &str| {
        own.field(&format!("pod/{name}"), &format!(".status.containerStatuses[0].state.waiting.{path}"))
    };
    eventually("it is refused", || !field("message").is_empty());
    let message = field("message");
    assert!(words.iter().all(|words| message.contains(words)), "{message}");
    field("reason")
}

fn path(of: &Path) -> String {
    format!("path: {}", of.display())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A folder of the machine that shares its mounts, made before d2k begins, with another mount in it.
struct Shared(PathBuf);

impl Shared {
    fn new(folder: &Path) -> Self {
        let at = folder.join("shared");
        fs::create_dir(&at).unwrap();
        let shared = Self(at);
        shared.mount("");
        assert!(Command::new("mount").arg("--make-shared").arg(&shared.0).status().unwrap().success());
        shared.mount("before");
        shared
    }

    fn mount(&self, name: &str) {
        let at = self.0.join(name);
        fs::create_dir_all(&at).unwrap();
        assert!(Command::new("mount").args(["-t", "tmpfs", "d2k-test"]).arg(&at).status().unwrap().success());
        fs::write(at.join("file"), name).unwrap();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-R", "-l"]).arg(&self.0).status();
    }
}

#[d2k_suite::test]
fn a_container_has_a_folder_a_file_a_socket_and_a_device_of_the_machine() {
    let Some(own) = Own::start().filter(|_| is_root()) else { return };
    let folder = own.folder().path().join("host");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("file"), "of the machine\n").unwrap();
    let socket = own.folder().path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let (file, missing) = (folder.join("file"), own.folder().path().join("a/b"));
    let mounts = [
        (path(&folder), "mountPath: /dir"),
        (path(&file), "mountPath: /etc/motd"),
        (format!("{}, type: Socket", path(&socket)), "mountPath: /run/s.sock"),
        ("path: /dev/null, type: CharDevice".to_owned(), "mountPath: /etc/passwd"),
        (path(&missing), "mountPath: /made"),
        (path(&folder), "mountPath: /part, subPath: file, readOnly: true"),
    ];
    let mounts: Vec<(&str, &str)> = mounts.iter().map(|(source, mount)| (source.as_str(), *mount)).collect();
    let script = "cat /dir/file /etc/motd /part; echo there > /dir/new; echo more >> /etc/motd; \
                  test -S /run/s.sock && echo a socket; wc -c < /etc/passwd; echo lost > /etc/passwd; touch /made/x; \
                  ( echo no > /part ) 2> /dev/null || echo refused";
    pod(&own, "one", &mounts, script);
    let said = said(&own, "one");
    let expected = "of the machine\nof the machine\nof the machine\na socket\n0\nrefused";
    assert_eq!(said, expected);
    assert_eq!(fs::read_to_string(folder.join("new")).unwrap(), "there\n");
    assert_eq!(fs::read_to_string(&file).unwrap(), "of the machine\nmore\n");
    assert_eq!(fs::metadata(&missing).unwrap().permissions().mode() & 0o7777, 0o755);
    assert!(missing.join("x").exists());
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
}

#[d2k_suite::test]
fn a_program_of_the_machine_changes_the_user_and_its_nodes_are_devices() {
    let Some(own) = Own::start().filter(|_| is_root()) else { return };
    let folder = own.folder().path().join("host");
    fs::create_dir(&folder).unwrap();
    let made = Command::new("mknod").arg(folder.join("zero")).args(["c", "1", "5"]).status().unwrap();
    assert!(made.success());
    let script = "cp /bin/busybox /h/su; chmod 4755 /h/su; head -c 3 /h/zero | wc -c; \
                  echo root::0:0:root:/root:/bin/sh > /etc/passwd; echo other:x:1000:1000::/:/bin/sh >> /etc/passwd; \
                  su other -c \"/h/su root -c id\"";
    pod(&own, "one", &[(&path(&folder), "mountPath: /h")], script);
    let said = said(&own, "one");
    assert!(said.starts_with("3\nuid=0"), "{said}");
}

#[d2k_suite::test]
fn a_container_has_the_machines_processes_and_not_only_those_of_containers() {
    let Some(own) = Own::start().filter(|_| is_root()) else { return };
    let this = std::process::id();
    let mounts = [("path: /proc", "mountPath: /host/proc, readOnly: true")];
    pod(
        &own,
        "one",
        &mounts,
        &format!("cat /host/proc/{this}/comm; test -e /proc/{this}/comm || echo apart"),
    );
    let name = fs::read_to_string("/proc/self/comm").unwrap();
    assert_eq!(said(&own, "one"), format!("{name}apart"));
}

#[d2k_suite::test]
fn mounts_below_a_source_are_read_only_where_that_is_asked_for() {
    let Some(folder) = Folder::new().filter(|_| is_root()) else { return };
    let shared = Shared::new(folder.path());
    let Some(own) = Own::start() else { return };
    let source = path(&shared.0);
    let mounts = [
        (source.as_str(), "mountPath: /plain, readOnly: true"),
        (source.as_str(), "mountPath: /off, readOnly: true, recursiveReadOnly: Disabled"),
        (source.as_str(), "mountPath: /maybe, readOnly: true, recursiveReadOnly: IfPossible"),
        (source.as_str(), "mountPath: /all, readOnly: true, recursiveReadOnly: Enabled"),
    ];
    let script = "for at in plain off maybe all; do for below in . before; do \
                  touch /$at/$below/x 2> /dev/null && echo $at/$below; done; done; true";
    pod(&own, "one", &mounts, script);
    assert_eq!(said(&own, "one"), "plain/before\noff/before");
}

#[d2k_suite::test]
fn a_mount_that_the_machine_makes_later_is_seen_where_that_is_asked_for() {
    let Some(folder) = Folder::new().filter(|_| is_root()) else { return };
    let shared = Shared::new(folder.path());
    let Some(own) = Own::start() else { return };
    let source = path(&shared.0);
    let mounts = [
        (source.as_str(), "mountPath: /alone"),
        (source.as_str(), "mountPath: /none, mountPropagation: None"),
        (source.as_str(), "mountPath: /follows, mountPropagation: HostToContainer"),
        (source.as_str(), "mountPath: /part, subPath: in, mountPropagation: HostToContainer"),
    ];
    pod(&own, "one", &mounts, "sleep 1000");
    own.kubectl("wait --for=condition=Ready pod/one --timeout=45s").success();
    shared.mount("later");
    shared.mount("in/part");
    let seen =
        "cat /*/before/file; echo; ls -d /*/later/file /*/part/file /*/in/part/file 2> /dev/null || true";
    let said = own.kubectl(format!("exec one -- sh -c '{seen}'")).success();
    assert_eq!(said, "beforebeforebefore\n/follows/in/part/file\n/follows/later/file\n/part/part/file");
    let private = path(own.folder().path());
    let follows = "mountPath: /x, mountPropagation: HostToContainer";
    if !fs::read_to_string("/proc/self/mountinfo")
        .unwrap()
        .lines()
        .any(|line| line.contains(" / / ") && line.contains("shared:"))
    {
        pod(&own, "two", &[(&private, follows)], "true");
        assert_eq!(refused(&own, "two", &["is not a shared or slave mount"]), "CreateContainerError");
    }
    let both = "mountPath: /x, mountPropagation: Bidirectional";
    pod_with(&own, "three", &[(&private, both)], "true", ", securityContext: {privileged: true}");
    let reason = refused(&own, "three", &["mountPropagation Bidirectional is not supported by this cluster"]);
    assert_eq!(reason, "CreateContainerConfigError");
}

#[d2k_suite::test]
fn a_link_in_a_part_may_lead_anywhere_in_the_volume_and_not_out_of_it() {
    let Some(own) = Own::start() else { return };
    let base = own.folder().path().canonicalize().unwrap();
    let folder = base.join("host");
    fs::create_dir_all(folder.join("inner")).unwrap();
    fs::write(folder.join("inner/file"), "found").unwrap();
    fs::write(base.join("secret"), "secret").unwrap();
    symlink(folder.join("inner"), folder.join("absolute")).unwrap();
    symlink("../host/absolute/../inner", folder.join("round")).unwrap();
    symlink(&folder, base.join("alias")).unwrap();
    symlink(base.join("alias/inner"), folder.join("by-alias")).unwrap();
    symlink(base.join("secret"), folder.join("far")).unwrap();
    symlink("..", folder.join("up")).unwrap();
    let source = path(&base.join("alias"));
    let parts = ["inner", "absolute", "round", "by-alias"];
    let fields = parts.map(|part| format!("mountPath: /{part}, subPath: {part}"));
    let mut mounts: Vec<(&str, &str)> =
        fields.iter().map(|fields| (source.as_str(), fields.as_str())).collect();
    mounts.push((&source, "mountPath: /made, subPath: absolute/new/folder"));
    pod(&own, "one", &mounts, "cat /*/file; touch /made/x");
    assert_eq!(said(&own, "one"), "found".repeat(4));
    let made = folder.join("inner/new/folder");
    assert!(made.join("x").exists());
    assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o7777, 0o755);
    for (number, part) in ["far", "up", "up/new"].into_iter().enumerate() {
        let name = format!("out{number}");
        pod(&own, &name, &[(&source, &format!("mountPath: /x, subPath: {part}"))], "cat /x /x/*");
        let words = format!("subPath {part} leads out of the volume");
        assert_eq!(refused(&own, &name, &[&words]), "CreateContainerConfigError");
    }
    assert!(!base.join("new").exists());
}

#[d2k_suite::test]
fn a_path_that_is_not_what_the_volume_says_is_told_and_waited_for() {
    let Some(own) = Own::start() else { return };
    let file = own.folder().path().join("file");
    let event = |name: &str| own.kubectl(format!("events --for pod/{name}")).success();
    pod(&own, "one", &[(&format!("{}, type: File", path(&file)), "mountPath: /x")], "cat /x");
    let words = format!("hostPath {} doesn't exist", file.display());
    eventually("it is told", || event("one").contains(&words));
    fs::write(&file, "now").unwrap();
    assert_eq!(said(&own, "one"), "now");
    for (kind, words) in [
        ("Directory", "directory, it's a File"),
        ("Socket", "socket file, it's a File"),
        ("BlockDevice", "block device, it's a File"),
        ("CharDevice", "character device, it's a File"),
    ] {
        let name = kind.to_lowercase();
        pod(&own, &name, &[(&format!("{}, type: {kind}", path(&file)), "mountPath: /x")], "true");
        let words = format!("hostPath type check failed: {} is not a {words}", file.display());
        eventually("it is told", || event(&name).contains(&words));
    }
}

#[d2k_suite::test]
fn a_mount_that_cannot_be_is_told_by_its_source_and_target_and_leaves_nothing() {
    let Some(own) = Own::start().filter(|_| is_root()) else { return };
    let (folder, file) = (own.folder().path().join("host"), own.folder().path().join("file"));
    fs::create_dir(&folder).unwrap();
    fs::write(&file, "").unwrap();
    let hint = "Are you trying to mount a directory onto a file (or vice-versa)?";
    let error = |source: &Path, target: &str| format!("error mounting {source:?} to rootfs at {target:?}: ");
    let (folders, files) = (path(&folder), path(&file));
    let words = "the source is a folder and the target is a file";
    pod(&own, "one", &[(&folders, "mountPath: /etc/passwd")], "true");
    assert_eq!(refused(&own, "one", &[&error(&folder, "/etc/passwd"), words, hint]), "CreateContainerError");
    let words = "the source is a file and the target is a folder";
    pod(&own, "two", &[(&files, "mountPath: /etc")], "true");
    refused(&own, "two", &[&error(&file, "/etc"), words, hint]);
    let inside =
        [(folders.as_str(), "mountPath: /x, readOnly: true"), (folders.as_str(), "mountPath: /x/new")];
    pod(&own, "three", &inside, "true");
    let words = "the target does not exist, and no folder can be made there: ";
    refused(&own, "three", &[&error(&folder, "/x/new"), words, "\"/x\" is mounted read-only"]);
    // It vanishes after the kubelet has looked at the Pod's volumes, before its second container begins.
    let gone = own.folder().path().join("gone");
    fs::create_dir(&gone).unwrap();
    own.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: four}}\nspec: {{volumes: [{{name: v, hostPath: {{{}}}}}, {{name: h, \
         hostPath: {{{}}}}}], initContainers: [{{name: init, image: busybox, command: [rmdir, /h/gone], volumeMounts: [{{name: h, \
         mountPath: /h}}]}}], containers: [{{name: main, image: busybox, volumeMounts: [{{name: v, mountPath: /x}}]}}]}}\n",
        path(&gone),
        path(own.folder().path())
    ));
    refused(&own, "four", &[&error(&gone, "/x"), "the source cannot be opened: No such file or directory"]);
    assert!(!gone.exists());
    for name in ["one", "two", "three", "four"] {
        own.kubectl(format!("delete pod {name} --timeout=30s")).success();
    }
    assert_eq!(left(&own), Vec::<String>::new());
}

/// Mounts and folders for sources that are left in the helper, whose mount namespace alone has them.
fn left(own: &Own) -> Vec<String> {
    let run = own.data().canonicalize().unwrap().join("run");
    let of_helper = format!(" {} ", run.display());
    let helper = fs::read_dir("/proc").unwrap().flatten().find_map(|process| {
        let table = fs::read_to_string(process.path().join("mountinfo")).ok()?;
        table.contains(&of_helper).then_some((process.path(), table))
    });
    let (process, table) = helper.expect("the helper has a mount at its folder");
    let held = process.join("root").join(run.strip_prefix("/").unwrap()).join("held");
    let folders = fs::read_dir(held).unwrap().map(|entry| entry.unwrap().path().display().to_string());
    let mounts = table.lines().filter(|line| line.contains("/held/") || line.contains("/merged"));
    folders.chain(mounts.map(str::to_owned)).collect()
}
