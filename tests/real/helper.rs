//! What only the helper in front of the process makes exact: streams apart from the first byte on,
//! runs that happen once, exec, cp and top in images with nothing in them, signals.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Image, World, eventually, static_program};

/// The one program of the image without anything else: it does what its first word says.
const PROGRAM: &str = r#"
use std::io::{Read, Write};
unsafe extern "C" { fn signal(number: i32, handler: extern "C" fn(i32)) -> usize; }
extern "C" fn told(number: i32) { println!("got {number}"); if number == 15 { std::process::exit(15) } }
fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words[0].as_str() {
        "both" => { println!("out"); eprintln!("err"); std::process::exit(7) }
        "code" => std::process::exit(words[1].parse().unwrap()),
        "cat" => {
            let mut all = Vec::new();
            std::io::stdin().read_to_end(&mut all).unwrap();
            std::io::stdout().write_all(&all).unwrap();
        }
        "who" => {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let id = |key: &str| status.lines().find_map(|l| l.strip_prefix(key)).unwrap().split_whitespace().next().unwrap().to_owned();
            let cwd = std::env::current_dir().unwrap();
            println!("{} {} {} {}", id("Uid:"), id("Gid:"), cwd.display(), std::env::var("A").unwrap_or_default());
        }
        "show" => print!("{}", std::fs::read_to_string(&words[1]).unwrap()),
        "mark" => {
            let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&words[1]).unwrap();
            file.write_all(b"ran\n").unwrap();
            std::process::exit(3)
        }
        "wait" => {
            for number in [2, 10, 12, 15] { unsafe { signal(number, told) }; }
            println!("ready");
            loop { std::thread::sleep(std::time::Duration::from_secs(1)) }
        }
        _ => loop {
            println!("tick");
            std::thread::sleep(std::time::Duration::from_millis(50));
        },
    }
}
"#;

/// A world in which `bare` is an image that holds one static program and nothing else.
pub fn with_bare_image() -> Option<(World, String)> {
    let world = World::new()?;
    let name = format!("{}-bare", world.name());
    let program = static_program(PROGRAM, world.directory());
    let image =
        Image::empty(&name).file("/program", program, 0o755).config(json!({"Entrypoint": ["/program"]}));
    image.push();
    Some((world, name))
}

/// The options of an unprivileged user on a read-only file system.
pub const LOCKED: &str = "-u 1000:1000 --read-only --cap-drop ALL --security-opt no-new-privileges";

/// The three images, each with the words that make it write a line on both streams and end with 7.
fn on_both_streams(bare: &str) -> [String; 3] {
    ["busybox", "nginx"]
        .map(|image| format!("{LOCKED} {image} sh -c 'echo out; echo err >&2; exit 7'"))
        .into_iter()
        .chain([format!("{LOCKED} {bare} both")])
        .collect::<Vec<_>>()
        .try_into()
        .unwrap()
}

#[d2k_suite::test]
fn both_streams_arrive_apart_and_whole_however_short_the_process_lives() {
    let Some((world, bare)) = with_bare_image() else { return };
    let rounds = std::env::var("D2K_TEST_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    for _ in 0..rounds / 3 {
        let runs = on_both_streams(&bare).map(|words| world.docker_spawn(format!("run --rm {words}")));
        for run in runs {
            let run = run.finish_within(Duration::from_secs(60));
            assert_eq!(
                (run.status, run.stdout.as_str(), run.stderr.as_str()),
                (7, "out\n", "err\n"),
                "{run}"
            );
        }
    }
}

#[d2k_suite::test]
fn exit_codes_and_input_pass_whole_in_an_image_with_nothing_in_it() {
    let Some((world, bare)) = with_bare_image() else { return };
    for code in [0, 1, 2, 42, 125, 126, 127, 128, 137, 143, 255] {
        assert_eq!(world.docker(format!("run --rm {LOCKED} {bare} code {code}")).status, code);
    }
    let input: Vec<u8> = (0..3_000_000_u32).map(|n| b'a' + u8::try_from(n % 26).unwrap()).collect();
    let cat = world.docker_in(format!("run --rm -i {LOCKED} {bare} cat"), &input);
    assert_eq!((cat.status, cat.stdout.len()), (0, input.len()), "{}", cat.stderr);
    assert!(cat.stdout.as_bytes() == input);
}

#[d2k_suite::test]
fn without_input_the_process_reads_the_end_at_once() {
    let Some((world, bare)) = with_bare_image() else { return };
    let cat = world.docker(format!("run --rm {bare} cat"));
    assert_eq!((cat.status, cat.stdout.as_str()), (0, ""), "{cat}");
}

#[d2k_suite::test]
fn what_cannot_be_run_is_told_in_dockers_words_with_126_or_127() {
    let Some(world) = World::new() else { return };
    world
        .docker("run --rm busybox no-such-command")
        .failure(127, &["exec: \"no-such-command\": executable file not found in $PATH"]);
    world
        .docker("run --rm busybox /no/such/file")
        .failure(127, &["exec: \"/no/such/file\": stat /no/such/file: no such file or directory"]);
    world.docker("run --rm busybox /etc").failure(126, &["exec: \"/etc\": is a directory"]);
    world.docker("run --rm busybox /etc/passwd").failure(126, &["exec: \"/etc/passwd\": permission denied"]);
    world.docker("run -u nobody-here busybox true").failure(
        125,
        &["Error response from daemon: unable to find user nobody-here: no matching entries in passwd file"],
    );
    for at in 0..5 {
        let detached = world.docker(format!("run -d --name gone{at} busybox no-such-command"));
        assert_eq!(detached.status, 127, "{detached}");
    }
    assert_eq!(world.field("gone0", ".State.ExitCode"), "127");
}

#[d2k_suite::test]
fn users_are_found_by_name_in_the_image() {
    let Some(world) = World::new() else { return };
    let run = world.docker("run --rm -u www-data busybox sh -c 'id -un; id -u; echo $HOME'");
    let by_number =
        world.docker("run --rm busybox sh -c 'grep ^www-data: /etc/passwd | cut -d: -f1,3,6 | tr : \"\\n\"'");
    assert_eq!(run.lines(), by_number.lines());
}

#[d2k_suite::test]
fn signals_reach_a_process_in_the_foreground_and_one_in_an_empty_image() {
    let Some((world, bare)) = with_bare_image() else { return };
    let run = world.docker_spawn(format!("run --name fore {bare} wait"));
    run.wait_for("ready");
    run.signal("USR1");
    run.wait_for("got 10");
    world.docker("kill -s USR2 fore").success();
    run.wait_for("got 12");
    run.signal("TERM");
    assert_eq!(run.finish().status, 15);
    world.docker(format!("run -d --name back --stop-signal INT --stop-timeout 1 {bare} wait")).success();
    eventually("it is ready", || world.docker("logs back").stdout.contains("ready"));
    world.docker("stop back").success();
    assert!(world.docker("logs back").success().contains("got 2"), "{}", world.docker("logs back"));
}

#[d2k_suite::test]
fn a_terminal_is_the_processs_own_from_its_first_byte_on() {
    let Some(world) = World::new() else { return };
    let mut run = world.docker_tty(
        "run -it --rm busybox sh -c 'echo first; tty; read line; echo said $line; stty size; exit 5'",
    );
    run.wait_for("first");
    run.wait_for("/dev/pts/");
    std::thread::sleep(Duration::from_millis(500));
    run.write("hello\n");
    run.wait_for("said hello");
    let run = run.finish();
    assert_eq!(run.status, 5, "{run}");
    assert!(run.stdout.contains("40 100"), "{run}");
    assert!(run.stdout.trim_start().starts_with("first"), "{run:?}");
}

#[d2k_suite::test]
fn a_detached_run_happens_once_although_a_deployment_owns_it() {
    let Some((world, bare)) = with_bare_image() else { return };
    world.docker("volume create marks").success();
    world.docker(format!("run -d --name once -v marks:/marks {bare} mark /marks/ran")).success();
    assert_eq!(world.docker("wait once").success(), "3");
    assert_eq!(world.names("deployments").len(), 1);
    let marks = |world: &World| world.docker("run --rm -v marks:/marks busybox cat /marks/ran").success();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(marks(&world), "ran");
    assert_eq!(world.field("once", ".State.Status"), "exited");
    world.docker("start once").success();
    assert_eq!(world.docker("wait once").success(), "3");
    assert_eq!(marks(&world), "ran\nran");
}

#[d2k_suite::test]
fn a_run_happens_once_although_d2k_is_killed_before_it_is_on_record() {
    let Some((mut world, bare)) = with_bare_image() else { return };
    world.docker("volume create marks").success();
    world.docker(format!("create --name once -v marks:/marks --restart no {bare} mark /marks/ran")).success();
    let start = world.docker_spawn("start once");
    eventually("its Pod ran", || {
        let pods = world.object("pods")["items"].to_string();
        pods.contains("\"exitCode\":3") || pods.contains("\"running\"")
    });
    world.kill_d2k();
    drop(start.stop());
    std::thread::sleep(Duration::from_secs(6));
    world.restart_d2k();
    world.until_status("once", "exited");
    std::thread::sleep(Duration::from_secs(3));
    let marks = world.docker("run --rm -v marks:/marks busybox cat /marks/ran").stdout;
    assert!(marks.matches("ran").count() <= 1, "{marks}");
}

#[d2k_suite::test]
fn a_pod_that_takes_the_place_of_a_lost_one_does_not_run_again() {
    let Some(mut world) = World::new() else { return };
    world.docker("volume create marks").success();
    world
        .docker("run -d --name once -v marks:/marks busybox sh -c 'echo ran >> /marks/ran; sleep 1000'")
        .success();
    world.kill_d2k();
    world.kubectl("delete pod --all --grace-period=1").success();
    std::thread::sleep(Duration::from_secs(5));
    world.restart_d2k();
    world.until_status("once", "exited");
    assert_eq!(world.docker("run --rm -v marks:/marks busybox cat /marks/ran").success(), "ran");
    assert_eq!(world.field("once", ".State.ExitCode"), "137");
}

#[d2k_suite::test]
fn exec_takes_user_environment_and_directory_in_an_image_with_nothing_in_it() {
    let Some((world, bare)) = with_bare_image() else { return };
    world.docker(format!("run -d --name web {bare} tick")).success();
    let who = |options: &str| world.docker(format!("exec {options} web /program who")).success();
    assert_eq!(who("-e A=b -w /proc"), "0 0 /proc b");
    assert_eq!(who("-u 1000:2000"), "1000 2000 /");
    let missing = world.docker("exec -e A=b web /nothing");
    assert_eq!(missing.status, 127, "{missing}");
    assert!(missing.both().contains("OCI runtime exec failed"), "{missing}");
    let stranger = world.docker("exec -u nobody-here web /program who");
    assert_eq!(stranger.status, 126, "{stranger}");
    assert!(stranger.both().contains("unable to find user nobody-here"), "{stranger}");
    world.docker(format!("run -d --name locked {LOCKED} {bare} tick")).success();
    let refused = world.docker("exec -u 0 locked /program who");
    assert_eq!(refused.status, 126, "{refused}");
    assert!(refused.both().contains("cannot become user 0"), "{refused}");
    assert_eq!(world.docker("exec -w /tmp -e A=x locked /program who").status, 126);
}

#[d2k_suite::test]
fn files_are_copied_and_processes_listed_in_all_images_as_an_unprivileged_user() {
    let Some((world, bare)) = with_bare_image() else { return };
    world.sh("mkdir -p dir/sub && echo one > dir/a && echo two > dir/sub/b && ln -s a dir/link && chmod 640 dir/a").success();
    world.sh("head -c 3000000 /dev/zero > large").success();
    for (at, image) in ["busybox sleep 1000", "nginx sleep 1000", &format!("{bare} tick")].iter().enumerate()
    {
        let name = format!("c{at}");
        world.docker(format!("run -d --name {name} {LOCKED} --tmpfs /tmp {image}")).success();
        world.docker(format!("cp dir {name}:/tmp/")).success();
        world.docker(format!("cp {name}:/tmp/dir out{at}")).success();
        assert_eq!(
            world.sh(format!("diff -r dir out{at} && stat -c %a out{at}/a && readlink out{at}/link")).lines(),
            ["640", "a"]
        );
        world.docker(format!("cp dir/a {name}:/nowhere/x")).failure(1, &[]);
        for file in ["dir/a", "large"] {
            world.docker(format!("cp {file} {name}:/etc-file")).failure(1, &["read-only"]);
        }
        world.docker(format!("cp {name}:/not-there .")).failure(1, &["Could not find the file /not-there"]);
        let top = world.docker(format!("top {name}")).lines();
        assert!(top[0].starts_with("UID") && top[0].contains("CMD"), "{top:?}");
        let command = image.split(' ').next_back().unwrap();
        assert_eq!(top.iter().filter(|line| line.contains(command)).count(), 1, "{top:?}");
        assert!(!top.iter().any(|line| line.contains("d2k-init")), "{top:?}");
        let pids = world.docker(format!("top {name} -o pid,comm")).lines();
        assert!(pids.iter().any(|line| line.trim_start().starts_with("1 ")), "{pids:?}");
    }
}

#[d2k_suite::test]
fn an_export_needs_nothing_in_the_image() {
    let Some((world, bare)) = with_bare_image() else { return };
    world.docker(format!("run -d --name web {bare} tick")).success();
    let names = world.sh("docker export web | tar -t").lines();
    assert!(names.iter().any(|name| name == "program"), "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with(".d2k") || name.starts_with("proc/")), "{names:?}");
}

#[d2k_suite::test]
fn a_folder_and_a_file_do_not_take_each_others_place() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web busybox sleep 1000").success();
    world.docker("exec web mkdir -p /srv/x/y").success();
    world.sh("mkdir d && echo 1 > d/y && tar -c -C d y > y.tar").success();
    let archive = std::fs::read(world.directory().join("y.tar")).unwrap();
    let path = "/containers/web/archive?path=/srv/x&noOverwriteDirNonDir=true";
    let error = world.http("PUT", path, &[("Content-Type", "application/x-tar")], &archive).error(400);
    assert!(error.contains("cannot overwrite directory"), "{error}");
}

#[d2k_suite::test]
fn an_init_process_reaps_and_hands_signals_on() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web --init busybox sh -c 'trap \"echo got; exit 9\" TERM; (sleep 0.2 &); while :; do sleep 0.1; done'").success();
    assert_eq!(world.docker("exec web cat /proc/1/comm").success(), "d2k-init");
    std::thread::sleep(Duration::from_secs(1));
    let zombies = world.docker("exec web sh -c 'cat /proc/[0-9]*/stat | grep -c \" Z \"'").stdout;
    assert_eq!(zombies.trim(), "0");
    world.docker("stop web").success();
    assert_eq!(world.field("web", ".State.ExitCode"), "9");
}

#[d2k_suite::test]
fn what_restarts_for_ever_and_is_not_read_has_no_helper_and_never_means_never() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name plain --restart always busybox sleep 1000").success();
    let pod = |name: &str| world.object(&format!("deployment/{name}"))["spec"]["template"]["spec"].clone();
    assert_eq!(pod("plain")["volumes"], Value::Null);
    assert_eq!(pod("plain")["containers"][0]["args"], json!(["sleep", "1000"]));
    world.docker("pause plain").failure(1, &["runs without d2k's helper"]);
    world.docker("run -d --name once busybox sleep 1000").success();
    assert_eq!(pod("once")["containers"][0]["command"][0], "/.d2k/d2k-init");
    let notes = world.field("once", "json .HostConfig.Annotations");
    let whole = world.inspect("once").to_string();
    assert!(whole.contains("helper: run once"), "{notes} {whole}");
}

#[d2k_suite::test]
fn the_policys_setting_says_always_or_never() {
    let folder = std::env::temp_dir().join(format!("d2k-helper-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let settings = |word: &str| {
        std::fs::write(folder.join("settings.yaml"), format!("workload: {{settings: {{helper: {word}}}}}\n"))
            .unwrap()
    };
    settings("never");
    let Some(mut world) = World::with(&[("D2K_POLICY_DIR", folder.to_str().unwrap())]) else { return };
    let run = world.docker("run -d --name plain busybox sleep 1000");
    assert!(
        run.stderr.contains("helper: never") && run.stderr.contains("Kubernetes may start the process again"),
        "{run}"
    );
    assert_eq!(world.object("deployment/plain")["spec"]["template"]["spec"]["volumes"], Value::Null);
    settings("always");
    world.kill_d2k();
    world.restart_d2k();
    world.docker("run -d --name full --restart always busybox sleep 1000").success();
    world.docker("pause full").success();
    assert_eq!(world.field("full", ".State.Status"), "paused");
    std::fs::remove_dir_all(folder).unwrap();
}

#[d2k_suite::test]
fn everything_works_under_the_restricted_pod_security_standard() {
    let Some((world, bare)) = with_bare_image() else { return };
    let label = "pod-security.kubernetes.io/enforce=restricted";
    world.kubectl(format!("label namespace {} {label}", world.name())).success();
    let locked = format!("{LOCKED} --security-opt seccomp=builtin");
    let run = world.docker(format!("run --rm {locked} {bare} both"));
    assert_eq!((run.status, run.stdout.as_str(), run.stderr.as_str()), (7, "out\n", "err\n"), "{run}");
    world.docker(format!("run -d --name web {locked} {bare} tick")).success();
    world.docker("pause web").success();
    world.docker("unpause web").success();
    assert_eq!(world.docker("exec -e A=b web /program who").success(), "1000 1000 / b");
}

#[d2k_suite::test]
fn files_copied_before_the_start_are_the_containers_own() {
    let Some(world) = World::new() else { return };
    world.sh("mkdir -p conf/empty && echo one > conf/a && chmod 751 conf/a && ln -s a conf/link && echo one > plain").success();
    let check =
        "cd /etc/conf && sed -i s/one/two/ a && cat a link && stat -c %a a && ls -d empty && rm a && ls";
    world.docker(format!("create --name app busybox sh -c '{check}'")).success();
    world.docker("cp conf app:/etc/").success();
    world.docker("cp app:/etc/conf back").success();
    assert_eq!(world.sh("readlink back/link").success(), "a");
    let run = world.docker("start -a app");
    assert_eq!(run.lines(), ["two", "two", "751", "empty", "empty", "link"]);
    world.docker("create --name named -u www-data busybox cat /srv/a").success();
    world.docker("cp plain named:/srv/a").success();
    assert_eq!(world.docker("start -a named").lines(), ["one"]);
    // Who may not write there has them mounted.
    world.docker("create --name locked -u 1000 --read-only busybox cat /srv/a").success();
    world.docker("cp plain locked:/srv/a").success();
    assert_eq!(world.docker("start -a locked").lines(), ["one"]);
}

#[d2k_suite::test]
fn a_run_that_kubernetes_refuses_says_so_soon() {
    let Some(world) = World::on_cluster("it admits Pods by no security standard") else { return };
    let label = "pod-security.kubernetes.io/enforce=restricted";
    world.kubectl(format!("label namespace {} {label}", world.name())).success();
    let begin = std::time::Instant::now();
    let run = world.docker("run --rm busybox true");
    assert!(run.status == 125 && run.stderr.contains("violates PodSecurity"), "{run}");
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}

#[d2k_suite::test]
fn a_detached_run_ends_once_although_d2k_is_away_when_it_ends() {
    let Some(mut world) = World::new() else { return };
    world.docker("volume create marks").success();
    world
        .docker("run -d --name once -v marks:/marks busybox sh -c 'sleep 2; echo ran >> /marks/ran; exit 3'")
        .success();
    world.kill_d2k();
    // The kubelet starts the container again within seconds of its end.
    let mut status = Value::Null;
    eventually("it was started again", || {
        status = world.object("pods")["items"][0]["status"]["containerStatuses"][0].clone();
        status["restartCount"].as_i64() > Some(0)
    });
    world.restart_d2k();
    world.until_status("once", "exited");
    // Once a minute the kubelet clears containers away, now and then also the one that has just ended.
    let known = status["lastState"]["terminated"]["exitCode"].as_i64().unwrap_or(255);
    assert_eq!(world.field("once", ".State.ExitCode"), known.to_string());
    assert_eq!(world.docker("run --rm -v marks:/marks busybox cat /marks/ran").success(), "ran");
}

#[d2k_suite::test]
fn who_scales_a_stopped_container_up_by_hand_runs_it() {
    let Some(world) = World::new() else { return };
    world.docker("run -d --name web busybox sh -c 'echo up; sleep 1000'").success();
    world.docker("stop -t 1 web").success();
    world.kubectl("scale deployment/web --replicas=1").success();
    world.until_status("web", "running");
    eventually("it runs again", || world.docker("logs web").stdout.matches("up").count() == 2);
}

#[d2k_suite::test]
fn stop_and_continue_are_signals_like_all_others() {
    let Some((world, bare)) = with_bare_image() else { return };
    world.docker(format!("run -d --name web {bare} tick")).success();
    let ticks = || world.docker("logs web").stdout.lines().count();
    eventually("it ticks", || ticks() > 0);
    world.docker("kill -s STOP web").success();
    assert_eq!(world.field("web", ".State.Status"), "running");
    std::thread::sleep(Duration::from_millis(500));
    let before = ticks();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(ticks(), before);
    world.docker("kill -s CONT web").success();
    eventually("it ticks again", || ticks() > before + 2);
    // All signals up to 31 can be sent where the image has nothing; this process ignores none of them.
    for number in (1..=31).filter(|number| ![2, 9, 10, 12, 15, 18, 19].contains(number)) {
        world.docker(format!("kill -s {number} web")).success();
    }
    assert_eq!(world.field("web", ".State.Status"), "running");
}
