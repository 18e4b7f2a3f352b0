//! Bind mounts on the embedded cluster, whose containers run on the client's own machine: what Docker
//! does with a path, file by file.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;

use crate::own::{DEADLINE, Folder, wrapped};
use crate::support::{Output, run};

/// The lines that a job has printed, which must not have failed.
#[track_caller]
fn printed(run: &Output) -> Vec<String> {
    assert_eq!(run.status, 0, "{run}");
    run.stdout.lines().map(str::to_owned).collect()
}

#[d2k_suite::test]
fn a_project_folder_is_seen_from_both_sides() {
    let Some(folder) = Folder::new() else { return };
    let project = folder.path().join("project");
    fs::create_dir(&project).unwrap();
    fs::write(project.join("main"), "one").unwrap();
    let run = folder.run_job(
        "docker run -d --name web -v ./project:/app:cached busybox sleep 1000 >/dev/null
         docker exec web cat /app/main; echo
         printf two >project/main; docker exec web cat /app/main; echo
         docker exec web sh -c 'echo made >/app/made; chown 1000:1001 /app/made; chmod 640 /app/made'
         docker exec web rm /app/main; ls project
         docker inspect web --format '{{range .Mounts}}{{.Type}} {{.Source}} {{.Destination}} {{.Mode}} {{.RW}} {{.Propagation}}{{end}}'
         docker rm -fv web >/dev/null; ls project",
    );
    let shown = format!("bind {} /app cached true rprivate", project.display());
    assert_eq!(printed(&run), ["one", "two", "made", &shown, "made"], "{run}");
    let made = fs::metadata(project.join("made")).unwrap();
    assert_eq!((made.uid(), made.gid(), made.mode() & 0o7777), (1000, 1001, 0o640));
}

#[d2k_suite::test]
fn a_missing_source_is_made_by_v_and_refused_by_mount() {
    let Some(folder) = Folder::new() else { return };
    fs::write(folder.path().join("file"), "").unwrap();
    let run = folder.run_job(
        "umask 077
         docker run --rm -v ./new/deep:/x busybox touch /x/file
         stat -c '%a %u' new new/deep; ls new/deep
         bad() { docker run --rm \"$@\" busybox true 2>&1 || echo \"$?\"; }
         bad --mount type=bind,source=$PWD/none,target=/x
         bad -v ./file/below:/x
         ls -d none 2>&1 | grep -c 'No such'
         docker ps -aq",
    );
    let (here, lines) = (folder.path().display().to_string(), printed(&run));
    assert_eq!(lines[..3], ["755 0", "755 0", "file"], "{run}");
    let text = lines.join("\n");
    for words in [
        format!("invalid mount config for type \"bind\": bind source path does not exist: {here}/none"),
        format!("failed to fulfil mount request: open {here}/file/below: not a directory"),
    ] {
        assert!(text.contains(&words), "{words}\n{run}");
    }
    assert_eq!(lines.iter().filter(|line| *line == "125").count(), 2, "{run}");
    assert_eq!(lines.last().unwrap(), "1", "{run}");
}

#[d2k_suite::test]
fn files_sockets_and_devices_are_mounted_as_they_are() {
    let Some(folder) = Folder::new() else { return };
    fs::write(folder.path().join("file"), "text").unwrap();
    let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
    let run = folder.run_job(
        "docker run --rm -v ./file:/etc/app/file:ro busybox cat /etc/app/file; echo
         docker run --rm -v ./file:/etc/app/file:ro busybox sh -c 'echo no >/etc/app/file' || echo $?
         docker run --rm -v ./socket:/run/s busybox stat -c %F /run/s
         docker run --rm -v /dev/null:/etc/passwd busybox sh -c 'wc -c </etc/passwd; echo x >/etc/passwd && echo written'",
    );
    assert_eq!(printed(&run), ["text", "1", "socket", "0", "written"], "{run}");
    drop(listener);
}

#[d2k_suite::test]
fn a_link_is_followed_when_the_container_starts() {
    let Some(folder) = Folder::new() else { return };
    for version in ["one", "two"] {
        fs::create_dir(folder.path().join(version)).unwrap();
        fs::write(folder.path().join(version).join("version"), version).unwrap();
    }
    symlink("one", folder.path().join("current")).unwrap();
    let run = folder.run_job(
        "docker run -d --name web -v ./current:/app busybox sleep 1000 >/dev/null
         docker exec web cat /app/version; echo
         ln -sfn two current; docker exec web cat /app/version; echo
         docker restart -t 0 web >/dev/null; docker exec web cat /app/version; echo
         docker inspect web --format '{{range .Mounts}}{{.Source}}{{end}}'",
    );
    let source = folder.path().join("current").display().to_string();
    assert_eq!(printed(&run), ["one", "one", "two", &source], "{run}");
}

#[d2k_suite::test]
fn a_source_that_disappears_is_made_anew_or_named() {
    let Some(folder) = Folder::new() else { return };
    let run = folder.run_job(
        "mkdir a b
         docker create --name short -v ./a:/x busybox ls -d /x >/dev/null
         docker create --name long --mount type=bind,source=$PWD/b,target=/x busybox ls -d /x >/dev/null
         rmdir a b
         docker start -a short; ls -d a
         docker start -a long 2>&1 || echo $?",
    );
    let lines = printed(&run);
    assert_eq!(lines[..2], ["/x", "a"], "{run}");
    assert!(lines[2].contains("bind source path does not exist"), "{run}");
}

#[d2k_suite::test]
fn nothing_of_a_refused_folder_is_mounted_also_through_a_link() {
    let Some(folder) = Folder::new() else { return };
    for name in ["work", "secret"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("secret/key"), "private").unwrap();
    symlink("../secret", folder.path().join("work/link")).unwrap();
    let root = folder.path().canonicalize().unwrap().display().to_string();
    let settings = folder.path().join("settings.yaml");
    let text = format!("volumes: {{settings: {{bind-roots: [{root}/work], bind-refused: [/etc]}}}}");
    fs::write(&settings, text).unwrap();
    let script = "bad() { docker run --rm -v \"$1:/x\" busybox ls /x 2>&1 || echo \"$?\"; }
         bad /; bad /etc; bad ./secret; bad ./work/link; bad ./work/../secret; bad ./work/link/new
         docker create --name late -v ./work/folder:/x busybox cat /x/key >/dev/null
         ln -s ../secret work/folder; docker start -a late 2>&1 || echo \"$?\"
         docker run --rm -v ./work:/x busybox ls /x; ls secret";
    let mut job = folder.job(&["--", "sh", "-ec", script]);
    job.env("D2K_POLICY_SETTINGS", settings);
    let run = run(job, script, b"", DEADLINE);
    let text = run.stdout.clone();
    assert!(!text.contains("private"), "{run}");
    assert_eq!(
        text.matches("docker: Error response from daemon: refused by policy volumes: bind mounts: ").count(),
        6,
        "{run}"
    );
    assert!(text.ends_with("folder\nlink\nkey\n"), "{run}");
}

#[d2k_suite::test]
fn names_of_any_kind_and_many_files_are_mounted() {
    let Some(folder) = Folder::new() else { return };
    let many = folder.path().join("many");
    fs::create_dir(&many).unwrap();
    for number in 0..10_000 {
        fs::write(many.join(number.to_string()), "").unwrap();
    }
    for name in ["with blank", "über'\"quote", "a:colon"] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("f"), name).unwrap();
    }
    let run = folder.run_job(
        "docker run --rm -v ./many:/x busybox sh -c 'ls /x | wc -l'
         docker run --rm -v './with blank:/a b' busybox cat '/a b/f'; echo
         docker run --rm -v \"./über'\\\"quote:/ü\" busybox cat /ü/f; echo
         docker run --rm --mount \"type=bind,source=$PWD/a:colon,target=/x\" busybox cat /x/f; echo",
    );
    assert_eq!(printed(&run), ["10000", "with blank", "über'\"quote", "a:colon"], "{run}");
}

#[d2k_suite::test]
fn a_mount_of_the_machine_is_seen_where_rslave_asks_for_it() {
    let Some(folder) = Folder::new() else { return };
    let script = "mkdir -p tree/below
         docker run -d --name slave -v ./tree:/x:rslave busybox sleep 1000 >/dev/null
         docker run -d --name private -v ./tree:/x busybox sleep 1000 >/dev/null
         mount -t tmpfs none tree/below; touch tree/below/late
         docker exec slave ls /x/below; docker exec private ls /x/below
         docker run --rm -v ./tree:/x:ro busybox sh -c 'touch /x/below/no || echo read-only'
         docker run --rm -v ./tree:/x:rshared busybox true 2>&1 || echo $?";
    // As on a machine with systemd, where all mounts are shared.
    let shared = ["unshare", "--mount", "--propagation", "shared"];
    let job = wrapped(&shared, "exec \"$0\" \"$@\"", &folder.job(&["--", "sh", "-ec", script]));
    let run = run(job, script, b"", DEADLINE);
    let lines = printed(&run);
    assert_eq!(lines[..2], ["late", "read-only"], "{run}");
    assert!(run.stdout.contains("use rslave"), "{run}");
}

#[d2k_suite::test]
fn a_mount_of_the_machine_that_containers_cannot_see_is_told() {
    let Some(folder) = Folder::new() else { return };
    let script = "mkdir late; mount -t tmpfs none late; touch late/file
         docker run --rm -v ./late:/x busybox ls /x 2>&1 || echo $?";
    let private = ["unshare", "--mount", "--propagation", "private"];
    let job = wrapped(&private, "exec \"$0\" \"$@\"", &folder.job(&["--", "sh", "-ec", script]));
    let run = run(job, script, b"", DEADLINE);
    assert!(run.stdout.contains("make-rshared") && run.stdout.ends_with("125\n"), "{run}");
}

#[d2k_suite::test]
fn a_start_after_one_that_failed_has_an_end_of_its_own() {
    let Some(folder) = Folder::new() else { return };
    let run = folder.run_job(
        "for n in 1 2 3 4 5 6 7 8; do
           mkdir s; docker create --name run$n -v ./s:/etc/passwd busybox cat /etc/passwd >/dev/null
           docker start -a run$n >/dev/null 2>&1 && echo started
           docker inspect run$n --format '{{.State.Status}} {{.State.ExitCode}}'
           rmdir s; echo mended >s; timeout 30 docker start -a run$n || echo $?; rm s
         done",
    );
    assert_eq!(printed(&run), ["created 127", "mended"].repeat(8), "{run}");
}

#[d2k_suite::test]
fn what_a_container_may_only_read_is_not_written_by_cp() {
    let Some(folder) = Folder::new() else { return };
    let run = folder.run_job(
        "mkdir src; echo x >file
         docker create --name new -v ./src:/x:ro busybox cat /x/own >/dev/null
         docker run -d --name old -v ./src:/x:ro busybox sleep 1000 >/dev/null
         for name in new old; do docker cp file $name:/x/ 2>&1 || echo $?; done
         echo own >src/own; docker start -a new",
    );
    let words = "Error response from daemon: mounted volume is marked read-only";
    assert_eq!(printed(&run), [words, "1", words, "1", "own"], "{run}");
}

#[d2k_suite::test]
fn nothing_is_mounted_where_only_the_runtime_writes() {
    let Some(folder) = Folder::new() else { return };
    let run = folder.run_job(
        "mkdir src
         for target in /dev /proc /proc/x; do
           docker run --rm -v ./src:$target busybox true 2>&1 | grep -o 'cannot be mounted because' || echo ran
         done
         docker run --rm -v /dev:/dev busybox sh -c 'echo gone >/dev/null; ls /dev | grep -c null'
         ls src | wc -l",
    );
    let refused = "cannot be mounted because";
    assert_eq!(printed(&run), [refused, refused, refused, "1", "0"], "{run}");
}
